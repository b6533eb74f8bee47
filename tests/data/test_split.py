"""Validation splits and folds: sizes, shares of classes, seeds."""

import numpy as np
import pytest

from fastcnn.data.split import draw_folds, draw_validation, held_out
from fastcnn.errors import ConfigurationError, DataError

LABELS = np.repeat([0, 1, 2], [70, 25, 5])


@pytest.mark.parametrize("share", [0.01, 0.1, 0.2, 0.33, 0.5, 0.9, 0.999])
def test_a_share_of_each_class_is_held_out(share: float) -> None:
    rows, held = draw_validation(LABELS, share, seed=3)
    assert sorted([*rows, *held]) == list(range(100))
    assert len(held) == min(round(100 * share), 99)
    counts = np.bincount(LABELS[held], minlength=3)
    assert np.abs(counts - share * np.array([70, 25, 5])).max() <= 1.0


def test_the_seed_decides_which() -> None:
    first, again, other = (draw_validation(LABELS, 0.2, seed)[1] for seed in (0, 0, 1))
    assert (first == again).all()
    assert len(first) == len(other)
    assert set(first) != set(other)


def test_targets_that_are_not_classes_are_drawn_at_random() -> None:
    _, held = draw_validation(np.random.default_rng(0).random((50, 4)), 0.1)
    assert len(held) == 5
    assert draw_validation(np.zeros(2), 0.01)[1].size == 1
    with pytest.raises(DataError, match="at least two samples"):
        draw_validation(np.zeros(1), 0.5)


@pytest.mark.parametrize("folds", [2, 3, 7, 100])
def test_folds_divide_every_class(folds: int) -> None:
    parts = draw_folds(LABELS, folds, seed=1)
    assert sorted(np.concatenate(parts)) == list(range(100))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    counts = np.array([np.bincount(LABELS[part], minlength=3) for part in parts])
    assert (np.ptp(counts, axis=0) <= 1).all()


@pytest.mark.parametrize("folds", [1, 0, 2.0, True, None])
def test_numbers_of_folds_that_are_none(folds: object) -> None:
    with pytest.raises(ConfigurationError, match="folds must be an integer of at least 2"):
        draw_folds(LABELS, folds)  # type: ignore[arg-type]


def test_more_folds_than_samples() -> None:
    with pytest.raises(DataError, match="100 samples cannot be divided into 101 folds"):
        draw_folds(LABELS, 101)


@pytest.mark.parametrize("names", [["a", "a", "b"], ["a", "b", "b", "a"], ["a", "a"]])
def test_samples_of_one_name_stay_together(names: list[str]) -> None:
    for seed in range(30):
        held = held_out(names, seed)
        assert 0 < held.sum() < len(held)
        parts = {(name, bool(part)) for name, part in zip(names, held, strict=True)}
        assert len(parts) == max(2, len(set(names)))
