"""Reuse of memory for im2col's results."""

from contextvars import copy_context
from threading import Thread

import numpy as np

import fastcnn
from fastcnn.backends import im2col
from fastcnn.backends.alignment import LINE
from fastcnn.backends.im2col.memory import LARGE, Memory, empty, empty_like, recycling
from fastcnn.data.dataset import ArrayDataset
from fastcnn.execution import make_executor
from fastcnn.optim import SGD


def address(x: np.ndarray) -> int:
    return int(x.__array_interface__["data"][0])


def test_memory_is_used_again_when_nothing_refers_to_it() -> None:
    with recycling(Memory()):
        first = empty((LARGE,), np.float32)
        place, part = address(first), first.reshape(4, -1)[1:, ::2]
        assert place % LINE == 0
        del first
        second = empty((LARGE,), np.float32)
        assert not np.shares_memory(part, second)
        del part
        assert address(empty((LARGE,), np.float32)) == place
        assert empty((LARGE,), np.float64).nbytes == 8 * LARGE


def test_threads_never_get_the_same_memory() -> None:
    with recycling(Memory()):
        made: list[np.ndarray] = []
        contexts = [copy_context() for _ in range(4)]
        threads = [
            Thread(
                target=context.run,
                args=(lambda: made.extend(empty((LARGE,), np.uint8) for _ in range(25)),),
            )
            for context in contexts
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({address(x) for x in made}) == 100


def test_axes_keep_their_order_in_memory() -> None:
    x = np.zeros((3, 40, 50, 60), np.float32).transpose(1, 3, 0, 2)
    for memory in (None, Memory()):
        if memory is None:
            made = empty_like(x)
        else:
            with recycling(memory):
                made = empty_like(x)
        assert (made.shape, made.strides, made.dtype) == (x.shape, x.strides, x.dtype)


def test_steps_do_not_change_gradients_that_are_kept() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.random((8, 3, 32, 32), np.float32), generator.integers(0, 10, 8)
    executor = make_executor(
        fastcnn.models.resnet8(seed=0), loss=fastcnn.CrossEntropyLoss(),
        optimizer=SGD(0.1), backend="im2col", batch_size=8,
    )  # fmt: skip
    order = np.arange(8)
    _, _, gradient = executor.gradient(ArrayDataset(x, y), order)
    kept = gradient.copy()
    executor.gradient(ArrayDataset(x[::-1].copy(), y), order)
    assert (gradient == kept).all()


def test_sums_take_memory_of_earlier_ones_and_gradients_none() -> None:
    x = np.ones((2, 8, 64, 64), np.float32).swapaxes(0, 1)
    with recycling(Memory()):
        for function in (im2col.add, im2col.subtract):
            first = function(x, x)
            place, strides = first.ctypes.data, first.strides
            del first
            second = function(x, x)
            assert (second.ctypes.data, second.strides) == (place, strides) == (place, x.strides)
            del second
        assert all(grad is x for grad in im2col.add_backward(x, x, x))
        grad, other = im2col.subtract_backward(x, x, x)
        assert grad is x
        assert np.array_equal(other, -x)
