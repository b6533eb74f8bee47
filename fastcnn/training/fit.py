"""Training a network with ``fit``."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, Protocol

import numpy as np

from fastcnn.distributed import World
from fastcnn.distributed.agreement import check_agreement
from fastcnn.distributed.sharding import BLOCK, Shards
from fastcnn.errors import ConfigurationError, NonFiniteError
from fastcnn.execution import Executor
from fastcnn.execution.assigned import Assigned
from fastcnn.execution.checks import bound_loss, check_statistics
from fastcnn.execution.executors import make_accumulating
from fastcnn.execution.workers import workers
from fastcnn.layers import Model
from fastcnn.layers.connections import as_model
from fastcnn.losses import JointLoss, as_loss
from fastcnn.training.callbacks import Callback, check_methods
from fastcnn.training.declarations import documentation_of, option, signature_of
from fastcnn.training.diagnosis import Diagnosis
from fastcnn.training.feed import Feed
from fastcnn.training.history import History
from fastcnn.training.loop import TrainingLoop
from fastcnn.training.metrics import check_outputs, check_targets, larger_is_better
from fastcnn.training.options import AUTO, TrainingOptions
from fastcnn.training.run import NewRun, Run, checksum, describe_fit
from fastcnn.training.run_config import PARTS, check_same
from fastcnn.training.samples import (
    as_samples,
    check_precision,
    say_logits,
    say_unused,
    training_preprocessing,
)
from fastcnn.training.saver import Recorder, Saver
from fastcnn.training.stream import Given, Stream, StreamFeed, as_arrays, is_stream, options_for
from fastcnn.training.unreached import unreached
from fastcnn.training.validation import divide
from fastcnn.weights import not_finite

log = logging.getLogger("fastcnn.training")


@dataclass(frozen=True, kw_only=True)
class FitArguments(TrainingOptions):
    """The keyword arguments of :func:`fit`: options of the training, callbacks, output."""

    callbacks: Sequence[Callback] = option((), "Called during training.", part="")
    out: str | Path | NewRun | None = option(
        None,
        "Folder to write the run to: config, metrics, weights, checkpoints and curves.",
        part="",
    )
    resume: bool = option(
        False,
        "Continue the run in out from its last checkpoint, as if it had never stopped. The "
        "model, the data and all options except threads, epochs and diagnose must be unchanged.",
        part="",
    )
    world: World | None = option(
        None,
        "The processes of an MPI job, from fastcnn.distributed.join(). All of them call this "
        "with the same arguments; batch_size is the total of all. Every process calls its "
        "callbacks; only the root writes to out, and decisions of its callbacks apply to all.",
        part="",
    )
    verbose: bool = option(
        False,
        "Show progress: a bar on a terminal or in a notebook, otherwise a line per epoch.",
        part="",
    )

    loss_weights: Any = option(
        None,
        "Factor of each of several losses, in their order or by name; by default 1.",
        part="",
    )

    def __post_init__(self) -> None:
        if self.loss_weights is not None or isinstance(self.loss, (list, tuple, Mapping)):
            object.__setattr__(self, "loss", as_loss(self.loss, self.loss_weights))
            object.__setattr__(self, "loss_weights", None)
        super().__post_init__()
        if isinstance(self.callbacks, Callback) or not isinstance(self.callbacks, Sequence):
            raise ConfigurationError(
                f"callbacks must be a list of Callback, got {self.callbacks!r}"
            )
        for index, callback in enumerate(self.callbacks):
            if not isinstance(callback, Callback):
                raise ConfigurationError(
                    f"callbacks[{index}] must be an object of a class derived from "
                    f"fastcnn.training.Callback, got {callback!r}"
                )
            check_methods(callback)
        if self.world is not None and not isinstance(self.world, World):
            raise ConfigurationError(
                f"world must come from fastcnn.distributed.join(), got {self.world!r}"
            )
        processes = 1 if self.world is None else self.world.size
        # A run on several processes may be resumed on one.
        if self.average_every > 1 and processes == 1 and not self.resume:
            raise ConfigurationError(
                f"average_every={self.average_every} has no effect on one process"
            )
        if not self.sync_batch_norm and processes == 1 and not self.resume:
            raise ConfigurationError("sync_batch_norm=False has no effect on one process")
        root = self.world is None or self.world.is_root
        if self.resume and self.out is None and root:
            raise ConfigurationError("resume needs the run's folder: out=FOLDER")


P = ParamSpec("P")


class _Fit(Protocol[P]):
    """``fit`` as type checkers and editors see it."""

    __name__: str

    def __call__(
        self,
        model: Model,
        train: Given,
        test: Given | None = None,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> History: ...


def _with_arguments(
    arguments: Callable[P, FitArguments],
) -> Callable[[Callable[..., History]], _Fit[P]]:
    """Give a function the fields of a class as documented keyword arguments."""

    def decorate(function: Any) -> Any:
        function.__signature__ = signature_of(function, FitArguments)
        written = function.__doc__ or ""  # python -OO leaves none
        function.__doc__ = written.replace(
            "    **options", documentation_of(FitArguments).lstrip("\n")
        )
        return function

    return decorate


@_with_arguments(FitArguments)
def fit(model: Model, train: Any, test: Given | None = None, **options: Any) -> History:
    """Train a model in place.

    Losses, optimisers and schedules are given by name, with their settings as further arguments, or
    as objects: ``optimizer="adam", lr=0.01`` is ``optimizer=Adam(lr=0.01)``. With the same seed,
    data and initial weights, a run is exactly reproducible.

    Parameters
    ----------
    model : Model
    train, test : Dataset, or (x, y), or (x, y, sample_weight), or batches
        ``x`` of shape (N, C, H, W): bytes (uint8), which are divided by 255, or other numbers,
        which are used unchanged; a Dataset's preprocessing also normalises them. The model stores
        this as ``model.preprocessing`` and applies it to all its inputs from then on.
        ``sample_weight`` of shape (N,) makes the loss of each batch a weighted mean. Arrays may be
        memory-mapped files, which are not copied. Batches are an iterable of ``(x, y)`` or
        ``(x, y, sample_weight)``, such as a list, a generator, a function that returns one, or
        PyTorch's DataLoader: each batch is a step, and ``steps_per_epoch`` is required if they have
        no length. ``test`` is evaluated after every epoch without influence on training: early
        stopping and ``reduce_on_plateau`` use validation data, which are held out of ``train``
        unless given.
    **options

    Returns
    -------
    History

    Raises
    ------
    ShapeError, DataError, ConfigurationError
        Before training, if the data or an option are invalid.
    NonFiniteError
        If a loss, a gradient, the weights, running statistics or the optimiser's state become NaN
        or infinite; the model then holds the weights of the last good epoch. Also before the first
        step, if the model's weights are not finite.
    CheckpointError
        If ``resume`` finds no usable checkpoint, or one with other settings.
    RankError
        On every process, if the processes differ in code, data or settings, or one fails before the
        first step.
    RunWriteError
        If ``out`` can no longer be written; the last checkpoint, if there is one, is intact.
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
    world = options.get("world")
    world = world if isinstance(world, World) else World()
    with world.guard(), ExitStack() as held:
        share = world.threads()  # called by all processes, whatever their arguments
        with world.preparing():
            o = FitArguments.of(options)
            if o.lr == AUTO:
                from fastcnn.training.rate_search import found_rate

                once = partial(fit, deepcopy(model), train)
                o = replace(o, lr=found_rate(once, o, is_stream(train)))
            as_model(model)
            loss, stream = bound_loss(model, o.make_loss()), None
            if isinstance(loss, JointLoss):
                o = replace(o, loss=loss)
            if is_stream(train):
                stream = Stream(train, o.steps_per_epoch)
                training_data = as_samples(
                    stream.first, "train: batch 1", model, loss, is_batch=True
                )
                o = options_for(o, stream, len(training_data), o.resume, world.size)
            else:
                training_data = as_samples(train, "train", model, loss)
            preprocessing = training_preprocessing(model, training_data)
            if stream is None:
                check_precision(training_data, model, preprocessing)
            test_data = None
            if test is not None:
                test_data = as_samples(
                    as_arrays(test, "test", model), "test", model, loss, preprocessing
                )
            shards = Shards(
                world.rank, world.size, o.step_size, BLOCK if o.ordered_reduction else 1
            )
            listeners = [*o.callbacks, *o.monitors()]
            rows, validation = divide(
                model, training_data if stream is None else None, preprocessing, o, listeners
            )
            check_outputs(o.make_metrics(), loss)
            _check_monitored(o, validation is not None, test_data is not None)
            check_targets(o.make_metrics(), training_data.labels, model.graph().output_shape, loss)
            trained_on = len(training_data) if rows is None else len(rows)
            assigned = Assigned(model, o.make_assignment())
            for size in {min(o.batch_size, trained_on), trained_on % o.batch_size}:
                if size:
                    check_statistics(assigned.graph(), shards.smallest(size))
            problem = not_finite(model.state_dict())
            if problem is not None:
                raise NonFiniteError(f"the model is not finite before training: {problem}")
            if assigned.changes_nothing:
                raise ConfigurationError(
                    "training would change nothing: all layers have requires_grad = False, or are "
                    "frozen by groups"
                )
            threads = share if o.threads is None else o.threads
            feed: Feed | StreamFeed
            if stream is not None:
                feed = StreamFeed(stream, o, model, loss, threads)
            else:
                feed = Feed(
                    training_data,
                    o,
                    rows=rows,
                    threads=threads,
                    classes=model.graph().output_shape[0],
                    shards=shards,
                    inputs=model.graph().inputs,
                )
            config = {}
            if o.out is not None or world.size > 1:
                config = describe_fit(model, training_data, test_data, preprocessing, o, o.out)
                config["data"] |= {
                    "train_samples": feed.samples,
                    "validation_samples": 0 if validation is None else len(validation),
                    "validation_checksum": None if validation is None else checksum(validation),
                }
            unused = list(unreached(o, listeners, feed.samples, feed.steps))
            if world.is_root:
                for sentence in unused:
                    log.warning("%s", sentence)
                say_unused(preprocessing, training_data)
                say_logits(model, loss)
            model.preprocessing = preprocessing
            model.predicts = loss.predicts(
                np.asarray(training_data.labels), model.graph().output_shape
            )
        if world.size > 1:
            sums = {  # over every byte of the data
                "checksum": checksum(training_data, None),
                "test_checksum": None if test_data is None else checksum(test_data, None),
            }
            agreed = {part: config[part] for part in PARTS}
            check_agreement(world, **agreed | {"data": config["data"] | sums})
        history, saver = History(loss=loss.operation), None
        with world.preparing():
            most = feed.samples if isinstance(feed, Feed) else o.step_size
            executor = _executor(model, world, o, threads, most)
            if o.out is not None and world.is_root:
                run = _open_run(o.out, config, o.resume, world.size)
                held.callback(run.unlock)
                listeners.insert(0, Recorder(run))
                larger = larger_is_better(o.monitor, o.make_metrics())
                saver = Saver(run, o.monitor, larger)
            if o.verbose and world.is_root:
                from fastcnn.training.progress import progress_callback

                listeners.insert(0, progress_callback())
            if o.diagnose and world.is_root:
                frozen, tell = assigned.frozen_in((1, o.epochs)), partial(log.warning, "%s")
                listeners.append(Diagnosis(training_data, loss, tell, o.backend, frozen))
            loop = TrainingLoop(model, executor, history, listeners, o, saver, world, feed)
            if o.resume and saver is not None:
                saver.resume(loop)
        loop.copy_from_root()
        with workers(threads):
            loop.run(validation, test_data)
    return history


def _check_monitored(o: FitArguments, is_validated: bool, is_tested: bool) -> None:
    """Refuse metrics without data to compute them on, and a monitor that nothing uses."""
    has = {"validation": is_validated, "test": is_tested, "train": True}
    if o.metrics and not (is_validated or is_tested):
        raise ConfigurationError("metrics has no effect without validation or test data")
    if o.monitor == TrainingOptions.monitor:
        return
    if o.out is None and not o.monitors():
        raise ConfigurationError(
            f"monitor={o.monitor} has no effect without early_stopping, reduce_on_plateau or out"
        )
    part = o.monitor.partition("_")[0]
    if not has[part]:
        raise ConfigurationError(f"monitor={o.monitor}, but there are no {part} data")


def _executor(
    model: Model, world: World, o: TrainingOptions, threads: int | None, most: int
) -> Executor:
    """The executor of training steps: the backend's own, or one for several processes.

    ``most`` is the number of samples per epoch: memory for a larger batch would be wasted.
    """
    whole = world.size > 1 or o.ordered_reduction or o.accumulate > 1
    settings: dict[str, Any] = {
        "loss": o.make_loss(),
        "optimizer": o.make_assignment(),
        "backend": o.backend,
        "batch_size": o.step_size if whole else min(o.step_size, most),
        "accumulate": o.accumulate,
        "seed": o.seed,
        "threads": threads,
        "clip_norm": o.clip_norm,
    }
    if world.size == 1 and not o.ordered_reduction:
        return make_accumulating(model, **settings)
    from fastcnn.distributed.executor import DistributedExecutor

    return DistributedExecutor(
        model,
        world=world,
        average_every=o.average_every,
        ordered=o.ordered_reduction,
        sync_batch_norm=o.sync_batch_norm,
        **settings,
    )


def _open_run(out: str | Path | NewRun, config: dict[str, Any], resume: bool, ranks: int) -> Run:
    """The run to write to: a new one, or one resumed with the same settings."""
    new = out if isinstance(out, NewRun) else NewRun(Path(out))
    if not resume:
        return Run.create(new.folder, {**config, "ranks": ranks}, new.overwrite)
    run = Run.open(new.folder)
    check_same(run.config, config, run.folder)
    run.config["training"]["epochs"] = config["training"]["epochs"]
    run.config["ranks"] = ranks
    run.lock()
    return run
