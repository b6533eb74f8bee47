"""The pages docs/benchmarks.md and docs/benchmarks/*.md, from the results in that folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.ladder_page import read_ladder, render_ladder
from bench.markdown import (
    best,
    command,
    contestants,
    groups,
    machine,
    number,
    spread,
    table,
    threads,
    threads_of,
)
from bench.processors_page import render_processors
from bench.report import Report, read_report
from bench.scaling import ScalingResult, results_of
from fastcnn.benchmark.environment import LIBRARIES
from fastcnn.benchmark.profile import Profile
from fastcnn.benchmark.records import Records
from fastcnn.benchmark.results import Result

OWN = ("reference", "im2col", "lanes")
#: The libraries that have their own column next to PyTorch's.
FURTHER = [name for name in LIBRARIES if name != "PyTorch"]
NOBODY = "No peer was faster than fastcnn here."
#: Rows of a profile shown on the page; the CSV has all of them.
LONGEST = 12
OVERVIEW = "benchmarks.md"
#: Each suite's page, its title and its question.
CONTENTS = (
    ("ladder", "From nested loops to the engine", "one backward pass, made faster step by step."),
    ("steps", "Training steps", "the time of a step of four networks in each library."),
    ("zoo", "Steps of more networks", "the same for the shapes of twelve well-known networks."),
    ("processors", "Other processors", "the same steps on another machine, compared with PyTorch."),
    ("inference", "Inference", "the time of the logits of one image and of a thousand."),
    ("layers", "Single layers", "each layer by itself, forward and backward."),
    ("backward", "Backward passes", "nested loops, numpy and the engine."),
    ("accuracy", "Time to accuracy", "seconds of training to a test accuracy of 95, 98 and 99 %."),
    ("processes", "Start-up and whole processes", "time from start to end, and memory."),
    ("scaling", "Scaling", "the cost of larger batches, images and networks."),
    ("profiles", "Each kernel under the machine's roofs", "where a step's time goes."),
)


def read_results(folder: Path) -> tuple[Report, list[ScalingResult], list[Profile]]:
    """All measurements."""
    scaling = results_of(Records.read(folder / "scaling.json").records)
    profiles = [
        Profile.from_records(Records.read(path)) for path in sorted(folder.glob("profile-*.json"))
    ]
    return read_report(folder / "bench.json"), scaling, profiles


def render_pages(folder: Path) -> dict[str, str]:
    """The pages by file name, in docs/: an overview, and a page for each suite."""
    report, scaling, profiles = read_results(folder)
    suites = {
        "ladder": render_ladder(read_ladder(folder)),
        "steps": _steps(report),
        "zoo": _zoo(report),
        "processors": render_processors(report, folder),
        "inference": _inference(report),
        "layers": _layers(report),
        "backward": _backward(report),
        "accuracy": _accuracy(report),
        "processes": _processes(report),
        "scaling": _scaling(scaling),
        "profiles": _profiles(profiles),
    }
    made = f"Made {report.date[:10]} on {machine(report)}."
    pages = {OVERVIEW: _overview(report, list(suites))}
    for name, lines in suites.items():
        if name in ("ladder", "processors"):  # which are measured separately
            pages[f"benchmarks/{name}.md"] = lines
            continue
        title, *rest = lines
        above = [title, f"{made} [How it was measured](../benchmarks.md).", *_warnings(report)]
        pages[f"benchmarks/{name}.md"] = [*above, *rest]
    return {name: "\n\n".join(paragraphs) + "\n" for name, paragraphs in pages.items()}


def _overview(report: Report, suites: list[str]) -> list[str]:
    contents = [f"- [{title}](benchmarks/{name}.md): {what}" for name, title, what in CONTENTS]
    assert [name for name, *_ in CONTENTS] == suites
    return [
        "# Benchmarks",
        *_warnings(report),
        "\n".join(contents),
        "![Training steps](benchmarks/step.png)",
        "The contestants of a table do the same work from the same weights on the same samples. "
        "Their results are compared before anything is timed, and they take turns, round after "
        "round. Times are medians, with the first and the last decile in parentheses.",
        "These pages are generated from the JSON files in `docs/benchmarks/` "
        "(`python -m bench.write_page`); every value with its spread is in the CSV files next to "
        "them. To repeat all measurements, run `make bench-report`, or, for one suite, the command "
        "above its table.",
        f"Made {report.date[:10]} on {machine(report)}: {_environment(report)}."
        + _duration(report),
        "```{toctree}\n:hidden:",
        "\n".join([*(f"benchmarks/{name}" for name in suites), "```"]),
    ]


def _warnings(report: Report) -> list[str]:
    if not report.quick:
        return []
    return ["**A trial run (`--quick`): few short rounds, so the figures mean little.**"]


def _duration(report: Report) -> str:
    if not report.seconds:
        return ""
    return f" `{report.command}` took {report.seconds / 60:.0f} minutes."


def _steps(report: Report) -> list[str]:
    return [
        "# Training steps",
        "![Training steps](step.png)",
        "A step is the forward pass, the loss, the backward pass and SGD with momentum; times are "
        "in microseconds per sample. The ratio is relative to PyTorch's best variant: above 1 is "
        "faster. The difference is the largest one of the first step's gradients, relative to the "
        "largest gradient of its tensor. Contestants whose gradients, losses or parameters after "
        "three steps differ by more than rounding explains are not timed. The nested loops are "
        "included if their step takes only seconds, tinygrad in the small networks. PyTorch uses "
        "fused SGD, and its compiled modules are in channels_last.",
        *_beside_peers(report, "step", "python -m bench step --model {} --batch-size {}"),
    ]


def _zoo(report: Report) -> list[str]:
    """A line for each network: the best variant of each contestant."""
    rows = []
    for (work, batch), group in groups(report.results, "zoo"):
        own = best(group, "lanes")
        peers = {name: best(group, name) for name in LIBRARIES}
        rows.append(
            (
                work,
                str(batch),
                _median(own),
                _variant(peers["PyTorch"]),
                *(_median(peers[name]) for name in FURTHER),
                _ahead(own, peers),
                f"{own.rate / 1e9:,.0f} ({own.share:.0%})" if own and own.rate else "",
            )
        )
    header = ("network", "batch", "fastcnn", "PyTorch's best", *FURTHER)
    return [
        "# Steps of more networks",
        command("python -m bench zoo"),
        "Training steps of networks with the shapes of well-known ones, without dropout, each with "
        "its usual batch size, in microseconds per sample: the best variant of each library, as "
        "for [the four networks](steps.md). The last column is in GFLOP/s and as a share of the "
        "peak rate of multiply-adds. It counts the operations of direct convolutions; Winograd's "
        "algorithms need fewer.",
        table((*header, "fastest other / fastcnn", "rate (of peak)"), rows, left=1),
    ]


def _inference(report: Report) -> list[str]:
    return [
        "# Inference",
        "The logits of one batch, in microseconds; the ratio is relative to the faster of PyTorch "
        "and im2col: above 1 is faster. `lanes` is a session, as `predict` runs it. Threads are "
        "the most that a contestant may use.",
        *_beside_peers(report, "inference", "python -m bench inference --model {}"),
    ]


def _beside_peers(report: Report, suite: str, form: str) -> list[str]:
    """A table for each network and batch, and a sentence on contestants faster than fastcnn."""
    lines: list[str] = []
    faster: list[str] = []
    for (work, batch), group in groups(report.results, suite):
        lines += [
            f"## {work}, batch {batch}",
            command(form.format(work, batch)),
            contestants(group),
        ]
        own = best(group, "lanes")
        faster += [
            f"{row.contestant} on {threads_of(row)} at {work}, batch {batch}, "
            f"{own.median / row.median:.2f} times"
            for row in group
            if own and row.contestant not in OWN and row.median < own.median
        ]
    return lines + (_notes("Faster than fastcnn here", faster) or [NOBODY])


def _layers(report: Report) -> list[str]:
    """A line for each layer and direction: the best of each contestant."""
    rows, faster, refused = [], [], []
    for (work, _), group in groups(report.results, "layer"):
        inside = [row for row in group if row.contestant == "lanes"]
        alone = [row for row in group if row.contestant == "lanes, called alone"]
        own = best(inside, "lanes")
        peers = {name: best(group, name) for name in LIBRARIES}
        timed = [row for row in peers.values() if row]
        cells = [threads(row) for row in (own, best(alone, "lanes"), best(group, "im2col"))]
        rows.append(
            (
                work,
                *cells,
                _median(best(group, "reference")),
                _variant(peers["PyTorch"]),
                *(_median(peers[name]) for name in FURTHER),
                _ahead(own, peers),
                _rate(own) if own else "",
            )
        )
        faster += [
            f"{row.contestant} at {work} ({own.median / row.median:.2f} times)"
            for row in timed
            if own and row.median < own.median
        ]
        refused += [
            f"{row.contestant} at {work} ({row.note.removeprefix('not timed: ')})"
            for row in group
            if not row.rounds
        ]
    header = (
        "layer, batch 64, µs a sample",
        "lanes, in a network",
        "lanes, alone",
        "im2col",
        "loops",
        "PyTorch's best",
        *FURTHER,
        "fastest of these / lanes",
        "lanes' rate",
    )
    return [
        "# Single layers",
        command("python -m bench layer"),
        "The better of one thread and all threads, in microseconds per sample. Inside a network, "
        "samples are in lanes already; a single call transposes them there and back, except for "
        "element-wise functions. Called alone, sums, normalisation and dropout run on im2col; the "
        "dropout of the other libraries draws its own mask. Rates count the operations of the "
        "definition, so Winograd's algorithms, which need fewer, may exceed the processor's peak.",
        "PyTorch is the best of eager, channels_last (for maps) and torch.compile (also in "
        "channels_last), each on one thread and on all. JAX (jitted), TensorFlow (a `tf.function`, "
        "NHWC) and tinygrad (jitted) use all cores. A backward pass computes only the gradients, "
        "from what a forward pass has saved for them. Two libraries save less: TensorFlow repeats "
        "the forward pass of max pooling, which is faster there, and tinygrad, which saves "
        "nothing, is included only if the gradients need nothing but the input.",
        table(header, rows, left=1),
        *_notes("Not timed", refused),
        *(_notes("Faster than fastcnn here", faster) or [NOBODY]),
    ]


def _notes(title: str, notes: Sequence[str]) -> list[str]:
    return [f"**{title}:** " + "; ".join(notes) + "."] if notes else []


def _rate(row: Result) -> str:
    if row.rate is None or row.share is None:
        return ""
    return f"{row.rate / 1e9:.0f} GFLOP/s, {row.share:.0%} of peak"


def _median(row: Result | None) -> str:
    return number(row.median) if row else "-"


def _ahead(own: Result | None, peers: Mapping[str, Result | None]) -> str:
    """The ratio of the fastest other library's time to fastcnn's."""
    timed = [row.median for row in peers.values() if row]
    return f"{min(timed) / own.median:.2f}" if own and timed else ""


def _variant(row: Result | None) -> str:
    """PyTorch's time, and the variant that it belongs to."""
    if row is None:
        return "-"
    return f"{number(row.median)} ({row.contestant.removeprefix('PyTorch ')}, {threads_of(row)})"


def _backward(report: Report) -> list[str]:
    rows = []
    slower = []
    for (work, batch), group in groups(report.results, "backward"):
        by = {row.contestant: row for row in group}
        differences = [row.difference for row in group if row.difference is not None]
        cells = [
            work.replace(" backward by ", ", "),
            str(batch),
            *(spread(by[name]) if name in by else "differs" for name in OWN),
            *(f"{by[name].ratio:,.0f}" if name in by else "" for name in OWN[1:]),
            f"{max(differences):.0e}" if differences else "",
        ]
        rows.append(cells)
        if "lanes" in by and "im2col" in by and by["lanes"].median > 1.05 * by["im2col"].median:
            slower.append(
                f"{cells[0]} at batch {batch} "
                f"({by['lanes'].median / by['im2col'].median:.1f} times)"
            )
    header = (
        "backward pass by what is varied",
        "batch",
        "loops, µs",
        "im2col, µs",
        "lanes, µs",
        "im2col: times faster",
        "lanes: times faster",
        "largest difference",
    )
    note = (
        "Called alone, `lanes` is slower than `im2col` at: " + "; ".join(slower) + ". A single "
        "call transposes arrays into lanes and back, which a training step does not."
        if slower
        else "Called alone, `lanes` is nowhere slower than `im2col`."
    )
    return [
        "# Backward passes: nested loops against fast ones",
        command("python -m bench backward"),
        "![Speed-ups](backward.png)",
        "One operation called alone, in microseconds per sample; the difference is the largest one "
        "from the loops, relative to the largest gradient.",
        table(header, rows, left=1),
        note,
    ]


def _accuracy(report: Report) -> list[str]:
    rows = [
        (row.work, row.contestant, spread(row), row.note)
        for row in report.results
        if row.suite == "time-to-accuracy"
    ]
    header = ("training", "contestant", "seconds (least to most)", "")
    return [
        "# Time to accuracy",
        command("python -m bench accuracy"),
        "Seconds of training, without tests, until the test accuracy is first reached. All use one "
        "recipe: SGD with momentum 0.9, batches of 64, one cycle of the learning rate up to 0.02 "
        "within two epochs (digits 0, 1, 2) or five (all ten), the same initial weights and order "
        "of samples. Medians over the seeds 0, 1 and 2, or fewer if a contestant ran out of time.",
        table(header, rows, left=2),
    ]


def _processes(report: Report) -> list[str]:
    """A line for each process and contestant: seconds and memory."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in report.results:
        if row.suite in ("startup", "process"):
            found.setdefault((row.work, row.contestant), {})[row.unit.partition(" ")[0]] = (
                spread(row) if row.unit == "s" else f"{row.median:.4g}"
            )
    units = ("s", "MiB", "%")
    rows = [(*key, *(values.get(unit, "") for unit in units)) for key, values in found.items()]
    header = ("process", "contestant", "seconds from start to end", "MiB at most", "% correct")
    return [
        "# Start-up and whole processes",
        command("python -m bench startup process"),
        "Importing fastcnn loads almost nothing; the rest is loaded at first use, so compare the "
        "rows of the first gradient (of the report's network). Cold is the first process on a "
        "machine, which compiles; PyTorch's eager mode has nothing to compile, and TensorFlow "
        "caches nothing on disk. Memory is the peak of resident memory.",
        table(header, rows, left=2),
    ]


def _scaling(results: list[ScalingResult]) -> list[str]:
    lines = [
        "# Scaling",
        "![Scaling](scaling.png)",
        "The cost of a unit of work should stay flat or fall along each axis. A point that is more "
        "than a tenth above the lowest before it, in three measurements, is marked; below the "
        "table is what changed in the program, and what else was measured. "
        "Memory is the most that was allocated at any time for the engine and one step, beyond "
        "the data.",
    ]
    for result in results:
        rows = [
            (
                f"{point.value:,}",
                number(1e6 * point.seconds),
                number(1e6 * point.per_sample),
                number(1e9 * point.cost),
                number(point.memory / 2**20),
                "rises" if point.flagged else "",
            )
            for point in result.points
        ]
        header = (result.axis, "µs a step", "µs a sample", f"ns a {result.unit}", "MiB", "")
        lines += [
            f"## {result.title}",
            command(f"python -m bench scaling --axis {result.axis}"),
            table(header, rows, left=0),
        ]
        if flagged := [point for point in result.points if point.flagged]:
            notes = [f"- {result.axis} {each.value:,}: {each.explanation}." for each in flagged]
            lines.append("\n".join(notes))
    return lines


def _profiles(profiles: list[Profile]) -> list[str]:
    lines = [
        "# Each kernel under the machine's roofs",
        "The peaks are measured in the same run: fused multiply-adds into independent "
        "accumulators, and the bandwidth of `z = x * s + y` with its arrays in each cache and in "
        "memory. For each row of the engine's program, one kernel call, the tables show its time "
        "in the step and alone.",
    ]
    for profile in profiles:
        longest = sorted(profile.rows, key=lambda row: -row.in_step)[:LONGEST]
        rows = [
            (
                row.name,
                row.part,
                row.sizes,
                number(1e6 * row.in_step),
                number(1e6 * row.seconds),
                f"{row.rate / 1e9:.0f}" if row.flops else "",
                f"{100 * row.rate / profile.peaks.flops:.0f} %" if row.flops else "",
                f"{row.bandwidth / 1e9:.0f}",
                f"{row.bytes:,}",
            )
            for row in longest
        ]
        header = (
            *("the longest rows", ""),
            "sizes",
            "µs in step",
            "µs alone",
            "GFLOP/s",
            "of peak",
            "GB/s",
            "bytes",
        )
        lines += [
            f"## {profile.model}",
            command(
                f"fastcnn profile {profile.model} --batch-size {profile.batch} "
                f"--threads {profile.threads}"
            ),
            f"![Roofline](profile-{profile.model}.png)",
            "\n".join(f"- {sentence}." for sentence in profile.summary().splitlines()),
            table(header, rows, left=3),
        ]
    return lines


def _environment(report: Report) -> str:
    hidden = ("cores", "processor", "instruction set")
    return ", ".join(f"{k} {v}" for k, v in report.environment.items() if k not in hidden)
