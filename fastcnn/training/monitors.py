"""Callbacks that watch one metric: stop early, or lower the learning rate on a plateau."""

import logging
import math
from typing import Any

import numpy as np

from fastcnn.arguments import as_count, as_flag, as_number
from fastcnn.errors import ConfigurationError
from fastcnn.layers import Model
from fastcnn.training.callbacks import Callback, Control, TrainingStart
from fastcnn.training.history import History
from fastcnn.training.metrics import METRICS, PARTS, directions

log = logging.getLogger("fastcnn.training")


class Monitor(Callback):
    """Base of callbacks that count epochs without improvement of one metric.

    Attributes
    ----------
    best : float
        The best value so far.
    waited : int
        Epochs since then.
    """

    def __init__(self, monitor: str, patience: int) -> None:
        owner = type(self).__name__
        part, _, name = str(monitor).partition("_")
        if part not in PARTS or not name:
            raise ConfigurationError(
                f"{owner}: monitor must be one of {', '.join(directions(()))}, or a metric such as "
                f"validation_f1, got {monitor!r}"
            )
        self.monitor = monitor
        self.patience = as_count(owner, "patience", patience, least=0)
        # For a metric given as a function, the training tells which direction is better.
        self.sign = 1.0 if directions(tuple(METRICS.values())).get(monitor, True) else -1.0
        self.control = Control()
        self.reset()

    def reset(self) -> None:
        """Reset the best value and the count."""
        self.best = -self.sign * math.inf
        self.waited = 0

    def on_train_begin(self, start: TrainingStart) -> None:
        """Start counting.

        Raises
        ------
        ConfigurationError
            If a metric of missing validation or test data is monitored, or the accuracy although
            targets are not classes.
        """
        part, _, _ = self.monitor.partition("_")
        if not {"validation": start.validated, "test": start.tested}.get(part, True):
            raise ConfigurationError(
                f"{type(self).__name__} monitors {self.monitor}, but there are no {part} data"
            )
        if self.monitor not in start.directions:
            raise ConfigurationError(
                f"{type(self).__name__}: monitor must be one of {', '.join(start.directions)}, "
                f"got {self.monitor!r}: name it in metrics"
            )
        sign = 1.0 if start.directions[self.monitor] else -1.0
        if sign != self.sign:
            self.sign, self.best = sign, -sign * math.inf
        if part == "test":
            log.warning(
                "%s monitors %s: a model selected on test data cannot be judged by them; "
                "monitor validation_loss",
                type(self).__name__,
                self.monitor,
            )
        if self.monitor.endswith("accuracy") and not start.has_accuracy:
            raise ConfigurationError(
                f"{type(self).__name__} monitors {self.monitor}, but the targets are not classes: "
                f"monitor {self.monitor.replace('accuracy', 'loss')}"
            )
        self.control = start.control
        if not start.history.epochs:
            self.reset()

    def is_better(self, value: float) -> bool:
        """Whether ``value`` improves on :attr:`best`."""
        return self.sign * value > self.sign * self.best

    def on_epoch_end(self, epoch: dict[str, Any], model: Model) -> None:
        """Compare the epoch's metric with the best one."""
        found = epoch[self.monitor]
        value = math.nan if found is None else float(found)  # NaN is never better
        if self.is_better(value):
            self.best = value
            self.waited = 0
            self.on_improvement(epoch, model)
        else:
            self.waited += 1
            self.on_no_improvement(epoch)

    def on_improvement(self, epoch: dict[str, Any], model: Model) -> None:
        """Called after the best epoch so far."""

    def on_no_improvement(self, epoch: dict[str, Any]) -> None:
        """Called after any other epoch."""

    def state_dict(self) -> dict[str, Any]:
        """The best value, and the epochs since."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the counts of another run."""
        self.best, self.waited = float(state["best"]), int(state["waited"])


class EarlyStopping(Monitor):
    """End training when a metric has not improved for some epochs.

    Parameters
    ----------
    monitor : str
        ``validation_loss``, ``validation_accuracy`` or another metric of ``fit``, on samples that
        it holds out if none are given; the same for ``test``; or loss and accuracy of ``train``.
    patience : int
        Training ends after this many consecutive epochs without improvement (at least one).
    min_delta : float
        A larger change counts as an improvement; at least 0.
    restore_best : bool
        Whether to restore the weights of the best epoch at the end of training, unless it ended
        with an error.

    Attributes
    ----------
    best_epoch : int
        The epoch of the best value; 0 before there is one.

    Examples
    --------
    >>> import fastcnn
    >>> from fastcnn.training import EarlyStopping
    >>> train, _ = fastcnn.data.digits_dataset(500, 100, classes=(0, 1, 2))
    >>> stopper = EarlyStopping(patience=2)
    >>> model = fastcnn.models.report_cnn(seed=0)
    >>> history = fastcnn.fit(model, train, epochs=50, callbacks=[stopper])
    >>> len(history.epochs) < 50
    True
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        restore_best: bool = True,
    ) -> None:
        super().__init__(monitor, patience)
        self.min_delta = _at_least_0("EarlyStopping", "min_delta", min_delta)
        self.restore_best = as_flag("EarlyStopping", "restore_best", restore_best)
        self.model: Model | None = None

    def reset(self) -> None:
        super().reset()
        self.best_epoch = 0
        self.weights: dict[str, np.ndarray] = {}

    def on_train_begin(self, start: TrainingStart) -> None:
        super().on_train_begin(start)
        self.model = start.model

    def is_better(self, value: float) -> bool:
        """Whether ``value`` improves on the best by more than ``min_delta``."""
        return self.sign * value > self.sign * self.best + self.min_delta

    def on_improvement(self, epoch: dict[str, Any], model: Model) -> None:
        """Store the weights."""
        self.best_epoch = epoch["epoch"]
        if self.restore_best:
            self.weights = model.copy_state()

    def on_no_improvement(self, epoch: dict[str, Any]) -> None:
        """End training when patience is exhausted."""
        if self.waited >= self.patience:
            kept = "; its weights are kept" if self.restore_best else ""
            self.control.stop(
                f"{self.monitor.replace('_', ' ')} has not improved since epoch "
                f"{self.best_epoch} ({self.best:.4g}){kept}"
            )

    def on_train_end(self, history: History) -> None:
        """Restore the best weights."""
        if self.model is not None and self.weights and history.status != "failed":
            self.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """Counts, and the best weights under ``weights``."""
        return {**super().state_dict(), "best_epoch": self.best_epoch, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the counts and weights of another run."""
        super().load_state_dict(state)
        self.best_epoch = int(state["best_epoch"])
        self.weights = dict(state["weights"])


class ReduceLROnPlateau(Monitor):
    """Multiply the learning rate by ``factor`` when a metric has stopped improving.

    Works on top of any schedule. Arguments and rules are those of
    ``torch.optim.lr_scheduler.ReduceLROnPlateau`` with ``threshold_mode="rel"``, except that a
    worse value of a negative metric is not an improvement.

    Parameters
    ----------
    monitor : str
        As for :class:`EarlyStopping`.
    factor : float
        ``0 < factor < 1``.
    patience : int
        Epochs without improvement that are tolerated; the next one lowers the rate.
    threshold : float
        A larger change, relative to the best value, counts as an improvement; at least 0.
    cooldown : int
        Epochs after a reduction that are not counted.
    min_factor : float
        The product of all reductions never falls below this; from 0 to 1.
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_factor: float = 0.0,
    ) -> None:
        owner = "ReduceLROnPlateau"
        self.factor = as_number(owner, "factor", factor, above=0.0)
        if self.factor >= 1.0:
            raise ConfigurationError(f"{owner}: factor must lie between 0 and 1, got {factor!r}")
        self.threshold = _at_least_0(owner, "threshold", threshold)
        self.cooldown = as_count(owner, "cooldown", cooldown, least=0)
        self.min_factor = _at_least_0(owner, "min_factor", min_factor)
        if self.min_factor > 1.0:  # it would raise the rate
            raise ConfigurationError(f"{owner}: min_factor must be at most 1, got {min_factor!r}")
        super().__init__(monitor, patience)

    def reset(self) -> None:
        super().reset()
        self.cooling = 0

    def is_better(self, value: float) -> bool:
        """Whether ``value`` improves on the best by more than a fraction ``threshold`` of it."""
        if math.isinf(self.best):
            return math.isfinite(value)
        return self.sign * value > self.sign * self.best + self.threshold * abs(self.best)

    def on_improvement(self, epoch: dict[str, Any], model: Model) -> None:
        """Cool down."""
        self.cooling = max(0, self.cooling - 1)

    def on_no_improvement(self, epoch: dict[str, Any]) -> None:
        """Lower the rate when patience is exhausted."""
        if self.cooling:
            self.cooling -= 1
            self.waited = 0
        elif self.waited > self.patience:
            now = self.control.lr_factor  # another callback may have lowered it further
            self.control.lr_factor = min(now, max(now * self.factor, self.min_factor))
            self.cooling = self.cooldown
            self.waited = 0

    def state_dict(self) -> dict[str, Any]:
        """Counts, and the remaining epochs of cooldown."""
        return {**super().state_dict(), "cooling": self.cooling}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.cooling = int(state["cooling"])


def _at_least_0(owner: str, name: str, value: Any) -> float:
    number = as_number(owner, name, value)
    if number < 0.0:
        raise ConfigurationError(f"{owner}: {name} must be at least 0, got {value!r}")
    return number
