"""Diagnosis of common problems of a training run, in plain words."""

import math
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from fastcnn.data.dataset import Samples
from fastcnn.execution.layer_outputs import node_outputs
from fastcnn.execution.workers import one_blas_thread
from fastcnn.layers import Model
from fastcnn.losses import CrossEntropyLoss, Loss, MSELoss
from fastcnn.training.callbacks import Callback, Steps, TrainingStart
from fastcnn.training.history import Finding

#: Inputs beyond this are unscaled pixels: normalised ones lie within a few deviations.
LARGE_INPUT = 20.0
#: Number of samples whose activations are examined.
PROBE = 64
#: Relative distance from the loss of guessing below which a loss counts as chance.
AT_CHANCE = 0.02
#: Relative change per epoch below which weights count as not moving.
STILL = 1e-3
#: Share of the largest learning rate below which a schedule lets weights move little.
LOWERED = 0.1
#: Share of dead or saturated units in a layer from which they are reported.
MANY_DEAD, MANY_SATURATED = 0.5, 0.9
#: A loss this many times that of the best epoch, or of chance, counts as diverging.
DIVERGED, ABOVE_CHANCE = 3.0, 1.5
#: Overfitting: the test loss has exceeded its best by this factor, and by this share of chance, for
#: this many epochs while the training loss fell.
TURNED, LEAST_TURN, EPOCHS_TURNED = 1.1, 0.05, 3
#: Range of outputs in which a squashing function is not saturated.
OPEN = {"sigmoid": (0.01, 0.99), "tanh": (-0.99, 0.99)}


class Diagnosis(Callback):
    """Examines a run after each epoch; each finding is reported once.

    The loss is examined after every epoch, weights and activations after the first, second, fourth,
    eighth and so on, so that the cost is negligible.

    Parameters
    ----------
    train : Samples
        The training data; activations are examined for the first samples.
    loss : Loss, optional
        By default cross-entropy.
    tell : callable, optional
        Called with each new :class:`Finding`.
    backend : str, optional
        Backend that computes the activations.
    frozen : collection of str
        Names of parameters that are frozen, in some or all epochs.

    Attributes
    ----------
    findings : list of Finding
    """

    def __init__(
        self,
        train: Samples,
        loss: Loss | None = None,
        tell: Callable[[Finding], None] | None = None,
        backend: str | None = None,
        frozen: Collection[str] = (),
    ) -> None:
        self._frozen = frozenset(frozen)
        self.findings: list[Finding] = []
        self._backend = backend
        self._tell = tell
        self._probe = train.images[:PROBE]
        is_entropy = loss is None or (
            isinstance(loss, CrossEntropyLoss)
            and replace(loss, label_smoothing=0.0) == CrossEntropyLoss()
        )
        self._labels = np.asarray(train.labels)
        self._is_error = loss == MSELoss()
        self._chance = _chance(self._labels) if is_entropy else None
        self._first = math.inf
        #: The largest learning rate of all steps; and the first, largest and last of an epoch.
        self._peak, self._rates = 0.0, [0.0, 0.0, 0.0]
        self._before: dict[str, np.ndarray] = {}
        self._epochs: list[dict[str, Any]] = []

    def on_train_begin(self, start: TrainingStart) -> None:
        """Store the initial weights."""
        start.history.findings[:] = self.findings
        self.findings = start.history.findings
        if self._is_error:
            self._chance = _spread(self._labels, start.model)
        self._look_at_input(start.model)
        self._remember(start.model)
        self._epochs = [epoch for epoch in start.history.epochs if epoch["train_loss"] is not None]

    def on_steps(self, steps: Steps) -> None:
        """Store the first loss, and the largest learning rates."""
        if math.isinf(self._first):  # the loss is 0 if all targets have weight 0
            self._first = next((loss for loss in steps.losses if loss), math.inf)
        rates = steps.learning_rates
        self._rates = [self._rates[0] or rates[0], max(self._rates[1], *rates), rates[-1]]
        self._peak = max(self._peak, *rates)

    def on_epoch_end(self, epoch: dict[str, Any], model: Model) -> None:
        """Examine the epoch."""
        self._epochs.append(epoch)
        number = epoch["epoch"]
        self._look_at_losses(number)
        # A healthy run is examined less and less often.
        if number & (number - 1) == 0:
            with np.errstate(over="ignore", invalid="ignore"):  # expected in a diverging run
                self._look_at_weights(number, model)
                self._look_at_activations(number, model)
        if (number + 1) & number == 0:
            self._remember(model)
        self._rates = [0.0, 0.0, 0.0]

    def state_dict(self) -> dict[str, Any]:
        """The findings, so that a resumed run does not repeat them."""
        findings = [asdict(finding) for finding in self.findings]
        rates = {"rates": self._rates, "peak": self._peak}
        return {"findings": findings, "first": self._first, **rates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the findings of an interrupted run."""
        self.findings = [Finding(**values) for values in state["findings"]]
        self._first, self._rates, self._peak = (state[name] for name in ("first", "rates", "peak"))

    def _remember(self, model: Model) -> None:
        self._before = {key: value.copy() for key, value in model.named_parameters().items()}

    def _find(self, kind: str, epoch: int, message: str, advice: str, layer: str = "") -> None:
        if any((known.kind, known.layer) == (kind, layer) for known in self.findings):
            return
        finding = Finding(kind, epoch, layer, message, advice)
        self.findings.append(finding)
        if self._tell is not None:
            self._tell(finding)

    def _look_at_input(self, model: Model) -> None:
        bounds = model.preprocessing.bounds
        if bounds is None or self._probe.ndim != 4:
            return
        # The first layer's input for the smallest and the largest value of each channel.
        ends = np.reshape(bounds, (2, 1, 1, 1)).repeat(self._probe.shape[1], axis=1)
        largest = float(np.abs(model.preprocessing.apply(ends)).max())
        if largest > LARGE_INPUT:
            self._find(
                "unscaled",
                0,
                f"the pixels lie in {bounds[0]:.4g}..{bounds[1]:.4g}",
                "scale your pixels: divide them by their largest value, or pass bytes as uint8, "
                "which are divided by 255",
            )

    def _look_at_losses(self, number: int) -> None:
        losses = [epoch["train_loss"] for epoch in self._epochs]
        chance = self._chance
        two = losses[-2:]
        if chance is not None and len(two) == 2 and np.ptp([*two, chance]) < AT_CHANCE * chance:
            self._find(
                "chance",
                number,
                f"the loss is {losses[-1]:.4f}, that of guessing ({chance:.4f})",
                "raise the learning rate or the variance of the initial weights, and look for a "
                "layer that passes no gradient",
            )
        lowest = min((loss for loss in losses if loss), default=0.0)
        rise, size = losses[-1] - lowest, abs(lowest)  # of some losses the lowest is below 0
        far = rise > (DIVERGED - 1.0) * size and rise > 0.1 * (chance or size)
        first = self._first
        above = chance is not None and losses[-1] > ABOVE_CHANCE * max(chance, first)
        if far or above:
            before = f"{lowest:.3g} before" if far else f"{first:.3g} in the first step"
            self._find(
                "diverging",
                number,
                f"the loss has risen to {losses[-1]:.3g}, from {before}",
                "lower the learning rate, or limit the gradient's norm (clip_norm)",
            )
        part = "test" if self._epochs[-1]["validation_loss"] is None else "validation"
        tests = [epoch[f"{part}_loss"] for epoch in self._epochs]
        if None in tests:
            return
        best = int(np.argmin(tests))
        least = tests[best] + (TURNED - 1.0) * abs(tests[best]) + LEAST_TURN * (chance or 0.0)
        turned = len(tests) - 1 - best >= EPOCHS_TURNED and min(tests[-EPOCHS_TURNED:]) > least
        if turned and losses[-1] < losses[best]:
            self._find(
                "overfitting",
                number,
                f"the {part} loss rose from {tests[best]:.4f} in epoch {best + 1} to "
                f"{tests[-1]:.4f} while the training loss fell to {losses[-1]:.4f}",
                "stop earlier (EarlyStopping), or add dropout, weight decay or augmentation",
            )

    def _look_at_weights(self, number: int, model: Model) -> None:
        chance = self._chance
        if chance is not None and self._epochs[-1]["train_loss"] < 0.5 * chance:
            return  # a network that has learned may stop moving
        first, largest, last = self._rates
        if largest < LOWERED * self._peak or last == self._peak > first:
            return  # a schedule has lowered the rate, or is raising it
        moved = {
            key.rpartition(".")[0]: float(np.linalg.norm(value - self._before[key]))
            / max(float(np.linalg.norm(value)), 1e-30)
            for key, value in model.named_parameters().items()
            if key.endswith("weight") and key not in self._frozen and value.any()
        }
        still = {layer: share for layer, share in moved.items() if share < STILL}
        if still:
            shares = ", ".join(f"{layer} by {share:.1e}" for layer, share in still.items())
            self._find(
                "still",
                number,
                f"weights hardly changed in the epoch, relative to their size: {shares}",
                "raise the learning rate, or the variance of the initial weights",
            )

    def _look_at_activations(self, number: int, model: Model) -> None:
        count, graph = len(self._probe), model.graph(self._probe.shape[1:])
        places = [
            index
            for index, node in enumerate(graph.nodes)
            if node.operation == "relu" or node.operation in OPEN
        ]
        nodes = [graph.nodes[index] for index in places]
        alive: dict[str, Any] = {}
        closed = dict.fromkeys((node.name for node in nodes), 0.0)
        # On one thread: idle threads of the matrix library would spin and slow down the engine's.
        with one_blas_thread():
            for outputs in node_outputs(model, self._probe, places, self._backend):
                for node, values in zip(nodes, outputs, strict=True):
                    if node.operation == "relu":
                        # A unit is a feature, or a channel of a feature map.
                        live = (values > 0).any(axis=(0, *range(2, values.ndim)))
                        alive[node.name] = alive.get(node.name, False) | live
                    else:
                        low, high = OPEN[node.operation]
                        ends = (values < low) | (values > high)
                        closed[node.name] += float(ends.mean()) * len(values) / count
        for node in nodes:
            if node.operation == "relu":
                dead = 1.0 - float(alive[node.name].mean())
                if dead >= MANY_DEAD:
                    self._find(
                        "dead",
                        number,
                        f"{100 * dead:.0f} % of the units of {node.name} are 0 for all "
                        f"{count} samples",
                        "lower the learning rate, or use a leaky ReLU or other initial weights",
                        node.name,
                    )
            elif (shut := closed[node.name]) >= MANY_SATURATED:
                self._find(
                    "saturated",
                    number,
                    f"{100 * shut:.0f} % of the outputs of {node.name} are at the ends of "
                    f"{node.operation}, where it has no slope",
                    "lower the variance of the initial weights or the learning rate, or use "
                    "batch normalisation",
                    node.name,
                )


def _spread(targets: np.ndarray, model: Model) -> float | None:
    """The mean squared error of predicting each output's mean; None if it is 0."""
    if model.predicts == "classes":  # compared as one-hot rows
        shares = np.bincount(targets, minlength=model.graph().output_shape[0]) / len(targets)
        variances = shares * (1.0 - shares)
    else:
        variances = np.var(targets, axis=0, dtype=np.float64)
    return float(np.mean(variances)) or None


def _chance(labels: np.ndarray) -> float | None:
    """The cross-entropy of guessing by class frequency; None if targets are not classes."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        return None
    shares = np.bincount(labels) / len(labels)
    entropy = -sum(share * math.log(share) for share in shares if share > 0)
    return entropy or None
