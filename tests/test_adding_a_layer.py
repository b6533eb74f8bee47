"""Adding a layer with its own kernels takes four files: in a copy of the package, it runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastcnn

OPERATION = '''

def gated(x: Any, weight: Any, *, backend: str | None = None) -> np.ndarray:
    """``x * sigmoid(weight * x)``, with a weight for each channel."""
    return computed("gated", _gated, backend, x, weight)


def _gated(name: str, x: Any, weight: Any) -> Checked:
    x = as_array(name, "x", x)
    return Checked((x, as_optional(name, x, "weight", weight, x.shape[1:2])), {}, x.shape)


def gated_backward(
    grad_output: Any, x: Any, weight: Any, *, backend: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of :func:`gated`."""
    return gradient("gated", _gated, backend, grad_output, x, weight)


__all__ += ["gated", "gated_backward"]
RECORDS += (
    Operation(
        "gated",
        ("weight",),
        ("weight",),
        any_layout=True,
        gradient_needs="input",
        layers=(case("Gated", (3, 2, 3), 3), case("Gated", (5,), 5)),
        timed=(((32, 16, 16), {}),),
    ),
)
'''
LAYER = '''

class Gated(Layer):
    """``x * sigmoid(weight * x)``, with a weight for each channel."""

    operation: ClassVar[str] = "gated"

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = as_count("Gated", "num_features", num_features)
        self.parameters = {"weight": np.linspace(0.5, 1.5, num_features, dtype=np.float32)}


__all__ += ["Gated"]
'''
PLAIN = '''"""Gated units."""

import math

import numpy as np


def gated(x, weight):
    return x / (1 + np.exp(-_by_channel(weight, x) * x))


def gated_backward(grad_output, x, weight):
    a = _by_channel(weight, x)
    s = 1 / (1 + np.exp(-a * x))
    others = tuple(axis for axis in range(x.ndim) if axis != 1)
    grad_weight = (grad_output * x * x * s * (1 - s)).sum(axis=others)
    return grad_output * s * (1 + a * x * (1 - s)), grad_weight


def gated_loops(x, weight):
    y = np.empty_like(x)
    for place in np.ndindex(x.shape):
        y[place] = x[place] / (1 + math.exp(-weight[place[1]] * x[place]))
    return y


def gated_backward_loops(grad_output, x, weight):
    grad_x, grad_weight = np.empty_like(x), np.zeros_like(weight)
    for place in np.ndindex(x.shape):
        a, value, grad = weight[place[1]], x[place], grad_output[place]
        s = 1 / (1 + math.exp(-a * value))
        grad_x[place] = grad * s * (1 + a * value * (1 - s))
        grad_weight[place[1]] += grad * value * value * s * (1 - s)
    return grad_x, grad_weight


def _by_channel(weight, x):
    return weight.reshape(1, -1, *(1,) * (x.ndim - 2))
'''
KERNELS = '''"""Kernels of gated units, each for one block of 16 samples."""

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import share
from fastcnn.backends.lanes.kernels.elements import elements_reach
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.operation import lowered
from fastcnn.backends.lanes.kernels.record import map_sizes, numbered, per_element
from fastcnn.backends.lanes.planning.rows import (
    element_columns,
    gradient_offset,
    parameter_offset,
)
from fastcnn.backends.lanes.reach.ranges import arena, parameters
from fastcnn.codegen import linked, simd
from fastcnn.codegen.elementary import sigmoid


@linked
def gated(A, T, P, r, block, slot, part, parts):
    x0 = r[L.X] + block * r[L.X_BLOCK] + slot * r[L.X_SLOT]
    y0 = r[L.Y] + block * r[L.Y_BLOCK] + slot * r[L.Y_SLOT]
    first, last = share(r[L.CHANNELS], part, parts)
    for c in range(first, last):
        a = simd.splat(P[r[L.W] + c])
        for p in range(r[L.POSITIONS]):
            x = simd.load(A, x0 + c * r[L.X_CHANNEL] + T[r[L.X_TABLE] + p])
            value = simd.mul(x, sigmoid(simd.mul(a, x)))
            simd.store(A, y0 + c * r[L.Y_CHANNEL] + T[r[L.Y_TABLE] + p], value)


@linked
def gated_gradient(A, T, P, r, block, slot, part, parts):
    """M is the input, Y the output's gradient, X the input's; EXTRA has the weight's of a block."""
    x0 = r[L.X] + block * r[L.X_BLOCK] + slot * r[L.X_SLOT]
    y0 = r[L.Y] + block * r[L.Y_BLOCK] + slot * r[L.Y_SLOT]
    m0 = r[L.M] + block * r[L.M_BLOCK] + slot * r[L.M_SLOT]
    first, last = share(r[L.CHANNELS], part, parts)
    one = simd.splat(np.float32(1))
    for c in range(first, last):
        a, total = simd.splat(P[r[L.W] + c]), simd.splat(np.float32(0))
        for p in range(r[L.POSITIONS]):
            x = simd.load(A, m0 + c * r[L.M_CHANNEL] + T[r[L.M_TABLE] + p])
            grad = simd.load(A, y0 + c * r[L.Y_CHANNEL] + T[r[L.Y_TABLE] + p])
            s = sigmoid(simd.mul(a, x))
            rest = simd.mul(x, simd.sub(one, s))
            through = simd.mul(grad, s)
            total = simd.fma(through, simd.mul(x, rest), total)
            value = simd.fma(simd.mul(through, a), rest, through)
            simd.store(A, x0 + c * r[L.X_CHANNEL] + T[r[L.X_TABLE] + p], value)
        A[r[L.EXTRA] + block * r[L.EXTRA_BLOCK] + c] = simd.lane_sum(total)


def _reach(*names):
    def touches(r):
        yield from elements_reach(*names)(r)
        channels = r.along(r.count(L.CHANNELS), 1)
        yield parameters("W", channels + r[L.W])
        if "M" in names:
            yield arena("EXTRA", r.blocks(L.EXTRA, L.EXTRA_BLOCK) + channels, 1)

    return touches


K_GATED = numbered(gated, "gated", per_element(4, 1, 1), map_sizes, touches=_reach("X", "Y"))
K_GRADIENT = numbered(gated_gradient,
        "gradient of gated",
        per_element(8, 2, 1, 1),
        map_sizes,
        touches=_reach("X", "Y", "M"))


def _forward(walk, group):
    planner = walk.planner
    columns = element_columns(planner, x=walk.values[group.source], y=walk.output(group))
    columns["w"] = parameter_offset(planner, group, "weight")
    planner.emit(f"{group.node.name}: gated", row(K_GATED, **columns))


def _backward(walk, group, grad):
    planner, x = walk.planner, walk.values[group.source]
    grad_x = walk.wanted(group) or planner.like(x, passing=True)
    partial, _ = walk.partial(group, x.channels, 0)
    columns = element_columns(planner, x=grad_x, y=grad, m=x) | partial
    columns["w"] = parameter_offset(planner, group, "weight")
    planner.emit(f"{group.node.name}: gradient of gated", row(K_GRADIENT, **columns))
    if walk.trains(group, "weight"):
        target = gradient_offset(planner, group, "weight")
        walk.sum_blocks(group, target, partial, x.channels)


lowered("gated", forward=_forward, backward=_backward)
'''
ADDED = {
    "operations/norms.py": OPERATION,
    "layers/norm.py": LAYER,
    "backends/plain/gated.py": PLAIN,
    "backends/lanes/kernels/gated.py": KERNELS,
}
USE = """
import copy
import inspect

import numpy as np

import fastcnn
from fastcnn.analysis.compare import compare_backends
from fastcnn.analysis.gradcheck import check_layer
from fastcnn.analysis.gradient_cases import CASES
from fastcnn.benchmark.layers import cases

assert str(inspect.signature(fastcnn.functional.gated)).startswith("(x: Any, weight: Any, *")
mine = [case for case in CASES if isinstance(case[0], fastcnn.Gated)]
assert len(mine) == 2
assert "gated" in {case.operation for case in cases()}
for layer, shape in mine:
    for backend in ("reference", "im2col", "lanes"):
        for found in check_layer(layer, shape, backend):
            assert found.ok, found
model = fastcnn.Sequential(
    fastcnn.Conv2d(1, 3, 3, padding=1, seed=0), fastcnn.Gated(3), fastcnn.Conv2d(3, 2, 3, seed=1),
    fastcnn.Gated(2), fastcnn.Flatten(), fastcnn.Gated(32), fastcnn.Linear(32, 3, seed=2),
    input_shape=(1, 6, 6),
)
kernels = {name for name in fastcnn.plan(model, 19).describe().split("  ") if "gated" in name}
assert {"gated", "gradient of gated"} <= {name.strip() for name in kernels}
generator = np.random.default_rng(0)
x, y = generator.standard_normal((19, 1, 6, 6)), generator.integers(0, 3, 19)
comparison = compare_backends(model, x, y, repeats=1, reference_samples=3)
assert comparison.largest_relative < 1e-5, comparison
outputs = [model.predict_proba(x.astype(np.float32), backend=b) for b in ("im2col", "lanes")]
np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-6)
losses = []
for backend in ("im2col", "lanes"):
    fresh = copy.deepcopy(model)
    history = fastcnn.fit(
        fresh, (x.astype(np.float32), y), epochs=2, batch_size=8, backend=backend, seed=0
    )
    losses.append(history.column("train_loss"))
np.testing.assert_allclose(*losses, rtol=1e-4)
"""


@pytest.mark.slow
def test_four_files(tmp_path: Path) -> None:
    """The copy differs from the package in these files only."""
    package = Path(fastcnn.__file__).parent
    copy = tmp_path / "fastcnn"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in ADDED.items():
        with open(copy / name, "a", encoding="utf-8") as file:
            file.write(text)
    script = tmp_path / "use.py"
    script.write_text(USE, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(ADDED) <= 4
