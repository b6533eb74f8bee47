"""What an executor reads: the training data themselves, or changed copies of the next samples."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.data.augment import Augment
from fastcnn.distributed.sharding import Shards
from fastcnn.errors import ConfigurationError
from fastcnn.losses import Loss
from fastcnn.training.samples import Samples, sample_weight_of

#: Bytes of augmented images that are held at a time.
BUFFER_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Batches:
    """Consecutive batches, as :meth:`fastcnn.execution.Executor.train_steps` takes them."""

    images: np.ndarray
    labels: np.ndarray
    order: np.ndarray
    weight: np.ndarray | None


class Feed:
    """Gives batches to an executor.

    Parameters
    ----------
    data : Samples
    augment : Augment, optional
        Applied to the samples of the next steps, into a buffer that is used again and again. What
        becomes of a sample depends on the seed, the epoch and its index alone, so how many steps
        are taken at a time does not matter.
    seed : int
    threads : int, optional
    classes : int
        Outputs of the model, for mix-up.
    shards : Shards, optional
        What this process reads of each batch: only that is changed, and ready to be read.

    Raises
    ------
    ConfigurationError, ShapeError
        If the images cannot be changed so, or classes are to be mixed and the targets are none.
    """

    def __init__(
        self,
        data: Samples,
        augment: Augment | None,
        seed: int,
        threads: int | None,
        classes: int = 0,
        shards: Shards | None = None,
    ) -> None:
        if augment is not None:
            _check(augment, data)
        self.data = data
        self.classes = classes
        self.augment = augment
        self.seed = seed
        self.threads = threads
        self.shards = shards
        self._buffer = np.empty((0, *data.images.shape[1:]), data.images.dtype)

    def most_steps(self, batch_size: int) -> int:
        """Steps whose images fit the buffer, at least one."""
        if self.augment is None:
            return np.iinfo(np.int64).max
        return max(1, BUFFER_BYTES // (batch_size * self.data.images[0].nbytes))

    def target_weight(self, loss: Loss) -> np.ndarray | None:
        """What each sample's targets weigh on average; None where all weigh 1."""
        weight, labels = sample_weight_of(self.data), self.data.labels
        if self.augment is not None and self.augment.mixup:
            labels = self._no_probabilities(len(labels))
        return loss.target_weight(np.asarray(labels), weight)

    def target_counts(self, loss: Loss) -> np.ndarray | None:
        """Targets of each sample that an accuracy counts; None where that is one each."""
        return loss.target_counts(np.asarray(self.data.labels))

    def take(self, samples: np.ndarray, epoch: int) -> Batches:
        """The samples of these indices, in this order."""
        data, weight = self.data, sample_weight_of(self.data)
        if self.augment is None:
            return Batches(data.images, data.labels, samples, weight)
        if len(samples) > len(self._buffer):
            self._buffer = np.empty((len(samples), *data.images.shape[1:]), data.images.dtype)
        options: dict[str, Any] = {
            "seed": self.seed,
            "epoch": epoch,
            "threads": self.threads,
        }
        count = len(samples)
        labels = self._no_probabilities(count) if self.augment.mixup else data.labels[samples]
        for part in [slice(0, count)] if self.shards is None else self.shards.places(count):
            out = self._buffer[part]
            if self.augment.mixup:
                _, labels[part] = self.augment.mix(
                    data.images,
                    data.labels,
                    samples[part],
                    classes=self.classes,
                    out=out,
                    **options,
                )
            else:
                self.augment.apply(data.images, samples[part], out=out, **options)
        chosen = None if weight is None else weight[samples]
        return Batches(self._buffer[:count], labels, np.arange(count), chosen)

    def _no_probabilities(self, count: int) -> np.ndarray:
        """Rows of probabilities that are valid where nobody reads them."""
        rows = np.zeros((count, self.classes), np.float32)
        rows[:, 0] = 1.0
        return rows


def _check(augment: Augment, data: Samples) -> None:
    if not isinstance(augment, Augment):
        raise ConfigurationError(
            f"augment must be an Augment, got {augment!r}; Augment.parse reads words"
        )
    if augment.mixup and data.labels.dtype.kind not in "iu":
        raise ConfigurationError("mix-up mixes classes: the targets must be integers")
    augment.apply(data.images, [0])  # says what is wrong before anything has begun
