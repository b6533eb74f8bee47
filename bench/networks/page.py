"""The page docs/networks.md, from the results in docs/benchmarks/."""

from pathlib import Path
from typing import Any

from bench.markdown import command, number, table
from bench.networks.check import ENGINE, SAME
from bench.networks.exporters import WAYS
from fastcnn.benchmark.records import Records

CHECKS, TIMES = "networks.json", "network-times.json"
EXPORTERS = "network-exporters.json"
INTRODUCTION = """# Well-known networks

Networks that are trained on small computers, written in fastcnn with `Input`, `Concat` and `Model`
and compared with the same graph in PyTorch. They are in `bench/networks/`, each a function of about
ten lines. This page is generated (`python -m bench.write_page`) from the results of this command,
and of two others below:
"""
MEANING = """
"{engine}" means that the engine computes the network's training step, with the loss in the table;
otherwise the column gives the reason for using im2col. Samples and targets are random, weights have
a fixed seed, and dropout is off, because each library draws its own masks.

The difference is the largest one between the gradients of a training step and those of PyTorch in
float64. Each parameter's gradient is divided by its largest element, or by a hundredth of the
largest gradient if that is more. The next column is the same difference for PyTorch in float32.
Where a sum is close to zero, rounding decides which way a ReLU or a maximum goes, and some
gradients differ visibly in either library. The columns "without kinks" are for the same networks
with SiLU and means in place of ReLU and maxima: only rounding remains.

ONNX: the network is exported, compared with ONNX Runtime's output, imported again and compared
once more, to {same:.0e} of the largest output.
"""
OF_EXPORTERS = """
## Files of PyTorch's exporters

Each network is exported by `torch.onnx.export`, with running statistics that differ from their
initial values, by the TorchScript exporter (`dynamo=False`) and by dynamo (`dynamo=True`), for a
fixed and for an open batch size. `import_onnx` reads the file; the number is the largest difference
from PyTorch's output, divided by the largest output. All inputs and outputs of a network are
exported.
"""
WAITS = """
Training steps are measured by `python -m bench.networks --time --out docs/benchmarks`, on a machine
that does nothing else; they have not been yet.
"""


def render_networks(folder: Path) -> str:
    """The page."""
    checks = Records.read(folder / CHECKS)
    times = {}
    if (folder / TIMES).is_file():
        times = {record["network"]: record for record in Records.read(folder / TIMES).records}
    parts = [
        INTRODUCTION,
        command("python -m bench.networks --out docs/benchmarks"),
        MEANING.format(engine=ENGINE, same=SAME),
        table(
            (
                *("network", "loss", "runs on", "ONNX and back", "parameters"),
                *("difference", "PyTorch's", "without kinks", "PyTorch's"),
            ),
            [_check_row(record) for record in checks.records],
            left=4,
        ),
    ]
    parts += _exporters(Records.read(folder / EXPORTERS))
    parts += _times(checks, times) if times else [WAITS]
    return "\n".join(parts).rstrip("\n") + "\n"


def _title(record: dict[str, Any]) -> str:
    more = "; ".join(text for text in (record["source"], record["note"]) if text)
    return f"{record['title']}{f' ({more})' if more else ''}"


def _check_row(record: dict[str, Any]) -> tuple[str, ...]:
    names = ("difference", "pytorch_difference")
    differences = (record[f"{kind}{name}"] for kind in ("", "smooth_") for name in names)
    return (
        _title(record),
        record["loss"],
        record["engine"],
        record["onnx"] or "the same",
        f"{record['parameters']:,}",
        *(f"{value:.0e}" for value in differences),
    )


def _exporters(read: Records) -> list[str]:
    """A table for narrow screens: short numbers, and reasons below it."""
    rows, reasons = [], list[str]()
    for record in read.records:
        cells = []
        for way in WAYS:
            if record[way] is not None:
                cells.append(f"{record[way]:.0e}")
                continue
            reason = record[f"{way}_reason"]
            if reason not in reasons:
                reasons.append(reason)
            cells.append(f"[{reasons.index(reason) + 1}]")
        rows.append((record["title"], *cells))
    count = sum(record[way] is not None for record in read.records for way in WAYS)
    header = ("network", "script", "open", "dynamo", "open")
    notes = [f"{place}. {reason}" for place, reason in enumerate(reasons, start=1)]
    return [
        OF_EXPORTERS,
        command("python -m bench.networks --exporters --out docs/benchmarks"),
        f"\n{count} of {len(WAYS) * len(rows)} files are read.\n",
        table(header, rows, left=1),
        *(["\nNot read:\n", *notes] if notes else []),
    ]


def _times(checks: Records, times: dict[str, dict[str, Any]]) -> list[str]:
    rows = []
    for record in checks.records:
        if record["network"] not in times:
            continue
        timed = times[record["network"]]
        medians = {name: value["median"] for name, value in timed["times"].items()}
        own = medians.pop("engine")
        peer = min(medians, key=lambda name: medians[name])
        rows.append(
            (
                record["title"],
                f"{timed['batch']}",
                number(own),
                number(medians[peer]),
                peer.removeprefix("PyTorch "),
                number(medians[peer] / own),
            )
        )
    threads = sorted({record["threads"] for record in times.values()})
    return [
        "\n## Training steps\n",
        "A step with SGD with momentum, in microseconds per sample: medians of rounds in which "
        f"the libraries take turns, on {' and '.join(map(str, threads))} threads. PyTorch is "
        "the faster of eager and channels_last.\n",
        command("python -m bench.networks --time --out docs/benchmarks"),
        "",
        table(("network", "batch", "fastcnn", "PyTorch", "", "ratio"), rows, left=1),
    ]
