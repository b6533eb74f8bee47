"""Functions of the lanes backend called alone: the same bits as in a network, in any layout."""

from typing import Any

import numpy as np
import pytest

from fastcnn import functional as F
from fastcnn.backends import im2col, lanes
from fastcnn.backends.lanes.session import elementwise
from fastcnn.backends.lanes.session.operation import Operation
from tests.operations.calls import ELEMENTWISE

#: Element-wise operations, which accept any memory layout.
FUNCTIONS = [(call.name, call.arguments) for call in ELEMENTWISE if not call.others]
#: Less than a vector, one, several, and several with a remainder.
SIZES = (1, 2, 15, 16, 17, 31, 48, 100, 1003)


def values(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal values, with special values where there is room."""
    made = np.random.default_rng(seed).normal(0.0, 3.0, shape).astype(np.float32)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 3e38, -3e38, -200.0])
    if made.size > 2 * special.size:
        made.ravel()[-special.size :] = special
    return made


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("name", "arguments"), FUNCTIONS)
def test_functions_of_elements_give_the_bits_of_a_network(
    name: str, arguments: dict[str, Any], size: int
) -> None:
    x, grad = values(3, size), values(3, size, seed=1)[:, ::-1]
    given = tuple(arguments.items())
    inside = [
        Operation(name, (size,), (size,), 3, given, (), backward, threads=1)
        for backward in (False, True)
    ]
    y, dx = inside[0].forward(x, {}), inside[1].backward(grad, x, {})[0]
    np.testing.assert_array_equal(getattr(lanes, name)(x, **arguments), y)
    np.testing.assert_array_equal(getattr(lanes, f"{name}_backward")(grad, x, **arguments), dx)


@pytest.mark.parametrize("size", [5, 16, 4099])
@pytest.mark.parametrize(("name", "arguments"), FUNCTIONS)
def test_functions_of_elements_on_several_threads(
    name: str, arguments: dict[str, Any], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, grad = values(size), values(size, seed=1)
    monkeypatch.setattr(elementwise, "WORTH_A_THREAD", 0)
    found = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("FASTCNN_NUM_THREADS", threads)
        y = getattr(lanes, name)(x, **arguments)
        found.append((y, getattr(lanes, f"{name}_backward")(grad, x, **arguments)))
    for other in found[1:]:
        for actual, one in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(actual, one)


def unaligned(x: np.ndarray) -> np.ndarray:
    """The same values, one byte off a multiple of four."""
    raw = np.zeros(x.nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(x.tobytes(), np.uint8)
    return raw[1:].view(np.float32).reshape(x.shape)


def frozen(x: np.ndarray) -> np.ndarray:
    """The same array, read-only."""
    other = x.copy()
    other.flags.writeable = False
    return other


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "reversed": lambda x: x[:, ::-1].copy()[:, ::-1],
    "every other": lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
    "channels last": lambda x: x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2),
    "unaligned": unaligned,
    "frozen": frozen,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_inputs_of_any_layout(layout: str) -> None:
    x, grad = values(3, 4, 6, 5), values(3, 4, 6, 5, seed=1)
    w = np.random.default_rng(2).normal(size=(2, 4, 3, 3)).astype(np.float32)
    pool = {"kernel_size": 2, "backend": "lanes"}

    def run(x: np.ndarray, grad: np.ndarray) -> list[np.ndarray]:
        return [
            F.silu(x, backend="lanes"),
            F.tanh_backward(grad, x, backend="lanes"),
            F.conv2d(x, w, backend="lanes"),
            *F.conv2d_backward(grad[:, :2, :4, :3], x, w, backend="lanes"),
            F.max_pool2d(x, **pool),
            F.max_pool2d_backward(grad[:, :, :3, :2], x, **pool),
            F.avg_pool2d_backward(grad[:, :, :3, :2], x, **pool),
        ]

    expected = run(x, grad)
    other_x, other_grad = (LAYOUTS[layout](array) for array in (x, grad))
    for actual, wanted in zip(run(other_x, other_grad), expected, strict=True):
        assert actual.flags.c_contiguous
        np.testing.assert_array_equal(actual, wanted)
    np.testing.assert_array_equal(other_x, x)
    np.testing.assert_array_equal(other_grad, grad)


@pytest.mark.parametrize(("name", "arguments"), FUNCTIONS)
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 2, 4, 4), ()])
def test_arrays_without_elements_and_without_axes(
    name: str, arguments: dict[str, Any], shape: tuple[int, ...]
) -> None:
    x, grad = np.full(shape, 0.5, np.float32), np.full(shape, 2.0, np.float32)
    for suffix, given in (("", (x,)), ("_backward", (grad, x))):
        actual = getattr(lanes, name + suffix)(*given, **arguments)
        expected = getattr(im2col, name + suffix)(*given, **arguments)
        assert actual.shape == expected.shape == shape
        assert actual.dtype == np.float32
        np.testing.assert_allclose(actual, expected, rtol=1e-6)


OPERATIONS: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any], bool]] = [
    ("conv2d", (3, 7, 6), (5, 7, 6),
     {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}, True),
    ("conv2d", (32, 4, 4), (32, 4, 4),
     {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}, True),
    ("linear", (45,), (18,), {}, True),
    ("max_pool2d", (3, 7, 6), (3, 3, 3),
     {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0)}, False),
    ("avg_pool2d", (3, 7, 6), (3, 3, 3),
     {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0), "count_include_pad": True},
     False),
    ("adaptive_avg_pool2d", (5, 6, 6), (5, 1, 1), {"output_size": (1, 1)}, False),
]  # fmt: skip


@pytest.mark.parametrize("batch", [1, 16, 37, 64])
@pytest.mark.parametrize(("name", "shape", "output", "arguments", "weighted"), OPERATIONS)
def test_results_alone_do_not_depend_on_the_number_of_threads(
    name: str,
    shape: tuple[int, ...],
    output: tuple[int, ...],
    arguments: dict[str, Any],
    weighted: bool,
    batch: int,
) -> None:
    generator = np.random.default_rng(0)
    x, grad = (generator.normal(size=(batch, *size)).astype(np.float32) for size in (shape, output))
    kernel = (3, 3) if len(shape) == 3 else ()
    sizes = {"weight": (output[0], shape[0], *kernel), "bias": (output[0],)} if weighted else {}
    parameters = {
        key: generator.normal(size=size).astype(np.float32) for key, size in sizes.items()
    }

    def run(threads: int) -> tuple[np.ndarray, ...]:
        forward, backward = (
            Operation(name, shape, output, batch, tuple(arguments.items()),
                      tuple(sizes.items()), backward, threads)
            for backward in (False, True)
        )  # fmt: skip
        return forward.forward(x, parameters), *backward.backward(grad, x, parameters)

    expected = run(1)
    for threads in (2, 3):
        for actual, wanted in zip(run(threads), expected, strict=True):
            np.testing.assert_array_equal(actual, wanted)


def test_what_a_signal_handler_runs_does_not_change_what_it_interrupts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may run between the operation and the copy of its weight gradient."""
    shapes = (2, 3, 6, 6), (2, 4, 6, 6), (3, 4, 3, 3)
    calls = [[values(*shape, seed=seed) for shape in shapes] for seed in (0, 1)]
    expected = [F.conv2d_backward(*call, padding=1, backend="lanes") for call in calls]
    inner, found = Operation._run, []

    def run(self: Operation, *arguments: Any, **arrays: Any) -> None:
        inner(self, *arguments, **arrays)
        if not found:
            found.append(None)
            found.append(F.conv2d_backward(*calls[1], padding=1, backend="lanes"))

    monkeypatch.setattr(Operation, "_run", run)
    first = F.conv2d_backward(*calls[0], padding=1, backend="lanes")
    for one, other in zip((*first, *found[1]), (*expected[0], *expected[1]), strict=True):
        np.testing.assert_array_equal(one, other)
