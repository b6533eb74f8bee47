"""A model's engines: created on demand, kept for later calls, dropped when there are too many."""

import weakref
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn import forks
from fastcnn.arguments import MOST_THREADS, as_count
from fastcnn.backends.graph import Graph

if TYPE_CHECKING:
    from fastcnn.backends.lanes import Engine
    from fastcnn.layers import Model

#: Maximum idle engines kept for one model, and their bytes; the last one is always kept.
KEPT_ENGINES, KEPT_BYTES = 8, 256 * 2**20
#: Samples of a block of the engine.
BLOCK = 16

#: Buffers of batch normalisation.
RUNNING = ("running_mean", "running_var", "num_batches_tracked")


def threads_or_default(owner: str, threads: int | None) -> int:
    """The user's number of threads, checked, or the engine's default."""
    from fastcnn.backends.lanes import default_threads

    if threads is None:
        return default_threads()
    return as_count(owner, "threads", threads, most=MOST_THREADS)


def room_for(count: int) -> int:
    """Samples that an engine for a batch of ``count`` is planned for.

    A few sizes, at most a quarter too large, so that one engine serves many batch sizes.
    """
    blocks = -(-count // BLOCK)
    step = 1 << max(blocks.bit_length() - 3, 0)
    return -(-blocks // step) * step * BLOCK


def make_engine(model: "Model", graph: Graph, batch: int, threads: int, **build: Any) -> "Engine":
    """An engine on a model's own parameters; ``build`` is passed to the planner.

    Raises
    ------
    Unsupported
        If the engine does not support the model.
    """
    from fastcnn.backends.lanes import Engine

    return Engine(
        graph,
        batch,
        model.parameter_vector,
        parameter_places(model),
        threads,
        running=running_statistics(model, graph, bool(build.get("training"))),
        **build,
    )


def running_statistics(model: "Model", graph: Graph, training: bool) -> dict[str, list[np.ndarray]]:
    """The buffers of each batch normalisation, by the state key of its running mean.

    Raises
    ------
    Unsupported
        If their update has a form that the engine does not support.
    """
    from fastcnn.backends.lanes import Unsupported

    state, running = model.state_dict(), {}
    for node in graph.nodes:
        if node.buffers:
            if training and node.arguments["momentum"] is None:
                raise Unsupported("a plain mean of running statistics")
            running[node.buffers[RUNNING[0]]] = [state[node.buffers[name]] for name in RUNNING]
    return running


def parameter_places(model: "Model") -> dict[str, tuple[int, tuple[int, ...]]]:
    """The offset of each parameter in the model's flat array, and its shape.

    Raises
    ------
    Unsupported
        If the parameters are not float32.
    """
    from fastcnn.backends.lanes import Unsupported

    if model.dtype != np.float32:
        raise Unsupported(f"parameters of type {model.dtype}")
    places, offset = {}, 0
    for key, value in model.named_parameters().items():
        places[key] = (offset, value.shape)
        offset += value.size
    return places


class _Idle:
    """A model's idle engines, the least recently used first."""

    def __init__(self) -> None:
        self._engines: list[tuple[Hashable, Engine]] = []
        self._lock = forks.lock()

    def take(self, key: Hashable, graph: Graph, vector: np.ndarray) -> "Engine | None":
        """An idle engine for a key, unless the model has changed since it was created."""
        with self._lock:
            self._engines = [
                (other, engine)
                for other, engine in self._engines
                if engine.parameters is vector
                and (engine.graph is graph or engine.graph.input_shape != graph.input_shape)
            ]
            for index in range(len(self._engines) - 1, -1, -1):
                if self._engines[index][0] == key:
                    return self._engines.pop(index)[1]
        return None

    def give(self, key: Hashable, engine: "Engine") -> None:
        """Return an engine, and drop the oldest if there are too many."""
        with self._lock:
            self._engines.append((key, engine))
            total = sum(engine.bytes for _, engine in self._engines)
            while len(self._engines) > 1 and (
                len(self._engines) > KEPT_ENGINES or total > KEPT_BYTES
            ):
                total -= self._engines.pop(0)[1].bytes


_idle: "weakref.WeakKeyDictionary[Model, _Idle]" = weakref.WeakKeyDictionary()


class Lease:
    """An engine of a model for one caller: one of the model's idle ones, or a new one."""

    def __init__(
        self, model: "Model", graph: Graph, batch: int, threads: int | None, **build: Any
    ) -> None:
        from fastcnn.backends.lanes import default_threads, forced_algorithm

        threads = default_threads() if threads is None else threads
        options = tuple(sorted(build.items()))
        self._key = (graph.input_shape, batch, threads, forced_algorithm(), options)
        self._idle = _idle.setdefault(model, _Idle())
        found = self._idle.take(self._key, graph, model.parameter_vector)
        self.engine = found or make_engine(model, graph, batch, threads, **build)

    def __enter__(self) -> "Engine":
        return self.engine

    def __exit__(self, *failure: object) -> None:
        self._idle.give(self._key, self.engine)
