"""Explanations of networks whose output depends on a known region."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.analysis.explanations import explain, fgsm, grad_cam, occlusion, saliency
from fastcnn.errors import ConfigurationError, DataError, ShapeError
from fastcnn.layers import Conv2d, Flatten, Linear, ReLU, Sequential
from tests.command import fastcnn as command


def corner() -> Sequential:
    """Class 1 is bright in the upper left 4 x 4 of 12 x 12 pixels."""
    model = Sequential(
        {"conv": Conv2d(1, 2, 3, padding=1, seed=0), "relu": ReLU(), "flat": Flatten(),
         "fc": Linear(2 * 144, 2, seed=0)},
        input_shape=(1, 12, 12),
    )  # fmt: skip
    state = model.state_dict()
    for value in state.values():
        value[...] = 0.0
    state["conv.weight"][0, 0, 1, 1] = 1.0
    state["fc.weight"].reshape(2, 2, 12, 12)[1, 0, :4, :4] = 0.2
    state["fc.bias"][0] = 1.0
    return model


def bright() -> np.ndarray:
    return np.ones((1, 1, 12, 12), np.float32)


@pytest.mark.parametrize("function", [saliency, grad_cam, occlusion])
def test_the_place_that_counts_is_found(function: Any) -> None:
    found = function(corner(), bright())
    assert found.shape == (1, 12, 12)
    if function is occlusion:
        found = function(corner(), bright(), size=2, stride=1, value=0.0)
    if function is grad_cam:
        assert (found > 0).all()  # one weight for a whole map
        return
    assert found[0, :3, :3].min() > 0
    assert found[0, 6:, 6:] == pytest.approx(0)


def test_occlusion_is_a_difference_of_probabilities() -> None:
    model, x = corner(), bright()
    covered = x.copy()
    covered[..., :2, :2] = 0
    fall = model.predict_proba(x)[0, 1] - model.predict_proba(covered)[0, 1]
    found = occlusion(model, x, [1], size=2, stride=2, value=0.0)
    assert found[0, 0, 0] == pytest.approx(fall, abs=1e-6)


def test_grad_cam_is_weighted_maps() -> None:
    torch = pytest.importorskip("torch")
    model = fastcnn.models.lenet5(seed=0)
    x = np.random.default_rng(0).random((3, 1, 28, 28)).astype(np.float32)
    y = np.array([1, 5, 9])
    maps = torch.tensor(model.features(x, "pool2"), requires_grad=True)
    fc = [model.state_dict()[f"fc{n}.{kind}"] for n in (1, 2, 3) for kind in ("weight", "bias")]
    value = maps.flatten(1)
    for index in range(3):
        weight, bias = (torch.tensor(each) for each in fc[2 * index : 2 * index + 2])
        value = torch.nn.functional.linear(value, weight, bias)
        value = torch.relu(value) if index < 2 else value
    value[torch.arange(3), torch.tensor(y)].sum().backward()
    weights = maps.grad.mean(dim=(2, 3), keepdim=True)
    cam = torch.relu((weights * maps).sum(dim=1))
    sized = torch.nn.functional.interpolate(cam[:, None], (28, 28), mode="bilinear")[:, 0]
    found = grad_cam(model, x, y, layer="pool2")
    assert found == pytest.approx(sized.detach().numpy(), abs=1e-5)


def test_fgsm_raises_the_loss_within_its_bounds() -> None:
    train, test = fastcnn.data.digits_dataset(300, 50, classes=(0, 1, 2))
    model = fastcnn.models.report_cnn(seed=0)
    fastcnn.fit(model, train, epochs=2, threads=1)
    moved = fgsm(model, test.images, test.labels, 20)
    assert moved.dtype == np.uint8
    assert np.abs(moved.astype(int) - test.images).max() == 20
    right = (model.predict(test.images) == test.labels).mean()
    assert (model.predict(moved) == test.labels).mean() < right
    x = test.images / np.float32(255)
    assert fgsm(model, x, test.labels, 0.1, bounds=(0, 1)).max() <= 1.0
    assert (fgsm(model, x, test.labels, 0.0) == x).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, x: grad_cam(m, x, layer="fc"), ConfigurationError, "not \\(C, H, W\\)"),
        (lambda m, x: grad_cam(m, x, layer="relu4"), ConfigurationError, "no layer 'relu4'"),
        (lambda m, x: grad_cam(m, x, backend="lanes"), ConfigurationError, "im2col or reference"),
        (lambda m, x: occlusion(m, x, size=0), ConfigurationError, "size must be"),
        (lambda m, x: occlusion(m, x, size=2, stride=3), ConfigurationError, "stride at most"),
        (lambda m, x: saliency(m, x, [7]), ConfigurationError, "from 0 to 1"),
        (lambda m, x: fgsm(m, x, [0], -1), ConfigurationError, "epsilon must be"),
        (lambda m, x: explain(m, x), ShapeError, "takes samples of shape"),
        (
            lambda m, x: explain(m, np.ma.masked_less(x[0], 9.0)),
            DataError,
            "masked values: masks are",
        ),
    ],
)
def test_refusals(call: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        call(corner(), bright())


def test_the_command_draws_a_picture(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    train, test = fastcnn.data.digits_dataset(600, 40, classes=(0, 1, 2))
    fastcnn.fit(fastcnn.models.report_cnn(seed=0), train, epochs=3, threads=1, out=tmp_path / "run")
    image_module.fromarray(test.images[0, 0]).save(tmp_path / "digit.png")
    out = tmp_path / "why.png"
    printed = command("explain", tmp_path / "run", tmp_path / "digit.png", "--out", out)
    assert f"picture: {out}, of the class {test.classes[test.labels[0]]}" in printed
    assert out.stat().st_size > 10_000
    printed = command(
        "explain", tmp_path / "run", tmp_path / "digit.png", "--out", out, "--class", "1",
        "--layer", "conv1",
    )  # fmt: skip
    assert "of the class 1" in printed
    command("explain", tmp_path / "run", tmp_path / "digit.png", "--class", "9", code=2)
