"""A model's prepared forward pass, kept as long as the model does not change."""

import ctypes
import sys
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn import forks
from fastcnn.backends.graph import Graph
from fastcnn.execution.engines import RUNNING, parameter_places, running_statistics
from fastcnn.layers.folding import fold_batch_norm

if TYPE_CHECKING:
    from fastcnn.backends.lanes import Inference
    from fastcnn.layers import Model


def make_inference(folded: "Model", graph: Graph, most: int, threads: int) -> "Inference":
    """The prepared forward pass of a model whose batch normalisation is folded.

    Raises
    ------
    Unsupported
        If the engine does not support the model.
    """
    from fastcnn.backends.lanes import Inference

    return Inference(
        graph,
        folded.state_dict(),
        folded.parameter_vector,
        parameter_places(folded),
        running_statistics(folded, graph, training=False),
        most,
        threads,
    )


def _memcmp() -> Any:
    library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    function = library.memcmp
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    return function


class _Kept:
    """A prepared pass, and copies of the model's arrays from which it was made."""

    def __init__(self, inference: "Inference", graph: Graph, arrays: list[np.ndarray]) -> None:
        self.inference = inference
        self.graph = graph
        self.vector = arrays[0]
        self._held = [(array, array.copy()) for array in arrays]
        self._compared = [(a.ctypes.data, b.ctypes.data, a.nbytes) for a, b in self._held]

    def is_of(self, graph: Graph, vector: np.ndarray) -> bool:
        """Whether the model still has these arrays, with the same bytes."""
        if self.graph is not graph or self.vector is not vector:
            return False
        return not any(_compare(*places) for places in self._compared)


_compare = _memcmp()
_kept: "weakref.WeakKeyDictionary[Model, dict[Any, _Kept]]" = weakref.WeakKeyDictionary()
_lock = forks.lock()
#: Maximum samples that are run at a time, and maximum passes kept for a model: of input shapes,
#: numbers of threads and algorithms.
MOST, KEPT = 256, 4


def prepared(model: "Model", graph: Graph, threads: int) -> "Inference":
    """A model's prepared forward pass; prepared again if the model has changed.

    Changes are detected by comparing all parameters and running statistics with copies: they are
    arrays that anybody may write to.

    Raises
    ------
    Unsupported
        If the engine does not support the model.
    """
    from fastcnn.backends.lanes import forced_algorithm

    vector = model.parameter_vector
    key = graph.input_shape, threads, forced_algorithm()
    with _lock:
        passes = _kept.setdefault(model, {})
        found = passes.get(key)
    if found is not None and found.is_of(graph, vector):
        return found.inference
    # Free the old pass before the next one is allocated.
    with _lock:
        passes.pop(key, None)
    del found
    statistics = running_statistics(model, graph, training=False)
    arrays = [
        vector,
        *(array for held in statistics.values() for array in held[: len(RUNNING) - 1]),
    ]
    folded = fold_batch_norm(model, graph.input_shape)
    made = _Kept(
        make_inference(folded, folded.graph(graph.input_shape), MOST, threads), graph, arrays
    )
    with _lock:
        passes[key] = made
        for old in list(passes)[:-KEPT]:
            del passes[old]
    return made.inference


def forget(model: "Model") -> None:
    """Drop a model's prepared passes, whose weights are about to change."""
    with _lock:
        _kept.pop(model, None)
