"""Weight gradients as direct sums over pixels: tiles of adjacent taps, and of others."""

import numpy as np
import pytest

import fastcnn
from fastcnn.backends.lanes import conv_algorithm
from fastcnn.backends.lanes.convolution.direct.records import K_WEIGHT_GRADIENT
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.record import clipped
from fastcnn.backends.lanes.lowering.plan import Purpose
from fastcnn.backends.lanes.lowering.plan import plan as lower
from fastcnn.backends.lanes.lowering.program import Program
from fastcnn.backends.lanes.reach.door import touches_of
from fastcnn.backends.lanes.reach.ranges import Reach
from fastcnn.codegen.target import blocking
from fastcnn.data.dataset import ArrayDataset
from fastcnn.errors import ProgramError
from fastcnn.execution import make_executor
from fastcnn.execution.engines import parameter_places
from fastcnn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from fastcnn.losses import CrossEntropyLoss
from fastcnn.optim import SGD
from tests.backends.one_convolution import Convolution, Pair
from tests.backends.one_step import take_step


@pytest.mark.parametrize(
    ("count", "inputs", "outputs", "size", "kernel", "stride", "dilation", "groups"),
    [
        (17, 1, 5, (9, 10), (3, 3), (1, 2), (1, 1), 1),
        # More pixels than are summed at a time, in rows and in parts of them.
        (5, 4, 14, (23, 12), (3, 3), (1, 1), (1, 1), 2),
        (5, 5, 7, (11, 70), (5, 5), (1, 1), (1, 1), 1),
        (17, 2, 6, (40, 41), (7, 7), (2, 2), (1, 1), 1),
        # Taps some of whose columns are left out, or whose number is not a multiple of a tile's.
        (17, 3, 4, (9, 10), (3, 3), (1, 1), (2, 2), 1),
        (4, 2, 3, (4, 12), (1, 3), (1, 1), (1, 1), 1),
        (16, 3, 9, (9, 10), (2, 4), (1, 1), (2, 1), 1),
        # More taps than are summed at a time.
        (3, 9, 7, (12, 13), (4, 6), (2, 1), (1, 1), 1),
        (3, 7, 4, (13, 12), (5, 5), (2, 2), (1, 1), 1),
        (40, 1, 2, (3, 4), (1, 1), (1, 1), (1, 1), 1),
    ],
)
def test_against_float64(
    count: int, inputs: int, outputs: int, size: Pair, kernel: Pair, stride: Pair, dilation: Pair,
    groups: int,
) -> None:  # fmt: skip
    sizes = (count, inputs, outputs, size, kernel)
    made = Convolution(*sizes, stride, (1, 1), dilation, groups)
    made.check(made.by("direct"))


@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "size", "stride"),
    [
        (1, 5, (3, 3), (12, 15), 1),
        (2, 4, (3, 3), (9, 8), 1),
        (1, 2, (6, 3), (12, 12), 1),
        (1, 3, (5, 5), (14, 11), 1),
        (2, 3, (4, 5), (13, 12), 1),
        # More taps than are summed at a time.
        (7, 2, (7, 5), (12, 13), 1),
        # Windows that share no pixels, or for which there are no tiles.
        (3, 2, (2, 2), (9, 9), 1),
        (2, 2, (1, 5), (7, 12), 1),
        (2, 3, (7, 7), (13, 12), 1),
        (2, 3, (3, 3), (13, 16), 2),
        (2, 3, (5, 5), (15, 17), 2),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_through_pooling(
    inputs: int,
    outputs: int,
    kernel: tuple[int, int],
    size: tuple[int, int],
    stride: int,
    is_first: bool,
) -> None:
    """Odd maps have pixels outside all windows; biases keep some windows closed."""

    def network() -> Sequential:
        h, w = ((n + 2 - k) // stride + 1 for n, k in zip(size, kernel, strict=True))
        model = Sequential(
            *[] if is_first else [Conv2d(inputs, inputs, 1, seed=1)],
            Conv2d(inputs, outputs, kernel, stride, padding=1, seed=0), ReLU(), MaxPool2d(2),
            Flatten(), Linear(outputs * (h // 2) * (w // 2), 5, seed=4),
            input_shape=(inputs, *size),
        )  # fmt: skip
        bias = model.state_dict()[f"{int(not is_first)}.bias"]
        bias -= 0.3
        return model

    generator = np.random.default_rng(0)
    x = generator.standard_normal((37, inputs, *size)).astype(np.float32)
    y = generator.integers(0, 5, 37)
    right = network()
    with conv_algorithm("direct"):
        names = fastcnn.plan(network(), 37).names
    chooses = stride == 1 and kernel[1] in (3, 5) and kernel[0] > 2
    through = f"{int(not is_first)}: weight gradient through pooling" in names
    assert through == (is_first or chooses)
    executor = make_executor(
        right, loss=CrossEntropyLoss(), optimizer=SGD(0.5), backend="im2col", batch_size=37
    )
    executor.train_steps(ArrayDataset(x, y), np.arange(37), np.array([0.5]))
    made = []
    for threads in (1, 2, 4):
        engine = network()
        take_step(engine, x, y, "direct", threads)
        made.append(engine.parameter_vector)
        np.testing.assert_array_equal(made[-1], made[0])
    np.testing.assert_allclose(made[0], right.parameter_vector, rtol=0, atol=2e-6)


def backward(model: Sequential) -> Program:
    purpose = Purpose(backward=True, arrays=True)
    return lower(model.graph(), 16, parameter_places(model), 1, purpose)


def test_where_pixels_are_chosen() -> None:
    """Selecting pixels pays for kernels of three columns, and of five with few channels."""

    def through(inputs: int, outputs: int, kernel: int, padding: int = 0) -> bool:
        model = Sequential(
            Conv2d(2, inputs, 1), Conv2d(inputs, outputs, kernel, padding=padding), ReLU(),
            MaxPool2d(2),
            input_shape=(2, 12, 12),
        )  # fmt: skip
        return "1: weight gradient through pooling" in backward(model).names

    assert through(6, 16, 5)
    assert through(8, 12, 3)
    assert not through(32, 64, 5)
    assert not through(32, 64, 3)
    # Winograd's rows need no padding above and below.
    assert not through(6, 16, 5, 2)


@pytest.mark.parametrize(
    ("inputs", "outputs", "chooses", "sends"),
    [(24, 17, True, False), (24, 40, False, False), (8, 12, False, True)],
)
def test_where_no_row_sends_gradients_to_winners(
    inputs: int, outputs: int, chooses: bool, sends: bool
) -> None:
    """If both gradients read windows, each by its own algorithm, no row needs all pixels."""
    convolution = Conv2d(inputs, outputs, 3, padding=1)
    layers = Conv2d(2, inputs, 1), convolution, ReLU(), MaxPool2d(2)
    names = backward(Sequential(*layers, input_shape=(2, 16, 16))).names
    assert ("1: gradients of pooling and bias" in names) == sends
    assert ("1: weight gradient through pooling" in names) == chooses


@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "padding"),
    [
        (6, 16, 5, 0),
        (13, 6, 5, 2),
        (8, 12, 3, 0),
        (8, 12, 3, 1),
        (4, 5, 3, 1),
        (2, 4, 5, 2),
        # Each gradient reads windows by its own algorithm.
        (16, 17, 3, 1),
        (24, 18, 3, 1),
    ],
)
def test_through_pooling_by_what_the_engine_chooses(
    inputs: int, outputs: int, kernel: int, padding: int
) -> None:
    def network() -> Sequential:
        side = (13 + 2 * padding - kernel) // 2
        return Sequential(
            Conv2d(2, inputs, 1, seed=2), Conv2d(inputs, outputs, kernel, padding=padding, seed=0),
            ReLU(), MaxPool2d(2), Flatten(), Linear(outputs * side * side, 5, seed=4),
            input_shape=(2, 12, 12),
        )  # fmt: skip

    generator = np.random.default_rng(0)
    x = generator.standard_normal((20, 2, 12, 12)).astype(np.float32)
    y = generator.integers(0, 5, 20)
    engine, right = network(), network()
    take_step(engine, x, y, None, 2)
    executor = make_executor(
        right, loss=CrossEntropyLoss(), optimizer=SGD(0.5), backend="im2col", batch_size=20
    )
    executor.train_steps(ArrayDataset(x, y), np.arange(20), np.array([0.5]))
    made, wanted = engine.parameter_vector, right.parameter_vector
    np.testing.assert_allclose(made, wanted, rtol=0, atol=5e-6)


@pytest.mark.parametrize(
    ("kernel", "stride", "wanted"),
    [(3, 1, (3, 3)), (3, 2, (2, 6)), (5, 2, (2, 6)), (7, 1, (2, 6)), (2, 1, (2, 6))],
)
def test_descriptions_name_the_tile(kernel: int, stride: int, wanted: tuple[int, int]) -> None:
    """Kernels without pixel selection have tiles of single taps through pooling."""
    model = Sequential(
        Conv2d(1, 8, kernel, stride, padding=1), ReLU(), MaxPool2d(2), input_shape=(1, 16, 16)
    )
    program = fastcnn.plan(model, 16, threads=1)
    lines = program.describe().splitlines()
    cells = lines[lines.index(" 0: weight gradient through pooling") + 1].split()
    if stride == 1 and kernel == 3:
        rows, columns = (min(pair) for pair in zip(wanted, blocking().windowed, strict=True))
        assert f"1x{rows * columns}" in cells
    else:
        assert clipped(wanted, blocking().gradients) in cells


def test_taps_that_do_not_lie_as_pixels_are_refused() -> None:
    model = Sequential(Conv2d(1, 2, 5, seed=0), ReLU(), MaxPool2d(2), input_shape=(1, 12, 12))
    program = backward(model)
    (row,) = (row for row in program.rows if row[L.KERNEL] == K_WEIGHT_GRADIENT)
    touches = touches_of(K_WEIGHT_GRADIENT)
    list(touches(Reach(row, program.tables, program.blocks, program.workers)))
    for column, wrong in [
        (L.KERNEL_ROWS, 4), (L.KERNEL_ROWS, 1), (L.KERNEL_ROWS, 25), (L.ALONG, 2),
        (L.X_ROW, 16), (L.MODE, L.PLAIN), (L.IN, 1),
    ]:  # fmt: skip
        changed = row.copy()
        changed[column] = wrong
        with pytest.raises(ProgramError, match="not laid out as pixels"):
            list(touches(Reach(changed, program.tables, program.blocks, program.workers)))
