"""What the engine is given is checked before it runs: programs once, arrays every time."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.backends.lanes import layout as L
from fastcnn.backends.lanes.door import check_program
from fastcnn.backends.lanes.engine import NO_FLOATS, Engine
from fastcnn.backends.lanes.grouping import Unsupported
from fastcnn.backends.lanes.lowering import lower
from fastcnn.backends.lanes.program import Program
from fastcnn.backends.lanes.reach import REACHES
from fastcnn.errors import ConfigurationError, DataError, FastcnnError, ProgramError, ShapeError
from fastcnn.execution.engine_arguments import loss_key
from fastcnn.execution.lanes import make_engine, parameter_places
from fastcnn.layers import Conv2d, Flatten, Linear, Sequential
from tests.random_networks import random_case

#: Columns that are no place, size or number of anything: whatever stands there, a kernel stays
#: inside its arrays.
FREE = (L.RELU, L.KEY, L.THRESHOLD, L.LEFT)
#: Values that a column gets: outside of every array, or outside of 64 bits with what it is
#: multiplied by.
WRONG = (-1, -17, 2**20, 2**31, -(2**31), 2**40, -(2**40), 2**62, -(2**62))


def programs(count: int) -> list[tuple[Program, int]]:
    """Programs of random networks, with their numbers of parameters."""
    found = []
    for seed in range(count):
        case = random_case(seed, 300_000)
        graph, places = case.model.graph(case.x.shape[1:]), parameter_places(case.model)
        training = {"loss": loss_key(case.loss), "training": case.training, "outputs": True}
        arrays = {"backward": True, "input_gradient": True, "arrays": True}
        pixels = {"outputs": True, "pixels": True}
        for build in (training, arrays, {"outputs": True}, pixels):
            batch, threads = (1, 1) if build is pixels else (case.batch, case.threads)
            try:
                program = lower(graph, batch, places, threads, **build)
            except Unsupported:
                continue
            found.append((program, case.model.parameter_vector.size))
    return found


def check(program: Program, parameters: int) -> None:
    vector = np.zeros(parameters, np.float32)
    gradient = NO_FLOATS if program.output_gradient is None else vector
    check_program(program, vector, gradient, {})


def test_every_kernel_says_how_far_it_reaches() -> None:
    numbers = {value for name, value in vars(L).items() if name.startswith("K_")}
    assert set(REACHES) == numbers


def test_programs_of_networks_fit_exactly() -> None:
    """No program is refused; with one float less in the arena or the parameters, most are."""
    seen: Counter[int] = Counter()
    for program, parameters in programs(40):
        check(program, parameters)
        seen += Counter(program.rows[:, L.KERNEL].tolist())
        program.arena_size -= L.POSITION_PAD * 4096
        with pytest.raises(ProgramError):
            check(program, parameters)
    assert set(seen) == set(REACHES), "networks that use every kernel"


def test_every_column_that_addresses_is_checked() -> None:
    """A wrong value in a column is refused, or the kernel's source does not read the column."""
    refused: Counter[int] = Counter()
    known: set[tuple[int, int]] = set()
    for program, parameters in programs(60):
        for row in program.rows:
            kernel = int(row[L.KERNEL])
            for column in range(L.WIDTH):
                if (kernel, column) in known and column != L.KERNEL:
                    continue
                kept = int(row[column])
                for wrong in WRONG:
                    row[column] = wrong
                    try:
                        check(program, parameters)
                    except ProgramError:
                        refused[kernel] += 1
                        known.add((kernel, column))
                row[column] = kept
    assert set(refused) == set(REACHES)
