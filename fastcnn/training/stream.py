"""Training data that arrive batch by batch: generators, iterators, PyTorch's DataLoader."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import numpy as np

from fastcnn.arguments import plain_array
from fastcnn.data.augment import Augment
from fastcnn.data.dataset import ArrayDataset, Dataset
from fastcnn.data.storage import allocate
from fastcnn.errors import ConfigurationError, DataError, ShapeError, counted
from fastcnn.layers import Model
from fastcnn.losses import Loss
from fastcnn.training.augmentation import as_augment, check_augment
from fastcnn.training.feed import Chunk
from fastcnn.training.fit_arguments import FitArguments
from fastcnn.training.options import TrainingOptions
from fastcnn.training.samples import Data, as_samples

#: Training data accepted by ``fit``.
Given = Data | Iterable[Any] | Callable[[], Any]
#: Types that can be iterated over and are not streams of batches.
NO_STREAMS = (Dataset, tuple, np.ndarray, str, bytes, dict)


def is_stream(data: Any) -> bool:
    """Whether data arrive batch by batch: an iterable, or a function that returns one."""
    return not isinstance(data, NO_STREAMS) and (hasattr(data, "__iter__") or callable(data))


class Stream:
    """Batches of training data, each a step.

    The source, an iterable or a function that returns one, yields ``(x, y)`` or ``(x, y,
    sample_weight)``. A reusable iterable, such as a list or a DataLoader, restarts in each epoch,
    and a function is called again; an iterator or generator continues from its position. An epoch
    has ``steps``, by default ``len(source)``.
    """

    name = "train"  # for messages

    def __init__(self, source: Any, steps: int | None) -> None:
        name = self.name
        self._source = source
        self._iterator = self._begin()
        length = _length(source)
        if steps is None and length is None:
            raise ConfigurationError(
                f"{name}: batches without a length: give steps_per_epoch, the number of batches "
                "in an epoch"
            )
        if steps is not None and length is not None and steps > length:
            raise ConfigurationError(
                f"steps_per_epoch={steps}: {name} has {counted(length, 'batch')}"
            )
        self.steps: int = length if steps is None else steps  # type: ignore[assignment]
        self.goes_on = not callable(source) and self._iterator is source
        self._given = 0
        first = next(self._iterator, None)
        if first is None or not self.steps:
            raise DataError(f"{name}: gives no batch")
        self.first = _batch(first, f"{name}: batch 1")
        self._iterator = chain([first], self._iterator)
        self._is_fresh = True

    def begin_epoch(self) -> None:
        """Start from the beginning, if the source can."""
        if not self.goes_on and not self._is_fresh:
            self._iterator = self._begin()
            self._given = 0
        self._is_fresh = False

    def next(self) -> tuple[str, Any]:
        """The next batch, and its name. Raises DataError if there is none."""
        self._given += 1
        name = f"{self.name}: batch {self._given}"
        try:
            return name, _batch(next(self._iterator), name)
        except StopIteration:
            count, advice = self._given - 1, "set steps_per_epoch"
            if self.goes_on and count >= self.steps:
                advice = "an iterator is read once: give a function that returns one for each epoch"
            raise DataError(
                f"{self.name}: ended after {counted(count, 'batch')}, and an epoch has "
                f"{self.steps}: {advice}"
            ) from None

    def _begin(self) -> Iterator[Any]:
        source = self._source() if callable(self._source) else self._source
        try:
            return iter(source)
        except TypeError:
            raise ConfigurationError(
                f"{self.name}: the function must return something to iterate over, got {source!r}"
            ) from None


class StreamFeed:
    """Supplies an executor with the batches of a stream, one at a time; see :class:`Feed`.

    Each batch is checked against the current model, and augmented: the augmentation of a sample
    depends on the seed, the epoch and its position in the epoch. Mixing is within the batch.
    """

    def __init__(
        self,
        stream: Stream,
        options: TrainingOptions,
        model: Model,
        loss: Loss,
        threads: int | None,
    ) -> None:
        self.stream = stream
        self.model = model
        self.loss = loss
        self.augment = as_augment(options.make_augment(), model.graph().inputs)
        self.seed = options.seed
        self.threads = threads
        self.batch_size = options.batch_size
        self.steps = stream.steps
        self.samples = self.steps * self.batch_size
        self._seen = 0
        tracks = any(node.tracks(training=True) for node in model.graph().nodes)
        if options.swa_start is not None and tracks:
            raise ConfigurationError(
                "swa_start: the statistics of batch normalisation are recomputed on all "
                f"samples, but those of {stream.name} cannot be read again"
            )
        if self.augment is not None:
            first = as_samples(stream.first, stream.name, model, loss, is_batch=True)
            check_augment(self.augment, first, loss)

    def most_steps(self) -> int:
        """One: only the next batch is available."""
        return 1

    def begin_epoch(self, generator: np.random.Generator, done: int) -> None:
        """Begin an epoch, in the stream's order."""
        self._seen = 0
        self.stream.begin_epoch()

    def take(self, done: int, count: int, epoch: int) -> Chunk:
        """The next batch."""
        name, batch = self.stream.next()
        data = as_samples(batch, name, self.model, self.loss, is_batch=True)
        here = len(data)
        if here > self.batch_size:
            raise ShapeError(
                f"{name}: has {counted(here, 'sample')}, the first batch {self.batch_size}: none "
                "may be larger"
            )
        images, labels, weight = data.images, data.labels, data.sample_weight
        if self.augment is not None:
            names = np.arange(self._seen, self._seen + here)
            keys: dict[str, Any] = {
                "names": names,
                "seed": self.seed,
                "epoch": epoch,
                "threads": self.threads,
            }
            if isinstance(self.augment, Augment) and self.augment.mixes:
                classes = self.model.graph().output_shape[0]
                images, labels = self.augment.mix(images, labels, classes=classes, **keys)
            else:
                images = self.augment.apply(images, **keys)
        self._seen += here
        each = self.loss.target_weight(labels, weight)
        size = float(here)
        if each is not None and self.loss.reduction != "sum":
            size = float(each.sum())
        counts = self.loss.target_counts(labels)
        targets = here if counts is None else int(counts.sum())
        # Views: a generator may reuse the same arrays for different samples each time.
        samples = ArrayDataset(images[:], labels[:], weight)
        return Chunk(samples, np.arange(here), np.array([size]), targets)


def options_for(options: FitArguments, stream: Stream, count: int, ranks: int) -> FitArguments:
    """The options of a run on a stream, whose first batch has ``count`` samples.

    Raises ConfigurationError if one of them does not apply to a stream.
    """
    if options.resume:
        raise ConfigurationError(
            "resume: batches that come one by one cannot be read again from where a run stopped"
        )
    if ranks > 1:
        raise ConfigurationError(
            f"{stream.name}: several MPI processes need arrays or a Dataset to share"
        )
    if options.sampling != "shuffled":
        raise ConfigurationError(
            f"sampling={options.sampling!r} needs all samples at once: draw them in {stream.name}"
        )
    if options.batch_size not in (TrainingOptions.batch_size, count):
        raise ConfigurationError(
            f"batch_size={options.batch_size} has no effect: {stream.name} gives batches of {count}"
        )
    if options.accumulate > 1:
        raise ConfigurationError(
            f"accumulate={options.accumulate}: each batch of {stream.name} is a step: make them "
            "larger"
        )
    return replace(options, batch_size=count)


def as_arrays(data: Any, name: str, model: Model) -> Any:
    """Validation or test data unchanged, or all batches of a stream as arrays.

    Raises ConfigurationError for a stream without a length, which may never end; DataError or
    ShapeError if there are no batches, or they differ in kind.
    """
    if not is_stream(data):
        return data
    length = _length(data)
    if length is None:
        raise ConfigurationError(f"{name}: batches without a length may never end: give arrays")
    batches = [_batch(item, f"{name}: batch") for item in islice(iter(data), length)]
    if not batches:
        raise DataError(f"{name}: gives no batch")
    if len({len(batch) for batch in batches}) > 1:
        raise DataError(f"{name}: some batches have sample weights, and others have none")
    several = (model.takes > 1, model.gives > 1, False)
    columns = zip(zip(*batches, strict=True), several, strict=False)
    return tuple(
        _joined(column, f"{name}[{index}]", are_several)
        for index, (column, are_several) in enumerate(columns)
    )


def _joined(parts: Sequence[Any], name: str, are_several: bool) -> Any:
    """The concatenated arrays of all batches, one for each input or output."""
    if are_several and all(isinstance(part, Mapping) for part in parts):
        return {key: _joined([part[key] for part in parts], name, False) for key in parts[0]}
    if are_several and all(isinstance(part, (tuple, list)) for part in parts):
        return tuple(_joined(own, name, False) for own in zip(*parts, strict=True))
    arrays = [plain_array(f"{name}: batch", part) for part in parts]
    shapes = {(array.shape[1:], array.dtype) for array in arrays}
    if len(shapes) > 1:
        raise ShapeError(f"{name}: batches differ in shape or type: {sorted(map(str, shapes))}")
    count = sum(map(len, arrays))
    whole = allocate((count, *arrays[0].shape[1:]), arrays[0].dtype, name)
    return np.concatenate(arrays, out=whole)


def _length(source: Any) -> int | None:
    try:
        return len(source)
    except TypeError:  # such as a DataLoader of an iterable data set
        return None


def _batch(item: Any, name: str) -> Any:
    """A batch as (x, y) or (x, y, sample_weight)."""
    if isinstance(item, (Dataset, ArrayDataset)):
        return item
    if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
        hint = "; a list is read as batches, a tuple as (x, y)" if hasattr(item, "shape") else ""
        raise ShapeError(
            f"{name}: expected (x, y) or (x, y, sample_weight), got {type(item).__name__}{hint}"
        )
    return tuple(item)
