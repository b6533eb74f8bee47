"""README's tables, from the results in a folder."""

from pathlib import Path

from bench.markdown import best, groups, machine, number, table, threads, threads_of
from bench.processes import SLOW
from bench.report import Report, read_report
from fastcnn.benchmark.environment import LIBRARIES

#: Images of digits 0, 1, 2 in MNIST's training set.
IMAGES = 18_623


def readme_tables(folder: Path) -> dict[str, str]:
    """README's generated parts by name; the loops' part only if they were measured."""
    loops = render_loops(folder)
    return {"benchmarks": render_readme(folder)} | ({} if loops is None else {"loops": loops})


def render_readme(folder: Path) -> str:
    """README's table: training steps next to the fastest other library."""
    report = read_report(folder / "bench.json")
    pairs = {
        key: (best(group, "lanes"), best(group, *LIBRARIES))
        for key, group in groups(report.results, "step")
    }
    used = {threads_of(row) for pair in pairs.values() for row in pair if row}
    rows = []
    for (work, batch), (own, peer) in pairs.items():
        name = "" if peer is None else peer.contestant
        if peer and len(used) > 1:
            name += f", {threads_of(peer)}"
        rows.append(
            (
                work,
                str(batch),
                # On a phone only the first columns are visible.
                f"{peer.median / own.median:.1f}" if peer and own else "-",
                threads(own) if own is None or len(used) > 1 else number(own.median),
                f"{number(peer.median)} ({name})" if peer else "-",
            )
        )
    header = ("training step, µs a sample", "batch", "times faster", "fastcnn", "fastest other")
    on = f"; {used.pop()}" if len(used) == 1 else ""
    environment = report.environment
    found = {
        name: environment[package]
        for name, packages in LIBRARIES.items()
        for package in packages
        if package in environment
    }
    version = "".join(f", {name} {version}" for name, version in found.items())
    return "\n".join(
        (
            table(header, rows, left=1),
            "",
            f"Forward, loss, backward and SGD with momentum; fastcnn {environment['fastcnn']} "
            f"({report.date[:10]}){on}; {machine(report)}{version}; medians of "
            f"{'trial ' if report.quick else ''}runs in which the libraries took turns. All "
            "libraries and measurements, and where fastcnn is not the fastest: "
            "[docs/benchmarks.md](docs/benchmarks.md).",
        )
    )


def render_loops(folder: Path) -> str | None:
    """README's table of the three backends; None if the loops were not measured."""
    report = read_report(folder / "bench.json")
    steps = [row for row in report.results if (row.suite, row.work) == ("step", "report_cnn")]
    full = [best([r for r in steps if r.batch == 64], name) for name in ("im2col", "lanes")]
    loops = best(steps, "reference")
    fast = [row.median for row in full if row]
    if loops is None or len(fast) < len(full):
        return None
    epochs = [f"{1e-6 * IMAGES * value:.2g} s" for value in fast]
    rows = [
        (
            "a training step, one sample",
            f"{loops.median:,.0f} µs",
            f"{number(fast[0])} µs",
            f"{number(fast[1])} µs ({_rounded(loops.median / fast[1])} times faster)",
        ),
        (
            f"one epoch of {IMAGES:,} images, from the row above",
            f"{1e-6 * IMAGES * loops.median / 60:.0f} minutes",
            *epochs,
        ),
    ]
    for unit, what, form in (
        ("s", "`fastcnn train`, from start to end", "{:.2g} s"),
        ("% correct", "its test accuracy, after 5 epochs", "{:.2f} %"),
    ):
        found = {
            r.contestant: r.median
            for r in report.results
            if r.suite == "process" and r.unit == unit and "mnist012" in r.work
        }
        if SLOW in found and "fastcnn" in found:
            rows.append((what, "", form.format(found[SLOW]), form.format(found["fastcnn"])))
    header = ("the report's network, batch 64", "nested loops", "im2col", "lanes")
    return f"{table(header, rows, left=1)}\n\nThe same runs. {_levels(report)}".rstrip()


def _rounded(ratio: float) -> str:
    """Two significant digits."""
    digits = len(f"{ratio:.0f}") - 2
    return f"{round(ratio, -digits):,.0f}" if digits > 0 else f"{ratio:.2g}"


def _levels(report: Report) -> str:
    """A sentence on the time to the highest accuracy of lenet5, compared with PyTorch's."""
    found = [
        r
        for r in report.results
        if r.suite == "time-to-accuracy"
        and r.work.startswith("lenet5 on mnist")
        and r.work.endswith("99%")
    ]
    own, peer = best(found, "lanes"), best(found, "PyTorch")
    if own is None:
        return ""
    other = f" ({peer.contestant}: {number(peer.median)} s)" if peer else ""
    return (
        f"`lenet5` classifies 99 % of all of MNIST's test images correctly after "
        f"{number(own.median)} s of training{other}."
    )
