"""The sum of several losses, one for each output of a network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from fastcnn.arguments import as_number, plain_array
from fastcnn.backends.graph import Port
from fastcnn.backends.joint import JointPart
from fastcnn.errors import ConfigurationError, DataError, ShapeError
from fastcnn.losses.loss import Loss
from fastcnn.losses.python import PythonLoss


@dataclass(frozen=True)
class JointLoss(Loss):
    """``sum(weight * loss)`` over the outputs of a model.

    Made by ``fit(model, data, loss=[...], loss_weights=[...])``.

    Parameters
    ----------
    losses : tuple of Loss
        One for each output.
    weights : tuple of float, optional
        At least 0, by default 1.
    names : tuple of str, optional
        The outputs' names, if they are not in the model's order.
    ports : tuple of Port, optional
        The positions of the outputs in the joint array, set by :meth:`bound`.
    """

    losses: tuple[Loss, ...]
    weights: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    ports: tuple[Port, ...] = field(default=(), compare=False, repr=False)
    operation: ClassVar[str] = "joint"

    def __post_init__(self) -> None:
        several = isinstance(self.losses, (tuple, list)) and len(self.losses) > 0
        if not several or any(isinstance(loss, JointLoss) for loss in self.losses):
            raise ConfigurationError("losses of several outputs must be one loss per output")
        object.__setattr__(self, "losses", tuple(self.losses))
        written = [loss for loss in self.losses if isinstance(loss, PythonLoss)]
        if written:
            raise ConfigurationError(
                f"{written[0]!r}: a Python loss must be the only loss of a model; write it "
                "with fastcnn.kernel.loss to combine it with others"
            )
        given = [as_number("JointLoss", "weights", value) for value in self.weights]
        weights = given or [1.0] * len(self.losses)
        if len(weights) != len(self.losses) or min(weights) < 0.0 or max(weights) == 0.0:
            raise ConfigurationError(
                f"loss_weights must be {len(self.losses)} numbers of at least 0, not all 0, got "
                f"{list(self.weights)}"
            )
        object.__setattr__(self, "weights", tuple(weights))

    def bound(self, ports: Sequence[Port]) -> "JointLoss":
        """The same loss, bound to the outputs of a model.

        Parameters
        ----------
        ports : sequence of Port
            The model's outputs: names and shapes.

        Raises
        ------
        ConfigurationError
            If the model has other outputs.
        """
        known = [port.name for port in ports]
        if len(known) != len(self.losses) or (self.names and set(self.names) != set(known)):
            raise ConfigurationError(
                f"the model has the outputs {', '.join(known) or 'output'}: give a loss for each, "
                f"not {', '.join(self.names) or len(self.losses)}"
            )
        order = [self.names.index(name) for name in known] if self.names else range(len(known))
        return replace(
            self,
            losses=tuple(self.losses[place] for place in order),
            weights=tuple(self.weights[place] for place in order),
            names=tuple(known) if self.names else (),
            ports=tuple(ports),
        )

    @property
    def parts(self) -> tuple[JointPart, ...]:
        """Each loss as backends need it, once the positions of the outputs are known."""
        if not self.ports:
            return ()
        return tuple(
            JointPart(loss.operation, loss.arguments, loss.classes, weight, port.start, port.shape)
            for loss, weight, port in zip(self.losses, self.weights, self.ports, strict=True)
        )

    @property
    def arguments(self) -> dict[str, Any]:
        """The parts."""
        return {"parts": self.parts}

    @property
    def engine_key(self) -> tuple[Any, ...]:
        """Each loss's weight, position of its output, whether to count correct ones, and key."""
        first = next((i for i, loss in enumerate(self.losses) if loss.classes), -1)
        parts = enumerate(zip(self.losses, self.parts, strict=True))
        return "joint", *(
            (part.weight, part.start, part.shape, index == first, loss.engine_key)
            for index, (loss, part) in parts
        )

    @property
    def count(self) -> int:
        """Number of losses in the sum."""
        return len(self.losses)

    @property
    def reduction(self) -> str:  # type: ignore[override]
        """``"sum"`` if all of them are sums."""
        return "sum" if all(self.sums) else "mean"

    @property
    def sums(self) -> tuple[bool, ...]:
        """Whether each of them is a sum rather than a mean."""
        return tuple(loss.reduction == "sum" for loss in self.losses)

    def part(
        self, target: np.ndarray, sample_weight: np.ndarray | None, totals: np.ndarray
    ) -> tuple["JointLoss", float]:
        """As for all losses, with each one's factor in its weight."""
        found = replace(self)
        parts = [
            loss.part(part.target_of(target), sample_weight, total)
            for loss, part, total in zip(
                self.losses, self.parts, totals.reshape(-1, 1), strict=True
            )
        ]
        weights = tuple(w * factor for w, (_, factor) in zip(self.weights, parts, strict=True))
        object.__setattr__(found, "losses", tuple(loss for loss, _ in parts))
        object.__setattr__(found, "weights", weights)  # all may be 0
        return found, 1.0

    def target_weights(
        self, target: np.ndarray, sample_weight: np.ndarray | None
    ) -> np.ndarray | None:
        """Weight of each sample's targets in each loss; None if all are 1."""
        found = [
            loss.target_weight(part.target_of(target), sample_weight)
            for loss, part in zip(self.losses, self.parts, strict=True)
        ]
        if all(each is None for each in found):
            return None
        ones = np.ones(len(target))
        return np.stack([ones if each is None else each for each in found], axis=1)

    def pack(self, targets: Any, dtype: Any = np.float64) -> np.ndarray:
        """One array of the targets of all outputs, shape (N, elements of all outputs).

        Parameters
        ----------
        targets : sequence or mapping of array_like
            For each output, as for training with its loss; by position or name.
        dtype : dtype
            Type of the array.

        Raises
        ------
        ShapeError, DataError
            If they are invalid; the message names the output.
        """
        size = self.ports[-1].stop
        if isinstance(targets, np.ndarray) and targets.ndim == 2 and targets.shape[1] == size:
            return np.require(targets, dtype, ["C", "A"])
        names = [port.name for port in self.ports]
        if isinstance(targets, Mapping):
            if set(targets) != set(names):
                raise ShapeError(f"targets must be given for {', '.join(names)}")
            targets = [targets[name] for name in names]
        if not isinstance(targets, (list, tuple)) or len(targets) != len(names):
            raise ShapeError(
                f"the model has the outputs {', '.join(names)}: give a tuple of as many arrays of "
                f"targets, or a dictionary; got {type(targets).__name__}"
            )
        whole: np.ndarray | None = None
        parts = zip(self.losses, self.parts, names, targets, strict=True)
        for loss, part, name, value in parts:
            try:
                y = plain_array("targets", value)
                if y.ndim == 0 or (whole is not None and len(y) != len(whole)):
                    raise ShapeError(
                        f"targets have shape {y.shape}, those of other outputs another length"
                    )
                if loss.classes and part.shape[0] == 1:
                    raise ShapeError(f"{loss.operation} of one class is always 0")
                target = loss.as_target(y, part.shape, np.dtype(dtype))
            except (ShapeError, DataError) as error:
                raise type(error)(f"output {name!r}: {error}") from None
            if whole is None:
                whole = np.zeros((len(target), size), dtype)
            part.place_target(target, whole)
        assert whole is not None
        return whole

    def as_target(self, y: np.ndarray, output_shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Targets packed by :meth:`pack`, converted to another type."""
        return self.pack(y, dtype)

    def weight_shape(self, target: np.ndarray) -> tuple[int, ...]:
        """Weights are per sample."""
        return ()

    def predicts(self, y: np.ndarray, output_shape: tuple[int, ...]) -> str | None:
        """The kind of each output, separated by commas."""
        found = []
        for loss, part in zip(self.losses, self.parts, strict=True):
            target = part.target_of(y)
            # One number per sample is a single value, in whatever shape it was given.
            alone = target[:, 0] if part.shape == (1,) else target
            found.append(loss.predicts(alone, part.shape) or "")
        return ",".join(found)

    def target_counts(self, target: np.ndarray) -> np.ndarray | None:
        """Number of targets per sample that count for the accuracy."""
        for loss, part in zip(self.losses, self.parts, strict=True):
            if loss.classes:
                return loss.target_counts(part.target_of(target))
        return None

    def correct(self, output: np.ndarray, target: np.ndarray) -> int:
        """Number of correct targets of the first output whose loss needs classes."""
        for loss, part in zip(self.losses, self.parts, strict=True):
            if loss.classes:
                return loss.correct(part.output_of(output), part.target_of(target))
        return 0
