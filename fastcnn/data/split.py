"""Which samples are for testing, where a data set does not say, and which for validation.

For testing, a sample's part depends on nothing but its name, so that one more sample moves no
other, and a network is never tested on what it was trained on because a folder has grown. For
validation, samples are drawn by a seed, of each class its share.
"""

import hashlib
import unicodedata
from collections.abc import Sequence

import numpy as np

from fastcnn.errors import ConfigurationError, DataError
from fastcnn.scalars import is_integer

#: Share of the samples that are held out, on average.
TEST_SHARE = 0.15


def normalised_name(name: str) -> str:
    """A name in one of the forms that file systems give it: Unicode's NFC; case counts."""
    return unicodedata.normalize("NFC", name)


def held_out(names: Sequence[str | bytes], seed: int = 0) -> np.ndarray:
    """Which of some samples are for testing: about 15 %, but at least one on either side.

    Each has a name, such as its file's path within the data set, or its content; another seed makes
    another choice. Raises DataError if there are fewer than two samples.
    """
    if len(names) < 2:
        raise DataError("needs at least two samples, one for training and one for testing")
    places = np.array([_place(name, seed) for name in names])
    held = places < TEST_SHARE
    # Samples of one name stay together.
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
    """Draw samples for validation: of each class its ``share``, where targets are classes.

    Targets are classes if they are integers of shape (N,); others only have a length. At
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
    """Divide samples into parts of the same size, and of the same classes, give or take one.

    Targets are as for :func:`draw_validation`; each part is indices in ascending order. Raises
    ConfigurationError if there are fewer than two parts, DataError if there are fewer samples.
    """
    if not is_integer(folds) or folds < 2:
        raise ConfigurationError(f"folds must be an integer of at least 2, got {folds!r}")
    if len(targets) < folds:
        raise DataError(f"{len(targets)} samples cannot be divided into {folds} folds")
    order = _by_class(targets, seed)
    return [np.sort(order[first::folds]) for first in range(folds)]


def _by_class(targets: np.ndarray, seed: int) -> np.ndarray:
    """All samples in random order, class after class where targets are classes."""
    order = np.random.default_rng(seed).permutation(len(targets))
    if targets.ndim != 1 or targets.dtype.kind not in "iub":
        return order
    return order[np.argsort(targets[order], kind="stable")]


def _stratified(targets: np.ndarray, seed: int) -> np.ndarray:
    """All samples in random order, so that the first of them have each class by its share."""
    order = np.random.default_rng(seed).permutation(len(targets))
    if targets.ndim != 1 or targets.dtype.kind not in "iub":
        return order
    shuffled = targets[order]
    _, index, counts = np.unique(shuffled, return_inverse=True, return_counts=True)
    # The n-th of a class of m samples comes at (n - 1/2) / m; of equal places the order decides.
    by_class = np.argsort(index, kind="stable")
    number = np.empty(len(order), np.int64)
    number[by_class] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return order[np.argsort((number + 0.5) / counts[index], kind="stable")]


def _place(name: str | bytes, seed: int) -> float:
    """A number in 0..1, evenly distributed over names."""
    if isinstance(name, str):
        name = normalised_name(name).encode("utf-8", "surrogatepass")
    key = str(seed).encode()[: hashlib.blake2b.MAX_KEY_SIZE]
    digest = hashlib.blake2b(name, digest_size=8, key=key).digest()
    return int.from_bytes(digest, "big") / 2.0**64
