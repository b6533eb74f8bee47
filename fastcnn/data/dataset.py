"""Images with labels, and their preprocessing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from fastcnn.arguments import is_unicode, plain_array
from fastcnn.data.arrays import is_finite
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.data.storage import take_rows
from fastcnn.errors import DataError, counted
from fastcnn.notebook import brief


@dataclass(frozen=True)
class Dataset:
    """Labelled images.

    Attributes
    ----------
    images : ndarray, shape (N, C, H, W)
        uint8, or float32 without NaN or infinity.
    labels : ndarray of int64, shape (N,)
        Indices into ``classes``.
    classes : tuple of str
        Names of the classes.
    preprocessing : Preprocessing
        Preprocessing that ``fit`` sets in a model trained on these images.
    name : str
    files : tuple of str
        For pictures, the path of each file within the data set's folder; otherwise empty.
    validation : Dataset, optional
        Validation samples that came with the training samples, with the same classes.

    Raises
    ------
    DataError
        At construction, if any of these is invalid or there is no image.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    name: str = "data"
    files: tuple[str, ...] = ()
    validation: "Dataset | None" = None
    sample_weight: ClassVar[None] = None

    __repr__ = brief

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if isinstance(self.classes, list):
            object.__setattr__(self, "classes", tuple(self.classes))
        for name, value, kind, said in (
            ("images", images, np.ndarray, "a NumPy array"),
            ("labels", labels, np.ndarray, "a NumPy array"),
            ("classes", self.classes, tuple, "a tuple of names"),
            ("preprocessing", self.preprocessing, Preprocessing, "a Preprocessing"),
        ):
            if not isinstance(value, kind):
                raise DataError(f"Dataset: {name} must be {said}, got {value!r:.200}")
        plain_array(f"{self.name}: images", images)
        plain_array(f"{self.name}: labels", labels)
        if images.ndim != 4 or images.size == 0:
            raise DataError(f"{self.name}: images must be (N, C, H, W), got shape {images.shape}")
        if images.dtype not in (np.uint8, np.float32):
            raise DataError(f"{self.name}: images must be uint8 or float32, got {images.dtype}")
        if images.dtype == np.float32 and not is_finite(images):
            raise DataError(f"{self.name}: images contain NaN or infinity")
        if labels.shape != (len(images),) or labels.dtype != np.int64:
            raise DataError(
                f"{self.name}: labels must be int64 of shape ({len(images)},), one for each image, "
                f"got {labels.dtype} of shape {labels.shape}"
            )
        if labels.min() < 0 or labels.max() >= len(self.classes):
            raise DataError(
                f"{self.name}: labels {labels.min()}..{labels.max()} do not index "
                f"{counted(len(self.classes), 'class')}"
            )
        if len(set(self.classes)) < len(self.classes):
            raise DataError(f"{self.name}: two classes have the same name: {self.classes}")
        if bad := [name for name in self.classes if not is_unicode(str(name))]:
            raise DataError(f"{self.name}: {bad[0]!r} cannot be the name of a class")
        if self.preprocessing.mean and len(self.preprocessing.mean) != images.shape[1]:
            raise DataError(
                f"{self.name}: preprocessing has "
                f"{counted(len(self.preprocessing.mean), 'channel')}, "
                f"images have {images.shape[1]}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image, (C, H, W)."""
        return self.images.shape[1:]

    def subset(self, indices: Any) -> "Dataset":
        """The images at ``indices`` (integers, booleans or a slice).

        Parameters
        ----------
        indices : array_like of int or bool, or slice

        Raises
        ------
        DataError
            If they are something else, out of range, or select no image.
        """
        count = len(self)
        rows = indices if isinstance(indices, slice) else plain_array("subset: indices", indices)
        try:
            found = np.arange(count)[rows]
        except (IndexError, TypeError, ValueError):
            found = np.arange(0)
        if found.ndim != 1 or not found.size:
            raise DataError(
                f"{self.name}: subset: indices must select at least one image, by a list of "
                f"integers from {-count} to {count - 1}, a boolean for each image, or a slice, got "
                f"{indices!r:.200}"
            )
        files = tuple(np.array(self.files, object)[rows]) if self.files else ()
        return replace(
            self,
            images=take_rows(self.images, rows, self.name),
            labels=self.labels[rows],
            files=files,
            validation=None,
        )

    def select_classes(self, names: Sequence[Any]) -> "Dataset":
        """Only the classes with these names, relabelled 0, 1, ... in the given order.

        Parameters
        ----------
        names : sequence of str

        Raises
        ------
        DataError
            If a class is unknown or has no image.
        """
        if not isinstance(names, Iterable):
            raise DataError(f"select_classes: names must be a list of names, got {names!r:.200}")
        wanted = tuple(str(name) for name in names)
        unknown = [name for name in wanted if name not in self.classes]
        if unknown or not wanted or len(set(wanted)) != len(wanted):
            raise DataError(
                f"{self.name} has classes {', '.join(self.classes)}; cannot select {wanted}"
            )
        lookup = np.full(len(self.classes), -1, np.int64)
        lookup[[self.classes.index(name) for name in wanted]] = np.arange(len(wanted))
        labels = lookup[self.labels]
        kept = labels >= 0
        if not kept.any():
            raise DataError(f"{self.name} has no image of classes {wanted}")
        held = None if self.validation is None else self.validation.select_classes(names)
        return replace(self.subset(kept), labels=labels[kept], classes=wanted, validation=held)


def as_dataset(owner: str, data: Any) -> Dataset:
    """Check that a user's value is a data set, and return it.

    Raises
    ------
    DataError
        If it is something else.
    """
    if not isinstance(data, Dataset):
        raise DataError(f"{owner} takes a Dataset of fastcnn.data, got {data!r:.200}")
    return data


@dataclass(frozen=True)
class ArrayDataset:
    """Samples of any kind, with any targets, and optionally weights.

    Attributes
    ----------
    images : ndarray, shape (N, ...)
        As stored, before preprocessing.
    labels : ndarray, shape (N, ...)
        Classes or targets, in the form used by the loss.
    sample_weight : ndarray of float64, shape (N,) or that of the targets, optional
    """

    images: np.ndarray
    labels: np.ndarray
    sample_weight: np.ndarray | None = None
    preprocessing: ClassVar = Preprocessing()
    classes: ClassVar[tuple[str, ...]] = ()
    name: ClassVar[str] = "arrays"

    __repr__ = brief

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, rows: np.ndarray) -> "ArrayDataset":
        """The samples with these indices."""
        weight = self.sample_weight
        return ArrayDataset(
            take_rows(self.images, rows, self.name),
            take_rows(self.labels, rows, self.name),
            None if weight is None else take_rows(weight, rows, self.name),
        )


#: Data accepted by executors.
Samples = Dataset | ArrayDataset
