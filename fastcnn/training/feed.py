"""What an executor reads: the training data themselves, or changed copies of the next samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.backends.graph import Port
from fastcnn.data.augment import Augment
from fastcnn.data.dataset import ArrayDataset, Samples
from fastcnn.distributed.sharding import Shards
from fastcnn.errors import ConfigurationError
from fastcnn.training.augmentation import InputAugments, as_augment, check_augment
from fastcnn.training.options import TrainingOptions

#: Bytes of augmented images that are held at a time.
BUFFER_BYTES = 64 * 2**20
#: Bytes of images of another type or layout than the engine's that are converted at once.
MOST_CONVERTED = 256 * 2**20


@dataclass(frozen=True)
class Chunk:
    """Consecutive batches that an executor takes in one call.

    Attributes
    ----------
    samples : Samples
    order : ndarray of int64
        The batches' samples, as indices into them.
    sizes : ndarray of float64, shape (steps,)
        What each batch's loss counts in the mean of an epoch: what its targets weigh, or of a
        loss that is a sum its samples.
    targets : int
        Targets that an accuracy counts.
    """

    samples: Samples
    order: np.ndarray
    sizes: np.ndarray
    targets: int


class Feed:
    """Gives batches to an executor.

    An augmentation is applied to the samples of the next steps, into a buffer that is used again
    and again. What becomes of a sample depends on the seed, the epoch and its index alone, so how
    many steps are taken at a time does not matter.

    Parameters
    ----------
    data : Samples
    options : TrainingOptions
    rows : ndarray of int64, optional
        The samples that are trained on, where not all are.
    threads : int, optional
    classes : int
        Outputs of the model, for mix-up.
    inputs : sequence of Port
        Where in the samples those of each of several inputs are.
    shards : Shards, optional
        What this process reads of each batch: only that is changed, and ready to be read.
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
        #: Samples of an epoch, and steps.
        self.samples = len(data) if rows is None else len(rows)
        self.steps = -(-self.samples // self.batch_size)
        if options.steps_per_epoch is not None:
            if options.steps_per_epoch > self.steps:
                times = f" * accumulate={options.accumulate}" if options.accumulate > 1 else ""
                raise ConfigurationError(
                    f"steps_per_epoch={options.steps_per_epoch}: {self.samples:,} samples are "
                    f"{self.steps:,} steps of batch_size={options.batch_size}{times}"
                )
            self.steps = options.steps_per_epoch
            self.samples = min(self.samples, self.steps * self.batch_size)
        self._by_class: list[np.ndarray] | None = None
        if options.sampling == "balanced":
            self._by_class = self._rows_by_class()
        loss, labels = options.make_loss(), np.asarray(data.labels)
        self._is_sum = loss.reduction == "sum"
        self._target_counts = loss.target_counts(labels)
        # Classes that are mixed have no weights of their own.
        mixes = self.augment is not None and self.augment.mixes
        self._target_weight = loss.target_weight(
            self._no_probabilities(len(labels)) if mixes else labels, data.sample_weight
        )
        images = data.images
        plain = images.flags.c_contiguous and images.dtype in (np.uint8, np.float32)
        #: An executor would convert all images before its first step.
        self._is_converted = not plain and images.nbytes > MOST_CONVERTED
        self._order = np.empty(0, np.int64)
        self._buffer = np.empty((0, *data.images.shape[1:]), data.images.dtype)

    def most_steps(self) -> int:
        """Steps whose images fit the buffer, at least one."""
        if self.augment is None and not self._is_converted:
            return np.iinfo(np.int64).max
        return max(1, BUFFER_BYTES // (self.batch_size * self.data.images[0].nbytes))

    def begin_epoch(self, generator: np.random.Generator, done: int) -> None:
        """Draw the order of an epoch of which some steps may be done."""
        if self._by_class is not None:
            order = self._balanced(generator)
        elif self.rows is None:
            order = generator.permutation(len(self.data))
        else:
            order = self.rows[generator.permutation(len(self.rows))]
        self._order = order[: self.samples]

    def take(self, done: int, count: int, epoch: int) -> Chunk:
        """The batches of ``count`` steps of an epoch, after those that are done."""
        first = done * self.batch_size
        return self.pick(self._order[first : first + count * self.batch_size], epoch)

    def pick(self, rows: np.ndarray, epoch: int) -> Chunk:
        """The samples of these indices, in this order."""
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
        """Changed copies of some samples, in the buffer."""
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

    def _rows_by_class(self) -> list[np.ndarray]:
        labels = self.data.labels
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ConfigurationError(
                "sampling='balanced' balances classes: the targets must be integers"
            )
        rows = np.arange(len(labels)) if self.rows is None else self.rows
        rows = rows[np.argsort(labels[rows], kind="stable")]
        ends = np.flatnonzero(np.diff(labels[rows])) + 1
        return np.split(rows, ends)

    def _balanced(self, generator: np.random.Generator) -> np.ndarray:
        """As many samples as the data have, of each class the same number, give or take one.

        A class's samples come in turns: none a second time before each of them has come once.
        """
        assert self._by_class is not None
        kinds = len(self._by_class)
        each, left = divmod(sum(map(len, self._by_class)), kinds)
        more = np.zeros(kinds, np.int64)
        more[generator.permutation(kinds)[:left]] = 1
        drawn = []
        for rows, extra in zip(self._by_class, more.tolist(), strict=True):
            turns = [generator.permutation(rows) for _ in range(-(-(each + extra) // len(rows)))]
            drawn += [part[: each + extra] for part in [np.concatenate(turns)] if turns]
        return generator.permutation(np.concatenate(drawn))

    def _no_probabilities(self, count: int) -> np.ndarray:
        """Rows of probabilities that are valid where nobody reads them."""
        rows = np.zeros((count, self.classes), np.float32)
        rows[:, 0] = 1.0
        return rows
