"""Random networks: the three backends agree on the loss and on every gradient."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

import fastcnn
from fastcnn.backends import BACKENDS
from fastcnn.errors import ShapeError
from fastcnn.execution import loss_and_gradients
from fastcnn.execution.engines import make_engine
from fastcnn.layers import (
    ELU,
    GELU,
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Dropout2d,
    Flatten,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)

#: Largest error of a float32 gradient against float64, relative to the network's largest gradient.
#: A sum of n products errs by at most n * 2**-24 of the sum of magnitudes; the networks drawn here
#: have sums of at most about 200 terms and 8 layers: 8 * 200 * 6e-8 = 1e-4.
BOUND = 1e-4


@st.composite
def windows(draw: Any, height: int, width: int, largest: int = 3) -> dict[str, Any]:
    """Kernel size, stride and padding of a window that fits a map."""
    kernel = tuple(draw(st.integers(1, min(largest, size))) for size in (height, width))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding = (draw(st.integers(0, kernel[0] // 2)), draw(st.integers(0, kernel[1] // 2)))
    return {"kernel_size": kernel, "stride": stride, "padding": padding}


@st.composite
def maps_layer(draw: Any, shape: tuple[int, ...]) -> Any:
    """A layer that reads maps."""
    channels, height, width = shape
    kind = draw(
        st.sampled_from(
            ["conv", "conv", "conv", "max", "tile", "avg", "element", "transposed", "adaptive",
             "block", "norm"]
        )
    )  # fmt: skip
    if kind == "conv":
        groups = draw(st.sampled_from([g for g in (1, 2, 3, channels) if channels % g == 0]))
        arguments = draw(windows(height, width, 5))
        if draw(st.booleans()):
            arguments |= {"stride": 1, "padding": "same"}
        return Conv2d(
            channels, groups * draw(st.integers(1, 3)), groups=groups,
            dilation=draw(st.sampled_from([1, 1, (1, 2), 2])), bias=draw(st.booleans()),
            seed=draw(st.integers(0, 99)), **arguments,
        )  # fmt: skip
    if kind == "max":
        return MaxPool2d(**draw(windows(height, width)))
    if kind == "tile":
        return MaxPool2d(2)
    if kind == "avg":
        return AvgPool2d(**draw(windows(height, width)), count_include_pad=draw(st.booleans()))
    if kind == "transposed" and max(height, width) < 7:
        return ConvTranspose2d(
            channels, draw(st.integers(1, 3)), (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
            stride=(draw(st.integers(1, 2)), 2), padding=(0, draw(st.integers(0, 1))),
            output_padding=(0, draw(st.integers(0, 1))), bias=draw(st.booleans()),
            dilation=draw(st.sampled_from([1, 1, 2])), seed=draw(st.integers(0, 99)),
        )  # fmt: skip
    if kind == "adaptive":
        return AdaptiveAvgPool2d((draw(st.integers(1, 4)), draw(st.sampled_from([None, 1, 3]))))
    if kind == "norm":
        return BatchNorm2d(channels, affine=draw(st.booleans()))
    if kind == "block":
        return draw(block(channels))
    return Dropout2d(0.3) if draw(st.booleans()) else draw(element())


@st.composite
def block(draw: Any, channels: int) -> Residual:
    """A residual block, with or without a convolution beside it."""
    seed, stride = draw(st.integers(0, 99)), draw(st.integers(1, 2))
    main = Sequential(
        Conv2d(channels, channels, 3, padding=1, stride=stride, seed=seed), draw(element())
    )
    if stride == 1 and draw(st.booleans()):
        return Residual(main)
    return Residual(main, Conv2d(channels, channels, 1, stride=stride, seed=seed + 1))


def element() -> st.SearchStrategy[Any]:
    """A layer of any shape."""
    kinds = [ReLU, ReLU, Sigmoid, Tanh, LeakyReLU, ELU, GELU, SiLU, Softplus, lambda: Dropout(0.3)]
    return st.sampled_from(kinds).map(lambda kind: kind())


@st.composite
def networks(draw: Any) -> Sequential:
    """A chain of maps, then of vectors, that ends in logits."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    layers: list[Any] = []
    current: tuple[int, ...] = shape
    for _ in range(draw(st.integers(0, 5))):
        layer = draw(maps_layer(current))
        try:
            current = layer.output_shape(current)
        except ShapeError:
            continue
        layers.append(layer)
    layers.append(Flatten())
    width = int(np.prod(current))
    for _ in range(draw(st.integers(0, 2))):
        if draw(st.booleans()):
            layers.append(draw(element()))
        else:
            wider = draw(st.integers(1, 20))
            layers.append(Linear(width, wider, bias=draw(st.booleans()), seed=7))
            width = wider
    layers.append(Linear(width, draw(st.integers(2, 4)), seed=8))
    return Sequential(*layers, input_shape=shape)


@given(model=networks(), count=st.integers(1, 35), smoothing=st.sampled_from([0.0, 0.1]))
@settings(max_examples=120, deadline=None, derandomize=True)
def test_backends_agree(model: Sequential, count: int, smoothing: float) -> None:
    note(repr(model))
    if any(isinstance(layer, BatchNorm2d) for layer in model.layers.values()):
        count = max(count, 3)  # one value has no variance, of two the gradient is nearly nothing
    make_engine(model, model.graph(), count, 2, loss=("cross_entropy", 0.0))  # no other backend's
    generator = np.random.default_rng(count)
    x = generator.standard_normal((count, *model.input_shape)).astype(np.float32)
    y = generator.integers(0, 2, count)
    loss = fastcnn.CrossEntropyLoss(smoothing)
    results = {
        name: loss_and_gradients(model, x, y, loss=loss, backend=name, seed=3, step=2)
        for name in BACKENDS
    }
    value, logits, gradient = results["reference"]
    for name, (other_value, other_logits, other_gradient) in results.items():
        assert other_value == pytest.approx(value, rel=1e-4), name
        assert np.abs(other_logits - logits).max() <= BOUND * max(1e-3, np.abs(logits).max()), name
        largest = max(1e-3, float(np.abs(gradient).max()))
        assert np.abs(other_gradient - gradient).max() <= BOUND * largest, name
