"""The report's formulas: as wrong as it prints them, and out of the reach of ordinary training."""

import numpy as np
import pytest

import fastcnn
from fastcnn.backends import im2col
from fastcnn.execution import loss_and_gradients
from fastcnn.study import wrong_gradients
from fastcnn.study.section import Section
from fastcnn.study.setting import Setting
from fastcnn.study.wrong_formulas import UNIT, PrintedOperations, gradient_errors, train_with
from fastcnn.study.wrong_gradients import Case, Outcome, WrongGradients


def test_convolution_is_the_report_s_code() -> None:
    """Padded dy against the kernel turned by ``np.rot90`` over the first two axes, twice."""
    generator = np.random.default_rng(0)
    x, weight = generator.standard_normal((1, 3, 5, 4)), generator.standard_normal((2, 3, 3, 3))
    dy = generator.standard_normal((1, 2, 5, 4))
    turned = np.rot90(np.rot90(weight.transpose(1, 2, 3, 0)))
    padded = np.pad(dy, ((0, 0), (0, 0), (1, 1), (1, 1)))
    expected = np.zeros_like(x)
    for h in range(5):
        for w in range(4):
            window = padded[0, :, h : h + 3, w : w + 3]
            expected[0, :, h, w] = np.einsum("cijo,oij->c", turned, window)
    wrong = PrintedOperations(("convolution",)).conv2d_backward(dy, x, weight, *UNIT)
    right = im2col.conv2d_backward(dy, x, weight, *UNIT)
    assert wrong[0] == pytest.approx(expected)
    assert wrong[0] != pytest.approx(right[0])
    assert (wrong[1] == right[1]).all()
    assert (wrong[2] == right[2]).all()


def test_errors_of_the_formulas() -> None:
    errors = gradient_errors()
    assert errors["sigmoid"] > 1
    assert errors["convolution"] > 0.5
    assert errors["relu"] == 1


def test_without_wrong_formulas_it_is_ordinary_training() -> None:
    train, _ = fastcnn.data.digits_dataset(64, 10, classes=(0, 1, 2))
    x, y = train.normalisation.apply(train.images), train.labels
    model = fastcnn.models.report_cnn("sigmoid", seed=0)
    loss, _, gradient = loss_and_gradients(model, x, y)
    expected = model.parameter_vector - 0.1 * gradient
    losses, overflows = train_with(model, (), x[None], y[None], 0.1)
    assert losses[0] == pytest.approx(loss, rel=1e-5)
    assert model.parameter_vector == pytest.approx(expected, abs=1e-5)
    assert overflows == 0


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    train, _ = fastcnn.data.digits_dataset(64, 10, classes=(0, 1, 2))
    x = np.repeat(train.normalisation.apply(train.images)[None], 20, axis=0)
    y = np.repeat(train.labels[None], 20, axis=0)
    model = fastcnn.models.report_cnn(seed=0)
    losses, overflows = train_with(model, (), x, y, 1e9)
    assert np.isnan(losses[-1])
    assert overflows > 0


def outcomes(collapsing: bool) -> WrongGradients:
    calm = np.linspace(1.1, 0.2, 100)
    made = {}
    for activation, sets in wrong_gradients.SETS.items():
        for wrong in sets:
            for lr in (wrong_gradients.REPORT_LR, wrong_gradients.FAIR_LR):
                losses = calm.copy()
                if collapsing and "sigmoid" in wrong:
                    losses[60:] = 4.4
                made[Case(activation, wrong, lr, 100)] = Outcome(losses, 0, 0.9)
    return WrongGradients(gradient_errors(), made)


def words(section: Section) -> str:
    return " ".join(finding.en for finding in section.findings)


def test_the_verdict_follows_the_numbers() -> None:
    explained = words(wrong_gradients.section(outcomes(True)))
    assert "in 4 of 4 trainings with the wrong sigmoid gradient (from 0.6" in explained
    assert "it explains a loss that rises late" in explained
    assert "does not explain a loss" in words(wrong_gradients.section(outcomes(False)))


def test_the_experiment_on_drawn_digits() -> None:
    train, test = fastcnn.data.digits_dataset(300, 60, classes=(0, 1, 2))
    result = wrong_gradients.run(Setting(train, test, quick=True))
    assert len(result.outcomes) == 20
    assert all(np.isfinite(outcome.losses).all() for outcome in result.outcomes.values())
    wrong_gradients.loss_figure(result)
    assert wrong_gradients.section(result).tables[0].rows
