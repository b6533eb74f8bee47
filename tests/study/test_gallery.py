"""Figures of a trained network show what the network computes."""

import numpy as np
import pytest

import fastcnn
from fastcnn.study import gallery
from fastcnn.study.setting import Setting
from tests.study.english import left_in_english


def test_maps_filters_and_mistakes() -> None:
    train, test = fastcnn.data.digits_dataset(300, 60, classes=(0, 1, 2))
    result = gallery.run(Setting(train, test, quick=True))
    assert {name: maps.shape for name, maps in result.maps.items()} == {
        "relu1": (4, 28, 28), "pool1": (4, 14, 14), "relu2": (8, 14, 14), "pool2": (8, 7, 7),
    }  # fmt: skip
    pooled = result.maps["relu1"].reshape(4, 14, 2, 14, 2).max(axis=(2, 4))
    assert result.maps["pool1"] == pytest.approx(pooled)
    assert result.filters.shape == (4, 3, 3)
    assert {name: counts.sum() for name, counts in result.confusions.items()} == {
        "sigmoid": 60, "relu": 60,
    }  # fmt: skip
    wrong = (result.probabilities.argmax(axis=1) != test.labels).sum()
    confusion = result.confusions["relu"]
    assert confusion.sum() - np.trace(confusion) == wrong
    made = gallery.section(result)
    assert made.findings[0].en.startswith(f"With ReLU, {wrong} of 60 test images")
    for figure in made.figures:
        drawn = figure.draw()
        assert drawn.axes
        assert not left_in_english(drawn)
    assert np.isfinite(result.probabilities).all()
