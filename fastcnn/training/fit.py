"""The training loop."""

import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.backends import get_backend
from fastcnn.data.dataset import Dataset, Normalisation
from fastcnn.errors import ConfigurationError, DataError, NonFiniteError, ShapeError
from fastcnn.execution import Executor, make_executor
from fastcnn.execution.passes import as_target
from fastcnn.layers import Model
from fastcnn.losses import CrossEntropyLoss, Loss
from fastcnn.optim import SGD, Constant, Optimizer, Schedule, learning_rates
from fastcnn.training.callbacks import Callback, Steps, TrainingStart
from fastcnn.training.history import History

#: Seconds of training between returns to Python for progress, callbacks and interrupts.
CHUNK_SECONDS = 0.1

Data = Dataset | tuple[Any, Any]


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
    out: str | Path | None = None,
) -> History:
    """Train a model in place.

    Parameters
    ----------
    model : Model
    train, test : Dataset, or (x, y)
        ``x`` of shape (N, C, H, W), already normalised if it is floating-point; bytes are divided
        by 255. ``test`` is evaluated after every epoch.
    epochs : int
    batch_size : int
        Samples a step; the last batch of an epoch may be smaller.
    optimizer : Optimizer, optional
        By default ``SGD(lr=0.02, momentum=0.9)``.
    schedule : Schedule, optional
        By default constant.
    backend : str, optional
    seed : int
        Decides the order of samples and dropout masks; with the same seed, data and initial
        weights a run repeats itself exactly.
    threads : int, optional
        Threads of the matrix products; by default all cores.
    callbacks : sequence of Callback
    loss : Loss, optional
        By default :class:`~fastcnn.losses.CrossEntropyLoss`.
    clip_norm : float, optional
        Largest Euclidean norm of a gradient.
    out : path, optional
        Folder to write the run to: config, metrics, weights and the picture of its curves.

    Returns
    -------
    History

    Raises
    ------
    ShapeError, DataError, ConfigurationError
        Before training, if something does not fit.
    NonFiniteError
        If the loss becomes NaN or infinite; the model then holds the weights of the last epoch
        that ended well.
    KeyboardInterrupt
        On Ctrl-C, after the run's files have been written.

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
    _check_numbers(epochs, batch_size, threads, clip_norm)
    get_backend(backend)
    training_data = _as_dataset(train, "train", model, loss)
    test_data = None if test is None else _as_dataset(test, "test", model, loss)
    executor = make_executor(
        model, loss=loss, optimizer=optimizer, backend=backend, batch_size=batch_size,
        seed=seed, threads=threads, clip_norm=clip_norm,
    )  # fmt: skip
    listeners = list(callbacks)
    if out is not None:
        from fastcnn.training.run import Run, describe_fit

        config = describe_fit(
            model, training_data, loss, optimizer, schedule,
            epochs=epochs, batch_size=batch_size, backend=backend, seed=seed, clip_norm=clip_norm,
        )  # fmt: skip
        listeners.insert(0, Run.create(out, config).recorder())
    history = History()
    loop = _Loop(model, executor, history, listeners, optimizer.lr, schedule, epochs, batch_size)
    with _blas_threads(threads):
        loop.run(training_data, test_data, seed)
    return history


def evaluate(
    model: Model, data: Data, *, loss: Loss | None = None, backend: str | None = None
) -> tuple[float, float, np.ndarray]:
    """Loss, accuracy and logits on a data set, outside training.

    Parameters
    ----------
    data : Dataset, or (x, y)

    Returns
    -------
    loss : float
    accuracy : float
        As a fraction; 0 if the targets are no classes.
    logits : ndarray, shape (N, classes)
    """
    loss = loss or CrossEntropyLoss()
    checked = _as_dataset(data, "data", model, loss)
    executor = make_executor(model, loss=loss, optimizer=SGD(), backend=backend, batch_size=256)
    return executor.evaluate(checked.images, checked.labels, checked.normalisation)


class _Arrays:
    """Training arrays whose targets need not be classes."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, normalisation: Any) -> None:
        self.images = images
        self.labels = labels
        self.normalisation = normalisation
        self.classes: tuple[str, ...] = ()
        self.name = "arrays"

    def __len__(self) -> int:
        return len(self.images)


class _Loop:
    """The state of one call of :func:`fit`."""

    def __init__(
        self,
        model: Model,
        executor: Executor,
        history: History,
        listeners: Iterable[Callback],
        base_lr: float,
        schedule: Schedule,
        epochs: int,
        batch_size: int,
    ) -> None:
        self.model = model
        self.executor = executor
        self.history = history
        self.listeners = list(listeners)
        self.base_lr = base_lr
        self.schedule = schedule
        self.epochs = epochs
        self.batch_size = batch_size
        self.chunk = 1

    def run(self, train: "Dataset | _Arrays", test: "Dataset | _Arrays | None", seed: int) -> None:
        per_epoch = -(-len(train) // self.batch_size)
        generator = np.random.default_rng(seed)
        start = TrainingStart(self.model, self.history, self.epochs, per_epoch, len(train))
        last_good = self.model.parameter_vector.copy()
        try:
            for listener in self.listeners:
                listener.on_train_begin(start)
            for epoch in range(1, self.epochs + 1):
                record = self._epoch(epoch, per_epoch, train, generator.permutation(len(train)))
                record |= self._test(test)
                self.history.epochs.append(record)
                last_good[...] = self.model.parameter_vector
                for listener in self.listeners:
                    listener.on_epoch_end(record, self.model)
            self.history.status = "finished"
        except KeyboardInterrupt:
            self.history.status = "interrupted"
            raise
        except NonFiniteError:
            self.model.parameter_vector[...] = last_good
            self.history.status = "failed"
            raise
        except BaseException:
            self.history.status = "failed"
            raise
        finally:
            for listener in self.listeners:
                listener.on_train_end(self.history)

    def _epoch(
        self, epoch: int, per_epoch: int, train: "Dataset | _Arrays", order: np.ndarray
    ) -> dict[str, Any]:
        seen, correct, done = 0, 0, 0
        loss_sum, seconds = 0.0, 0.0
        while done < per_epoch:
            count = min(self.chunk, per_epoch - done)
            rates = learning_rates(
                self.schedule, self.base_lr, self.executor.step, count,
                self.epochs * per_epoch, per_epoch,
            )  # fmt: skip
            samples = order[done * self.batch_size : (done + count) * self.batch_size]
            began = time.perf_counter()
            # A diverging run overflows before its loss does; the loss check reports it.
            with np.errstate(over="ignore", invalid="ignore"):
                results = self.executor.train_steps(
                    train.images, train.labels, samples, rates, train.normalisation
                )
            elapsed = time.perf_counter() - began
            seconds += elapsed
            self._record_steps(epoch, results.losses, rates, results.gradient_norms)
            sizes = np.full(count, self.batch_size)
            sizes[-1] = len(samples) - (count - 1) * self.batch_size
            loss_sum += float(results.losses @ sizes)
            correct += int(results.correct.sum())
            seen += len(samples)
            done += count
            news = Steps(
                epoch, self.executor.step, seen, results.losses.tolist(), rates.tolist(),
                loss_sum / seen, correct / seen, seen / max(seconds, 1e-9),
            )  # fmt: skip
            for listener in self.listeners:
                listener.on_steps(news)
            self.chunk = int(np.clip(count * CHUNK_SECONDS / max(elapsed, 1e-9), 1, 2 * count + 1))
        return {
            "kind": "epoch",
            "epoch": epoch,
            "train_loss": loss_sum / seen,
            "train_accuracy": correct / seen,
            "test_loss": None,
            "test_accuracy": None,
            "seconds": seconds,
            "samples_per_second": seen / max(seconds, 1e-9),
        }

    def _record_steps(
        self, epoch: int, losses: np.ndarray, rates: np.ndarray, norms: np.ndarray
    ) -> None:
        first = self.executor.step - len(losses) + 1
        for index, (loss, lr) in enumerate(zip(losses, rates, strict=True)):
            if not np.isfinite(loss):
                raise NonFiniteError(self._explain(epoch, first + index, loss, lr, norms[index]))
            self.history.steps.append(
                {"kind": "step", "epoch": epoch, "step": first + index,
                 "loss": float(loss), "lr": float(lr)}
            )  # fmt: skip

    def _explain(self, epoch: int, step: int, loss: float, lr: float, norm: float) -> str:
        before = f"{self.history.steps[-1]['loss']:.4g}" if self.history.steps else "none"
        return (
            f"the loss became {loss} at step {step} (epoch {epoch}): learning rate {lr:.3g}, "
            f"gradient norm {norm:.3g}, loss before {before}. Training has diverged: lower the "
            "learning rate, clip the gradient (clip_norm), or warm up"
        )

    def _test(self, test: "Dataset | _Arrays | None") -> dict[str, Any]:
        if test is None:
            return {}
        loss, accuracy, _ = self.executor.evaluate(test.images, test.labels, test.normalisation)
        return {"test_loss": loss, "test_accuracy": accuracy}


def _check_numbers(
    epochs: int, batch_size: int, threads: int | None, clip_norm: float | None
) -> None:
    for name, value, least in (
        ("epochs", epochs, 0), ("batch_size", batch_size, 1), ("threads", threads, 1)
    ):  # fmt: skip
        if value is None and name == "threads":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ConfigurationError(
                f"{name} must be an integer of at least {least}, got {value!r}"
            )
    if clip_norm is not None and not clip_norm > 0:
        raise ConfigurationError(f"clip_norm must be above 0, got {clip_norm!r}")


def _as_dataset(data: Data, name: str, model: Model, loss: Loss) -> "Dataset | _Arrays":
    if isinstance(data, Dataset):
        checked: Dataset | _Arrays = data
    else:
        images, labels = (np.asarray(part) for part in data)
        if images.ndim < 2 or len(images) == 0:
            raise ShapeError(f"{name}: samples must be (N, C, H, W), got shape {images.shape}")
        if images.dtype.kind == "f":
            if not np.isfinite(images).all():
                raise DataError(f"{name}: samples contain NaN or infinity")
        elif images.dtype != np.uint8:
            raise DataError(f"{name}: samples must be floating-point or uint8, got {images.dtype}")
        checked = _Arrays(images, labels, Normalisation.identity(images.shape[1]))
    shape = checked.images.shape[1:]
    if model.input_shape is not None and shape != model.input_shape:
        raise ShapeError(f"{name}: samples have shape {shape}, the model takes {model.input_shape}")
    graph = model.graph(shape)
    if model.input_shape is None:
        model.input_shape = shape
    try:
        target = as_target(loss, checked.labels, len(checked), graph, model.dtype)
    except (DataError, ShapeError) as error:
        raise type(error)(f"{name}: {error}") from None
    if target.dtype.kind == "f" and not np.isfinite(target).all():
        raise DataError(f"{name}: targets contain NaN or infinity")
    return checked


def _blas_threads(threads: int | None) -> AbstractContextManager[Any]:
    if threads is None:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=threads, user_api="blas")
