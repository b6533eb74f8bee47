"""The experiments on activations, underfitting and overfitting, on grids of a few cells."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastcnn.data import digits_dataset
from fastcnn.layers import init
from fastcnn.study import activations, overfitting, underfitting
from fastcnn.study.section import Section
from fastcnn.study.setting import Setting
from fastcnn.study.trajectory import running_mean
from fastcnn.training import pool
from tests.study.english import left_in_english


def make_setting(train: Any, test: Any) -> Any:
    return Setting(train, test)


def draw(figure: Any) -> Any:
    return figure.draw()


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(pool, "available_cores", lambda: 1)
    return make_setting(*digits_dataset(240, 90, classes=(0, 1, 2)))


def words(section: Section) -> str:
    return " ".join(text.en for text in section.findings)


def check(section: Section) -> None:
    """The contents that a reader needs: text in two languages, figures with labels."""
    assert section.findings
    for text in section.findings:
        assert "nan" not in text.en.split()
        assert any("\u4e00" <= letter <= "\u9fff" for letter in text.zh)
    for figure in section.figures:
        drawn = draw(figure)
        assert drawn.axes
        labels = [axes.get_ylabel() for axes in drawn.axes]
        assert any(labels) or drawn.get_supylabel()
        assert not left_in_english(drawn)


def test_activations(setting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "STEPS", 30)
    monkeypatch.setattr(activations, "LEARNING_RATES", (0.0005, 0.05))
    monkeypatch.setattr(activations, "INITS", {"0.1": init.Normal(0.1), "scaled": None})
    monkeypatch.setattr(activations, "REPEATED_SEEDS", (1,))
    result = activations.run(setting)
    assert len(result.grid) == len(activations.PAIRS) * 4
    assert all(len(runs) == 2 for runs in result.repeated.values())
    for pair, (name, lr) in result.best.items():
        own = [
            activations.final_accuracy(one) for key, one in result.grid.items() if key[0] == pair
        ]
        assert activations.final_accuracy(result.grid[pair, name, lr]) == max(own)
    relu = result.probed(("relu", "relu"))
    assert len(relu.probes) > 3
    check(activations.section(result))


def test_verdict_on_sigmoid_follows_the_numbers(
    setting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activations, "STEPS", 2)
    monkeypatch.setattr(activations, "LEARNING_RATES", (0.0005, 0.05))
    monkeypatch.setattr(activations, "INITS", {"scaled": None})
    monkeypatch.setattr(activations, "REPEATED_SEEDS", ())
    result = activations.run(setting)
    assert "holds here too" in words(activations.section(result))
    cell = result.grid[("sigmoid", "relu"), "scaled", 0.05]
    cell.scores[-1] = replace(cell.scores[-1], test_accuracy=0.99)
    assert "does not hold" in words(activations.section(result))


def test_underfitting(setting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(underfitting, "STEPS", 60)
    monkeypatch.setattr(underfitting, "LEARNING_RATES", (0.0005, 0.05))
    monkeypatch.setattr(underfitting, "DEVIATIONS", (1e-4, 1e-3, 1e-2, 0.15))
    result = underfitting.run(setting)
    assert result.entropy == pytest.approx(np.log(3), abs=0.02)
    stuck, free = ("relu", 1e-4, 0.05), ("relu", 0.15, 0.05)
    assert result.final_loss(stuck) == pytest.approx(np.log(3), abs=0.02)
    assert result.left_at(stuck) is None
    left = result.left_at(free)
    assert left is not None
    assert left <= 60
    assert result.final_loss(free) < 0.8
    small = [std for std in underfitting.DEVIATIONS if std <= 0.01]
    for layer, power in zip(underfitting.LAYER_COLOURS, (4, 4, 3, 2, 1), strict=True):
        measured = result.norms("relu", layer, "gradient")[: len(small)]
        assert underfitting.power_law(small, measured) == pytest.approx(power, abs=0.4)
    section = underfitting.section(result)
    check(section)
    assert "The plateau is there" in words(section)


def test_left_at_is_a_step_of_the_running_mean() -> None:
    window = underfitting.WINDOW
    losses = np.concatenate([np.full(100, 1.1), np.zeros(100)])
    means = running_mean(losses, window)
    assert means[0] == pytest.approx(1.1)
    assert means[100] == pytest.approx(0.0)
    assert len(means) == 200 - window + 1


def test_overfitting(setting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overfitting, "STEPS", 40)
    monkeypatch.setattr(overfitting, "SIZES", (20, 100, 5000))
    monkeypatch.setattr(overfitting, "SEEDS", (0, 1))
    result = overfitting.run(setting)
    assert result.sizes == (20, 100, 240)
    assert result.errors("cnn").shape == (3, 2)
    assert (result.gap("cnn")[0] > 0.0).all()
    assert result.final("cnn", "train_loss")[0].mean() < result.final("cnn", "test_loss")[0].mean()
    section = overfitting.section(result)
    check(section)
    swapped = dict(result.runs)
    for size in result.sizes:
        for name in ("cnn", "dense"):
            other = [
                replace(one, scores=[replace(one.scores[-1], train_loss=0.0,
                        test_loss=1.0 if name == "cnn" else 0.1,
                        test_accuracy=0.5 if name == "cnn" else 0.9)])
                for one in result.runs[name, size]
            ]  # fmt: skip
            swapped[name, size] = other
    assert "is not borne out" in words(overfitting.section(replace(result, runs=swapped)))
