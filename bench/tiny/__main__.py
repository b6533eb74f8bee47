"""Size, memory and time of MLPerf Tiny's networks as C files: ``python -m bench.tiny``.

Contestants: this package's float and 8-bit C files; onnx2c's C file of the same network, exported
to ONNX, if the program is found; TensorFlow Lite Micro on MLPerf Tiny's own models, if its Python
package is installed and ``--models`` names the folder ``benchmark/training`` of
github.com/mlcommons/tiny. All take turns in one process, and the minimum time of each counts, by
the thread's own clock.

``--accuracy`` instead trains networks, and compares 8-bit integers with floats on test images.
``python -m bench.write_page`` writes both to docs/interchange.md.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from bench.shortest import shortest
from bench.tiny.accuracy import accuracies
from bench.tiny.contestants import OWN, Contestant, fastcnn_files, onnx2c_files
from bench.tiny.micro import micro
from bench.tiny.networks import NETWORKS
from fastcnn.benchmark.records import Records, this_command
from fastcnn.errors import FastcnnError

PROGRAM = "python -m bench.tiny"
SIZES, ACCURACIES = "tiny", "tiny-accuracy"
#: Largest difference of float outputs, relative to the largest output.
TOLERANCE = 1e-4


def main(
    onnx2c: Annotated[Path | None, typer.Option(help="The program, if not on the path.")] = None,
    models: Annotated[
        Path | None, typer.Option(help="Folder benchmark/training of github.com/mlcommons/tiny.")
    ] = None,
    accuracy: Annotated[bool, typer.Option(help="Train, and compare accuracies instead.")] = False,
    pictures: Annotated[str, typer.Option(help="CIFAR-10, or its pictures.")] = "cifar10",
    seconds: Annotated[float, typer.Option(min=0.1, help="Of one network's timings.")] = 6.0,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = None,
) -> None:
    """Measure, and print a line for each network and contestant."""
    if accuracy:
        records, suite = accuracies(pictures), ACCURACIES
    else:
        program = shutil.which("onnx2c") if onnx2c is None else str(onnx2c)
        records, suite = [], SIZES
        for name in NETWORKS:
            with tempfile.TemporaryDirectory() as folder:
                records += _measured(name, program, models, seconds, Path(folder))
    if out is not None:
        print("written:", *Records(suite, this_command(PROGRAM), records).write(out))


def _measured(
    name: str, program: str | None, models: Path | None, seconds: float, folder: Path
) -> list[dict[str, object]]:
    contestants: list[Contestant] = fastcnn_files(name, folder)
    if program is not None:
        contestants += onnx2c_files(name, program, folder)
    if models is not None:
        contestants += micro(name, models)
    for contestant in contestants:
        apart = contestant.difference
        assert apart is None or apart < TOLERANCE, f"{contestant}: outputs differ by {apart:.1e}"
    times = shortest([one.run for one in contestants], seconds)
    records = []
    for contestant, time in zip(contestants, times, strict=True):
        records.append(contestant.as_record(name) | {"us": round(1e6 * time, 1)})
        print({key: value for key, value in records[-1].items() if value is not None}, flush=True)
    assert records[0]["contestant"] == OWN
    return records


if __name__ == "__main__":
    try:
        typer.run(main)
    except FastcnnError as error:
        raise SystemExit(f"error: {error}") from None
