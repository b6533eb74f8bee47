"""The loop over epochs and chunks of steps, and its state."""

import math
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.data.dataset import Samples
from fastcnn.distributed import World
from fastcnn.errors import CheckpointError, ConfigurationError, NonFiniteError, RunWriteError
from fastcnn.execution import Executor, Watch
from fastcnn.execution.prepared import forget
from fastcnn.layers import Model
from fastcnn.optim import learning_rates
from fastcnn.scalars import is_number, plain
from fastcnn.training.averaging import make_average, measure_statistics
from fastcnn.training.callbacks import Callback, Control, Steps, TrainingStart
from fastcnn.training.checkpoints import Checkpoint
from fastcnn.training.feed import Feed
from fastcnn.training.history import EpochRecord, History, StepRecord
from fastcnn.training.interrupts import DeferredInterrupts
from fastcnn.training.metrics import compute, directions
from fastcnn.training.options import TrainingOptions
from fastcnn.training.saver import Saver
from fastcnn.training.stream import StreamFeed
from fastcnn.weights import not_finite

#: Seconds of training between returns to Python for progress, callbacks and interrupts.
CHUNK_SECONDS = 0.1
DIVERGED = (
    "Training has diverged: lower the learning rate, clip the gradient (clip_norm), or warm up"
)


def _count(value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise CheckpointError(f"the checkpoint's {name} is {value!r}")
    return value


@dataclass
class Progress:
    """Progress within one epoch.

    Attributes
    ----------
    epoch : int
        Counted from 1.
    done, seen, counted, correct : int
        Steps taken, samples seen, their targets (one per sample, or per pixel), and the number of
        those classified correctly.
    loss_sum, weight_sum : float
        Sums of the samples' losses, and of their weights in the mean.
    seconds : float
        Seconds of training only.
    """

    epoch: int
    done: int = 0
    seen: int = 0
    counted: int = 0
    correct: int = 0
    loss_sum: float = 0.0
    weight_sum: float = 0.0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self.seen / max(self.seconds, 1e-9)

    @property
    def loss(self) -> float:
        """Mean loss of the targets so far; 0 if all have weight 0."""
        return self.loss_sum / self.weight_sum if self.weight_sum else 0.0

    @property
    def accuracy(self) -> float:
        """Share of the targets classified correctly; NaN before there are any."""
        return self.correct / self.counted if self.counted else math.nan


class TrainingLoop:
    """The state of one call of :func:`~fastcnn.training.fit`."""

    def __init__(
        self,
        model: Model,
        executor: Executor,
        history: History,
        listeners: Iterable[Callback],
        options: TrainingOptions,
        saver: Saver | None,
        world: World,
        feed: Feed | StreamFeed,
    ) -> None:
        self.model = model
        self.executor = executor
        self.history = history
        self.listeners = list(listeners)
        self.base_lr = options.make_optimizer().lr
        self.loss = options.make_loss()
        self.metrics = options.make_metrics()
        self.schedule = options.make_schedule()
        self.epochs = options.epochs
        self.feed = feed
        self.total = options.total_steps(feed.steps)
        self.average = make_average(
            model, options, partial(measure_statistics, model, feed, options)
        )
        self.average_every = options.average_every
        if self.average is not None and self.average.every is not None:
            # Parameters are in sync at these steps, even if processes only average every few steps.
            every = math.lcm(self.average_every, self.average.every)
            executor.watch = Watch(every, self._update_average)
        self.saver = saver
        self.world = world
        self.control = Control()
        self.chunk = 1
        self.generator = np.random.default_rng(options.seed)
        #: State of the generator from which the order of the current epoch is drawn.
        self.epoch_start: dict[str, Any] = self.generator.bit_generator.state  # type: ignore[assignment]
        self.progress = Progress(1)
        self.last_good = model.copy_state()
        self.interrupts = DeferredInterrupts(None if self.world.size == 1 else self.world.largest)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue the run."""
        return {
            "step": self.executor.step,
            "progress": asdict(self.progress),
            "generator": self.epoch_start,
            "model": self.model.state_dict(),
            "optimizer": self.executor.optimizer_state(),
            "average": None if self.average is None else self.average.state_dict(),
            "last_good": self.last_good,
            "control": asdict(self.control),
            "callbacks": [
                [type(listener).__name__, state]
                for listener in self.listeners
                if (state := listener.state_dict())
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state; the caller restores the history.

        Raises CheckpointError if it belongs to another model or optimiser, or holds weights that
        are not finite.
        """
        for name in ("model", "last_good", "optimizer"):
            problem = not_finite(state[name])
            if problem is not None:
                raise CheckpointError(f"the checkpoint holds {problem} that are not finite")
        self.model.load_state_dict(state["last_good"])  # checks that it matches
        self.model.load_state_dict(state["model"])
        self.executor.load_optimizer_state(state["optimizer"])
        self.executor.step = _count(state["step"], "step")
        self.progress = Progress(**state["progress"])
        for name, value in asdict(self.progress).items():
            if name in ("loss_sum", "weight_sum", "seconds"):
                if not isinstance(value, (int, float)) or not math.isfinite(value):
                    raise CheckpointError(f"the checkpoint's {name} is {value!r}")
            else:
                _count(value, name)
        self.epoch_start = state["generator"]
        self.generator.bit_generator.state = state["generator"]
        self.last_good = state["last_good"]
        control = Control(**state["control"])
        factor, reason = control.lr_factor, control.stop_reason
        if not isinstance(factor, (int, float)) or not 0.0 <= factor < math.inf:
            raise CheckpointError(f"the checkpoint's lr_factor is {factor!r}")
        if reason is not None and not isinstance(reason, str):
            raise CheckpointError(f"the checkpoint's stop_reason is {reason!r}")
        self.control = control
        if self.average is not None:
            self.average.load_state_dict(state["average"])
            if self.average.step > self.executor.step:
                raise CheckpointError(
                    f"the checkpoint's average covers {self.average.step} steps, not "
                    f"{self.executor.step}"
                )
        saved = list(state["callbacks"])
        for listener in self.listeners:
            mine = [entry for entry in saved if entry[0] == type(listener).__name__]
            if mine:
                listener.load_state_dict(mine[0][1])
                saved = [entry for entry in saved if entry is not mine[0]]

    def copy_from_root(self) -> None:
        """Copy the root process's state: its weights, and everything else when resuming."""
        if self.world.size == 1:
            return
        state: dict[str, Any] = {}
        if self.world.is_root:
            state = {"loop": self.state_dict(), "history": asdict(self.history)}
        content = self.world.bytes_from_root(Checkpoint(state).to_bytes())
        if not self.world.is_root:
            state = Checkpoint.from_bytes(content, Path("rank 0")).state
            self.load_state_dict(state["loop"])
            self.history.epochs[:] = map(EpochRecord, state["history"]["epochs"])
            self.history.steps[:] = map(StepRecord, state["history"]["steps"])

    def run(self, validation: Samples | None, test: Samples | None) -> None:
        """Train until the last epoch, or until a callback or a signal ends it."""
        feed = self.feed
        start = TrainingStart(
            self.model,
            self.history,
            self.epochs,
            feed.steps,
            feed.samples,
            tested=test is not None,
            validated=validation is not None,
            has_accuracy=self.model.predicts_classes,
            control=self.control,
            directions=directions(self.metrics),
        )
        try:
            with self.interrupts:
                with self.world.preparing():
                    for listener in self.listeners:
                        listener.on_train_begin(start)
                    if self.saver is not None:
                        self.saver.save(self)  # a run killed in its first epoch can be resumed too
                while self.progress.epoch <= self.epochs and self.control.stop_reason is None:
                    self._epoch(feed, {"validation": validation, "test": test})
                self._check_finite()  # callbacks may have written to the model
                self.history.stop_reason = self.control.stop_reason
            self.history.status = "finished"
        except KeyboardInterrupt as error:
            if self.interrupts.raised_between_steps:
                self.world.known_error = error
            self.history.status = "interrupted"
            raise
        except NonFiniteError as error:
            self.world.known_error = error
            self.model.load_state_dict(self.last_good)
            self.history.status = "failed"
            raise
        except BaseException:
            self.history.status = "failed"
            raise
        finally:
            # An interrupt may arrive between a step and the check of its result.
            if not_finite(self.model.state_dict()) is not None:
                self.model.load_state_dict(self.last_good)
            whole = self.history.status == "finished" or self.interrupts.raised_between_steps
            with ExitStack() as ending:  # from last to first, even if one of them raises
                for listener in self.listeners:
                    ending.callback(listener.on_train_end, self.history)
                if self.average is not None and self.history.status != "failed":
                    ending.callback(self.average.replace)
                if self.saver is not None:
                    ending.callback(self._save_at_end, self.saver, whole)

    def _save_at_end(self, saver: Saver, whole: bool) -> None:
        try:
            saver.save(self) if whole else saver.save_best()
        except RunWriteError:
            self.history.status = "failed"  # a finished run could not be resumed
            raise

    def _epoch(self, feed: Feed | StreamFeed, measured: Mapping[str, Samples | None]) -> None:
        """Train the rest of the current epoch, and finish it."""
        progress = self.progress
        self.executor.start_epoch(progress.epoch, feed.steps)
        self.epoch_start = self.generator.bit_generator.state  # type: ignore[assignment]
        feed.begin_epoch(self.generator, progress.done)
        last = self._last_step()
        while progress.done < last:
            self._chunk(feed)
            if self.saver is not None and progress.done < last:
                self.saver.save_if_due(self, ends_epoch=False)
            self._agree()
        record = EpochRecord(
            kind="epoch",
            epoch=progress.epoch,
            train_loss=progress.loss,
            train_accuracy=self._known(progress.accuracy),
            validation_loss=None,
            validation_accuracy=None,
            test_loss=None,
            test_accuracy=None,
            seconds=progress.seconds,
            samples_per_second=progress.rate,
        )
        if self.world.size > 1:
            # Processors may round differently: keep the processes from drifting apart.
            for value in self.model.state_dict().values():
                self.world.copy_from_root(value)
        self._check_finite()
        if self.average is not None:
            self.average.end_epoch(progress.epoch, self.executor.step)
            self._check_finite()
        with nullcontext() if self.average is None else self.average.applied():
            for part, samples in measured.items():
                if samples is not None:
                    self._measure(part, samples, record)
            # Free memory for what follows: callbacks that inspect the model, and training.
            forget(self.model)
            self.history.epochs.append(record)
            self.last_good = self.model.copy_state()
            for listener in self.listeners:
                listener.on_epoch_end(record, self.model)
            if self.saver is not None:
                self.saver.note_epoch(record, self.model)
        self.progress = Progress(progress.epoch + 1)
        self.epoch_start = self.generator.bit_generator.state  # type: ignore[assignment]
        if self.saver is not None:
            self.saver.save_if_due(self, ends_epoch=True)
        self._agree()

    def _measure(self, part: str, samples: Samples, record: EpochRecord) -> None:
        """Evaluate validation or test data into an epoch's record."""
        with np.errstate(over="ignore", invalid="ignore"):
            loss, accuracy, outputs = self.executor.evaluate(samples)
        if not math.isfinite(loss):
            raise NonFiniteError(
                f"the {part} loss became {loss} after epoch {record['epoch']}, with finite "
                "weights: training has diverged (lower the learning rate, clip the gradient), or "
                f"the {part} data hold far larger values than the training data"
            )
        record[f"{part}_loss"] = loss
        record[f"{part}_accuracy"] = self._known(accuracy)
        for name, value in compute(self.metrics, outputs, samples.labels, self.loss).items():
            record[f"{part}_{name}"] = value

    def _known(self, accuracy: float) -> float | None:
        """An accuracy; None without classes, and if all targets are ignored."""
        return accuracy if self.model.predicts_classes and accuracy == accuracy else None

    def _agree(self) -> None:
        """Synchronise with all processes: continue or stop together."""
        control = self.control
        self.chunk, control.lr_factor, control.stop_reason = self.world.from_root(
            [self.chunk, control.lr_factor, control.stop_reason]
        )
        self.interrupts.check()

    def _chunk(self, feed: Feed | StreamFeed) -> None:
        """Some steps in one call of the executor."""
        progress, last = self.progress, self._last_step()
        count = self._steps(last - progress.done, feed.most_steps())
        rates = learning_rates(
            self.schedule, self.base_lr, self.executor.step, count, self.total, feed.steps
        )
        factor = plain(self.control.lr_factor)
        if not is_number(factor) or not 0.0 <= factor < math.inf:
            raise ConfigurationError(
                f"control.lr_factor must be a finite number of at least 0, got {factor!r}"
            )
        rates *= factor
        began = time.perf_counter()
        chunk = feed.take(progress.done, count, progress.epoch)
        # In a diverging run, activations overflow before the loss does, whose check reports it.
        with np.errstate(over="ignore", invalid="ignore"):
            results = self.executor.train_steps(chunk.samples, chunk.order, rates)
        elapsed = time.perf_counter() - began
        progress.seconds += elapsed
        self._record_steps(results.losses, rates, results.gradient_norms)
        self._agree_that_finite({"the weights": self.model.parameter_vector})
        # One by one, so that sums do not depend on how steps are divided into chunks.
        is_sum = self.loss.reduction == "sum"
        for loss, size in zip(results.losses.tolist(), chunk.sizes.tolist(), strict=True):
            progress.loss_sum += loss if is_sum else loss * size
            progress.weight_sum += size
        progress.correct += int(results.correct.sum())
        progress.seen += len(chunk.order)
        progress.counted += chunk.targets
        progress.done += count
        news = Steps(
            progress.epoch,
            self.executor.step,
            progress.seen,
            results.losses.tolist(),
            rates.tolist(),
            progress.loss,
            progress.accuracy if self.model.predicts_classes else math.nan,
            progress.rate,
        )
        for listener in self.listeners:
            listener.on_steps(news)
        self.chunk = int(np.clip(count * CHUNK_SECONDS / max(elapsed, 1e-9), 1, 2 * count + 1))

    def _update_average(self, step: int) -> None:
        assert self.average is not None
        # Divergence is detected after the steps; numpy need not warn before.
        with np.errstate(over="ignore", invalid="ignore"):
            self.average.update(step, step / max(self.total, 1))

    def _last_step(self) -> int:
        """Number of steps of the current epoch."""
        per_epoch = self.feed.steps
        return min(per_epoch, self.total - (self.progress.epoch - 1) * per_epoch)

    def _steps(self, left: int, most: int) -> int:
        """Steps of the next call: it ends at a synchronisation of the processes' parameters, or at
        the end of the epoch."""
        count = min(self.chunk, left, most)
        if self.average_every > 1:
            count -= (self.executor.step + count) % self.average_every
            count += self.average_every if count <= 0 else 0
        return min(count, left)

    def _record_steps(self, losses: np.ndarray, rates: np.ndarray, norms: np.ndarray) -> None:
        first = self.executor.step - len(losses) + 1
        wrong = np.flatnonzero(~np.isfinite(losses) | np.isinf(norms))
        good = slice(int(wrong[0]) if wrong.size else len(losses))
        epoch = self.progress.epoch
        figures = zip(losses[good].tolist(), rates[good].tolist(), strict=True)
        self.history.steps.extend(
            StepRecord(kind="step", epoch=epoch, step=step, loss=loss, lr=lr)
            for step, (loss, lr) in enumerate(figures, first)
        )
        if wrong.size:
            at = good.stop
            raise NonFiniteError(self._explain(first + at, losses[at], rates[at], norms[at]))

    def _explain(self, step: int, loss: float, lr: float, norm: float) -> str:
        before = f"{self.history.steps[-1]['loss']:.4g}" if self.history.steps else "none"
        what = f"loss became {loss}" if not np.isfinite(loss) else "gradient became infinite"
        return (
            f"the {what} at step {step} (epoch {self.progress.epoch}): learning rate "
            f"{lr:.3g}, gradient norm {norm:.3g}, loss before {before}. {DIVERGED}"
        )

    def _check_finite(self) -> None:
        """Raise if anything is not finite: weights, statistics, optimiser state or average."""
        average = {} if self.average is None else {"the average": self.average.average}
        optimizer = self.executor.optimizer_state()
        slots = {f"the optimiser's {name}": value for name, value in optimizer.items()}
        self._agree_that_finite(self.model.state_dict() | average | slots)

    def _agree_that_finite(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Raise on all processes if one of them has an array that is not finite."""
        problem = not_finite(arrays)
        if self.world.largest(float(problem is not None)):
            rate = self.history.steps[-1]["lr"] if self.history.steps else math.nan
            raise NonFiniteError(
                f"{problem or 'values of another process'} became NaN or infinite at or before "
                f"step {self.executor.step} (epoch {self.progress.epoch}), learning rate "
                f"{rate:.3g}. {DIVERGED}"
            )
