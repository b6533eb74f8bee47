"""C files of a network, compiled by gcc and called in this process."""

import ctypes
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.tiny.networks import NETWORKS
from fastcnn.interop import export_onnx
from fastcnn.interop.c import export_c
from fastcnn.layers import Model

OWN, ONNX2C, MICRO = "fastcnn", "onnx2c", "TensorFlow Lite Micro"
FLOAT, INT8 = "float", "int8"
LEVELS = ("-Os", "-O2")
#: Samples for choosing scales. Weights and samples are random: sizes and times are the same as
#: those of a trained network.
CALIBRATION = 64


@dataclass(frozen=True)
class Contestant:
    """One implementation of a network.

    Attributes
    ----------
    name, kind, level : str
        Its author, its arithmetic, and the compiler's optimisation option if it is a C file.
    run : callable
        One inference.
    flash, ram : int
        Bytes of code and constants, and of working memory, as reported by the object file or the
        interpreter.
    constants : int or None
        Bytes of constants alone, if known.
    difference : float or None
        Largest difference of outputs, relative to the largest; None for integers.
    """

    name: str
    kind: str
    level: str
    run: Callable[[], object]
    flash: int
    ram: int
    constants: int | None = None
    difference: float | None = None

    def as_record(self, network: str) -> dict[str, Any]:
        """Plain values."""
        return {
            "network": network,
            "contestant": self.name,
            "arithmetic": self.kind,
            "level": self.level,
            "flash": self.flash,
            "ram": self.ram,
            "constants": self.constants,
            "difference": self.difference,
        }


def fastcnn_files(name: str, folder: Path) -> list[Contestant]:
    """This package's C files, in floats and in 8-bit integers."""
    model = NETWORKS[name].model()
    sample, expected = _sample(model)
    shape = (CALIBRATION, *sample.shape)
    calibration = np.random.default_rng(1).random(shape, np.float32)
    found = []
    for kind, samples in ((FLOAT, None), (INT8, calibration)):
        made = export_c(
            model, folder / "net.h", name="net", is_classifier=False, calibration=samples
        )
        source = folder / "net.c"
        source.write_text(
            '#include "net.h"\nint run(const float *x, float *y);\n'
            "int run(const float *x, float *y) { return net_predict(x, y); }\n"
        )
        for level in LEVELS:
            run, outputs, flash, ram = _compiled(source, level, "run", sample, expected.shape)
            apart = _apart(outputs, expected) if kind == FLOAT else None
            found.append(Contestant(OWN, kind, level, run, flash, ram, made.flash, apart))
    return found


def onnx2c_files(name: str, program: str, folder: Path) -> list[Contestant]:
    """onnx2c's C file of the same network, with batch normalisation folded as in this package's."""
    model = NETWORKS[name].model()
    sample, expected = _sample(model)
    path, source = folder / "net.onnx", folder / "onnx2c.c"
    export_onnx(model.fold_batch_norm(), path)
    with source.open("w") as stream:
        command = [program, "-d", "batch:1", str(path)]
        subprocess.run(command, stdout=stream, stderr=subprocess.DEVNULL, check=True)
    found = []
    for level in LEVELS:
        run, outputs, flash, ram = _compiled(source, level, "entry", sample, expected.shape)
        apart = _apart(outputs, expected)
        found.append(Contestant(ONNX2C, FLOAT, level, run, flash, ram, difference=apart))
    return found


def _sample(model: Model) -> tuple[np.ndarray, np.ndarray]:
    assert model.input_shape is not None
    sample = np.random.default_rng(0).random(model.input_shape, np.float32)
    return sample, model.logits(sample[None])[0]


def _apart(outputs: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(outputs - expected).max() / np.abs(expected).max())


def _compiled(
    source: Path, level: str, function: str, sample: np.ndarray, shape: tuple[int, ...]
) -> tuple[Callable[[], object], np.ndarray, int, int]:
    """A C function of two arrays, its result, and the object file's sizes."""
    target = source.with_suffix(f".{level.strip('-')}.{len(list(source.parent.iterdir()))}.so")
    flags = ["gcc", "-std=c99", "-w", level, "-fPIC"]
    subprocess.run([*flags, "-c", "-o", source.with_suffix(".o"), source], check=True)
    subprocess.run(["gcc", "-shared", "-o", target, source.with_suffix(".o"), "-lm"], check=True)
    # Sizes without -fPIC, as for a microcontroller.
    flags.remove("-fPIC")
    subprocess.run([*flags, "-c", "-o", source.with_suffix(".o"), source], check=True)
    printed = subprocess.run(
        ["size", source.with_suffix(".o")], capture_output=True, text=True, check=True
    )
    text, data, bss = (int(part) for part in printed.stdout.splitlines()[1].split()[:3])
    outputs = np.empty(shape, np.float32)
    given = [array.ctypes.data_as(ctypes.c_void_p) for array in (sample, outputs)]
    library = ctypes.CDLL(str(target))
    run = partial(_call, library[function], given, (library, sample, outputs))
    run()
    return run, outputs, text + data, data + bss


def _call(function: Any, given: list[Any], _kept: tuple[Any, ...]) -> None:
    function(*given)
