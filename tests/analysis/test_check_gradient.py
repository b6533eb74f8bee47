"""Gradient checks of users' own operations and models, and their reports as text."""

import numpy as np
import pytest

import fastcnn
from fastcnn.analysis import gradcheck as module
from fastcnn.analysis.gradcheck import check_gradient, check_model
from fastcnn.backends import im2col
from fastcnn.errors import GradientError, ShapeError
from fastcnn.layers import Flatten, Linear, MaxPool2d, Model, ReLU, Sequential


def logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def small_model() -> Model:
    """A model with more weights than are checked one by one, and kinks of both kinds."""
    return Sequential(
        MaxPool2d(2), Flatten(), Linear(16, 8, seed=0), ReLU(), Linear(8, 3, seed=1),
        input_shape=(1, 8, 8),
    )  # fmt: skip


def test_a_right_gradient_passes() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3))
    row = check_gradient(logistic, lambda dy, x: dy * logistic(x) * (1 - logistic(x)), x)
    assert row.ok
    assert row.error < 1e-8


def test_a_function_may_return_a_number() -> None:
    assert check_gradient(lambda x: (x**2).sum(), lambda dy, x: 2 * dy * x, [1.0, -2.0]).ok


def test_the_reports_sigmoid_formula_fails() -> None:
    with pytest.raises(GradientError, match=r"sigmoid: wrong gradient, relative error"):
        check_gradient(
            logistic, lambda dy, x: dy * (1 - dy), [0.5, -1.0], name="sigmoid",
            raise_on_failure=True,
        )  # fmt: skip


def test_the_input_is_left_alone() -> None:
    x = np.array([1.0, 2.0])

    def in_place(values: np.ndarray) -> np.ndarray:
        values *= 2
        return values

    check_gradient(in_place, lambda dy, x: 2 * dy, x)
    assert x.tolist() == [1.0, 2.0]


def test_a_models_gradients_are_checked_without_changing_it() -> None:
    model = small_model()
    before = model.parameter_vector.copy()
    rows = check_model(model, "im2col")
    assert [row.gradient for row in rows] == list(model.state_dict())
    assert all(row.ok for row in rows)
    assert model.dtype == np.float32
    assert (model.parameter_vector == before).all()


@pytest.mark.parametrize("factor", [1.01, -1.0, np.nan])
def test_a_models_wrong_gradient_is_caught(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    right = im2col.linear_backward

    def wrong(dy, x, weight):  # type: ignore[no-untyped-def]
        grad_x, grad_weight, grad_bias = right(dy, x, weight)
        return grad_x, factor * grad_weight, grad_bias

    monkeypatch.setattr(im2col, "linear_backward", wrong)
    failed = {row.gradient for row in check_model(small_model(), "im2col") if not row.ok}
    assert failed == {"2.weight", "4.weight"}


def test_gradcheck_takes_a_model() -> None:
    report = fastcnn.gradcheck(backends=("im2col",), model=small_model())
    assert report.ok
    assert "model" in {row.subject for row in report.rows}


def test_a_model_without_input_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match="input shape is not known"):
        check_model(Sequential(Linear(3, 2)), "im2col")


def test_single_precision_is_held_to_its_own_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.SINGLE_PRECISION, "lanes", 1e-12)
    report = fastcnn.gradcheck(backends=("lanes",))
    assert {row.tolerance for row in report.rows} == {1e-12}
    assert any(row.subject.startswith("Conv2d") for row in report.failures)
    # That of a whole model is its own rounding, measured next to it.
    assert all(row.ok for row in report.rows if row.subject == "whole model")


def test_reports_as_text() -> None:
    lines = fastcnn.gradcheck(backends=("im2col",)).table().splitlines()
    assert lines[0].split() == ["backend", "layer", "or", "loss", "gradient", "of",
                                "relative", "error"]  # fmt: skip
    assert all(line.endswith("ok") for line in lines[2:])
    x, y = np.random.default_rng(0).standard_normal((3, 1, 8, 8)), [0, 1, 2]
    comparison = fastcnn.compare_backends(small_model(), x, y, repeats=1)
    lines = comparison.table().splitlines()
    assert len(lines) == 2 + len(comparison.rows)
    assert lines[2].split()[:2] == ["0", "reference"]
