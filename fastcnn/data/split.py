"""Splits of data sets without a test part, and validation splits.

For testing, a sample's part depends only on its name, so that an added sample moves no other, and a
network is never tested on training samples after a folder has grown. Validation samples are drawn
with a seed, stratified by class.
"""

import hashlib
import unicodedata
from collections.abc import Sequence

import numpy as np

from fastcnn.errors import ConfigurationError, DataError, counted
from fastcnn.scalars import is_integer

#: Share of the samples that are held out, on average.
TEST_SHARE = 0.15


def normalised_name(name: str) -> str:
    """A name in Unicode's NFC form, as file systems differ; case is preserved."""
    return unicodedata.normalize("NFC", name)


def held_out(names: Sequence[str | bytes], seed: int = 0) -> np.ndarray:
    """Choose samples for testing: about 15 %, with at least one on either side.

    Each has a name, such as its file's path within the data set, or its content; the choice depends
    on the seed. Raises DataError if there are fewer than two samples.
    """
    if len(names) < 2:
        raise DataError("needs at least two samples, one for training and one for testing")
    places = np.array([_place(name, seed) for name in names])
    held = places < TEST_SHARE
    # Samples of the same name stay together.
    if not held.any():
        held = places == places.min()
    if held.all():
        held = places < places.max()
    if not held.any():
        held[0] = True
    return held


def draw_validation(
    targets: np.ndarray, share: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a ``share`` of the samples for validation, stratified if targets are classes.

    Targets are classes if they are integers of shape (N,); of others only the length is used. At
    least one sample is on either side. Returns the indices of both parts, training first, in
    ascending order. Raises DataError if there are fewer than two samples.
    """
    count = len(targets)
    if count < 2:
        raise DataError("validation needs at least two samples, one of them to train on")
    wanted = min(max(1, round(share * count)), count - 1)
    held = np.zeros(count, bool)
    held[_stratified(targets, seed)[:wanted]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def draw_folds(targets: np.ndarray, folds: int, seed: int = 0) -> list[np.ndarray]:
    """Divide samples into stratified folds; sizes and class counts differ by at most one.

    Targets are as for :func:`draw_validation`; each fold is an array of ascending indices. Raises
    ConfigurationError for fewer than two folds, DataError for fewer samples than folds.
    """
    if not is_integer(folds) or folds < 2:
        raise ConfigurationError(f"folds must be an integer of at least 2, got {folds!r}")
    if len(targets) < folds:
        raise DataError(f"{counted(len(targets), 'sample')} cannot be divided into {folds} folds")
    order = _by_class(targets, seed)
    return [np.sort(order[first::folds]) for first in range(folds)]


def _by_class(targets: np.ndarray, seed: int) -> np.ndarray:
    """All samples in random order, grouped by class if targets are classes."""
    order = np.random.default_rng(seed).permutation(len(targets))
    if targets.ndim != 1 or targets.dtype.kind not in "iub":
        return order
    return order[np.argsort(targets[order], kind="stable")]


def _stratified(targets: np.ndarray, seed: int) -> np.ndarray:
    """All samples in random order, such that any prefix is stratified by class."""
    order = np.random.default_rng(seed).permutation(len(targets))
    if targets.ndim != 1 or targets.dtype.kind not in "iub":
        return order
    shuffled = targets[order]
    _, index, counts = np.unique(shuffled, return_inverse=True, return_counts=True)
    # The n-th of a class of m samples is at (n - 1/2) / m; ties are broken by the random order.
    by_class = np.argsort(index, kind="stable")
    number = np.empty(len(order), np.int64)
    number[by_class] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return order[np.argsort((number + 0.5) / counts[index], kind="stable")]


def _place(name: str | bytes, seed: int) -> float:
    """A number in 0..1, uniformly distributed over names."""
    if isinstance(name, str):
        name = normalised_name(name).encode("utf-8", "surrogatepass")
    key = str(seed).encode()[: hashlib.blake2b.MAX_KEY_SIZE]
    digest = hashlib.blake2b(name, digest_size=8, key=key).digest()
    return int.from_bytes(digest, "big") / 2.0**64
