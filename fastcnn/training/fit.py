"""The training loop."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.backends import get_backend
from fastcnn.data.augment import Augment
from fastcnn.distributed import World
from fastcnn.distributed.agreement import check_agreement
from fastcnn.distributed.sharding import BLOCK, Shards
from fastcnn.errors import ConfigurationError, NonFiniteError
from fastcnn.execution import Executor, make_executor
from fastcnn.execution.checks import check_statistics
from fastcnn.execution.passes import is_lanes
from fastcnn.layers import Model
from fastcnn.losses import CrossEntropyLoss, Loss
from fastcnn.optim import SGD, Constant, Optimizer, Schedule
from fastcnn.training.averaging import WeightAverage
from fastcnn.training.blas import blas_threads
from fastcnn.training.callbacks import Callback
from fastcnn.training.diagnosis import Diagnosis
from fastcnn.training.feed import Feed
from fastcnn.training.finding import Finding
from fastcnn.training.finite import not_finite
from fastcnn.training.history import History
from fastcnn.training.loop import TrainingLoop
from fastcnn.training.run import METRICS, Run, checksum, describe_fit
from fastcnn.training.samples import (
    Data,
    Samples,
    as_samples,
    sample_weight_of,
    say_unused,
    training_preprocessing,
)
from fastcnn.training.saver import Saver, check_same

log = logging.getLogger("fastcnn.training")

#: Parts of a run's config that all processes of one training must share.
AGREED = ("model", "preprocessing", "data", "loss", "optimizer", "schedule", "training")


def fit(
    model: Model,
    train: Data,
    test: Data | None = None,
    *,
    epochs: int = 5,
    batch_size: int = 64,
    optimizer: Optimizer | None = None,
    schedule: Schedule | None = None,
    backend: str | None = None,
    seed: int = 0,
    threads: int | None = None,
    callbacks: Sequence[Callback] = (),
    loss: Loss | None = None,
    clip_norm: float | None = None,
    ema_decay: float | None = None,
    augment: Augment | None = None,
    out: str | Path | Run | None = None,
    resume: bool = False,
    world: World | None = None,
    average_every: int = 1,
    ordered_reduction: bool = False,
    diagnose: bool = True,
) -> History:
    """Train a model in place.

    Parameters
    ----------
    model : Model
    train, test : Dataset, or (x, y), or (x, y, sample_weight)
        ``x`` of shape (N, C, H, W): bytes, which are divided by 255, or floating-point numbers,
        which are taken as they are; a Dataset's preprocessing also normalises them. The model
        keeps this as ``model.preprocessing``, and it is applied to all that the model is given
        from then on. ``sample_weight`` of shape (N,) makes the loss of each batch a weighted mean.
        ``test`` is evaluated after every epoch.
    epochs : int
    batch_size : int
        Samples a step; the last batch of an epoch may be smaller.
    optimizer : Optimizer, optional
        By default ``SGD(lr=0.02, momentum=0.9)``.
    schedule : Schedule, optional
        By default constant.
    backend : str, optional
    seed : int
        Decides the order of samples, dropout masks and what ``augment`` does; with the same seed,
        data and initial weights a run repeats itself exactly.
    threads : int, optional
        Threads of the matrix products; by default all cores.
    callbacks : sequence of Callback
    loss : Loss, optional
        By default :class:`~fastcnn.losses.CrossEntropyLoss`.
    clip_norm : float, optional
        Largest Euclidean norm of a gradient.
    ema_decay : float, optional
        Evaluate, and in the end keep, the exponential moving average of the weights with this
        decay a step (0.999, say) instead of the weights themselves. Running statistics of batch
        normalisation are averages already and stay as they are.
    augment : Augment, optional
        Changes the training images at random, anew in each epoch; the test images stay.
    out : path or Run, optional
        Folder to write the run to: config, metrics, weights, checkpoints and the picture of its
        curves.
    resume : bool
        Go on with the run in ``out`` from its last checkpoint, as if it had never stopped. The
        model, the data and all settings but ``threads`` and ``epochs`` must be what they were.
    world : World, optional
        The processes of an MPI job, as from :func:`fastcnn.distributed.join`. All of them call
        this with the same arguments; ``batch_size`` is that of all together. Every process calls
        its callbacks; the root alone writes ``out``, and what its callbacks decide counts.
    average_every : int
        Average parameters after so many steps of each process instead of gradients after each.
    ordered_reduction : bool
        Sum gradients in an order that does not depend on the number of processes, so that results
        do not either, bit for bit; slower.
    diagnose : bool
        Look for what ails the run (a loss at chance, weights that stand still, dead or saturated
        units, divergence, overfitting), and log each finding once, with what to change.

    Returns
    -------
    History

    Raises
    ------
    ShapeError, DataError, ConfigurationError
        Before training, if something does not fit.
    NonFiniteError
        If a loss, a gradient, the weights, running statistics or the optimiser's state become NaN
        or infinite; the model then holds the weights of the last epoch that ended well. Also
        before the first step, if the model's own weights are not finite.
    CheckpointError
        If ``resume`` finds no usable checkpoint, or one of other settings.
    RankError
        On every process, if processes differ in code, data or settings, or another one fails
        before the first step.
    RunWriteError
        If ``out`` cannot be written any more; a checkpoint written before is whole.
    KeyboardInterrupt
        On Ctrl-C or SIGTERM, after the run's files and a checkpoint have been written.

    Examples
    --------
    >>> import fastcnn
    >>> train, test = fastcnn.data.load("digits012")
    >>> model = fastcnn.models.report_cnn(seed=0)
    >>> history = fastcnn.fit(model, train, test, epochs=1)
    >>> history.final["test_accuracy"] > 0.9
    True
    """
    optimizer = optimizer or SGD(lr=0.02, momentum=0.9)
    schedule = schedule or Constant()
    loss = loss or CrossEntropyLoss()
    world = world or World()
    with world.guard(), ExitStack() as held:
        share = world.threads()  # by all processes, whatever each one was given
        with world.preparing():
            _check_numbers(epochs, batch_size, threads, clip_norm, average_every)
            get_backend(backend)
            if resume and out is None and world.is_root:
                raise ConfigurationError("resume needs the run's folder: out=FOLDER")
            training_data = as_samples(train, "train", model, loss)
            preprocessing = training_preprocessing(model, training_data)
            test_data = None
            if test is not None:
                test_data = as_samples(test, "test", model, loss, preprocessing)
            shards = Shards(world.rank, world.size, batch_size, BLOCK if ordered_reduction else 1)
            for size in {min(batch_size, len(training_data)), len(training_data) % batch_size}:
                if size:
                    check_statistics(model.graph(), shards.smallest(size))
            problem = not_finite(model.state_dict())
            if problem is not None:
                raise NonFiniteError(f"the model is not finite before training: {problem}")
            vector = model.parameter_vector
            average = None if ema_decay is None else WeightAverage(vector, ema_decay)
            own_threads = share if threads is None else threads
            feed = Feed(
                training_data, augment, seed, own_threads, model.graph().output_shape[0], shards
            )
            config = {}
            if out is not None or world.size > 1:
                config = describe_fit(
                    model, training_data, loss, optimizer, schedule, test=test_data,
                    epochs=epochs, batch_size=batch_size, backend=backend, seed=seed,
                    clip_norm=clip_norm, ema_decay=ema_decay,
                    augment=None if augment is None else asdict(augment),
                    average_every=average_every, ordered_reduction=ordered_reduction,
                )  # fmt: skip
            if world.is_root:
                say_unused(preprocessing, training_data)
            model.preprocessing = preprocessing
        if world.size > 1:
            check_agreement(world, **agreed_parts(config, training_data, test_data))
            if is_lanes(backend):
                world.prepare_kernels()
        with world.preparing():
            executor = _executor(
                model, world, average_every, ordered_reduction, loss=loss, optimizer=optimizer,
                backend=backend, batch_size=batch_size, seed=seed, threads=own_threads,
                clip_norm=clip_norm,
            )  # fmt: skip
        history, listeners, saver = History(), list(callbacks), None
        with world.preparing():
            if out is not None and world.is_root:
                run = _open_run(out, config, resume, world.size)
                held.callback(run.unlock)
                listeners.insert(0, run.recorder())
                saver = Saver(run.folder, run.folder / METRICS)
            if diagnose and world.is_root:
                listeners.append(Diagnosis(training_data, loss, _warn, backend))
            loop = TrainingLoop(
                model, executor, history, listeners, optimizer.lr, schedule, epochs, batch_size,
                seed, average, saver, world, average_every,
            )  # fmt: skip
            if resume and saver is not None:
                saver.resume(loop)
        loop.copy_from_root()
        # Matrix products of another number of threads are rounded otherwise.
        with blas_threads(1 if ordered_reduction else own_threads):
            loop.run(feed, test_data)
    return history


def _warn(finding: Finding) -> None:
    log.warning("%s", finding)


def agreed_parts(config: dict[str, Any], train: Samples, test: Samples | None) -> dict[str, Any]:
    """What all processes of one training must have in common: every byte of the data counts."""
    parts = {key: config[key] for key in AGREED}
    checksums = {
        "checksum": checksum(train, None),
        "test_checksum": None if test is None else checksum(test, None),
    }
    return parts | {"data": config["data"] | checksums}


def _executor(
    model: Model, world: World, average_every: int, ordered: bool, **settings: Any
) -> Executor:
    """What takes the steps: the backend's own executor, or one for several processes."""
    if world.size == 1 and not ordered:
        return make_executor(model, **settings)
    from fastcnn.distributed.executor import DistributedExecutor

    return DistributedExecutor(
        model, world=world, average_every=average_every, ordered=ordered, **settings
    )


def _open_run(out: str | Path | Run, config: dict[str, Any], resume: bool, ranks: int) -> Run:
    """The run to write to: a new one, or one that is resumed under the same settings."""
    if not isinstance(out, Run):
        out = Run.open(out) if resume else Run.create(out, config)
    if resume:
        check_same(out.config, config, out.folder)
        out.config["training"]["epochs"] = config["training"]["epochs"]
    out.config["ranks"] = ranks
    out.lock()
    return out


def evaluate(
    model: Model, data: Data, *, loss: Loss | None = None, backend: str | None = None
) -> tuple[float, float, np.ndarray]:
    """Loss, accuracy and logits on a data set, outside training.

    Parameters
    ----------
    data : Dataset, or (x, y), or (x, y, sample_weight)

    Returns
    -------
    loss : float
    accuracy : float
        As a fraction; 0 if the targets are no classes.
    logits : ndarray, shape (N, classes)
    """
    loss = loss or CrossEntropyLoss()
    checked = as_samples(data, "data", model, loss)
    if model.preprocessing.trained_on is None:
        say_unused(model.preprocessing, checked)
    weight = sample_weight_of(checked)
    executor = make_executor(model, loss=loss, optimizer=SGD(), backend=backend, batch_size=256)
    return executor.evaluate(checked.images, checked.labels, weight)


def _check_numbers(
    epochs: int,
    batch_size: int,
    threads: int | None,
    clip_norm: float | None,
    average_every: int,
) -> None:
    for name, value, least in (
        ("epochs", epochs, 0), ("batch_size", batch_size, 1), ("threads", threads, 1),
        ("average_every", average_every, 1),
    ):  # fmt: skip
        if value is None and name == "threads":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ConfigurationError(
                f"{name} must be an integer of at least {least}, got {value!r}"
            )
    if clip_norm is not None and not clip_norm > 0:
        raise ConfigurationError(f"clip_norm must be above 0, got {clip_norm!r}")
