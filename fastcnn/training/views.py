"""Test-time augmentation: the mean output over several views of each image."""

import numpy as np

from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.execution import Executor

#: Views by name: what each counts, whether it is mirrored, and rows and columns it is moved by.
#: The five are for images whose mirror images mean something else, such as digits: half of the
#: weight is on the image, half on it moved by one pixel up, down, left or right.
#: The six are those of airbench (Jordan, arXiv:2404.00498): half of the weight is on the image and
#: its mirror image, half on both moved by one pixel to either end of a diagonal.
VIEWS: dict[str, tuple[tuple[float, bool, int, int], ...]] = {
    "flip": ((0.5, False, 0, 0), (0.5, True, 0, 0)),
    "five-view": (
        (0.5, False, 0, 0),
        (0.125, False, -1, 0),
        (0.125, False, 1, 0),
        (0.125, False, 0, -1),
        (0.125, False, 0, 1),
    ),
    "six-view": (
        (0.25, False, 0, 0),
        (0.25, True, 0, 0),
        (0.125, False, 1, 1),
        (0.125, True, 1, 1),
        (0.125, False, -1, -1),
        (0.125, True, -1, -1),
    ),
}
#: Bytes of images of which views are made in one go.
BLOCK_BYTES = 2**24


def check_tta(tta: str | None) -> None:
    """Refuse a name that is not one of :data:`VIEWS`.

    Raises
    ------
    ConfigurationError
    """
    if tta is not None and not (isinstance(tta, str) and tta in VIEWS):
        raise ConfigurationError(f"tta must be one of {', '.join(VIEWS)}, or None, got {tta!r}")


def mean_logits(executor: Executor, images: np.ndarray, tta: str, whole: bool) -> np.ndarray:
    """The weighted mean of the network's outputs for views of each image.

    Parameters
    ----------
    executor : Executor
    images : ndarray, shape (N, C, H, W)
    tta : {"flip", "five-view", "six-view"}
    whole : bool
        Whether all images are run at once, as where the network takes statistics of them.

    Returns
    -------
    ndarray, shape (N, ...)

    Raises
    ------
    ShapeError
        If the samples are not images, or are too small to be moved.
    """
    check_tta(tta)
    if images.ndim != 4 or min(images.shape[2:]) < 2:
        raise ShapeError(
            f"tta={tta!r} needs images of shape (N, C, H, W) of at least 2 x 2 pixels, got "
            f"{images.shape}"
        )
    step = len(images) if whole else max(1, BLOCK_BYTES // images[0].nbytes)
    parts = []
    for start in range(0, len(images), step):
        block = images[start : start + step]
        total = None
        for share, mirrored, down, right in VIEWS[tta]:
            output = share * executor.logits(view(block, mirrored, down, right))
            total = output if total is None else total + output
        parts.append(total)
    return np.concatenate(parts)  # type: ignore[arg-type]


def view(images: np.ndarray, mirrored: bool, down: int, right: int) -> np.ndarray:
    """Images moved by at most one pixel, with their reflection at the edges, perhaps mirrored."""
    if down or right:
        padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
        H, W = images.shape[2:]
        images = padded[:, :, 1 - down : 1 - down + H, 1 - right : 1 - right + W]
    return np.ascontiguousarray(images[..., ::-1] if mirrored else images)
