"""The data of ``fit``: read, checked against the model, and divided."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastcnn.data.dataset import Samples
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.distributed.sharding import Shards
from fastcnn.execution.checks import bound_loss
from fastcnn.layers import Model
from fastcnn.losses import JointLoss, Loss
from fastcnn.training.callbacks import Callback
from fastcnn.training.feed import Feed
from fastcnn.training.fit_arguments import FitArguments
from fastcnn.training.options import TrainingOptions
from fastcnn.training.run import checksum, describe_fit
from fastcnn.training.samples import (
    as_samples,
    check_precision,
    say_logits,
    say_unused,
    training_preprocessing,
)
from fastcnn.training.stream import (
    Given,
    Stream,
    StreamFeed,
    as_arrays,
    is_stream,
    options_for,
)
from fastcnn.training.validation import divide


@dataclass(frozen=True)
class FitData:
    """The data of one call of :func:`~fastcnn.training.fit`.

    Attributes
    ----------
    model : Model
    loss : Loss
        Bound to the model.
    training : Samples
        All training samples; of a stream, those of its first batch.
    test : Samples or None
    preprocessing : Preprocessing
        The one that the model gets.
    stream : Stream or None
        Where training samples come from if they arrive batch by batch.
    rows : ndarray of int, or None
        The training samples to train on; None for all.
    validation : Samples or None
    """

    model: Model
    loss: Loss
    training: Samples
    test: Samples | None
    preprocessing: Preprocessing
    stream: Stream | None
    rows: np.ndarray | None = None
    validation: Samples | None = None

    def divided(self, options: TrainingOptions, callbacks: Sequence[Callback]) -> "FitData":
        """These data with validation samples held out or read as the options specify."""
        whole = self.training if self.stream is None else None
        rows, validation = divide(self.model, whole, self.preprocessing, options, callbacks)
        return replace(self, rows=rows, validation=validation)

    @property
    def count(self) -> int:
        """The number of samples to train on."""
        return len(self.training) if self.rows is None else len(self.rows)

    def feed(
        self, options: TrainingOptions, shards: Shards, threads: int | None
    ) -> Feed | StreamFeed:
        """What supplies the steps of training with samples."""
        if self.stream is not None:
            return StreamFeed(self.stream, options, self.model, self.loss, threads)
        graph = self.model.graph()
        return Feed(
            self.training,
            options,
            rows=self.rows,
            threads=threads,
            classes=graph.output_shape[0],
            shards=shards,
            inputs=graph.inputs,
        )

    def describe(self, options: FitArguments, samples: int) -> dict[str, Any]:
        """The config of a run that trains on ``samples`` samples in each epoch."""
        config = describe_fit(
            self.model, self.training, self.test, self.preprocessing, options, options.out
        )
        held = self.validation
        config["data"] |= {
            "train_samples": samples,
            "validation_samples": 0 if held is None else len(held),
            "validation_checksum": None if held is None else checksum(held),
        }
        return config

    def checksums(self) -> dict[str, str | None]:
        """Checksums of every byte of the training and test data."""
        return {
            "checksum": checksum(self.training, None),
            "test_checksum": None if self.test is None else checksum(self.test, None),
        }

    def say_doubts(self) -> None:
        """Log what about the data and the loss is probably not meant."""
        say_unused(self.preprocessing, self.training)
        say_logits(self.model, self.loss)

    def prepare_model(self) -> None:
        """Let the model know how its inputs are prepared and what its outputs mean."""
        self.model.preprocessing = self.preprocessing
        self.model.predicts = self.loss.predicts(
            np.asarray(self.training.labels), self.model.graph().output_shape
        )


def read(
    model: Model, train: Any, test: Given | None, options: FitArguments, ranks: int
) -> tuple[FitData, FitArguments]:
    """The data of a training run, and its options, of which a stream determines the batch size.

    Raises ShapeError, DataError or ConfigurationError if data do not suit the model, the loss or
    the options.
    """
    loss, stream = bound_loss(model, options.make_loss()), None
    if isinstance(loss, JointLoss):
        options = replace(options, loss=loss)
    if is_stream(train):
        stream = Stream(train, options.steps_per_epoch)
        training = as_samples(stream.first, "train: batch 1", model, loss, is_batch=True)
        options = options_for(options, stream, len(training), ranks)
    else:
        training = as_samples(train, "train", model, loss)
    preprocessing = training_preprocessing(model, training)
    if stream is None:
        check_precision(training, model, preprocessing)
    tested = None
    if test is not None:
        tested = as_samples(as_arrays(test, "test", model), "test", model, loss, preprocessing)
    return FitData(model, loss, training, tested, preprocessing, stream), options
