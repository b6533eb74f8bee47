"""Pictures that are given to an estimator by the paths of their files."""

import os
from pathlib import Path
from typing import Any

import numpy as np


def as_paths(X: Any) -> list[Path] | None:
    """Paths of picture files, if X is a list, array, series or one-column frame of such.

    Parameters
    ----------
    X : object
        What an estimator was given.

    Returns
    -------
    list of Path, or None
        None if X is something else, such as numbers.
    """
    values = X
    if hasattr(X, "iloc"):  # a frame or a series of pandas
        if len(X.shape) == 2:
            if X.shape[1] != 1:
                return None
            X = X.iloc[:, 0]
        values = X.tolist()
    elif isinstance(X, np.ndarray):
        if X.dtype.kind not in "OU" or X.ndim > 2 or (X.ndim == 2 and X.shape[1] != 1):
            return None
        values = X.ravel().tolist()
    elif not isinstance(X, (list, tuple)):
        return None
    if not values or not all(isinstance(value, (str, os.PathLike)) for value in values):
        return None
    return [Path(value) for value in values]
