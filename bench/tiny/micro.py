"""TensorFlow Lite Micro's interpreter on MLPerf Tiny's own models."""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.tiny.contestants import FLOAT, INT8, MICRO, Contestant
from bench.tiny.networks import NETWORKS
from fastcnn.errors import ConfigurationError

#: Bytes of working memory: more than any of these models needs.
ARENA = 4 << 20


def micro(name: str, models: Path) -> list[Contestant]:
    """The interpreter of the package ``tflite-micro``: portable kernels, compiled for this machine.

    Raises
    ------
    ConfigurationError
        If the package or a model is missing.
    """
    try:
        from tflite_micro.python.tflite_micro import runtime
    except ImportError:
        raise ConfigurationError(
            "--models: TensorFlow Lite Micro is missing: pip install tflite-micro"
        ) from None
    found = []
    for kind, file in zip((INT8, FLOAT), NETWORKS[name].models, strict=False):
        path = models / file
        if not path.is_file():
            raise ConfigurationError(f"--models: there is no {path}")
        interpreter = runtime.Interpreter.from_file(str(path), arena_size=ARENA)
        details = interpreter.get_input_details(0)
        interpreter.set_input(np.zeros(details["shape"], details["dtype"]), 0)
        interpreter.invoke()
        ram = _arena(interpreter)
        size = path.stat().st_size
        found.append(Contestant(MICRO, kind, "", interpreter.invoke, size, ram, size))
    return found


def _arena(interpreter: Any) -> int:
    """Bytes of the arena in use, which the interpreter prints to standard error."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as stream:
        os.dup2(stream.fileno(), 2)
        try:
            interpreter.print_allocations()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        stream.seek(0)
        printed = stream.read().decode()
    total = re.search(r"Arena allocation total (\d+) bytes", printed)
    assert total, printed
    return int(total[1])
