"""Which samples are for testing, where a data set does not say: decided by each one's name alone.

A sample's part depends on nothing but its name, so that one more sample moves no other, and a
network is never tested on what it was trained on because a folder has grown.
"""

import hashlib
import unicodedata
from collections.abc import Sequence

import numpy as np

from fastcnn.errors import DataError

#: Share of the samples that are held out, on average.
TEST_SHARE = 0.15


def normalised_name(name: str) -> str:
    """A name in one of the forms that file systems give it: Unicode's NFC; case counts."""
    return unicodedata.normalize("NFC", name)


def held_out(names: Sequence[str | bytes], seed: int = 0) -> np.ndarray:
    """Which of some samples are for testing.

    Parameters
    ----------
    names : sequence of str or bytes
        A name for each sample, such as its file's path within the data set, or its content.
    seed : int
        Another seed makes another choice.

    Returns
    -------
    ndarray of bool, shape (N,)
        About 15 %; at least one is for testing, and one for training.

    Raises
    ------
    DataError
        If there are fewer than two samples.
    """
    if len(names) < 2:
        raise DataError("needs at least two samples, one for training and one for testing")
    places = np.array([_place(name, seed) for name in names])
    held = places < TEST_SHARE
    if not held.any():
        held[places.argmin()] = True
    elif held.all():
        held[places.argmax()] = False
    return held


def _place(name: str | bytes, seed: int) -> float:
    """A number in 0..1, evenly distributed over names."""
    if isinstance(name, str):
        name = normalised_name(name).encode("utf-8", "surrogatepass")
    key = str(seed).encode()[: hashlib.blake2b.MAX_KEY_SIZE]
    digest = hashlib.blake2b(name, digest_size=8, key=key).digest()
    return int.from_bytes(digest, "big") / 2.0**64
