"""Outputs of layers and input gradients, compared with PyTorch and finite differences."""

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.layers import (
    BatchNorm2d,
    Concat,
    Conv2d,
    Flatten,
    Input,
    Linear,
    MaxPool2d,
    Model,
    ReLU,
    Residual,
    Sequential,
)

BACKENDS = ["lanes", "im2col", "reference"]


def network() -> Sequential:
    block = Residual(Sequential({"conv": Conv2d(4, 4, 3, padding=1, seed=1), "relu": ReLU()}))
    model = Sequential(
        {
            "conv1": Conv2d(2, 4, 3, seed=0),
            "norm": BatchNorm2d(4),
            "relu1": ReLU(),
            "pool": MaxPool2d(2),
            "block": block,
            "flat": Flatten(),
            "fc": Linear(4 * 3 * 3, 3, seed=2),
        },
        input_shape=(2, 8, 8),
    )
    generator = np.random.default_rng(4)
    model["norm"].buffers["running_mean"][...] = generator.normal(size=4)
    model["norm"].buffers["running_var"][...] = generator.uniform(0.5, 2.0, 4)
    return model


def samples(count: int = 5) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 2, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_layer_has_its_own_output(backend: str) -> None:
    """Including layers that the engine fuses, such as a convolution, its ReLU and a pooling."""
    model, x = network(), samples(20)
    names = ["conv1", "norm", "relu1", "pool", "block.main.conv", "block", "fc"]
    names = [name for name in names if not name.startswith("block.")]
    found = model.features(x, names, backend=backend)
    assert list(found) == names
    conv = np.asarray(fastcnn.functional.conv2d(x, *model["conv1"].parameters.values()))
    assert found["conv1"] == pytest.approx(conv, abs=1e-5)
    assert (found["norm"] < 0).any()
    assert found["relu1"] == pytest.approx(np.maximum(found["norm"], 0), abs=1e-6)
    pooled = found["relu1"].reshape(20, 4, 3, 2, 3, 2).max(axis=(3, 5))
    assert found["pool"] == pytest.approx(pooled, abs=1e-6)
    assert found["fc"] == pytest.approx(model.logits(x), abs=1e-5)
    assert (model.features(x, "relu1", backend=backend) == found["relu1"]).all()
    assert found["block"].shape == (20, 4, 3, 3)


def test_many_samples_are_run_in_parts() -> None:
    model, x = network(), samples(300)
    whole = model.features(x, "pool")
    assert (whole[290:] == model.features(x[290:], "pool")).all()


def test_an_unknown_layer_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"no layer 'relu4'; there are conv1, norm, relu1"):
        network().features(samples(), "relu4")


def differences(function: Any, x: np.ndarray, size: float) -> np.ndarray:
    slopes = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        high, low = x.copy(), x.copy()
        high[place] += size
        low[place] -= size
        slopes[place] = (function(high) - function(low)) / (2 * size)
    return slopes


@pytest.mark.parametrize("backend", ["im2col", "reference"])
@pytest.mark.parametrize("of", ["loss", "logit"])
def test_the_gradient_by_the_samples_is_the_slope(backend: str, of: str) -> None:
    """In the units of the samples, before preprocessing."""
    model, x = network().to(np.float64), samples(2).astype(np.float64)
    model.preprocessing = Preprocessing(mean=(0.1, -0.3), std=(0.5, 2.0))
    y = np.array([0, 2])

    def number(x: np.ndarray) -> float:
        logits = model.logits(x, backend="im2col")
        if of == "logit":
            return float(logits[[0, 1], y].sum())
        return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[[0, 1], y]))

    found = fastcnn.input_gradient(model, x, y, of=of, backend=backend)
    assert found == pytest.approx(differences(number, x, 1e-6), abs=1e-6)


@pytest.mark.parametrize("of", ["loss", "logit"])
@pytest.mark.parametrize("count", [1, 5, 40])
def test_the_engine_gives_the_same_gradient(of: str, count: int) -> None:
    model, x = network(), samples(count)
    y = np.arange(count) % 3
    for images in (x, (np.clip(x, 0, 1) * 255).astype(np.uint8)):
        one, other = (
            fastcnn.input_gradient(model, images, y, of=of, backend=name)
            for name in ("lanes", "im2col")
        )
        assert one == pytest.approx(other, abs=1e-5 * max(1.0, float(np.abs(other).max())))
    assert np.abs(one).max() > 0


def test_bytes_are_differentiated_by_grey_levels() -> None:
    model = network()
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 8, 8)).astype(np.uint8)
    by_byte = fastcnn.input_gradient(model, images)
    by_float = fastcnn.input_gradient(model, images / np.float32(255))
    assert by_byte * 255 == pytest.approx(by_float, rel=1e-4, abs=1e-6)


def test_the_gradients_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    model = Sequential(
        Conv2d(1, 4, 3, seed=0), ReLU(), MaxPool2d(2), Flatten(), Linear(36, 3, seed=1),
        input_shape=(1, 8, 8),
    )  # fmt: skip
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(36, 3),
    )  # fmt: skip
    theirs.load_state_dict({k: torch.tensor(v) for k, v in model.copy_state().items()})
    x, y = np.random.default_rng(0).normal(size=(6, 1, 8, 8)).astype(np.float32), [0, 1, 2, 0, 1, 2]
    given = torch.tensor(x, requires_grad=True)
    torch.nn.functional.cross_entropy(theirs(given), torch.tensor(y)).backward()
    for backend in BACKENDS:
        found = fastcnn.input_gradient(model, x, y, backend=backend)
        assert found == pytest.approx(given.grad.numpy(), abs=1e-6)


def test_several_inputs_have_a_gradient_each() -> None:
    a, b = Input((3,), name="a"), Input((2,), name="b")
    model = Model((a, b), Linear(5, 3, seed=0)(Concat()(a, b), name="fc"))
    x = np.ones((4, 3), np.float32), np.ones((4, 2), np.float32)
    found = fastcnn.input_gradient(model, x, [0, 1, 2, 0], of="logit")
    weight = model["fc"].parameters["weight"][[0, 1, 2, 0]]
    assert found["a"] == pytest.approx(weight[:, :3])
    assert found["b"] == pytest.approx(weight[:, 3:])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"of": "x"}, ConfigurationError, "of must be one of loss, logit"),
        ({"of": "loss"}, ConfigurationError, "needs targets"),
        ({"y": [0] * 5, "of": "logit", "loss": fastcnn.MSELoss()}, ConfigurationError, "no effect"),
        ({"y": [0, 1, 2, 3, 0], "of": "logit"}, ConfigurationError, "from 0 to 2"),
        ({"y": [0], "of": "logit"}, ShapeError, "expected a class for each sample, 5"),
    ],
)
def test_refusals(arguments: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        fastcnn.input_gradient(network(), samples(), **arguments)
