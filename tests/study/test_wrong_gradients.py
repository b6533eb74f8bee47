"""The report's formulas: as wrong as printed, and unreachable in ordinary training."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastcnn
from fastcnn.backends import BACKENDS, get_backend, im2col
from fastcnn.execution import loss_and_gradients
from fastcnn.study import wrong_gradients
from fastcnn.study.section import Section
from fastcnn.study.setting import Setting
from fastcnn.study.wrong_formulas import (
    LARGEST_EXPONENT,
    UNIT,
    PrintedOperations,
    Steps,
    gradient_errors,
    train_with,
)
from fastcnn.study.wrong_gradients import Case, Outcome, WrongGradients
from tests.study.english import left_in_english


def test_convolution_is_the_report_s_code() -> None:
    """Padded dy with the kernel rotated by ``np.rot90`` over the first two axes, twice."""
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
    x, y = train.preprocessing.apply(train.images), train.labels
    model = fastcnn.models.report_cnn("sigmoid", seed=0)
    loss, _, gradient = loss_and_gradients(model, x, y)
    expected = model.parameter_vector - 0.1 * gradient
    seen = train_with(model, (), x[None], y[None], 0.1)
    assert seen.losses[0] == pytest.approx(loss, rel=1e-5)
    assert model.parameter_vector == pytest.approx(expected, abs=1e-5)
    assert 0 < seen.exponents[0] < 100
    assert seen.overflows == 0


def test_overflows_are_those_of_the_report_s_sigmoid() -> None:
    operations = PrintedOperations(())
    x = np.array([[3.0, -700.0]])
    assert (operations.sigmoid(x) == im2col.sigmoid(x)).all()
    assert operations.exponent == 700.0 < LARGEST_EXPONENT
    assert Steps(np.zeros(3), np.array([700.0, 710.0, -np.inf])).overflows == 1
    with np.errstate(over="raise"):
        np.exp(709.0)
        with pytest.raises(FloatingPointError, match="overflow"):
            np.exp(np.float64(710.0))


def test_ordinary_training_cannot_reach_them() -> None:
    """No other part of the package imports them, and no name leads to them."""
    package = Path(fastcnn.__file__).parent
    users = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"wrong_formulas|PrintedOperations", path.read_text(encoding="utf-8"))
    }
    assert users == {"study/wrong_formulas.py", "study/wrong_gradients.py"}
    code = (
        "import sys, fastcnn.cli.train; "
        "train, _ = fastcnn.data.digits_dataset(64, 10, classes=(0, 1, 2)); "
        "fastcnn.fit(fastcnn.models.report_cnn('sigmoid'), train, epochs=1); "
        "print([name for name in sys.modules if name.startswith('fastcnn.study')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    for backend in BACKENDS:
        gradient = get_backend(backend).sigmoid_backward(np.full((1, 4), 0.5), np.zeros((1, 4)))
        assert gradient == pytest.approx(np.full((1, 4), 0.125))


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    train, _ = fastcnn.data.digits_dataset(64, 10, classes=(0, 1, 2))
    x = np.repeat(train.preprocessing.apply(train.images)[None], 20, axis=0)
    y = np.repeat(train.labels[None], 20, axis=0)
    model = fastcnn.models.report_cnn(seed=0)
    losses = train_with(model, (), x, y, 1e9).losses
    assert np.isfinite(losses[0])
    assert np.isnan(losses[-1])


def outcomes(peak: float, anywhere: bool = False) -> WrongGradients:
    """A loss that falls to 0.2 and, with the wrong sigmoid gradient, rises to ``peak``."""
    made = {}
    for name, plan in wrong_gradients.PLANS.items():
        for wrong in plan.sets:
            for seed in plan.seeds:
                losses = np.concatenate([np.linspace(1.1, 0.2, 60), np.full(40, 0.2)])
                risen = anywhere or "sigmoid" in wrong
                if risen:
                    losses[70:] = peak
                case = Case(name, wrong, seed, 100)
                made[case] = Outcome(losses, int(risen and peak > 1), 0.9)
    return WrongGradients(gradient_errors(), made)


def words(section: Section) -> str:
    return " ".join(finding.en for finding in section.findings)


def test_the_verdict_follows_the_numbers() -> None:
    explained = words(wrong_gradients.section(outcomes(4.4)))
    assert "in 16 of 16 runs with the wrong sigmoid gradient and in 0 of 17" in explained
    assert (
        "can explain the report's jump from 0.2 to 4.4: the highest here goes from 0." in explained
    )
    assert "so it can explain the report's warnings" in explained
    lower = words(wrong_gradients.section(outcomes(1.2)))
    assert "but not as far as the report's" in lower
    for calm in (outcomes(0.2), outcomes(4.4, anywhere=True)):
        said = words(wrong_gradients.section(calm))
        assert "does not explain the report's jump" in said
        assert "does not explain the report's warnings" in said


def test_the_experiment_on_drawn_digits() -> None:
    train, test = fastcnn.data.digits_dataset(300, 60, classes=(0, 1, 2))
    told: list[int] = []
    setting = Setting(train, test, quick=True, tell=lambda done, total: told.append(done))
    result = wrong_gradients.run(setting)
    assert len(result.outcomes) == sum(len(plan.sets) for plan in wrong_gradients.PLANS.values())
    assert told == list(range(1, 1 + len(result.outcomes)))
    assert all(np.isfinite(outcome.losses).all() for outcome in result.outcomes.values())
    made = wrong_gradients.section(result)
    assert len(made.tables[0].rows) == len(result.outcomes)
    drawn = made.figures[0].draw()
    assert drawn.axes
    assert not left_in_english(drawn)
