"""The trained parameters of a model: their optimisers, optimiser state, and maximum norms."""

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.backends.alignment import aligned
from fastcnn.backends.graph import Graph
from fastcnn.errors import ConfigurationError
from fastcnn.layers.base import WeightedLayer, limit_norms
from fastcnn.optim import Assignment, Optimizer, Part

if TYPE_CHECKING:
    from fastcnn.layers import Model

#: The distance between the state's arrays is a multiple of this many floats, as for vectors.
ALIGNED = 16

_frozen: "weakref.WeakKeyDictionary[Graph, dict[frozenset[str], Graph]]" = (
    weakref.WeakKeyDictionary()
)


def parameter_places(model: "Model") -> dict[str, tuple[int, tuple[int, ...], bool]]:
    """Each parameter's offset in the flat vector, its shape, and whether its layer is trained."""
    ranges, places, offset = model.trainable_ranges(), {}, 0
    for key, value in model.named_parameters().items():
        end = offset + value.size
        trained = any(first <= offset and end <= last for first, last in ranges)
        places[key] = (offset, value.shape, trained)
        offset = end
    return places


def frozen_parameters(model: "Model", parts: Sequence[Part] | None = None) -> tuple[str, ...]:
    """Names of the parameters that training does not change, in order.

    Parameters
    ----------
    parts : sequence of Part, optional
        The trained parts; by default those whose layers have ``requires_grad``.
    """
    places = parameter_places(model)
    if parts is None:
        return tuple(name for name, (_, _, trained) in places.items() if not trained)
    return tuple(
        name
        for name, (offset, shape, _) in places.items()
        if not any(p.first <= offset and offset + int(np.prod(shape)) <= p.end for p in parts)
    )


def running_means(graph: Graph) -> list[str]:
    """State keys of a network's running means."""
    keys = [node.buffers.get("running_mean") for node in graph.nodes]
    return [key for key in dict.fromkeys(keys) if key is not None]


def with_frozen_statistics(graph: Graph, frozen: frozenset[str]) -> Graph:
    """The graph, in which batch normalisations with ``frozen`` running means do not update them.

    They normalise by their running statistics, also in training. Returns the same object for
    the same arguments: an engine belongs to one graph.
    """
    if not frozen:
        return graph
    known = _frozen.setdefault(graph, {})
    if frozen not in known:
        nodes = tuple(
            replace(node, frozen_statistics=True)
            if node.buffers.get("running_mean") in frozen
            else node
            for node in graph.nodes
        )
        known[frozen] = replace(graph, nodes=nodes)
    return known[frozen]


class Assigned:
    """An assignment of optimisers to one model's parameters, at an epoch of a training.

    Raises
    ------
    ConfigurationError
        If a group does not fit the model.
    """

    def __init__(self, model: "Model", optimizer: Optimizer | Assignment) -> None:
        if not isinstance(optimizer, Assignment):
            optimizer = Assignment(optimizer)
        self.model = model
        self.assignment = optimizer
        places, means = parameter_places(model), running_means(model.graph())
        optimizer.check(places, means)
        self.frozen_means = optimizer.frozen_statistics(means)
        self.names = optimizer.state_names(places)
        vector = model.parameter_vector
        stride = -(-vector.size // ALIGNED) * ALIGNED
        state = aligned(len(self.names) * stride, vector.dtype)
        self.state = state.reshape(len(self.names), stride)
        self._epoch = (1, 0)
        self._known: tuple[tuple[int, int, Graph], tuple[Part, ...], tuple[str, ...]] | None = None

    @property
    def optimizers(self) -> list[Optimizer]:
        """All optimisers, each once."""
        places = parameter_places(self.model)
        everything = {name: (*place[:2], True) for name, place in places.items()}
        found: list[Optimizer] = [] if places else [self.assignment.optimizer]
        for epoch in self._epochs():
            for part in self.assignment.parts(everything, epoch):
                if part.optimizer not in found:
                    found.append(part.optimizer)
        return found

    @property
    def changes_nothing(self) -> bool:
        """Whether no parameter and no running statistic is trained in any epoch."""
        places = parameter_places(self.model)
        if not places or set(running_means(self.model.graph())) - self.frozen_means:
            return False
        return not any(self.assignment.parts(places, epoch) for epoch in self._epochs())

    def _epochs(self) -> list[int]:
        """Epochs that together include every part that is ever trained."""
        return [1, *(g.freeze_until + 1 for g in self.assignment.groups if g.freeze_until)]

    def frozen_in(self, epochs: Iterable[int]) -> set[str]:
        """Names of the parameters that are frozen in any of some epochs."""
        places = parameter_places(self.model)
        return {
            name
            for epoch in epochs
            for name in frozen_parameters(self.model, self.assignment.parts(places, epoch))
        }

    def start_epoch(self, epoch: int, per_epoch: int) -> None:
        """Set the current epoch, counted from 1, and the number of steps per epoch."""
        self._epoch = (epoch, per_epoch)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that are currently trained."""
        return self._now()[0]

    @property
    def frozen(self) -> tuple[str, ...]:
        """Names of the parameters that are currently not trained."""
        return self._now()[1]

    def _now(self) -> tuple[tuple[Part, ...], tuple[str, ...]]:
        # A changed model makes a new graph, which is faster to compare than its version.
        key = (*self._epoch, self.model.graph())
        if self._known is None or self._known[0] != key:
            parts = self.assignment.parts(parameter_places(self.model), *self._epoch)
            self._known = key, parts, frozen_parameters(self.model, parts)
        return self._known[1:]

    def graph(self) -> Graph:
        """The model's graph, with its frozen statistics."""
        return with_frozen_statistics(self.model.graph(), self.frozen_means)

    def slots(self) -> dict[str, np.ndarray]:
        """The state's arrays by name, as live views."""
        size = self.model.parameter_vector.size
        return {name: row[:size] for name, row in zip(self.names, self.state, strict=True)}

    def update(self, gradient: np.ndarray, lr: float, step: int) -> None:
        """Update the model's parameters by a gradient; ``step`` counts from 1."""
        vector = self.model.parameter_vector
        for part in self.parts:
            shape = part.shape or (part.end - part.first,)
            here = slice(part.first, part.end)
            slots = {
                name: row[here].reshape(shape)
                for name, row in zip(part.optimizer.slots, self.state, strict=False)
            }
            own = vector[here].reshape(shape)
            made: Any = part.optimizer.update(  # type: ignore[func-returns-value]
                own, gradient[here].reshape(shape), slots, lr * part.factor, step - part.began
            )
            if made is not None and made is not own:
                raise ConfigurationError(
                    f"{type(part.optimizer).__name__}.update must change the parameters in place, "
                    f"and return nothing: it returned {made!r:.100}"
                )

    def clear_frozen(self, gradient: np.ndarray) -> None:
        """Set the gradient of parameters that are not trained to zero."""
        clear_outside(gradient, [(part.first, part.end) for part in self.parts])


def clear_outside(gradient: np.ndarray, ranges: Sequence[tuple[int, int]]) -> None:
    """Set everything outside some ranges, given in order, to zero."""
    start = 0
    for first, end in [*ranges, (gradient.size, gradient.size)]:
        gradient[start:first] = 0.0
        start = end


def largest_norms(model: "Model", frozen: Iterable[str] = ()) -> dict[str, float]:
    """The ``max_norm`` of each weight that has one and is not frozen, by state key.

    If layers that share an array differ, the smallest.
    """
    found = {}
    for key, users in zip(model.named_parameters(), model.parameter_users(), strict=True):
        bounds = [
            layer.max_norm
            for layer, name in users
            if isinstance(layer, WeightedLayer) and layer.max_norm is not None and name == "weight"
        ]
        if bounds and key not in frozen:
            found[key] = min(bounds)
    return found


def constrain(model: "Model", frozen: Iterable[str]) -> None:
    """Scale down weights whose norm exceeds their maximum."""
    parameters = model.named_parameters()
    for key, bound in largest_norms(model, frozen).items():
        limit_norms(parameters[key], bound)
