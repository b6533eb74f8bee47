"""A training step on the engine with a given convolution algorithm, for tests that compare them."""

from collections.abc import Callable, Sequence

import numpy as np

from fastcnn.backends.lanes import conv_algorithm
from fastcnn.data.dataset import ArrayDataset
from fastcnn.execution import make_executor
from fastcnn.execution.workers import workers
from fastcnn.layers import Model
from fastcnn.losses import CrossEntropyLoss
from fastcnn.optim import SGD


def take_step(
    model: Model,
    x: np.ndarray,
    y: np.ndarray,
    algorithm: str | None,
    threads: int,
    momentum: float = 0.0,
    lr: float = 0.5,
) -> None:
    """Train ``model`` by one step of all samples; ``algorithm`` None lets the engine choose."""
    with conv_algorithm(algorithm), workers(threads):
        executor = make_executor(
            model,
            loss=CrossEntropyLoss(),
            optimizer=SGD(lr, momentum),
            backend="lanes",
            batch_size=len(x),
            threads=threads,
        )
        executor.train_steps(ArrayDataset(x, y), np.arange(len(x)), np.array([lr]))


def check_threads(
    make: Callable[[], Model],
    x: np.ndarray,
    y: np.ndarray,
    algorithm: str | None,
    bound: float,
    *,
    threads: Sequence[int] = (1, 2, 3),
    logits: int = 0,
    **step: float,
) -> None:
    """Check that a step has the same bits on any number of threads, but not those of direct sums.

    It equals that of direct sums within ``bound``, relative to the largest parameter; as do the
    outputs of the first ``logits`` samples.
    """
    found = {}
    for name, count in (("direct", 1), *((algorithm, count) for count in threads)):
        model = make()
        take_step(model, x, y, name, count, **step)
        with conv_algorithm(name), workers(count):
            outputs = [model.logits(x[:logits])] if logits else []
        found[name, count] = [model.parameter_vector.copy(), *outputs]
    first, direct = found[algorithm, threads[0]], found["direct", 1]
    for one, other in zip(first, direct, strict=True):
        np.testing.assert_allclose(one, other, atol=bound * np.abs(other).max())
    assert (first[0] != direct[0]).any()
    for count in threads[1:]:
        for one, other in zip(first, found[algorithm, count], strict=True):
            np.testing.assert_array_equal(one, other)
