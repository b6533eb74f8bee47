"""Operations that process a block in strips: equal bits, and the order where it matters."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.backends.lanes import conv_algorithm
from fastcnn.backends.lanes.convolution.direct import rows as direct_rows
from fastcnn.backends.lanes.convolution.input_lanes import rows as input_rows
from fastcnn.backends.lanes.planning import strips
from fastcnn.backends.lanes.planning.buffers import NO_HALO, Buffer
from fastcnn.backends.lanes.planning.strips import IN_STRIPS, Access, Strips, in_turns
from fastcnn.layers import (
    Add,
    BatchNorm2d,
    Concat,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Input,
    Linear,
    Model,
    ReLU,
    Sequential,
    Tanh,
)
from tests.backends.one_step import take_step

SHAPE = (3, 13, 10)


@contextmanager
def in_strips(wanted: bool) -> Iterator[None]:
    """Operations run in many strips, or in none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strips, "STRIP", 1 if wanted else 1 << 60)
        for rows in (direct_rows, input_rows):
            patch.setattr(rows, "LEAST", 1)
        patch.setattr(input_rows, "STRIP", 1)
        yield


def by_rows() -> Sequential:
    """Kernels that read other strips, or only some pixels; gradients masked by a ReLU or not."""
    return Sequential(
        Conv2d(3, 16, 3, padding=1, seed=0), ReLU(),
        Conv2d(16, 32, 1, seed=1), ReLU(),
        Conv2d(32, 16, 3, padding=1, seed=2), ReLU(),
        Conv2d(16, 16, 3, padding=2, dilation=2, seed=3), Tanh(),
        Conv2d(16, 32, 3, stride=2, padding=1, seed=4),
        Conv2d(32, 16, 5, padding=2, bias=False, seed=5), ReLU(),
        Conv2d(16, 16, 1, stride=2, seed=6), ReLU(),
        GlobalAvgPool2d(), Flatten(), Linear(16, 5, seed=7), input_shape=SHAPE,
    )  # fmt: skip


def by_channels() -> Model:
    """Depthwise convolutions and normalisations with and without sums, in parts of a map, too."""
    x = Input(SHAPE)
    y = ReLU()(BatchNorm2d(6)(Conv2d(3, 6, 1, seed=0)(x)))
    y = Concat()(ReLU()(BatchNorm2d(6)(Conv2d(6, 6, 3, padding=1, groups=6, seed=1)(y))), y)
    z = BatchNorm2d(12)(Conv2d(12, 12, 3, padding=1, groups=12, bias=False, seed=2)(y))
    y = ReLU()(Add()(z, y))
    y = BatchNorm2d(24)(ReLU()(Conv2d(12, 24, 5, stride=2, padding=2, groups=12, seed=3)(y)))
    return Model(x, Linear(24, 5, seed=4)(Flatten()(GlobalAvgPool2d()(y))))


#: By kind: the network and the algorithm of its convolutions, if not the fastest.
NETWORKS = {"rows": (by_rows, "input_lanes"), "channels": (by_channels, None)}


def rows_in_strips(model: Model, algorithm: str | None, batch: int) -> int:
    with conv_algorithm(algorithm):
        names = fastcnn.plan(model, batch, threads=1).names
    return sum(name.endswith(IN_STRIPS) for name in names)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("batch", [16, 40])
def test_the_bits_are_the_same(kind: str, batch: int) -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((batch, *SHAPE)).astype(np.float32)
    y = generator.integers(0, 5, batch)
    make, algorithm = NETWORKS[kind]
    model = make()
    wanted = deepcopy(model)
    with in_strips(False):
        assert rows_in_strips(model, algorithm, batch) == 0
        take_step(wanted, x, y, algorithm, 1)
    with in_strips(True):
        assert rows_in_strips(model, algorithm, batch) > 60
        for threads in (1, 2, 3):
            found = deepcopy(model)
            take_step(found, x, y, algorithm, threads)
            np.testing.assert_array_equal(found.parameter_vector, wanted.parameter_vector)


def test_each_strip_waits_for_what_it_accesses() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        # The second buffer contains the third.
        places = [Buffer(1, 1, 9, NO_HALO, *place) for place in ((0, 144), (144, 144), (160, 144))]
        operations = []
        for name in "abcd":
            lows = generator.integers(0, 100, (4, 2)).tolist()
            channels = sorted(generator.integers(0, 9, 2).tolist())
            accesses = [
                [
                    Access(places[generator.integers(3)], low, low + 40, bool(writes), *channels)
                    for low, writes in zip(strip, (0, 1), strict=True)
                ]
                for strip in lows
            ]
            operations.append(Strips(name, accesses, lambda first, last: np.array([first, last])))
        order = [(name[0], int(row[0])) for name, row in in_turns(operations, 1, 1)]
        assert sorted(order) == [(name, index) for name in "abcd" for index in range(4)]
        for place, (name, index) in enumerate(order):
            mine = operations["abcd".index(name)].accesses[index]
            for other, second in order[:place]:
                theirs = operations["abcd".index(other)].accesses[second]
                conflict = any(a.meets(b, 1, 1) for a in mine for b in theirs)
                assert not conflict or (other, second) < (name, index)
    far = Buffer(1, 1, 9, NO_HALO, 144 * 3)
    near = Buffer(1, 1, 9, NO_HALO, 0, block=144)
    write, read = Access(near, 0, 16, True), Access(far, 0, 16, False)
    assert write.meets(read, 4, 1)
    assert not write.meets(read, 3, 1)
    assert not Access(near, 0, 16, False).meets(Access(near, 0, 16, False), 4, 1)
    assert not Access(near, 0, 16, True, 0, 2).meets(Access(near, 0, 16, True, 2, 4), 1, 1)


def test_pairs_of_strips_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planning large maps with hundreds of strips would take minutes."""
    compared, meets = [0], Access.meets

    def counted(*arguments: Any) -> bool:
        compared[0] += 1
        return meets(*arguments)

    maps = [Buffer(1, 300, 1, NO_HALO, 4800 * place) for place in range(7)]
    operations = [
        Strips(
            "a",
            [[Access(x, 16 * i, 16 * i + 16, x is y) for x in (source, y)] for i in range(300)],
            lambda first, last: np.array([first, last]),
        )
        for source, y in pairwise(maps)
    ]
    monkeypatch.setattr(Access, "meets", counted)
    assert len(in_turns(operations, 1, 1)) == 6 * 300
    assert compared[0] < 6 * 300 * 60


def test_where_they_are_used() -> None:
    """On large maps, by consecutive operations, where threads do not share a block."""
    model = Sequential(
        Conv2d(32, 64, 1, seed=0), ReLU(), Conv2d(64, 64, 1, seed=1), ReLU(),
        GlobalAvgPool2d(), Flatten(), Linear(64, 5, seed=2), input_shape=(32, 32, 32),
    )  # fmt: skip
    program = fastcnn.plan(model, 32, threads=2)
    counts = {
        "0: convolution + ReLU": 16,
        "2: convolution + ReLU": 32,
        "2: weight gradient": 16,
        "2: input gradient": 32,
        "0: weight gradient": 16,
    }
    for name, count in counts.items():
        assert program.names.count(name + IN_STRIPS) == count
        assert program.describe().count(name) == 1
    assert sum(name.endswith(IN_STRIPS) for name in program.names) == sum(counts.values())
    assert not any(name.endswith(IN_STRIPS) for name in fastcnn.plan(model, 48, threads=2).names)
