"""The benchmark pages and README's table agree with the committed results."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench import page, readme_tables
from bench.markdown import filled
from bench.report import Report, read_report
from bench.tiny.networks import NETWORKS
from bench.tiny.page import render_tiny
from fastcnn.benchmark.records import Records
from fastcnn.benchmark.results import Result, as_records

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "benchmarks"


@pytest.fixture(scope="module")
def report() -> Report:
    return read_report(RESULTS / "bench.json")


def table_of(text: str) -> list[list[str]]:
    """The cells of a Markdown table, without its header."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return rows[2:]


def test_readme_is_what_the_results_say(report: Report) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    parts = readme_tables.readme_tables(RESULTS)
    assert readme == filled(readme, "README.md", **parts)
    rows = table_of(parts["benchmarks"])
    steps = [r for r in report.results if r.suite == "step" and r.rounds]
    assert len(rows) == len({(r.work, r.batch) for r in steps})
    for work, batch, times, own, peer in rows:
        here = [r for r in steps if (r.work, r.batch) == (work, int(batch))]
        least = min(r.median for r in here if r.contestant == "lanes")
        assert number(own) == pytest.approx(least, rel=0.01)
        theirs = [r.median for r in here if r.contestant not in ("lanes", "im2col", "reference")]
        if theirs:
            assert number(peer) == pytest.approx(min(theirs), rel=0.01)
            assert number(times) == pytest.approx(min(theirs) / least, rel=0.05)


def number(text: str) -> float:
    found = re.match(r"[\d.,]+", text)
    assert found
    return float(found[0].replace(",", ""))


def test_page_is_what_the_results_say() -> None:
    for name, text in page.render_pages(RESULTS).items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, name


def test_the_ratios_of_other_processors_name_the_processor(report: Report) -> None:
    text = page.render_pages(RESULTS)["benchmarks/processors.md"]
    headers = [line for line in text.splitlines() if "| batch |" in line]
    titles = {line.strip("| ").split(" | ")[-1] for line in headers}
    assert titles == {f"times faster on {report.environment['processor']}"}


def test_no_page_is_long() -> None:
    """Each suite has its own page, so that a phone need not load and scroll through all of them."""
    pages = page.render_pages(RESULTS)
    assert set(pages) == {page.OVERVIEW, *(f"benchmarks/{name}.md" for name, *_ in page.CONTENTS)}
    for name, text in pages.items():
        assert text.count("\n") < 220, name
        assert text.startswith("# "), name


def test_the_table_of_c_files_is_what_the_results_say() -> None:
    found = (ROOT / "docs" / "interchange.md").read_text(encoding="utf-8")
    assert found == filled(found, "interchange.md", tiny=render_tiny(RESULTS))
    records = Records.read(RESULTS / "tiny.json").records
    assert {record["network"] for record in records} == set(NETWORKS)
    own = [record for record in records if record["contestant"] == "fastcnn"]
    assert len(own) == 4 * len(NETWORKS)
    for record in Records.read(RESULTS / "tiny-accuracy.json").records:
        assert record["int8"] >= record["float"] - 0.5, record


def test_figures_of_the_page_exist() -> None:
    found = 0
    for name, text in page.render_pages(RESULTS).items():
        for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
            assert ((ROOT / "docs" / name).parent / picture).is_file()
            found += 1
    assert found >= 4


def test_who_is_faster_is_said(report: Report) -> None:
    """Whatever this machine measured: a faster peer is named, in the table and in the text."""
    steps = [r for r in report.results if r.suite == "step" and r.contestant == "lanes"][:1]
    peer = replace(steps[0], contestant="PyTorch eager", threads=2, median=steps[0].median / 2)
    made = page._beside_peers(replace(report, results=[*steps, peer]), "step", "{} {}")
    text = "\n".join(made)
    assert "**Faster than fastcnn here:** PyTorch eager on 2 threads at " in text
    assert ", 2.00 times." in text
    assert text.index("| PyTorch eager") < text.index("| lanes")
    made = page._beside_peers(replace(report, results=steps), "step", "{} {}")
    assert "No peer was faster than fastcnn here." in made


def test_layers_have_all_peers(report: Report) -> None:
    def row(name: str, threads: int, median: float, note: str = "") -> Result:
        rounds = 0 if note else 3
        return Result("layer", "tanh 2 x 2, forward", name, threads, 64, "us/sample", median,
                      median, median, rounds, note=note)  # fmt: skip

    own = [row("im2col", 2, 4.0), row("lanes", 1, 2.0), row("lanes, called alone", 2, 3.0)]
    peers = [row("PyTorch eager", 1, 9.0), row("PyTorch compile", 2, 8.0), row("JAX jit", 2, 1.5),
             row("tinygrad", 2, float("nan"), "not timed: differs by 1.0e+00")]  # fmt: skip
    text = "\n".join(page._layers(replace(report, results=own + peers)))
    line = ("| tanh 2 x 2, forward | 2 (1 thread) | 3 (2 threads) | 4 (2 threads) | - | "
            "8 (compile, 2 threads) | 1.5 | - | - | 0.75 |  |")  # fmt: skip
    assert line in text
    assert "**Faster than fastcnn here:** JAX jit at tanh 2 x 2, forward (1.33 times)." in text
    assert "**Not timed:** tinygrad at tanh 2 x 2, forward (differs by 1.0e+00)" in text
    text = "\n".join(page._layers(replace(report, results=own)))
    assert page.NOBODY in text
    assert "Not timed" not in text


def test_processes_have_their_memory(report: Report) -> None:
    row = replace(report.results[0], suite="startup", work="import", contestant="JAX", unit="s",
                  median=0.4, low=0.39, high=0.5)  # fmt: skip
    memory = replace(row, unit="MiB at most", median=150.4)
    text = "\n".join(page._processes(replace(report, results=[row, memory])))
    assert "| import | JAX | 0.4 (0.39 to 0.5) | 150.4 |  |" in text


def test_how_long_it_took(report: Report) -> None:
    made = replace(report, seconds=840.0, command="fastcnn bench all")
    assert page._duration(made) == " `fastcnn bench all` took 14 minutes."
    assert page._duration(replace(report, seconds=0.0)) == ""


def test_a_trial_run_says_so(report: Report) -> None:
    assert "trial run" in page._warnings(replace(report, quick=True))[0]
    assert not page._warnings(replace(report, quick=False))


def test_pages_need_their_marks() -> None:
    with pytest.raises(ValueError, match=r"README.md needs the lines <!-- loops: begin --> and"):
        filled("no marks", "README.md", loops="made")


def test_the_three_backends_in_readme(tmp_path: Path) -> None:
    def row(suite: str, work: str, name: str, median: float, unit: str, batch: int) -> Result:
        return Result(suite, work, name, 2, batch, unit, median, median, median, 3)

    training = "train report_cnn on mnist012, 5 epochs"
    results = [
        row("step", "report_cnn", "reference", 140_000.4, "us/sample", 16),
        row("step", "report_cnn", "im2col", 99.0, "us/sample", 16),
        row("step", "report_cnn", "im2col", 118.2, "us/sample", 64),
        row("step", "report_cnn", "lanes", 4.0, "us/sample", 64),
        row("process", training, "fastcnn", 1.43, "s", 64),
        row("process", training, "fastcnn, im2col", 9.8, "s", 64),
        row("process", training, "fastcnn", 99.71, "% correct", 64),
        row("process", training, "fastcnn, im2col", 99.68, "% correct", 64),
        row("time-to-accuracy", "lenet5 on mnist, all 10 classes, to 99%", "lanes", 1.75, "s", 64),
    ]  # fmt: skip
    Records("bench", "", as_records(results)).write(tmp_path)
    text = readme_tables.render_loops(tmp_path)
    assert table_of(text) == [
        ["a training step, one sample", "140,000 µs", "118 µs", "4 µs (35,000 times faster)"],
        ["one epoch of 18,623 images, from the row above", "43 minutes", "2.2 s", "0.074 s"],
        ["`fastcnn train`, from start to end", "", "9.8 s", "1.4 s"],
        ["its test accuracy, after 5 epochs", "", "99.68 %", "99.71 %"],
    ]
    assert "99 % of all of MNIST's test images correctly after 1.75 s of training." in text
    Records("bench", "", as_records(results[1:])).write(tmp_path)
    assert readme_tables.render_loops(tmp_path) is None
