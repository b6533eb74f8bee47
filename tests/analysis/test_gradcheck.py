"""The gradient check passes for correct gradients and fails for wrong ones."""

import numpy as np
import pytest

import fastcnn
from fastcnn.analysis.gradcheck import check_layer, check_model, gradcheck, relative_error
from fastcnn.backends import im2col, reference
from fastcnn.errors import GradientError
from fastcnn.execution import gradients
from fastcnn.layers import (
    BatchNorm2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    GroupNorm,
    Linear,
    Model,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
)


def test_all_gradients_are_right() -> None:
    report = gradcheck(raise_on_failure=True)
    assert report.ok
    assert {row.backend for row in report.rows} == {"reference", "im2col", "lanes"}
    subjects = {row.subject for row in report.rows}
    assert {"Sigmoid()", "whole model", "MSELoss(reduction='mean')"} <= subjects


def test_the_reports_sigmoid_gradient_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has ``dy * (1 - dy)`` instead of ``dy * y * (1 - y)``: the activation is ignored."""
    monkeypatch.setattr(im2col, "sigmoid_backward", lambda dy, x: dy * (1 - dy))
    assert not check_layer(Sigmoid(), (2, 3), "im2col")[0].ok
    with pytest.raises(GradientError, match=r"im2col: Sigmoid\(\), x: relative error"):
        gradcheck(backends=("im2col",), raise_on_failure=True)


def test_the_reports_convolution_gradient_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernel is rotated by rot90 over (input channel, row) instead of (row, column)."""
    right = reference.conv2d_backward

    def turned(dy, x, weight, stride, padding, dilation, groups):  # type: ignore[no-untyped-def]
        report_layout = weight.transpose(1, 2, 3, 0)
        wrong = np.rot90(np.rot90(report_layout), -2, axes=(1, 2)).transpose(3, 0, 1, 2)
        _, grad_weight, grad_bias = right(dy, x, weight, stride, padding, dilation, groups)
        grad_x = right(dy, x, np.ascontiguousarray(wrong), stride, padding, dilation, groups)[0]
        return grad_x, grad_weight, grad_bias

    monkeypatch.setattr(reference, "conv2d_backward", turned)
    rows = {
        row.gradient: row for row in check_layer(Conv2d(4, 8, 3, padding=1), (4, 4, 4), "reference")
    }
    assert rows["x"].error > 0.5
    assert rows["weight"].ok


def head(channels: int) -> tuple[object, ...]:
    return GlobalAvgPool2d(), Flatten(), Linear(channels, 3, seed=9)


def vanishing() -> Sequential:
    hidden = [layer for seed in range(6) for layer in (Linear(8, 8, seed=seed), Sigmoid())]
    return Sequential(*hidden, Linear(8, 3, seed=9), input_shape=(8,))


def frozen() -> Sequential:
    model = Sequential(Conv2d(3, 4, 3, seed=0), ReLU(), *head(4), input_shape=(3, 6, 6))
    model["0"].requires_grad = False
    return model


@pytest.mark.parametrize("backend", ["im2col", "lanes"])
@pytest.mark.parametrize(
    "model",
    [
        # The gradient of the bias is 0, and computed as a sum of rounding errors.
        Sequential(Conv2d(3, 8, 3, seed=0), GroupNorm(8, 8), *head(8), input_shape=(3, 16, 16)),
        vanishing(),
        frozen(),
        # The second ReLU is at its kink wherever the first one has no positive neighbour.
        fastcnn.models.ds_cnn(3, seed=0, input_shape=(1, 20, 10)),
        Sequential(Conv2d(3, 4, 3, seed=0), input_shape=(3, 6, 6)),
    ],
    ids=["normalised", "vanishing", "frozen", "kinks", "maps"],
)
def test_right_gradients_of_models_are_not_called_wrong(model: Model, backend: str) -> None:
    before = model.copy_state()
    rows = check_model(model, backend)
    assert all(row.ok for row in rows), [row for row in rows if not row.ok]
    assert len(rows) == len(model.named_parameters())
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


def test_kinks_next_to_a_value_are_avoided() -> None:
    """One ReLU of this network is less than 1e-7 of its bias away from its kink."""

    def block(seed: int) -> Residual:
        first, second = (Conv2d(8, 8, 3, padding=1, seed=seed + more) for more in (0, 9))
        return Residual(Sequential(first, BatchNorm2d(8), ReLU(), second, BatchNorm2d(8)))

    layers = (
        Conv2d(3, 8, 3, padding=1, seed=0),
        *map(block, range(5)),
        GlobalAvgPool2d(),
        Flatten(),
        Linear(8, 10, seed=1),
    )
    model = Sequential(*layers, input_shape=(3, 20, 20))
    rows = check_model(model, "im2col", directions=1, seed=1)
    assert all(row.ok for row in rows), [row for row in rows if not row.ok]


@pytest.mark.parametrize("change", [lambda g: 1.001 * g, np.zeros_like, np.negative])
def test_wrong_gradients_of_models_are_caught(
    change: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = im2col.linear_backward

    def wrong(dy, x, weight):  # type: ignore[no-untyped-def]
        grad_x, grad_weight, grad_bias = right(dy, x, weight)
        return grad_x, change(grad_weight), grad_bias  # type: ignore[operator]

    monkeypatch.setattr(im2col, "linear_backward", wrong)
    single = Sequential(Linear(8, 4, seed=0), ReLU(), Linear(4, 1, seed=1), input_shape=(8,))
    for model in (vanishing(), single):  # the loss of a single class would always be 0
        rows = check_model(model, "im2col")
        assert [row.ok for row in rows] == [row.gradient.endswith("bias") for row in rows]


@pytest.mark.parametrize(
    "change",
    [
        lambda g: 1.001 * g,
        np.zeros_like,
        np.negative,
        lambda g: np.full_like(g, np.nan),
        lambda g: g * np.random.default_rng(int(1e9 * abs(g).max())).standard_normal(g.shape),
    ],
    ids=["larger", "zero", "negative", "nan", "random"],
)
def test_small_wrong_gradients_of_the_engine_are_caught(
    change: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the first layer are much smaller than the last one's."""
    right = gradients

    def wrong(model, x, y, *, backend, **options):  # type: ignore[no-untyped-def]
        loss, found = right(model, x, y, backend=backend, **options)
        if backend == "lanes":
            assert np.abs(found["0.weight"]).max() < 1e-4 * np.abs(found["12.bias"]).max()
            found["0.weight"] = change(found["0.weight"])  # type: ignore[operator]
        return loss, found

    monkeypatch.setattr("fastcnn.analysis.gradcheck.gradients", wrong)
    rows = check_model(vanishing(), "lanes")
    assert [row.gradient for row in rows if not row.ok] == ["0.weight"]


def test_relative_error_of_nan_and_other_shapes_is_infinite() -> None:
    assert relative_error(np.array([np.nan]), np.array([1.0])) == np.inf
    assert relative_error(np.zeros(2), np.zeros(3)) == np.inf


def test_compare_backends() -> None:
    model = fastcnn.models.report_cnn(seed=0)
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((4, 1, 28, 28)), generator.integers(0, 3, 4)
    comparison = fastcnn.compare_backends(model, x, y, repeats=1, reference_samples=1)
    assert len(comparison.rows) == 3 * len(model.graph().nodes)
    assert comparison.largest_absolute < 1e-5
    assert comparison.largest_relative < 1e-5
    assert all(row.forward > 0 and row.backward > 0 for row in comparison.rows)
    taken = {name: comparison.seconds(name) for name in ("reference", "im2col", "lanes")}
    assert sum(taken.values()) == pytest.approx(
        sum(r.forward + r.backward for r in comparison.rows)
    )
    assert comparison.speedup("im2col") == taken["reference"] / taken["im2col"]
