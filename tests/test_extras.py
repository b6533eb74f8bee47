"""Lazily imported packages."""

import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

from fastcnn.extras import TESTED_NUMBA, numba_version


def test_version_of_numba_is_that_of_its_metadata() -> None:
    """It is read without the package metadata, which is slow."""
    assert numba_version() == importlib.metadata.version("numba")


def test_the_oldest_tested_numba_is_the_oldest_that_is_installed() -> None:
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())
    (wanted,) = (each for each in project["project"]["dependencies"] if each.startswith("numba"))
    assert wanted == "numba>={}.{}".format(*TESTED_NUMBA[0])


def test_networks_train_without_numba() -> None:
    """On im2col, in plain Python; what only compiles says so."""
    program = """
import sys
sys.modules["numba"] = None
import numpy as np
from fastcnn import BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d, Sequential, cli, fit, kernel

bell = kernel.activation("Bell", lambda x: np.exp(-x * x), lambda x: -2 * x * np.exp(-x * x))
x = np.random.default_rng(0).standard_normal((16, 1, 8, 8)).astype(np.float32)
found = []
for backend in ("lanes", "reference"):
    model = Sequential(
        Conv2d(1, 2, 3, seed=0), BatchNorm2d(2), bell(), MaxPool2d(2), Flatten(),
        Linear(18, 3, seed=1), input_shape=(1, 8, 8),
    )
    fit(model, (x, np.arange(16) % 3), epochs=2, batch_size=8, backend=backend, verbose=False)
    found.append(model.logits(x, backend=backend))
assert np.abs(found[0] - found[1]).max() < 1e-5
sys.argv = ["fastcnn", "warmup"]
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "lanes does not support a Python without numba; using the slower" in done.stderr
    assert done.stderr.endswith("error: numba compiles the kernels, and is not installed\n")
    assert done.returncode == 2
