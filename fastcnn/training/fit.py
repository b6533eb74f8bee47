"""The training loop."""

import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.backends import get_backend
from fastcnn.errors import ConfigurationError, NonFiniteError
from fastcnn.execution import Executor, make_executor
from fastcnn.execution.passes import check_statistics
from fastcnn.layers import Model
from fastcnn.losses import CrossEntropyLoss, Loss
from fastcnn.optim import SGD, Constant, Optimizer, Schedule, learning_rates
from fastcnn.training.averaging import EVERY_STEPS, WeightAverage
from fastcnn.training.blas import blas_threads
from fastcnn.training.callbacks import Callback, Control, Steps, TrainingStart
from fastcnn.training.history import History
from fastcnn.training.samples import Data, Samples, as_samples, sample_weight_of

#: Seconds of training between returns to Python for progress, callbacks and interrupts.
CHUNK_SECONDS = 0.1


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
    out: str | Path | None = None,
) -> History:
    """Train a model in place.

    Parameters
    ----------
    model : Model
    train, test : Dataset, or (x, y), or (x, y, sample_weight)
        ``x`` of shape (N, C, H, W), already normalised if it is floating-point; bytes are divided
        by 255. ``sample_weight`` of shape (N,) makes the loss of each batch a weighted mean.
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
        Decides the order of samples and dropout masks; with the same seed, data and initial
        weights a run repeats itself exactly.
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
    training_data = as_samples(train, "train", model, loss)
    test_data = None if test is None else as_samples(test, "test", model, loss)
    for size in {min(batch_size, len(training_data)), len(training_data) % batch_size} - {0}:
        check_statistics(model.graph(), size)
    average = None if ema_decay is None else WeightAverage(model.parameter_vector, ema_decay)
    executor = make_executor(
        model, loss=loss, optimizer=optimizer, backend=backend, batch_size=batch_size,
        seed=seed, threads=threads, clip_norm=clip_norm,
        weighted=any(data is not None and sample_weight_of(data) is not None
                     for data in (training_data, test_data)),
    )  # fmt: skip
    listeners = list(callbacks)
    if out is not None:
        from fastcnn.training.run import Run, describe_fit

        config = describe_fit(
            model, training_data, loss, optimizer, schedule,
            epochs=epochs, batch_size=batch_size, backend=backend, seed=seed, clip_norm=clip_norm,
            ema_decay=ema_decay,
        )  # fmt: skip
        listeners.insert(0, Run.create(out, config).recorder())
    history = History()
    loop = _Loop(
        model, executor, history, listeners, optimizer.lr, schedule, epochs, batch_size, average
    )
    with blas_threads(threads):
        loop.run(training_data, test_data, seed)
    return history


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
    weight = sample_weight_of(checked)
    executor = make_executor(
        model, loss=loss, optimizer=SGD(), backend=backend, batch_size=256,
        weighted=weight is not None,
    )  # fmt: skip
    return executor.evaluate(checked.images, checked.labels, checked.normalisation, weight)


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
        average: WeightAverage | None,
    ) -> None:
        self.model = model
        self.executor = executor
        self.history = history
        self.listeners = list(listeners)
        self.base_lr = base_lr
        self.schedule = schedule
        self.epochs = epochs
        self.batch_size = batch_size
        self.average = average
        self.control = Control()
        self.chunk = 1

    def run(self, train: Samples, test: Samples | None, seed: int) -> None:
        per_epoch = -(-len(train) // self.batch_size)
        generator = np.random.default_rng(seed)
        start = TrainingStart(
            self.model, self.history, self.epochs, per_epoch, len(train),
            test is not None, self.control,
        )  # fmt: skip
        last_good = self.model.copy_state()
        try:
            for listener in self.listeners:
                listener.on_train_begin(start)
            for epoch in range(1, self.epochs + 1):
                record = self._epoch(epoch, per_epoch, train, generator.permutation(len(train)))
                with self._averaged():
                    record |= self._test(test)
                    self.history.epochs.append(record)
                    last_good = self.model.copy_state()
                    for listener in self.listeners:
                        listener.on_epoch_end(record, self.model)
                if self.control.stop_reason is not None:
                    self.history.stop_reason = self.control.stop_reason
                    break
            self.history.status = "finished"
        except KeyboardInterrupt:
            self.history.status = "interrupted"
            raise
        except NonFiniteError:
            self.model.load_state_dict(last_good)
            self.history.status = "failed"
            raise
        except BaseException:
            self.history.status = "failed"
            raise
        finally:
            if self.average is not None and self.history.status != "failed":
                self.model.parameter_vector[...] = self.average.average
            for listener in reversed(self.listeners):
                listener.on_train_end(self.history)

    def _averaged(self) -> AbstractContextManager[None]:
        return nullcontext() if self.average is None else self.average.applied()

    def _epoch(
        self, epoch: int, per_epoch: int, train: Samples, order: np.ndarray
    ) -> dict[str, Any]:
        weight = sample_weight_of(train)
        seen, correct, done = 0, 0, 0
        loss_sum, weight_sum, seconds = 0.0, 0.0, 0.0
        while done < per_epoch:
            count = min(self.chunk, per_epoch - done)
            if self.average is not None:
                count = min(count, EVERY_STEPS - self.executor.step % EVERY_STEPS)
            rates = learning_rates(
                self.schedule, self.base_lr, self.executor.step, count,
                self.epochs * per_epoch, per_epoch,
            )  # fmt: skip
            rates *= self.control.lr_factor
            samples = order[done * self.batch_size : (done + count) * self.batch_size]
            began = time.perf_counter()
            # A diverging run overflows before its loss does; the loss check reports it.
            with np.errstate(over="ignore", invalid="ignore"):
                results = self.executor.train_steps(
                    train.images, train.labels, samples, rates, train.normalisation, weight
                )
            elapsed = time.perf_counter() - began
            seconds += elapsed
            self._record_steps(epoch, results.losses, rates, results.gradient_norms)
            each = np.ones(len(samples)) if weight is None else weight[samples]
            sizes = np.add.reduceat(each, np.arange(0, len(samples), self.batch_size))
            loss_sum += float(results.losses @ sizes)
            weight_sum += float(sizes.sum())
            correct += int(results.correct.sum())
            seen += len(samples)
            done += count
            if self.average is not None and (
                done == per_epoch or self.executor.step % EVERY_STEPS == 0
            ):
                self.average.update(self.executor.step)
            news = Steps(
                epoch, self.executor.step, seen, results.losses.tolist(), rates.tolist(),
                loss_sum / weight_sum, correct / seen, seen / max(seconds, 1e-9),
            )  # fmt: skip
            for listener in self.listeners:
                listener.on_steps(news)
            self.chunk = int(np.clip(count * CHUNK_SECONDS / max(elapsed, 1e-9), 1, 2 * count + 1))
        return {
            "kind": "epoch",
            "epoch": epoch,
            "train_loss": loss_sum / weight_sum,
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

    def _test(self, test: Samples | None) -> dict[str, Any]:
        if test is None:
            return {}
        loss, accuracy, _ = self.executor.evaluate(
            test.images, test.labels, test.normalisation, sample_weight_of(test)
        )
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
