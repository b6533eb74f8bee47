"""The part of docs/interchange.md on MLPerf Tiny's networks, from docs/benchmarks/."""

from pathlib import Path
from typing import Any

from bench.markdown import command, number, table
from bench.tiny.contestants import FLOAT, INT8, MICRO, ONNX2C, OWN
from bench.tiny.networks import NETWORKS, PUBLISHED
from fastcnn.benchmark.records import Records

SIZES, ACCURACIES = "tiny.json", "tiny-accuracy.json"


def render_tiny(folder: Path) -> str:
    """The tables of sizes, of times and of accuracies."""
    sizes, accuracies = (Records.read(folder / name) for name in (SIZES, ACCURACIES))
    return "\n".join((_sizes(sizes), "", _published(), "", _accuracies(accuracies)))


def _sizes(found: Records) -> str:
    rows = []
    for name, network in NETWORKS.items():
        records = [record for record in found.records if record["network"] == name]
        title = network.title
        for contestant, kind in (
            (OWN, FLOAT),
            (ONNX2C, FLOAT),
            (MICRO, FLOAT),
            (OWN, INT8),
            (MICRO, INT8),
        ):
            here = {
                record["level"]: record
                for record in records
                if (record["contestant"], record["arithmetic"]) == (contestant, kind)
            }
            if here:
                rows.append((title, f"{contestant}, {kind}", *_cells(here)))
                title = ""
    header = (
        *("network", "contestant", "flash, bytes", "RAM, bytes"),
        *("µs with O2", "µs with Os"),
    )
    return "\n".join(
        (
            command("python -m bench.tiny --models tiny/benchmark/training --out docs/benchmarks"),
            "",
            table(header, rows, left=2),
            "",
            f"Measured {found.date[:10]} on one core of {found.environment['processor']}, compiled "
            "by gcc for x86-64. On a microcontroller, code sizes differ, and times are much "
            "longer. Flash is code and constants, RAM the working memory, as `size` counts "
            "them in the object file of `-Os`. Times are for one sample. The float files of "
            "fastcnn and onnx2c compute the same network; their outputs were compared before "
            "anything was timed. TensorFlow Lite "
            "Micro runs MLPerf Tiny's own models with the portable kernels of its Python package. "
            "Its flash is the model alone, without the interpreter's code; its RAM is the arena "
            "that it uses. It refuses MLPerf Tiny's float file of DS-CNN. The command needs "
            "`onnx2c` on the path, the package `tflite-micro`, and a clone of mlcommons/tiny in "
            "`tiny`.",
        )
    )


def _cells(here: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    first = here.get("-Os") or here[""]
    times = [number(here[level]["us"]) if level in here else "" for level in ("-O2", "-Os")]
    if "" in here:
        times = [number(here[""]["us"]), ""]
    return (f"{first['flash']:,}", f"{first['ram']:,}", *times)


def _published() -> str:
    """Published measurements on other hardware."""
    rows = [
        (network.title, f"{1000 / network.published:,.0f}", f"{network.published:g}")
        for network in NETWORKS.values()
    ]
    return "\n".join(
        (
            "Published, on other hardware: the reference of MLPerf Tiny 0.5, TensorFlow Lite Micro "
            "2.3.1 in 8-bit integers on a Nucleo-L4R5ZI (Cortex-M4, 120 MHz), from the logs in "
            f"[mlcommons/tiny_results_v0.5]({PUBLISHED}).",
            "",
            table(("network", "ms a sample", "samples a second"), rows, left=1),
            "",
            "We found no published figures of onnx2c or emlearn for these networks. emlearn "
            "exports fully connected networks to C, and convolutions to MicroPython only (by "
            "TinyMaix).",
        )
    )


def _accuracies(found: Records) -> str:
    rows = [
        (
            f"`{record['network']}`",
            f"{record['data']}, {record['epochs']} epochs",
            f"{record['float']:.2f} %",
            f"{record['int8']:.2f} %",
            f"{record['int8'] - record['float']:+.2f}",
        )
        for record in found.records
    ]
    tested = found.records[0]["tested"]
    return "\n".join(
        (
            f"The effect of 8-bit integers on accuracy, on {tested:,} test images, with scales "
            "chosen from 500 training images:",
            "",
            command(found.command),
            "",
            table(("network", "trained on", "float", "int8", "points"), rows, left=2),
        )
    )
