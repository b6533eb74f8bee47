"""One operation called alone on the engine: a network of one node, with arrays in and out."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from fastcnn import forks
from fastcnn.backends.geometry import ALL, Mask
from fastcnn.backends.graph import INPUT, Graph, Node
from fastcnn.backends.lanes.convolution.algorithms import forced_algorithm
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.arrays import K_INPUT
from fastcnn.backends.lanes.session.batches import Batches
from fastcnn.backends.lanes.session.engine import Engine, default_threads
from fastcnn.operations import OPERATIONS

#: Multiplications that take four times as long as starting a thread.
WORTH_A_THREAD = 40_000_000
#: Multiplications that take as long as packing one element into lanes, or out of them.
MOVE = 20


class Operation:
    """One operation on the engine, forward or backward, for fixed shapes.

    Uses as many threads as there is work for, unless ``threads`` is given.
    """

    def __init__(
        self,
        name: str,
        input_shape: tuple[int, ...],
        output_shape: tuple[int, ...],
        batch: int,
        arguments: tuple[tuple[str, Any], ...],
        parameters: tuple[tuple[str, tuple[int, ...]], ...],
        backward: bool,
        threads: int | None = None,
    ) -> None:
        keys = {key: key for key, _ in parameters}
        node = Node(name, name, (INPUT,), dict(arguments), keys, (input_shape,), output_shape)
        places, offset = {}, 0
        for key, shape in parameters:
            places[key] = (offset, shape)
            offset += int(np.prod(shape))
        inputs, outputs = (batch * int(np.prod(shape)) for shape in (input_shape, output_shape))
        products = max((int(np.prod(shape[1:])) for _, shape in parameters), default=1)
        work = outputs * products + MOVE * (inputs + outputs)
        build: dict[str, Any] = (
            {"backward": True, "input_gradient": True, "arrays": True}
            if backward
            else {"outputs": True}
        )
        self.engine = Engine(
            Graph(input_shape, (node,)),
            batch,
            np.zeros(offset, np.float32),
            places,
            threads or min(default_threads(), 1 + work // WORTH_A_THREAD),
            **build,
        )
        # No normalisation: all elements of a sample are one channel, packed in whole tiles.
        rows = self.engine.program.rows
        rows[rows[:, L.KERNEL] == K_INPUT, L.OUT] = 1
        self.engine.normalise((1.0,), (0.0,))
        self.places = places
        self.batch = batch
        self.output_shape = output_shape
        self.lock = forks.lock()
        self.phases = self.engine.program.phases
        if backward and OPERATIONS[name].gradient_needs == "nothing":
            self.phases = self.phases[self.engine.program.first_backward :]
        elif backward:
            skip = OPERATIONS[name].gradient_needs == "input"
            self.phases = self.engine.program.backward_phases(skip_forward=skip)

    def forward(self, x: np.ndarray, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        """The operation's output."""
        y = np.empty((self.batch, *self.output_shape), np.float32)
        with self.lock:
            self._load(parameters)
            self._run(x, y, None)
        return y

    def backward(
        self,
        grad_output: np.ndarray,
        x: np.ndarray,
        parameters: Mapping[str, np.ndarray],
        output_mask: Mask = ALL,
    ) -> tuple[np.ndarray, ...]:
        """Gradients of the input and of each parameter; those not in the mask are undefined."""
        phases = self.phases
        if output_mask != ALL:
            phases = self.engine.program.only_gradients(phases, *output_mask)
        grad_x = np.empty(x.shape, np.float32)
        with self.lock:
            self._load(parameters)
            targets = _contiguous(grad_output).reshape(-1)
            self._run(x, grad_x, phases, targets=targets)
            gradient = self.engine.gradient
            views = [
                gradient[offset : offset + int(np.prod(shape))].reshape(shape).copy()
                for offset, shape in self.places.values()
            ]
        return grad_x, *views

    def _load(self, parameters: Mapping[str, np.ndarray]) -> None:
        for key, value in parameters.items():
            first = self.places[key][0]
            self.engine.parameters[first : first + value.size] = value.ravel()

    def _run(
        self, x: np.ndarray, result: np.ndarray, phases: np.ndarray | None, **arrays: np.ndarray
    ) -> None:
        order = np.arange(self.batch)
        batches = Batches(_contiguous(x), order, outputs=result.reshape(-1), **arrays)
        self.engine.run(batches, phases=phases)


def _contiguous(array: np.ndarray) -> np.ndarray:
    return np.require(array, np.float32, ["C", "A", "W"])


@lru_cache(maxsize=64)
def _operation(algorithm: str | None, *key: Any) -> Operation:
    return Operation(*key)


def operation(*key: Any) -> Operation:
    """The same object for equal arguments and the same forced algorithm of convolutions."""
    return _operation(forced_algorithm(), *key)
