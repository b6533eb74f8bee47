"""A layer to be benchmarked: its node, the arrays given to every contestant, and its run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastcnn import functional as F
from fastcnn.backends import get_backend, im2col
from fastcnn.backends.counter_random import dropout_key
from fastcnn.backends.graph import INPUT, Node
from fastcnn.operations import OPERATIONS

BATCH = 64
#: The first node of a network, at the first step of a training with seed 0.
MASK = dropout_key(0, 0, 0)


#: Operations on two maps.
JOINS = ("add", "subtract", "multiply", "concat")


@dataclass(frozen=True)
class Arrays:
    """The inputs, outputs and gradients of a layer.

    Attributes
    ----------
    x, y, grad : ndarray
        Input, output, and the gradient of the output.
    other : tuple of ndarray
        The second map, of those in :data:`JOINS`.
    """

    x: np.ndarray
    other: tuple[np.ndarray, ...]
    parameters: dict[str, np.ndarray]
    y: np.ndarray
    grad: np.ndarray

    @property
    def taken(self) -> tuple[np.ndarray, ...]:
        """Everything the layer reads: its inputs, then its parameters."""
        return (self.x, *self.other, *self.parameters.values())

    def named(self, tensors: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        """A contestant's tensors: the inputs, and the parameters by name."""
        inputs = len(tensors) - len(self.parameters)
        return list(tensors[:inputs]), dict(zip(self.parameters, tensors[inputs:], strict=True))

    def first(self, samples: int) -> "Arrays":
        """The same for the first few samples."""
        other = tuple(array[:samples] for array in self.other)
        return Arrays(
            self.x[:samples], other, self.parameters, self.y[:samples], self.grad[:samples]
        )


@dataclass(frozen=True)
class LayerRun:
    """One layer of one contestant, ready to be timed.

    Attributes
    ----------
    repeat : function of int
        Repeats the work this many times, and waits until it is done; results stay in the
        contestant's own layout.
    results : function
        Returns the results as fastcnn's arrays: the output, or the gradients of the input and of
        the parameters. It is not timed.
    """

    repeat: Callable[[int], object]
    results: Callable[[], tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class LayerCase:
    """One layer on a batch.

    Attributes
    ----------
    operation : str
        A function of :mod:`fastcnn.functional`.
    shape : tuple of int
        Shape of one sample.
    weight : tuple of int, optional
        Shape of the weight of a convolution or a linear layer.
    arguments : dict
        In the form that backends accept, after the weight.
    batch : int
        Number of samples.
    """

    operation: str
    shape: tuple[int, ...]
    weight: tuple[int, ...] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    batch: int = BATCH

    @property
    def work(self) -> str:
        """A description of the layer."""
        kernel = f", weight {' x '.join(map(str, self.weight))}" if self.weight else ""
        return f"{self.operation} {' x '.join(map(str, self.shape))}{kernel}"

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions that compute anything; backward, a sum only passes its gradient on."""
        return ("forward",) if self.operation in JOINS else ("forward", "backward")

    @property
    def is_random(self) -> bool:
        """Whether the layer draws a random mask."""
        return OPERATIONS[self.operation].random

    @property
    def stands_alone(self) -> bool:
        """Whether the engine has the operation outside networks; otherwise im2col computes it."""
        lanes = get_backend("lanes")
        return getattr(lanes, self.operation) is not getattr(im2col, self.operation)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments in the form of :mod:`fastcnn.functional`: equal padding on both sides."""
        settings = dict(self.arguments)
        padding: Any = settings.get("padding")
        if self.operation == "interpolate" and settings["mode"] == "nearest":
            settings["align_corners"] = None
        if self.operation == "pad":
            (top, bottom), (left, right) = padding
            settings["padding"] = (left, right, top, bottom)
        elif padding and isinstance(padding[0], tuple):
            settings["padding"] = tuple(before for before, _ in padding)
        if self.operation == "batch_norm":
            settings["training"] = True
        return settings | ({"key": MASK} if self.is_random else {})

    def flops(self, outputs: int) -> int:
        """Floating-point operations of a forward pass by definition; 0 if none are counted."""
        if not self.weight:
            return 0
        if self.operation == "conv_transpose2d":  # each pixel is multiplied by the whole kernel
            return 2 * int(np.prod(self.weight[1:])) * self.batch * int(np.prod(self.shape))
        return 2 * int(np.prod(self.weight[1:])) * outputs

    def arrays(self) -> Arrays:
        """Random arrays, the same for every contestant."""
        generator = np.random.default_rng(0)

        def normal(shape: tuple[int, ...]) -> np.ndarray:
            return generator.standard_normal(shape).astype(np.float32)

        x = normal((self.batch, *self.shape))
        other: tuple[np.ndarray, ...] = ()
        parameters: dict[str, np.ndarray] = {}
        if self.weight is not None:
            parameters["weight"] = normal(self.weight) / np.float32(
                np.sqrt(np.prod(self.weight[1:]))
            )
        else:
            # One value per channel, or per member of a set.
            shape = self.arguments.get("normalized_shape", self.shape[:1])
            for name in OPERATIONS[self.operation].parameters:
                parameters[name] = 1 + normal(shape) / 4
        if self.operation in JOINS:
            # A map that the engine can compute from the input: the sum of a map with itself reads
            # less.
            other = (np.maximum(x, np.float32(0.0)),)
        y = self.forward(x, other, parameters, "im2col")
        return Arrays(x, other, parameters, y, normal(y.shape))

    def forward(
        self,
        x: np.ndarray,
        other: tuple[np.ndarray, ...],
        parameters: dict[str, np.ndarray],
        backend: str,
    ) -> np.ndarray:
        """Call the operation's function."""
        function: Any = getattr(F, self.operation)
        return function(x, *other, **parameters, **self.settings, backend=backend)

    def backward(self, arrays: Arrays, backend: str) -> tuple[np.ndarray, ...]:
        """Gradients of the input and of the given parameters."""
        function: Any = getattr(F, f"{self.operation}_backward")
        read = {
            key: arrays.parameters[key]
            for key in OPERATIONS[self.operation].backward_reads
            if key in arrays.parameters
        }
        made = function(arrays.grad, arrays.x, **read, **self.settings, backend=backend)
        return made[: 1 + len(arrays.parameters)] if isinstance(made, tuple) else (made,)

    def node(self, shape: tuple[int, ...], output: tuple[int, ...], index: int = 0) -> Node:
        """The layer as part of a network, for a given sample shape."""
        arguments = dict(self.arguments)
        names = ("weight",) if self.weight else OPERATIONS[self.operation].parameters
        if self.operation == "batch_norm":
            arguments |= {"momentum": 0.1, "track_running_stats": False}
        sources = (INPUT, *range(index))
        return Node(
            "layer",
            self.operation,
            sources,
            arguments,
            {name: name for name in names},
            (shape,) * len(sources),
            output,
        )


def convolution(
    shape: tuple[int, ...], outputs: int, kernel: int, padding: int, batch: int = BATCH
) -> LayerCase:
    """A convolution of stride 1."""
    pairs = ((padding, padding), (padding, padding))
    arguments = {"stride": (1, 1), "padding": pairs, "dilation": (1, 1), "groups": 1}
    return LayerCase("conv2d", shape, (outputs, shape[0], kernel, kernel), arguments, batch)


def relative_difference(got: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> float:
    """Largest difference of arrays, each relative to the largest expected value."""
    return max(
        float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))
        for a, b in zip(got, expected, strict=True)
    )
