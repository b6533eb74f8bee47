"""Write docs/benchmarks.md, its figures and README's table from the results in docs/benchmarks/.

``.venv/bin/python scripts/benchmark_page.py`` draws what ``make bench-report`` measured; it
measures nothing itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fastcnn.benchmark.figures import write_figures
from fastcnn.benchmark.processes import SLOW
from fastcnn.benchmark.profile import Profile
from fastcnn.benchmark.records import Records
from fastcnn.benchmark.results import Report, Result, read_report
from fastcnn.benchmark.roofline import roofline_figure
from fastcnn.benchmark.scaling import ScalingResult, results_of
from fastcnn.benchmark.scaling_figure import scaling_figure
from fastcnn.training.curves import save_figure

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "benchmarks"
PAGE, README = ROOT / "docs" / "benchmarks.md", ROOT / "README.md"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
LOOPS_BEGIN, LOOPS_END = "<!-- loops: begin -->", "<!-- loops: end -->"
#: Images of digits 0, 1, 2 in MNIST's training set.
IMAGES = 18_623
OWN = ("reference", "im2col", "lanes")
#: Rows of a profile that the page shows; the CSV has all.
LONGEST = 12


def main() -> None:
    """Write page, figures and README."""
    report, scaling, profiles = read_results(RESULTS)
    write_figures(report, RESULTS)
    save_figure(scaling_figure(scaling), RESULTS / "scaling.png")
    for profile in profiles:
        save_figure(roofline_figure(profile), RESULTS / f"profile-{profile.model}.png")
    PAGE.write_text(render_page(RESULTS), encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    README.write_text(with_tables(readme, RESULTS), encoding="utf-8")


def read_results(folder: Path) -> tuple[Report, list[ScalingResult], list[Profile]]:
    """Everything that was measured."""
    scaling = results_of(Records.read(folder / "scaling.json").records)
    profiles = [
        Profile.from_records(Records.read(path)) for path in sorted(folder.glob("profile-*.json"))
    ]
    return read_report(folder / "bench.json"), scaling, profiles


def with_tables(readme: str, folder: Path) -> str:
    """README with its generated parts replaced; that of the loops, where they were measured.

    Raises
    ------
    ValueError
        If it has no place for them.
    """
    readme = _replaced(readme, render_readme(folder), BEGIN, END)
    loops = render_loops(folder)
    return readme if loops is None else _replaced(readme, loops, LOOPS_BEGIN, LOOPS_END)


def _replaced(readme: str, table: str, begin: str, end: str) -> str:
    before, first, rest = readme.partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last:
        raise ValueError(f"README.md needs the lines {begin} and {end}")
    return f"{before}{begin}\n{table}\n{end}{after}"


def render_loops(folder: Path) -> str | None:
    """README's table of the three backends; None where the loops were not measured."""
    report = read_report(folder / "bench.json")
    steps = [row for row in report.results if (row.suite, row.work) == ("step", "report_cnn")]
    best = [_best([r for r in steps if r.batch == 64], name) for name in ("im2col", "lanes")]
    loops = _best(steps, "reference")
    if loops is None or best[0] is None or best[1] is None:
        return None
    fast = [row.median for row in best if row]
    epochs = [f"{1e-6 * IMAGES * value:.2g} s" for value in fast]
    rows = [
        ("a training step, one sample", f"{loops.median:,.0f} µs", f"{_number(fast[0])} µs",
         f"{_number(fast[1])} µs ({_rounded(loops.median / fast[1])} times faster)"),
        (f"one epoch of {IMAGES:,} images, from the row above",
         f"{1e-6 * IMAGES * loops.median / 60:.0f} minutes", *epochs),
    ]  # fmt: skip
    for unit, what, form in (
        ("s", "`fastcnn train`, from start to end", "{:.2g} s"),
        ("% correct", "its test accuracy, after 5 epochs", "{:.2f} %"),
    ):
        found = {r.contestant: r.median for r in report.results
                 if r.suite == "process" and r.unit == unit and "mnist012" in r.work}  # fmt: skip
        if SLOW in found and "fastcnn" in found:
            rows.append((what, "", form.format(found[SLOW]), form.format(found["fastcnn"])))
    header = ("the report's network, batch 64", "nested loops", "im2col", "lanes")
    return (_table(header, rows, left=1) + "\n" + _levels(report)).rstrip()


def _rounded(ratio: float) -> str:
    """Two digits."""
    digits = len(f"{ratio:.0f}") - 2
    return f"{round(ratio, -digits):,.0f}" if digits > 0 else f"{ratio:.2g}"


def _levels(report: Report) -> str:
    """A sentence on the highest accuracy of lenet5, beside PyTorch's."""
    found = [r for r in report.results
             if r.suite == "time-to-accuracy" and r.work.startswith("lenet5 on mnist")
             and r.work.endswith("99%")]  # fmt: skip
    own, peer = _best(found, "lanes"), _best(found, "PyTorch")
    if own is None:
        return ""
    beside = f" ({peer.contestant}: {_number(peer.median)} s)" if peer else ""
    return (f"\n`lenet5` reaches 99 % of all of MNIST's test images after "
            f"{_number(own.median)} s of training{beside}.")  # fmt: skip


def render_readme(folder: Path) -> str:
    """README's table: training steps beside PyTorch's best."""
    report = read_report(folder / "bench.json")
    rows = []
    for (work, batch), group in _groups(report.results, "step"):
        own, peer = _best(group, "lanes"), _best(group, "PyTorch")
        rows.append((
            work, str(batch), _threads(own),
            f"{_number(peer.median)} ({peer.contestant}, {_threads_of(peer)})" if peer else "-",
            f"{peer.median / own.median:.1f}" if peer and own else "-",
        ))  # fmt: skip
    header = ("training step, µs a sample", "batch", "fastcnn", "PyTorch's best", "times faster")
    environment = report.environment
    peer = f", PyTorch {environment['torch']}" if "torch" in environment else ""
    return "\n".join((
        _table(header, rows, left=1), "",
        f"Forward, loss, backward and SGD with momentum; {_machine(report)}{peer}; medians of one "
        f"{'trial ' if report.quick else ''}run in which all took turns. All contestants and "
        "suites, and where fastcnn is not the fastest: [docs/benchmarks.md](docs/benchmarks.md).",
    ))  # fmt: skip


def render_page(folder: Path) -> str:
    """The page docs/benchmarks.md."""
    report, scaling, profiles = read_results(folder)
    parts = [
        "# Benchmarks", "",
        "This page is generated from the JSON files in `docs/benchmarks/` "
        "(`scripts/benchmark_page.py`); every value with its spread is in the CSV files beside "
        "them. All of it is measured anew by", "",
        "```sh\nmake bench-report\n```", "",
        "and one suite by the command above its table. Contestants of a table do the same work "
        "from the same weights on the same samples; what they compute is compared before anything "
        "is timed, and they take turns, round after round. Times are medians, with the first and "
        "the last decile in parentheses.", "",
        f"Made {report.date[:10]} on {_machine(report)}: {_environment(report)}."
        + _duration(report), "",
        *_warnings(report),
        *_steps(report), *_inference(report), *_layers(report), *_backward(report),
        *_accuracy(report), *_processes(report), *_scaling(scaling), *_profiles(profiles),
    ]  # fmt: skip
    return "\n".join(parts).rstrip("\n") + "\n"


def _warnings(report: Report) -> list[str]:
    if not report.quick:
        return []
    return ["**A trial run (`--quick`): few short rounds, whose figures mean little.**", ""]


def _duration(report: Report) -> str:
    if not report.seconds:
        return ""
    return f" `{report.command}` took {report.seconds / 60:.0f} minutes."


def _steps(report: Report) -> list[str]:
    return [
        "## Training steps", "", "![Training steps](benchmarks/step.png)", "",
        "Forward, loss, backward and SGD with momentum, in microseconds a sample. The ratio is to "
        "the best of PyTorch: above 1 is faster. The difference is the largest of the first step's "
        "gradients, relative to the largest of its tensor; whose gradients, losses or parameters "
        "after three steps differ is not timed. The nested loops take part where a step of theirs "
        "is a matter of seconds. PyTorch's SGD is the fused one, and its compiled modules are in "
        "channels_last.", "",
        *_beside_peers(report, "step", "fastcnn bench step --network {} --batch-size {}"),
    ]  # fmt: skip


def _inference(report: Report) -> list[str]:
    return [
        "## Inference", "",
        "The logits of one batch, in microseconds; the ratio is to the fastest of PyTorch and "
        "im2col: above 1 is faster.", "",
        *_beside_peers(report, "inference", "fastcnn bench inference --network {}"),
    ]  # fmt: skip


def _beside_peers(report: Report, suite: str, command: str) -> list[str]:
    """A table for each network and batch, and in words who was faster than fastcnn."""
    lines: list[str] = []
    faster: list[str] = []
    for (work, batch), group in _groups(report.results, suite):
        lines += [
            f"### {work}, batch {batch}: {suite}", "", _command(command.format(work, batch)), "",
            _contestants(group), "",
        ]  # fmt: skip
        own = _best(group, "lanes")
        faster += [
            f"{row.contestant} on {_threads_of(row)} at {work}, batch {batch}, "
            f"{own.median / row.median:.2f} times"
            for row in group
            if own and row.contestant not in OWN and row.median < own.median
        ]
    if not faster:
        return [*lines, "No peer was faster than fastcnn here.", ""]
    return [*lines, "**Faster than fastcnn here:** " + "; ".join(faster) + ".", ""]


def _layers(report: Report) -> list[str]:
    """A line for each layer and direction: the best of each contestant."""
    rows, faster = [], []
    for (work, _), group in _groups(report.results, "layer"):
        inside = [row for row in group if row.contestant == "lanes"]
        alone = [row for row in group if row.contestant == "lanes, called alone"]
        own, peer = _best(inside, "lanes"), _best(group, "PyTorch")
        cells = [_threads(row) for row in (own, _best(alone, "lanes"), _best(group, "im2col"))]
        loops = _best(group, "reference")
        cells.append(_number(loops.median) if loops else "-")
        theirs, ratio = "-", ""
        if own and peer:
            theirs = f"{_number(peer.median)} ({peer.contestant[8:]}, {_threads_of(peer)})"
            ratio = f"{peer.median / own.median:.2f}"
            if peer.median < own.median:
                faster.append(f"{work} ({own.median / peer.median:.2f} times)")
        rows.append((work, *cells, theirs, ratio, own.note if own else ""))
    header = ("layer, batch 64, µs a sample", "lanes, in a network", "lanes, alone", "im2col",
              "loops", "PyTorch's best", "ratio", "lanes' rate")  # fmt: skip
    note = "**Faster than fastcnn here:** PyTorch at " + "; ".join(faster) + "." if faster else ""
    return [
        "## Single layers", "", _command("fastcnn bench layer"), "",
        "The best of one thread and all, in microseconds a sample. Inside a network samples lie in "
        "lanes already; a single call brings them there and back, but for functions of single "
        "elements. Sums, normalisation and dropout are im2col's when called alone; PyTorch's "
        "dropout draws a mask of its own. Rates "
        "count operations by definition, so that Winograd's convolutions, which need fewer, may "
        "pass the processor's peak. PyTorch's convolutions are those of oneDNN.", "",
        _table(header, rows, left=1), "", note, "",
    ]  # fmt: skip


def _backward(report: Report) -> list[str]:
    rows = []
    slower = []
    for (work, batch), group in _groups(report.results, "backward"):
        by = {row.contestant: row for row in group}
        differences = [row.difference for row in group if row.difference is not None]
        cells = [
            work.replace(" backward by ", ", "), str(batch),
            *(_spread(by[name]) if name in by else "differs" for name in OWN),
            *(f"{by[name].ratio:,.0f}" if name in by else "" for name in OWN[1:]),
            f"{max(differences):.0e}" if differences else "",
        ]  # fmt: skip
        rows.append(cells)
        if "lanes" in by and "im2col" in by and by["lanes"].median > 1.05 * by["im2col"].median:
            slower.append(f"{cells[0]} at batch {batch} "
                          f"({by['lanes'].median / by['im2col'].median:.1f} times)")  # fmt: skip
    header = ("backward pass by what is varied", "batch", "loops, µs", "im2col, µs", "lanes, µs",
              "im2col: times faster", "lanes: times faster", "largest difference")  # fmt: skip
    note = (
        "Called alone, `lanes` is slower than `im2col` at: " + "; ".join(slower) + ". A single "
        "call packs and unpacks the lanes, which a training step does not."
        if slower
        else "Called alone, `lanes` is nowhere slower than `im2col`."
    )
    return [
        "## Backward passes: nested loops against fast ones", "",
        _command("fastcnn bench backward"), "", "![Speed-ups](benchmarks/backward.png)", "",
        "Microseconds a sample of one operation called alone; the difference is the largest from "
        "the loops, relative to the largest gradient.", "", _table(header, rows, left=1), "",
        note, "",
    ]  # fmt: skip


def _accuracy(report: Report) -> list[str]:
    rows = [
        (row.work, row.contestant, _spread(row), row.note)
        for row in report.results
        if row.suite == "time-to-accuracy"
    ]
    header = ("training", "contestant", "seconds (least to most)", "")
    return [
        "## Time to accuracy", "", _command("fastcnn bench accuracy"), "",
        "Seconds of training, tests apart, until the test accuracy is first reached, with one "
        "recipe: SGD with momentum 0.9, batches of 64, one cycle of the learning rate up to 0.02 "
        "within two epochs (digits 0, 1, 2) or five (all ten), the same initial weights and order "
        "of samples. Median over the seeds "
        "0, 1 and 2; a contestant whose time is up has fewer.", "",
        _table(header, rows, left=2), "",
    ]  # fmt: skip


def _processes(report: Report) -> list[str]:
    """A line for each process and contestant: seconds, and the memory beside them."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in report.results:
        if row.suite in ("startup", "process"):
            found.setdefault((row.work, row.contestant), {})[row.unit.partition(" ")[0]] = (
                _spread(row) if row.unit == "s" else f"{row.median:.4g}"
            )
    units = ("s", "MiB", "%")
    rows = [(*key, *(values.get(unit, "") for unit in units)) for key, values in found.items()]
    header = ("process", "contestant", "seconds from start to end", "MiB at most", "% correct")
    return [
        "## Start-up and whole processes", "", _command("fastcnn bench startup process"), "",
        "Importing fastcnn loads next to nothing, the rest comes with the first use: compare first "
        "gradients, of the report's network. Cold is the first ever on a machine, which compiles; "
        "PyTorch's eager mode has nothing to compile. Memory is the most that was resident.", "",
        _table(header, rows, left=2), "",
    ]  # fmt: skip


def _scaling(results: list[ScalingResult]) -> list[str]:
    lines = ["## Scaling", "", "![Scaling](benchmarks/scaling.png)", "",
             "The cost of a unit of work should stay flat or fall along each axis. What rises by "
             "more than a tenth above the lowest before it, twice, is marked, and explained below "
             "the table by what changed in the program. Memory is the most that was allocated at a "
             "time for the engine and one step, beyond the data.", ""]  # fmt: skip
    for result in results:
        rows = [
            (f"{point.value:,}", _number(1e6 * point.seconds), _number(1e6 * point.per_sample),
             _number(1e9 * point.cost), _number(point.memory / 2**20),
             "rises" if point.flagged else "")
            for point in result.points
        ]  # fmt: skip
        header = (result.axis, "µs a step", "µs a sample", f"ns a {result.unit}", "MiB", "")
        command = f"fastcnn bench scaling --axis {result.axis}"
        lines += [f"### {result.title}", "", _command(command), "",
                  _table(header, rows, left=0), ""]  # fmt: skip
        for point in result.points:
            if point.flagged:
                lines += [f"- {result.axis} {point.value:,}: {point.explanation}."]
        if result.points and any(point.flagged for point in result.points):
            lines.append("")
    return lines


def _profiles(profiles: list[Profile]) -> list[str]:
    lines = ["## Each kernel under the machine's roofs", "",
             "The peaks are measured in the same run: fused multiply-adds on independent sums, and "
             "the bandwidth of `z = x * s + y` by where its arrays lie. A row of the engine's "
             "program is timed alone, and by how much it makes the step longer.", ""]  # fmt: skip
    for profile in profiles:
        longest = sorted(profile.rows, key=lambda row: -row.in_step)[:LONGEST]
        rows = [
            (row.name, row.part, row.sizes, _number(1e6 * row.in_step),
             _number(1e6 * row.seconds),
             f"{row.rate / 1e9:.0f}" if row.flops else "",
             f"{100 * row.rate / profile.peaks.flops:.0f} %" if row.flops else "",
             f"{row.bandwidth / 1e9:.0f}", f"{row.bytes:,}")
            for row in longest
        ]  # fmt: skip
        header = ("the longest rows", "", "sizes", "µs in step", "µs alone", "GFLOP/s", "of peak",
                  "GB/s", "bytes")  # fmt: skip
        lines += [
            f"### {profile.model}", "",
            _command(f"fastcnn profile {profile.model} --batch-size {profile.batch} "
                     f"--threads {profile.threads}"),
            "", f"![Roofline](benchmarks/profile-{profile.model}.png)", "",
            *(f"- {sentence}." for sentence in profile.summary().splitlines()), "",
            _table(header, rows, left=3), "",
        ]  # fmt: skip
    return lines


def _contestants(group: Sequence[Result]) -> str:
    rows = [
        (row.contestant, str(row.threads), _spread(row),
         "" if row.ratio is None else _number(row.ratio),
         "" if row.difference is None else f"{row.difference:.0e}", row.note)
        for row in sorted(group, key=lambda row: (row.median != row.median, row.median))
    ]  # fmt: skip
    return _table(("contestant", "threads", "time", "ratio", "difference", ""), rows, left=1)


def _groups(
    results: Iterable[Result], suite: str
) -> Iterator[tuple[tuple[str, int], list[Result]]]:
    """The results of a suite by work and batch, in order of appearance."""
    groups: dict[tuple[str, int], list[Result]] = {}
    for result in results:
        if result.suite == suite:
            groups.setdefault((result.work, result.batch), []).append(result)
    yield from groups.items()


def _best(group: Iterable[Result], name: str) -> Result | None:
    """The fastest of those contestants whose name begins so."""
    timed = [r for r in group if r.contestant.startswith(name) and r.median == r.median]
    return min(timed, key=lambda row: row.median, default=None)


def _threads(row: Result | None) -> str:
    return f"{_number(row.median)} ({_threads_of(row)})" if row else "-"


def _threads_of(row: Result) -> str:
    return f"{row.threads} thread{'s' if row.threads > 1 else ''}"


def _machine(report: Report) -> str:
    environment = report.environment
    return (f"{environment['cores']} cores of {environment['processor']}, "
            f"{environment['instruction set']}")  # fmt: skip


def _environment(report: Report) -> str:
    hidden = ("cores", "processor", "instruction set")
    return ", ".join(f"{k} {v}" for k, v in report.environment.items() if k not in hidden)


def _command(text: str) -> str:
    return f"```sh\n{text}\n```"


def _spread(row: Result) -> str:
    if row.median != row.median:
        return ""
    middle = _number(row.median)
    if row.rounds < 2:
        return middle
    return f"{middle} ({_number(row.low)} to {_number(row.high)})"


def _number(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int) -> str:
    """A table in Markdown; the first columns are aligned left, the others right."""
    rule = ["---" if column < left else "---:" for column in range(len(header))]
    lines = (header, rule, *rows)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


if __name__ == "__main__":
    main()
