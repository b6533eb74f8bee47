"""Input of an executor: the training data themselves, or augmented copies of some samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.backends.graph import Port
from fastcnn.data.augment import Augment
from fastcnn.data.dataset import ArrayDataset, Samples
from fastcnn.distributed.sharding import Shards
from fastcnn.errors import ConfigurationError, counted
from fastcnn.training.augmentation import InputAugments, as_augment, check_augment
from fastcnn.training.options import TrainingOptions

#: Bytes of augmented images held at a time.
BUFFER_BYTES = 64 * 2**20
#: Bytes of images, not in the engine's type or layout, that are converted at a time.
MOST_CONVERTED = 256 * 2**20


@dataclass(frozen=True)
class Chunk:
    """Consecutive batches for one call of an executor.

    Attributes
    ----------
    samples : Samples
    order : ndarray of int64
        The batches' samples, as indices into ``samples``.
    sizes : ndarray of float64, shape (steps,)
        Weight of each batch's loss in the mean of an epoch: the total weight of its targets, or the
        number of samples if the loss is a sum.
    targets : int
        Number of targets that count for the accuracy.
    """

    samples: Samples
    order: np.ndarray
    sizes: np.ndarray
    targets: int


class Feed:
    """Supplies batches to an executor.

    Samples of the next steps are augmented into a reused buffer. The augmentation of a sample
    depends only on the seed, the epoch and its index, and not on the number of steps at a time.

    Parameters
    ----------
    data : Samples
    options : TrainingOptions
    rows : ndarray of int64, optional
        The samples to train on, if not all.
    threads : int, optional
    classes : int
        Number of the model's outputs, for mix-up.
    inputs : sequence of Port
        Positions of several inputs in the samples.
    shards : Shards, optional
        This process's share of each batch: only these samples are augmented.
    """

    def __init__(
        self,
        data: Samples,
        options: TrainingOptions,
        *,
        rows: np.ndarray | None = None,
        threads: int | None = None,
        classes: int = 0,
        shards: Shards | None = None,
        inputs: Sequence[Port] = (),
    ) -> None:
        self.data = data
        self.augment = as_augment(options.make_augment(), inputs)
        if self.augment is not None:
            check_augment(self.augment, data, options.make_loss())
        self.rows = rows
        self.batch_size = options.step_size
        self.seed = options.seed
        self.threads = threads
        self.classes = classes
        self.shards = shards
        #: Samples and steps per epoch.
        self.samples = len(data) if rows is None else len(rows)
        self.steps = -(-self.samples // self.batch_size)
        if options.steps_per_epoch is not None:
            if options.steps_per_epoch > self.steps:
                times = f" * accumulate={options.accumulate}" if options.accumulate > 1 else ""
                raise ConfigurationError(
                    f"steps_per_epoch={options.steps_per_epoch}: {counted(self.samples, 'sample')} "
                    f"make {counted(self.steps, 'step')} of batch_size={options.batch_size}{times}"
                )
            self.steps = options.steps_per_epoch
            self.samples = min(self.samples, self.steps * self.batch_size)
        self._by_class: list[np.ndarray] | None = None
        loss, labels = options.make_loss(), np.asarray(data.labels)
        if options.sampling == "balanced":
            self._by_class = self._rows_by_class(getattr(loss, "ignore_index", None))
        self._is_sum = loss.reduction == "sum"
        self._target_counts = loss.target_counts(labels)
        # Mixed classes have no weights of their own.
        mixes = self.augment is not None and self.augment.mixes
        self._target_weight = loss.target_weight(
            self._no_probabilities(len(labels)) if mixes else labels, data.sample_weight
        )
        images = data.images
        plain = images.flags.c_contiguous and images.dtype in (np.uint8, np.float32)
        #: Whether an executor would convert all images before its first step.
        self._is_converted = not plain and images.nbytes > MOST_CONVERTED
        self._order = np.empty(0, np.int64)
        self._buffer = np.empty((0, *data.images.shape[1:]), data.images.dtype)

    def most_steps(self) -> int:
        """Number of steps whose images fit in the buffer, at least one."""
        if self.augment is None and not self._is_converted:
            return np.iinfo(np.int64).max
        return max(1, BUFFER_BYTES // (self.batch_size * self.data.images[0].nbytes))

    def begin_epoch(self, generator: np.random.Generator, done: int) -> None:
        """Draw the order of an epoch, some steps of which may already be done."""
        if self._by_class is not None:
            order = self._balanced(generator)
        elif self.rows is None:
            order = generator.permutation(len(self.data))
        else:
            order = self.rows[generator.permutation(len(self.rows))]
        self._order = order[: self.samples]

    def take(self, done: int, count: int, epoch: int) -> Chunk:
        """The batches of the next ``count`` steps of an epoch, after ``done`` steps."""
        first = done * self.batch_size
        return self.pick(self._order[first : first + count * self.batch_size], epoch)

    def pick(self, rows: np.ndarray, epoch: int) -> Chunk:
        """The samples with these indices, in this order."""
        here = len(rows)
        each = np.ones(here)
        if self._target_weight is not None and not self._is_sum:
            each = self._target_weight[rows]
        sizes = np.add.reduceat(each, np.arange(0, here, self.batch_size))
        counts = self._target_counts
        targets = here if counts is None else int(counts[rows].sum())
        samples = self.data
        if self.augment is not None:
            samples, rows = self._augmented(self.augment, rows, epoch), np.arange(here)
        elif self._is_converted:
            samples, rows = samples.subset(rows), np.arange(here)
        return Chunk(samples, rows, sizes, targets)

    def _augmented(
        self, augment: Augment | InputAugments, rows: np.ndarray, epoch: int
    ) -> ArrayDataset:
        """Augmented copies of some samples, in the buffer."""
        data, here = self.data, len(rows)
        if here > len(self._buffer):
            self._buffer = np.empty((here, *data.images.shape[1:]), data.images.dtype)
        options: dict[str, Any] = {"seed": self.seed, "epoch": epoch, "threads": self.threads}
        labels = self._no_probabilities(here) if augment.mixes else data.labels[rows]
        for part in [slice(0, here)] if self.shards is None else self.shards.places(here):
            out = self._buffer[part]
            if isinstance(augment, Augment) and augment.mixes:
                _, labels[part] = augment.mix(
                    data.images,
                    data.labels,
                    rows[part],
                    classes=self.classes,
                    out=out,
                    among=self.rows,
                    **options,
                )
            else:
                augment.apply(data.images, rows[part], out=out, **options)
        weight = None if data.sample_weight is None else data.sample_weight[rows]
        return ArrayDataset(self._buffer[:here], labels, weight)

    def _rows_by_class(self, ignored: int | None) -> list[np.ndarray]:
        labels = self.data.labels
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ConfigurationError(
                "sampling='balanced' balances classes: the targets must be integers"
            )
        rows = np.arange(len(labels)) if self.rows is None else self.rows
        rows = rows if ignored is None else rows[labels[rows] != ignored]
        rows = rows[np.argsort(labels[rows], kind="stable")]
        ends = np.flatnonzero(np.diff(labels[rows])) + 1
        return np.split(rows, ends)

    def _balanced(self, generator: np.random.Generator) -> np.ndarray:
        """As many samples as the data have, with class counts that differ by at most one.

        Samples of a class repeat only after each has been drawn once; ignored ones are not drawn.
        """
        assert self._by_class is not None
        kinds = len(self._by_class)
        each, left = divmod(len(self.data) if self.rows is None else len(self.rows), kinds)
        more = np.zeros(kinds, np.int64)
        more[generator.permutation(kinds)[:left]] = 1
        drawn = []
        for rows, extra in zip(self._by_class, more.tolist(), strict=True):
            turns = [generator.permutation(rows) for _ in range(-(-(each + extra) // len(rows)))]
            drawn += [part[: each + extra] for part in [np.concatenate(turns)] if turns]
        return generator.permutation(np.concatenate(drawn))

    def _no_probabilities(self, count: int) -> np.ndarray:
        """Valid rows of probabilities for samples that are not read."""
        rows = np.zeros((count, self.classes), np.float32)
        rows[:, 0] = 1.0
        return rows
