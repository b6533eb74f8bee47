"""Training a network with ``fit``."""

import inspect
import logging
from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, Protocol

from fastcnn.distributed import World
from fastcnn.distributed.agreement import check_agreement
from fastcnn.distributed.sharding import BLOCK, Shards
from fastcnn.errors import ConfigurationError, NonFiniteError
from fastcnn.execution import Executor
from fastcnn.execution.assigned import Assigned
from fastcnn.execution.checks import check_statistics
from fastcnn.execution.executors import make_accumulating
from fastcnn.execution.workers import workers
from fastcnn.layers import Model
from fastcnn.layers.connections import as_model
from fastcnn.training.declarations import documentation_of, signature_of
from fastcnn.training.diagnosis import Diagnosis
from fastcnn.training.feed import Feed
from fastcnn.training.fit_arguments import FitArguments
from fastcnn.training.fit_data import FitData, read
from fastcnn.training.history import History
from fastcnn.training.loop import TrainingLoop
from fastcnn.training.metrics import check_outputs, check_targets, larger_is_better
from fastcnn.training.options import AUTO, TrainingOptions
from fastcnn.training.run import NewRun, Run
from fastcnn.training.run_config import PARTS, check_same
from fastcnn.training.saver import Recorder, Saver
from fastcnn.training.stream import Given, is_stream
from fastcnn.training.unreached import unreached
from fastcnn.weights import not_finite

log = logging.getLogger("fastcnn.training")


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
        written = inspect.getdoc(function) or ""  # python -OO leaves none
        function.__doc__ = written.replace("**options", documentation_of(FitArguments))
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
            o = _with_rate(FitArguments.of(options), model, train)
            as_model(model)
            data, o = read(model, train, test, o, world.size)
            reduced = BLOCK if o.ordered_reduction else 1
            shards = Shards(world.rank, world.size, o.step_size, reduced)
            listeners = [*o.callbacks, *o.monitors()]
            data = data.divided(o, listeners)
            _check_metrics(o, data)
            assigned = Assigned(model, o.make_assignment())
            _check_start(assigned, o, shards, data.count)
            threads = share if o.threads is None else o.threads
            feed = data.feed(o, shards, threads)
            config = {}
            if o.out is not None or world.size > 1:
                config = data.describe(o, feed.samples)
            unused = list(unreached(o, listeners, feed.samples, feed.steps))
            if world.is_root:
                for sentence in unused:
                    log.warning("%s", sentence)
                data.say_doubts()
            data.prepare_model()
        if world.size > 1:
            agreed = {part: config[part] for part in PARTS}
            check_agreement(world, **agreed | {"data": config["data"] | data.checksums()})
        history, saver = History(loss=data.loss.operation), None
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
                listeners.append(Diagnosis(data.training, data.loss, tell, o.backend, frozen))
            loop = TrainingLoop(model, executor, history, listeners, o, saver, world, feed)
            if o.resume and saver is not None:
                saver.resume(loop)
        loop.copy_from_root()
        with workers(threads):
            loop.run(data.validation, data.test)
    return history


def _with_rate(o: FitArguments, model: Model, train: Any) -> FitArguments:
    """The arguments with a learning rate in place of ``lr="auto"``."""
    if o.lr != AUTO:
        return o
    from fastcnn.training.rate_search import found_rate

    return replace(o, lr=found_rate(partial(fit, deepcopy(model), train), o, is_stream(train)))


def _check_start(assigned: Assigned, o: TrainingOptions, shards: Shards, samples: int) -> None:
    """Refuse a model that cannot be trained on this many samples, or would not change."""
    model = assigned.model
    for size in {min(o.batch_size, samples), samples % o.batch_size}:
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


def _check_metrics(o: FitArguments, data: FitData) -> None:
    """Refuse metrics that cannot be computed, and a monitor that nothing uses."""
    metrics = o.make_metrics()
    has = {"validation": data.validation is not None, "test": data.test is not None, "train": True}
    check_outputs(metrics, data.loss)
    if o.metrics and not (has["validation"] or has["test"]):
        raise ConfigurationError("metrics has no effect without validation or test data")
    outputs = data.model.graph().output_shape
    check_targets(metrics, data.training.labels, outputs, data.loss)
    if o.monitor == TrainingOptions.monitor:
        return
    if o.out is None and not o.monitors():
        raise ConfigurationError(
            f"monitor={o.monitor} has no effect without early_stopping, reduce_on_plateau or out"
        )
    part = o.monitor.partition("_")[0]
    if not has[part]:
        advice = ": hold some out, with validation=0.1" if part == "validation" else ""
        raise ConfigurationError(f"monitor={o.monitor}, but there are no {part} data{advice}")


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
