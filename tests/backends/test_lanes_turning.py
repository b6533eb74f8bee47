"""Blocks whose backward pass directly follows their forward pass: equal bits, less memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.linear import K_LINEAR, K_LINEAR_JOIN
from fastcnn.backends.lanes.planning import planner
from fastcnn.data.dataset import ArrayDataset
from fastcnn.execution import make_executor
from fastcnn.execution.lanes import LanesExecutor
from fastcnn.execution.workers import workers
from fastcnn.layers import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Input,
    LayerNorm,
    Linear,
    MaxPool2d,
    Model,
    PReLU,
    ReLU,
    Sequential,
    Split,
    Subtract,
    Tanh,
    Unflatten,
)
from tests.backends.one_step import take_step
from tests.random_networks import random_case

SHAPE = (2, 12, 11)


@contextmanager
def turning(wanted: bool) -> Iterator[None]:
    """Blocks turn wherever that is possible, or nowhere."""
    with pytest.MonkeyPatch.context() as patch:
        if wanted:
            patch.setattr(planner, "LEAVES_CACHE", 0)
            patch.setattr(planner, "OUTPUTS_PER_WEIGHT", 0)
        else:
            patch.setattr(planner, "LEAVES_CACHE", 1 << 60)
            patch.setattr(planner.Planner, "_turns", lambda self, index: False)
        yield


def branched() -> Model:
    x = Input(SHAPE)
    y = ReLU()(Conv2d(2, 6, 3, padding=1, seed=0)(x))
    first, second = Split((2, 4))(y)
    joined = Concat()(ReLU()(Conv2d(2, 3, 1, seed=1)(first)), second, y)
    total = ReLU()(Add()(Conv2d(13, 6, 3, padding=1, seed=2)(joined), y))
    return Model(x, Linear(6, 4, seed=3)(Flatten()(GlobalAvgPool2d()(total))))


def handed_back() -> Model:
    """A sum's gradient is passed on unchanged to a map separated by batch normalisation."""
    x = Input(SHAPE)
    y = Conv2d(2, 6, 3, padding=1, seed=0)(x)
    total = Add()(Tanh()(BatchNorm2d(6)(y)), y)
    last = Conv2d(6, 6, 3, padding=1, seed=1)(total)
    return Model(x, Linear(6, 4, seed=2)(Flatten()(GlobalAvgPool2d()(last))))


def handed_to_linear() -> Model:
    """A sum's gradient is that of linear layers, whose weight gradients are computed last."""
    x = Input(SHAPE)
    y = Linear(264, 20, seed=0)(Flatten()(x))
    return Model(x, Linear(20, 4, seed=2)(Add()(Linear(20, 20, seed=1)(Tanh()(y)), y)))


NETWORKS = {
    "branched": branched,
    "handed back": handed_back,
    "handed to linear": handed_to_linear,
}


def network(kind: str) -> Model:
    if kind in NETWORKS:
        return NETWORKS[kind]()
    conv, head = Conv2d(2, 8, 3, padding=1, seed=0), [Flatten(), Linear(8 * 30, 4, seed=5)]
    layers: dict[str, list[Any]] = {
        "pooled": [conv, ReLU(), MaxPool2d(2), Dropout(0.3)],
        "separable": [conv, ReLU(), Conv2d(8, 8, 3, padding=1, groups=8, seed=1), ReLU(),
                      Conv2d(8, 8, 1, seed=2), ReLU(), AvgPool2d(2)],
        "linear": [conv, MaxPool2d(2), PReLU(8), Flatten(), Linear(240, 240, seed=2),
                   Tanh(), LayerNorm(240)],
        "normalised": [conv, BatchNorm2d(8), ReLU(), Conv2d(8, 8, 3, padding=1, seed=1), Tanh(),
                       MaxPool2d(2)],
        "transposed": [conv, MaxPool2d(2), ConvTranspose2d(8, 8, 2, stride=2, seed=1), ReLU(),
                       Conv2d(8, 8, 3, stride=2, padding=1, seed=2), ReLU()],
    }  # fmt: skip
    if kind == "linear":
        head = head[1:]
    return Sequential(*layers[kind], *head, input_shape=SHAPE)


def turns(model: Model) -> bool:
    program = fastcnn.plan(model, 64, threads=1)
    linear = [row for row in program.rows if row[L.KERNEL] == K_LINEAR]
    return all(row[L.BY_BLOCK] for row in linear)


@pytest.mark.parametrize(
    "kind", ["pooled", "separable", "linear", "normalised", "transposed", *NETWORKS]
)
def test_the_bits_are_the_same(kind: str) -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((53, *SHAPE)).astype(np.float32)
    y = generator.integers(0, 4, 53)
    model = network(kind)
    wanted = deepcopy(model)
    with turning(False):
        assert not turns(model)
        take_step(wanted, x, y, None, 1)
    with turning(True):
        assert turns(model)
        for threads in (1, 2, 3):
            found = deepcopy(model)
            take_step(found, x, y, None, threads)
            np.testing.assert_array_equal(found.parameter_vector, wanted.parameter_vector)


def test_memory_does_not_grow_with_the_batch() -> None:
    """For a large network by default, except for each block's partial gradients."""
    model = Sequential(
        Conv2d(3, 32, 3, padding=1, seed=0), ReLU(), Conv2d(32, 32, 1, seed=1), ReLU(),
        GlobalAvgPool2d(), Flatten(), Linear(32, 10, seed=2), input_shape=(3, 32, 32),
    )  # fmt: skip
    small, large = (fastcnn.plan(model, batch, threads=1) for batch in (16, 1024))
    assert turns(model)
    assert large.bytes < 1.5 * small.bytes + 64 * 4 * 3 * model.num_parameters


def test_small_networks_read_their_weights_once() -> None:
    assert not turns(fastcnn.models.lenet5(seed=0))


def random_graph(seed: int) -> Model:
    """Layers and sums of any existing maps, each of which may be read again much later."""
    r = np.random.default_rng(seed)
    x = Input((4, 8, 8))
    maps = [Conv2d(4, 4, 3, padding=1, seed=seed)(x)]
    for k in range(r.integers(4, 12)):
        one, other = (maps[r.integers(len(maps))] for _ in range(2))
        made = {
            0: lambda k=k, x=maps[-1]: Conv2d(4, 4, 3, padding=1, seed=k)(x),
            1: lambda k=k, x=maps[-1]: Conv2d(4, 4, 1, seed=k)(ReLU()(x)),
            2: lambda x=one: Tanh()(x),
            3: lambda x=one: BatchNorm2d(4)(x),
            4: lambda x=one, y=other: Add()(x, y),
            5: lambda x=one, y=other: ReLU()(Add()(BatchNorm2d(4)(x), y)),
            6: lambda x=one, y=other: Subtract()(x, y),
            7: lambda x=one: Concat()(*reversed(Split((1, 3))(x))),
            8: lambda k=k, x=one, y=other: Conv2d(8, 4, 1, seed=k)(Concat()(x, y)),
            9: lambda k=k, x=one: Unflatten(1, (4, 8, 8))(Linear(256, 256, seed=k)(Flatten()(x))),
            10: lambda x=maps[-1]: MaxPool2d(3, stride=1, padding=1)(x),
            11: lambda x=one: Dropout(0.2)(x),
        }
        maps.append(made[int(r.integers(len(made)))]())
    total = maps[-1]
    for one in maps[:-1]:
        if r.random() < 0.3:
            total = Add()(one, total)
    return Model(x, Linear(4, 4, seed=5)(Flatten()(GlobalAvgPool2d()(total))))


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs(seed: int) -> None:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((70, 4, 8, 8)).astype(np.float32)
    y = generator.integers(0, 4, 70)
    found = []
    for wanted, threads in ((False, 1), (True, 1), (True, 3)):
        model = random_graph(seed)
        with turning(wanted):
            take_step(model, x, y, None, threads, lr=0.1)
        found.append(model.parameter_vector)
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_random_networks(seed: int) -> None:
    case = random_case(seed)
    samples = ArrayDataset(case.x, case.y, case.weights)
    # Two steps, of which the second has a few samples.
    count = 2 * case.batch - (case.batch // 3 if case.batch > 3 else 0)
    found, grouped = [], False
    for wanted in (False, True):
        model = deepcopy(case.model)
        with turning(wanted), workers(case.threads):
            executor = make_executor(
                model, loss=case.loss, optimizer=case.optimizer, backend="lanes",
                batch_size=case.batch, seed=case.seed, threads=case.threads,
                clip_norm=case.clip_norm,
            )  # fmt: skip
            executor.train_steps(samples, np.arange(count), np.full(2, 1e-3))
            if isinstance(executor, LanesExecutor):
                grouped |= K_LINEAR_JOIN in executor.engine().program.rows[:, L.KERNEL]
        found.append(model.parameter_vector)
    # Groups of a layer's many inputs have separate sums, but not block by block.
    np.testing.assert_allclose(*found, rtol=0, atol=1e-5 if grouped else 0)
