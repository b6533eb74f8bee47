"""The engine's arguments are checked before it runs: programs once, arrays every time."""

from collections import defaultdict
from contextlib import nullcontext
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

import fastcnn
from fastcnn.backends.lanes import conv_algorithm
from fastcnn.backends.lanes.convolution.direct.records import K_CONV
from fastcnn.backends.lanes.convolution.direct_batch.records import K_PRODUCT
from fastcnn.backends.lanes.convolution.phases import PIXELS, WRITTEN_AT
from fastcnn.backends.lanes.convolution.winograd2d.records import (
    K_WINOGRAD2D,
    K_WINOGRAD2D_STRIDED_ADJOINT,
    K_WINOGRAD2D_WEIGHT_GRADIENT,
)
from fastcnn.backends.lanes.convolution.winograd2d_batch.records import K_WINOGRAD2D_BATCH_OUTPUTS
from fastcnn.backends.lanes.kernel_table import KERNELS
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.linear import K_LINEAR
from fastcnn.backends.lanes.kernels.pool import FITS_CACHE, K_MAX_POOL_BACKWARD
from fastcnn.backends.lanes.lowering import elementwise
from fastcnn.backends.lanes.lowering.channel_plan import plan_channels
from fastcnn.backends.lanes.lowering.plan import Purpose
from fastcnn.backends.lanes.lowering.plan import plan as lower
from fastcnn.backends.lanes.lowering.program import Program
from fastcnn.backends.lanes.planning.grouping import Unsupported
from fastcnn.backends.lanes.reach.door import check_program, touches_of
from fastcnn.backends.lanes.reach.ranges import NAMES, Reach, check_row
from fastcnn.backends.lanes.session.batches import NO_FLOATS, Batches
from fastcnn.backends.lanes.session.engine import Engine
from fastcnn.backends.lanes.session.update import Update, UpdatePart
from fastcnn.errors import ConfigurationError, DataError, ProgramError, ShapeError
from fastcnn.execution.assigned import largest_norms
from fastcnn.execution.engine_arguments import loss_key
from fastcnn.execution.engines import make_engine, parameter_places
from fastcnn.layers import (
    BatchNorm2d,
    Conv2d,
    Flatten,
    GroupNorm,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Tanh,
    ZeroPad2d,
)
from tests.random_networks import random_case

#: Wrong values of a column: out of bounds, or overflowing 64 bits after a multiplication.
WRONG = (-1, -17, 2**31, -(2**31), 2**40, -(2**40), 2**62, -(2**62))
#: Columns that are neither offsets nor counts, so that a kernel stays in bounds for any value:
#: settings of a formula, selections whose options the check all knows, and padding before a map,
#: which is compared with its size before anything is read.
HARMLESS = {
    L.RELU, L.KEY, L.THRESHOLD, L.MODE, L.TOP, L.LEFT,
}  # fmt: skip


#: Columns that rows share with other kernels' rows, and that a kernel does not read itself.
UNREAD = {
    ("Winograd 1-D transposed", "BIAS"), ("Winograd 1-D transposed", "M"),
    ("average pool", "IN"), ("average pool", "X_TABLE"), ("max pool", "IN"),
    ("max pool", "X_TABLE"), ("bias gradient", "IN"),
    ("normalisation gradient statistics", "POSITIONS"),
    *(("normalisation gradient", name) for name in ("BIAS", "W", "EXTRA", "EXTRA_BLOCK")),
    *((f"normalisation {what}gradient sums", name) for name in ("BIAS", "W")
      for what in ("", "joined ")),
    *(("normalisation sums", name) for name in ("BATCH", "BIAS", "RUNNING", "SCALE", "W")),
    # All threads share this scratch memory.
    *((f"Winograd 2-D {name}", "Z_SLOT")
      for name in ("inputs", "products", "outputs", "gradients", "gradients of inputs")),
    *((f"{name} small maps", "Z_SLOT") for name in ("transpose", "gradient of")),
    # Only prefetched.
    *((f"Winograd 2-D {name}by phases", "X_CHANNEL") for name in ("", "gradient ")),
    # Their formulas have no settings.
    *((f"{name}{what}", "SCALE") for name in ("relu", "gelu", "sigmoid", "silu", "tanh")
      for what in ("", " gradient", " + average pool gradient")),
    *((f"scale{what}", "SCALE") for what in ("", " gradient", " parameter gradient")),
}  # fmt: skip


@cache
def programs() -> list[tuple[Program, int]]:
    """Programs of random networks with rows of every kernel, and their numbers of parameters."""
    found = []
    wide = Sequential(
        Conv2d(16, 16, 3, padding=1, seed=0), Conv2d(16, 32, 3, padding=1, seed=1), Flatten(),
        Linear(32 * 144, 3, seed=2), input_shape=(16, 12, 12),
    )  # fmt: skip
    bounded = Sequential(
        Conv2d(2, 24, 3, max_norm=0.5, seed=0), GroupNorm(2, 24), LocalResponseNorm(3),
        ZeroPad2d(1), Flatten(),
        Linear(864, 3, seed=1), input_shape=(2, 6, 6),
    )  # fmt: skip
    single = Sequential(
        Conv2d(3, 8, 3, seed=0), Conv2d(8, 16, 3, stride=2, padding=1, groups=8, seed=1), Flatten(),
        Linear(16 * 25, 3, seed=2), input_shape=(3, 11, 12),
    )  # fmt: skip
    windows = Sequential(
        Conv2d(16, 24, 3, padding=1, seed=0), ReLU(), MaxPool2d(2), Flatten(),
        Linear(24 * 20, 3, seed=1), input_shape=(16, 11, 9),
    )  # fmt: skip
    whole = Sequential(
        Conv2d(16, 24, 3, padding=1, seed=0), ReLU(), MaxPool2d(2), Flatten(),
        Linear(24 * 24, 3, seed=1), input_shape=(16, 12, 8),
    )  # fmt: skip
    edges = Sequential(
        Conv2d(16, 24, 3, padding=1, seed=0), Flatten(), Linear(24 * 90, 3, seed=1),
        input_shape=(16, 10, 9),
    )  # fmt: skip
    many = Sequential(Conv2d(128, 256, 3, padding=1, seed=0), input_shape=(128, 6, 6))
    small = Sequential(Conv2d(256, 128, 3, padding=1, seed=0), input_shape=(256, 2, 2))
    strided = Sequential(
        Conv2d(48, 16, 3, stride=2, padding=1, seed=0), Conv2d(16, 8, 1, seed=1), Flatten(),
        Linear(160, 3, seed=2), input_shape=(48, 9, 8),
    )  # fmt: skip
    phases = Sequential(Conv2d(24, 40, 3, stride=2, padding=1, seed=0), input_shape=(24, 8, 7))
    halves = Sequential(
        Conv2d(16, 32, 4, stride=2, padding=1, seed=0), Conv2d(32, 24, 5, stride=2, seed=1),
        input_shape=(16, 27, 20),
    )  # fmt: skip
    block = Residual(Sequential(Conv2d(4, 4, 3, padding=1, seed=1), BatchNorm2d(4)))
    normalised = Sequential(
        Conv2d(2, 4, 3, seed=0), BatchNorm2d(4), ReLU(), block, ReLU(), input_shape=(2, 6, 6)
    )
    strips = Sequential(
        Conv2d(16, 32, 3, padding=1, seed=0), BatchNorm2d(32), input_shape=(16, 20, 20)
    )
    dilated = Sequential(
        Conv2d(32, 32, 3, padding=2, dilation=2, seed=0), Conv2d(32, 32, 3, dilation=2, seed=1),
        input_shape=(32, 16, 16),
    )  # fmt: skip
    sequence = Sequential(
        fastcnn.Conv1d(64, 64, 3, padding=5, dilation=5, seed=0), input_shape=(64, 78)
    )
    five = Sequential(Conv2d(6, 16, 5, seed=0), input_shape=(6, 12, 12))
    usual = [
        five,
        normalised,
        strips,
        dilated,
        sequence,
        wide,
        windows,
        whole,
        edges,
        strided,
        phases,
        halves,
        many,
        small,
        single,
        bounded,
        *(make(seed=0) for make in (fastcnn.models.lenet5, fastcnn.models.report_cnn)),
    ]
    for model in usual:
        for batch in (1, 100):
            program = lower(
                model.graph(),
                batch,
                parameter_places(model),
                3,
                Purpose(
                    loss=fastcnn.CrossEntropyLoss().engine_key,
                    training=True,
                    input_gradient=True,
                    largest_norms=largest_norms(model),
                ),
            )
            found.append((program, model.parameter_vector.size))
    inference = lower(many.graph(), 100, parameter_places(many), 3, Purpose(outputs=True))
    found.append((inference, many.parameter_vector.size))
    banded = Sequential(
        Conv2d(3, 16, 3, padding=1, seed=0), BatchNorm2d(16), ReLU(),
        MaxPool2d(3, stride=2, padding=1), Conv2d(16, 64, 3, padding=1, seed=1),
        fastcnn.GlobalAvgPool2d(), Flatten(), Linear(64, 3, seed=2), input_shape=(3, 32, 24),
    )  # fmt: skip
    purpose = Purpose(loss=fastcnn.CrossEntropyLoss().engine_key, training=True)
    in_bands = lower(banded.graph(), 3, parameter_places(banded), 3, purpose)
    found.append((in_bands, banded.parameter_vector.size))
    with patch.object(elementwise, "is_own", return_value=False):
        own = Sequential(Conv2d(2, 4, 3, seed=0), Tanh(), input_shape=(2, 6, 6))
        program = lower(own.graph(), 20, parameter_places(own), 3, Purpose(backward=True))
    found.append((program, own.parameter_vector.size))
    sums = Residual(Conv2d(48, 48, 3, padding=1, seed=0))
    more = Residual(Conv2d(48, 48, 1, seed=2))
    resnet = Sequential(Conv2d(3, 48, 1, seed=1), sums, more, input_shape=(3, 8, 8))
    rows = Sequential(
        Conv2d(3, 24, 1, seed=0), Residual(Conv2d(24, 24, 7, padding=3, seed=1)), ReLU(),
        input_shape=(3, 14, 12),
    )  # fmt: skip
    for network in (resnet, bounded, rows, dilated):
        program = plan_channels(network.graph(), 5, 3, network.state_dict())
        assert program.weights is not None
        found.append((program, program.weights.size))
    for seed in range(60):
        case = random_case(seed, 300_000)
        graph, places = case.model.graph(case.x.shape[1:]), parameter_places(case.model)
        training = {"loss": loss_key(case.loss), "training": case.training, "outputs": True}
        arrays = {"backward": True, "input_gradient": True, "arrays": True}
        for build in (training, arrays, {"outputs": True}):
            try:
                program = lower(graph, case.batch, places, case.threads, Purpose(**build))
            except Unsupported:
                continue
            found.append((program, case.model.parameter_vector.size))
        try:
            program = plan_channels(graph, case.batch, case.threads, case.model.state_dict())
        except Unsupported:
            continue
        assert program.weights is not None
        found.append((program, program.weights.size))
    return found


def check(program: Program, parameters: int) -> None:
    vector = np.zeros(parameters, np.float32)
    gradient = np.zeros(program.gradient_size, np.float32)
    check_program(program, vector, gradient, {})


def test_programs_of_networks_fit() -> None:
    """No program is refused, and no arena is larger than what its program accesses."""
    for program, parameters in programs():
        check(program, parameters)
        size = program.arena_size
        program.arena_size -= 4096
        with pytest.raises(ProgramError):
            check(program, parameters)
        program.arena_size = size
    used = {int(kernel) for program, _ in programs() for kernel in program.rows[:, L.KERNEL]}
    assert used >= {number for number in KERNELS if number < L.FIRST_FORMULA}


def test_a_wrong_place_size_or_number_is_refused() -> None:
    """Each column of each row gets wrong values; those that are never refused are harmless."""
    refused: dict[tuple[int, int], bool] = defaultdict(bool)
    for program, parameters in programs():
        sizes = {
            "arena": program.arena_size, "parameters": parameters,
            "gradient": program.gradient_size,
        }  # fmt: skip
        blocks = program.blocks
        for row in program.rows:
            kernel = int(row[L.KERNEL])
            touches = touches_of(kernel)
            for column in np.flatnonzero(row):
                name = NAMES.get(int(column), "")
                # With one block, or one thread, its stride is not used.
                single = (name.endswith("BLOCK") and blocks == 1) or (
                    name.endswith("SLOT") and program.workers == 1
                )
                if column == L.KERNEL or single or refused[kernel, column]:
                    continue
                kept = int(row[column])
                for wrong in WRONG:
                    row[column] = wrong
                    try:
                        check_row(
                            Reach(row, program.tables, blocks, program.workers), touches, sizes
                        )
                    except ProgramError:
                        refused[kernel, column] = True
                row[column] = kept
    free = {
        (KERNELS[kernel].name, NAMES[column]) for (kernel, column), was in refused.items()
        if not was and column not in HARMLESS
    }  # fmt: skip
    assert free <= UNREAD, sorted(free - UNREAD)


@pytest.mark.parametrize(
    ("kernel", "column", "wrong"),
    [
        (K_CONV, L.MODE, 4),
        (K_WINOGRAD2D[False, False], L.MODE, -17),
        (K_WINOGRAD2D_BATCH_OUTPUTS, L.MODE, 4),
        (K_PRODUCT, L.MODE, L.ADDED),
        (K_WINOGRAD2D_BATCH_OUTPUTS, L.DOWN, 2),
        (K_WINOGRAD2D_WEIGHT_GRADIENT, L.DOWN, 3),
        (K_WINOGRAD2D_STRIDED_ADJOINT, L.MODE, L.ADDED),
        (K_LINEAR, L.IN, 0),
    ],
)
def test_a_way_that_a_kernel_does_not_have_is_refused(kernel: int, column: int, wrong: int) -> None:
    """Other modes would be read as the distance of a summand, a stride has its own products, and no
    inputs have no parts.
    """
    rows = [(p, row) for p, _ in programs() for row in p.rows if row[L.KERNEL] == kernel]
    assert rows
    for program, row in rows:
        changed = row.copy()
        changed[column] = wrong
        with pytest.raises(ProgramError, match=f"column {NAMES[column]} is {wrong}"):
            touched(program, changed, program.tables)


def touched(program: Program, row: np.ndarray, tables: np.ndarray) -> list[Any]:
    """What a row accesses, according to the check."""
    reach = Reach(row, tables, program.blocks, program.workers)
    return list(touches_of(int(row[L.KERNEL]))(reach))


def lowered(model: Sequential) -> Program:
    purpose = Purpose(backward=True, input_gradient=True, arrays=True)
    return lower(model.graph(), 16, parameter_places(model), 1, purpose)


def test_targets_that_are_asked_for_beforehand_stand_in_tables() -> None:
    """Tiles look up the offsets of the twelve pixels after theirs, for prefetching."""
    with conv_algorithm("direct"):
        program = lowered(Sequential(Conv2d(1, 8, 3, seed=0), input_shape=(1, 30, 30)))
    row = next(row for row in program.rows if row[L.KERNEL] == K_CONV and row[L.IN])
    entry = int(row[L.PHASE_TABLE])
    pixels, place = (int(program.tables[entry + k]) for k in (PIXELS, WRITTEN_AT))
    for more, refused in ((L.POSITION_PAD, False), (L.POSITION_PAD - 1, True)):
        # The table is the last one.
        tables = np.concatenate([program.tables, program.tables[place : place + pixels + more]])
        tables[entry + WRITTEN_AT] = len(program.tables)
        with pytest.raises(ProgramError, match="a phase's targets") if refused else nullcontext():
            touched(program, row, tables)


def test_windows_that_are_asked_for_beforehand_stand_in_tables() -> None:
    """A pixel after the last window looks up the offset of the next one."""
    program = lowered(Sequential(MaxPool2d(3, stride=2), input_shape=(2, 6, 6)))
    row = next(row for row in program.rows if row[L.KERNEL] == K_MAX_POOL_BACKWARD)
    place, starts = int(row[L.M_TABLE]), int(row[L.TAP_TABLE])
    visits = int(program.tables[starts + row[L.POSITIONS]])
    changed = row.copy()
    changed[L.M_TABLE] = len(program.tables)
    for more, refused in ((1, False), (0, True)):
        windows = program.tables[place : place + 2 * visits + more]
        with pytest.raises(ProgramError, match="M_TABLE") if refused else nullcontext():
            touched(program, changed, np.concatenate([program.tables, windows]))


@pytest.mark.parametrize("column", [L.X, L.X_CHANNEL])
def test_whole_cache_lines_are_written_past_the_cache(column: int) -> None:
    """A misaligned streaming store would kill the process."""
    program = lowered(Sequential(MaxPool2d(3, stride=2), input_shape=(2, 6, 6)))
    row = next(row for row in program.rows if row[L.KERNEL] == K_MAX_POOL_BACKWARD).copy()
    row[L.X_CHANNEL] = FITS_CACHE
    touched(program, row, program.tables)
    row[column] += 1
    with pytest.raises(ProgramError, match="whole cache lines"):
        touched(program, row, program.tables)


def test_programs_with_other_arrays_are_refused() -> None:
    program, parameters = programs()[5]
    with pytest.raises(ProgramError, match=r"row \d+ .*parameters of .* floats"):
        check_program(
            program, np.zeros(parameters - 1, np.float32), np.zeros(parameters, np.float32), {}
        )
    with pytest.raises(ProgramError, match="gradient of 0 floats"):
        check_program(program, np.zeros(parameters, np.float32), NO_FLOATS, {})
    with pytest.raises(ProgramError, match="parameters of type float64"):
        check_program(program, np.zeros(parameters), NO_FLOATS, {})


@pytest.fixture(scope="module")
def engine() -> Engine:
    model = fastcnn.models.report_cnn(seed=0)
    return make_engine(
        model,
        model.graph(),
        8,
        2,
        loss=fastcnn.CrossEntropyLoss().engine_key,
        training=True,
        outputs=True,
    )


def run(engine: Engine, **changes: Any) -> None:
    """Two steps with valid arrays, some of them replaced."""
    fitting: dict[str, Any] = {
        "images": np.zeros((16, 1, 28, 28), np.float32),
        "order": np.arange(16),
        "labels": np.zeros(16, np.int64),
        "outputs": np.zeros(48, np.float32),
    }
    options = {key: changes.pop(key) for key in ("phases", "update") if key in changes}
    engine.run(Batches(**(fitting | changes)), np.zeros(2), **options)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"order": np.arange(1, 17)}, DataError, "order must index the 16 images"),
        ({"order": -np.arange(16)}, DataError, "order must index"),
        ({"order": np.arange(8)}, ShapeError, "2 steps of 8 samples of 8"),
        ({"order": np.arange(16, dtype=np.int32)}, ShapeError, "order must be a contiguous"),
        ({"images": np.zeros((15, 1, 28, 28), np.uint8)}, DataError, "the 15 images"),
        ({"images": np.zeros((16, 1, 28, 28))}, ShapeError, "uint8 or float32, got float64"),
        ({"labels": np.full(16, 3)}, DataError, "labels must be from 0 to 2"),
        ({"labels": np.full(16, -2)}, DataError, "labels must be from 0 to 2"),
        ({"labels": np.full(16, 2**32)}, DataError, "labels must be from 0 to 2"),
        ({"labels": np.zeros(15, np.int64)}, ShapeError, "labels: 16 samples of 1 need more"),
        ({"labels": np.zeros(0, np.int64)}, ShapeError, "labels"),
        ({"targets": np.zeros(47, np.float32)}, ShapeError, "targets: 16 samples of 3"),
        ({"weights": np.ones(15)}, ShapeError, "weights: sample 15 of 15"),
        ({"weights": np.ones(16, np.float32)}, ShapeError, "weights must be"),
        ({"outputs": np.zeros(47, np.float32)}, ShapeError, "outputs: 16 samples of 3"),
        ({"outputs": np.zeros(96, np.float32)[::2]}, ShapeError, "outputs must be a contiguous"),
        ({"phases": np.array([[0, 99, 0]])}, ProgramError, "phases of rows"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(
    engine: Engine, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    run(engine)
    with pytest.raises(error, match=message):
        run(engine, **dict(changes))


def test_a_phase_of_too_few_parts_is_refused() -> None:
    """Its strips of inputs would not fit in a thread's scratch."""
    model = Sequential(Linear(1100, 80), Linear(80, 3), input_shape=(1100,))
    loss = fastcnn.CrossEntropyLoss().engine_key
    engine = make_engine(model, model.graph(), 64, 2, loss=loss, training=True)
    phases = engine.program.phases.copy()
    assert phases[:, 2].max() > 1
    phases[:, 2] = phases[:, 2].clip(max=1)
    with pytest.raises(ProgramError, match=r"transpose: \d parts in a phase of 1"):
        run(engine, images=np.zeros((64, 1100)), phases=phases)


def update(*parts: Any, slots: int = 3, size: int = 32) -> Update:
    return Update([UpdatePart(*part) for part in parts], np.zeros((slots, size), np.float32))


@pytest.mark.parametrize(
    ("made", "error", "message"),
    [
        (
            update((0, 20, "adam"), slots=1),
            ShapeError,
            r"adam: the state must be \(2, 32\) float32",
        ),
        (update((0, 20, "momentum"), size=16), ShapeError, "momentum: the state must be"),
        (update((0, 20, "adamax")), ConfigurationError, "no update called 'adamax'"),
        (update((0, 20, "sgd", (0.0,) * 12)), ConfigurationError, "no update called 'sgd'"),
        (update((0, 21, "sgd")), ConfigurationError, "parameters 0 to 21 of 20"),
        (update((-1, 5, "sgd")), ConfigurationError, "parameters -1 to 5 of 20"),
        (update((5, 4, "sgd")), ConfigurationError, "parameters 5 to 4"),
        (update((0, 8, "sgd"), (7, 9, "sgd")), ConfigurationError, "7 to 9 of 20, after 8"),
        (update((0, 20, "muon")), ConfigurationError, "a matrix of shape None"),
        (update((0, 20, "muon", (), 1.0, 0.0, 0.0, 0, (4, 6))), ConfigurationError, r"\(4, 6\)"),
    ],
)
def test_updates_that_do_not_fit_are_refused(
    made: Update, error: type[Exception], message: str
) -> None:
    update((0, 20, "nadam")).check(20)
    update((0, 20, "muon", (), 1.0, 0.0, 0.0, 0, (4, 5))).check(20)
    with pytest.raises(error, match=message):
        made.check(20)


def test_updates_are_checked_before_they_run(engine: Engine) -> None:
    with pytest.raises(ShapeError, match="adam: the state"):
        run(engine, update=update((0, 20, "adam")))
