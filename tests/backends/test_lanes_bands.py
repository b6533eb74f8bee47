"""Samples of small batches in bands of rows: the same step as of whole samples."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import fastcnn
from fastcnn.backends.graph import Graph
from fastcnn.backends.lanes.planning import bands
from fastcnn.data.dataset import ArrayDataset
from fastcnn.execution import make_executor
from fastcnn.layers import (
    Add,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Concat,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    GroupNorm,
    Input,
    Linear,
    MaxPool1d,
    MaxPool2d,
    Model,
    PReLU,
    ReLU,
    Sequential,
    Split,
    Tanh,
    Upsample,
)
from fastcnn.losses import CrossEntropyLoss
from fastcnn.optim import SGD

SHAPE = (3, 16, 10)


@contextmanager
def in_bands(wanted: bool) -> Iterator[None]:
    """Samples are divided wherever possible, or never."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "LEAST", 0 if wanted else 1 << 60)
        patch.setattr(bands, "MOST", 1e9)
        yield


def windows() -> Sequential:
    """Windows that reach into adjacent bands: overlapping, strided, dilated, even, unsymmetric."""
    return Sequential(
        Conv2d(3, 16, 3, padding=1, seed=0), Tanh(),
        Conv2d(16, 16, (7, 3), stride=(2, 1), padding=(3, 1), seed=1), Tanh(),
        Conv2d(16, 24, (3, 1), padding=(2, 0), dilation=(2, 1), bias=False, seed=2), Tanh(),
        Conv2d(24, 24, (4, 3), padding="same", groups=24, seed=3), Tanh(),
        MaxPool2d(3, stride=2, padding=1),
        Conv2d(24, 8, (2, 1), stride=(2, 1), seed=4), Tanh(),
        Flatten(), Linear(8 * 2 * 5, 4, seed=5), input_shape=SHAPE,
    )  # fmt: skip


def normalised() -> Model:
    """Batch normalisation, sums, parts and averages; a layer that needs whole samples."""
    x = Input(SHAPE)
    y = ReLU()(BatchNorm2d(16)(Conv2d(3, 16, 3, padding=1, bias=False, seed=0)(x)))
    z = BatchNorm2d(16)(Conv2d(16, 16, 3, padding=1, seed=1)(y))
    y = PReLU(16)(Add()(z, y))
    first, second = Split([4, 12])(y)
    y = Concat()(second, AvgPool2d(1)(first), z)
    y = AvgPool2d(2)(BatchNorm2d(32)(Conv2d(32, 32, 5, padding=2, seed=2)(y)))
    z = GroupNorm(4, 32)(y)
    y = Concat()(GlobalAvgPool2d()(y), GlobalAvgPool2d()(ReLU()(z)))
    return Model(x, Linear(64, 4, seed=3)(Flatten()(y)))


def frozen() -> Sequential:
    """A first layer that is not trained."""
    model = Sequential(
        Conv2d(3, 16, 3, padding=1, seed=0), ReLU(),
        Conv2d(16, 16, 3, padding=1, seed=1), Tanh(),
        GlobalAvgPool2d(), Flatten(), Dropout(0.5), Linear(16, 4, seed=2), input_shape=SHAPE,
    )  # fmt: skip
    model[0].requires_grad = False
    return model


def undivided() -> Model:
    """Windows of the map's size that are not averages of all pixels; rows of windows that overlap.

    One window begins in the padding, and the sum of another is divided by a given number.
    """
    x = Input(SHAPE)
    y = Tanh()(Conv2d(3, 16, 3, padding=1, seed=0)(x))
    pools = AvgPool2d((16, 10), padding=(1, 0)), AvgPool2d((16, 10), divisor_override=40)
    z = Tanh()(ConvTranspose2d(16, 8, 2, stride=2, dilation=3, seed=1)(y))
    y = Concat()(*(pool(y) for pool in pools), GlobalAvgPool2d()(z))
    return Model(x, Linear(40, 4, seed=2)(Flatten()(y)))


def segmentation() -> Model:
    """Maps that grow again, and are the output."""
    x = Input(SHAPE)
    y = Tanh()(Conv2d(3, 16, 3, padding=1, seed=0)(x))
    z = Tanh()(Conv2d(16, 24, 3, padding=1, seed=1)(MaxPool2d(2)(y)))
    w = Upsample(SHAPE[1:])(AvgPool2d((2, 1))(z))
    z = Concat()(ConvTranspose2d(24, 8, 2, stride=2, seed=2)(z), y, w)
    return Model(x, Conv2d(48, 4, 3, padding=1, seed=3)(z))


def united() -> Model:
    """A sum of maps in four and in six bands."""
    x = Input((3, 12, 10))
    y = Tanh()(Conv2d(3, 16, (7, 3), padding=(3, 1), seed=0)(x))
    z = Upsample((12, 10))(MaxPool2d((2, 1))(Tanh()(Conv2d(3, 16, 1, seed=1)(x))))
    y = MaxPool2d((4, 1))(Tanh()(Conv2d(16, 16, (3, 1), padding=(1, 0), seed=2)(Add()(y, z))))
    return Model(x, Linear(480, 4, seed=3)(Flatten()(y)))


def without_padding() -> Sequential:
    """Bands of the input overlap; the last one has rows beyond the map."""
    return Sequential(
        Conv2d(3, 16, (3, 2), seed=0), PReLU(16), MaxPool2d(2),
        Conv2d(16, 24, (3, 2), stride=(1, 2), bias=False, seed=1), Tanh(),
        Flatten(), Linear(24 * 5 * 2, 4, seed=2), input_shape=SHAPE,
    )  # fmt: skip


def one_row() -> Sequential:
    """Maps of one row, in bands of columns that are united in pairs."""
    return Sequential(
        Conv2d(3, 16, (1, 9), padding=(0, 4), seed=0), BatchNorm2d(16), Tanh(),
        MaxPool2d((1, 2)), Conv2d(16, 24, (1, 7), padding=(0, 3), seed=1), Tanh(),
        GlobalAvgPool2d(), Flatten(), Linear(24, 4, seed=2), input_shape=(3, 1, 32),
    )  # fmt: skip


def sequences() -> Sequential:
    """The same for layers of sequences."""
    return Sequential(
        Conv1d(3, 16, 9, padding=4, seed=0), BatchNorm1d(16), Tanh(),
        MaxPool1d(2), Conv1d(16, 24, 7, padding=3, seed=1), Tanh(),
        Flatten(), Linear(24 * 16, 4, seed=2), input_shape=(3, 32),
    )  # fmt: skip


def one_row_without_padding() -> Sequential:
    return Sequential(
        Conv2d(3, 16, (1, 5), stride=(1, 2), seed=0), Tanh(), AvgPool2d((1, 3), stride=(1, 2)),
        Conv2d(16, 24, (1, 3), dilation=(1, 2), seed=1), Tanh(),
        Flatten(), Linear(24 * 7, 4, seed=2), input_shape=(3, 1, 50),
    )  # fmt: skip


NETWORKS = {
    make.__name__: make
    for make in (
        windows, normalised, frozen, undivided, segmentation,
        without_padding, one_row, sequences, one_row_without_padding,
    )
}  # fmt: skip


def after_steps(model: Model, batch: int, count: int, threads: int) -> dict[str, np.ndarray]:
    """The state after two steps; the last one has ``count`` samples."""
    rng = np.random.default_rng(0)
    shape = model.input_shape
    assert shape is not None
    x = rng.standard_normal((batch + count, *shape)).astype(np.float32)
    places = model.output_shape(shape)[1:]
    samples = ArrayDataset(x, rng.integers(0, 4, (batch + count, *places)))
    executor = make_executor(
        model,
        loss=CrossEntropyLoss(),
        optimizer=SGD(0.1, 0.9),
        backend="lanes",
        batch_size=batch,
        threads=threads,
    )
    results = executor.train_steps(samples, np.arange(batch + count), np.full(2, 0.1))
    return {"losses": results.losses} | {
        name: value.copy() for name, value in model.state_dict().items()
    }


def names(model: Model, batch: int) -> list[str]:
    return fastcnn.plan(model, batch, threads=1).names


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("batch", "count"), [(1, 1), (2, 1), (3, 3), (4, 3), (5, 2), (8, 8)])
def test_steps_are_those_of_whole_samples(name: str, batch: int, count: int) -> None:
    make, found = NETWORKS[name], []
    with in_bands(True):
        assert any(row.endswith(": split") for row in names(make(), batch))
        found = [after_steps(make(), batch, count, threads) for threads in (1, 2, 3)]
    with in_bands(False):
        assert not any(row.endswith(": split") for row in names(make(), batch))
        whole = after_steps(make(), batch, count, 1)
    check_same(found[0], whole)
    for key, value in found[0].items():
        for other in found[1:]:
            np.testing.assert_array_equal(value, other[key], err_msg=key)


def check_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    for key, value in wanted.items():
        bound = 2e-5 * max(np.abs(value).max(), 1e-3)
        np.testing.assert_allclose(found[key], value, rtol=0, atol=bound, err_msg=key)


@pytest.mark.parametrize("make", [without_padding, one_row_without_padding])
@pytest.mark.parametrize("nodes", [2, 3, 4])
@pytest.mark.parametrize("wanted", [2, 3, 4, 5, 7, 14])
def test_any_number_of_bands_may_overlap(
    make: Callable[[], Model], nodes: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to a convolution, an activation or a pooling; some leave rows beyond the map."""
    with in_bands(False):
        whole = after_steps(make(), 1, 1, 1)
    sizes: list[int] = []

    def cost(
        graph: Graph, readers: bands.Readers, costs: list[float], division: bands.Division
    ) -> float:
        places = division.places
        chosen = len(places) == nodes and places[0].bands == wanted and division.overlapping
        if chosen:
            sizes.append(places[nodes - 1].size)
        return 0.0 if chosen else np.inf

    monkeypatch.setattr(bands, "_cost_in_bands", cost)
    with in_bands(True):
        found = after_steps(make(), 1, 1, 2)
        assert bool(sizes) == any(row.endswith(": split") for row in names(make(), 1))
    assert sizes or wanted > 3
    check_same(found, whole)


def test_inputs_in_different_bands_are_united_in_whole_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of four and six bands, pairs and triples."""
    with in_bands(False):
        whole = after_steps(united(), 1, 1, 1)
    numbers: set[int] = set()

    def cost(
        graph: Graph, readers: bands.Readers, costs: list[float], division: bands.Division
    ) -> float:
        found = {place.bands for place in division.places.values()}
        if 12 not in found or division.overlapping:
            return np.inf
        numbers.update(found)
        return 0.0

    monkeypatch.setattr(bands, "_cost_in_bands", cost)
    with in_bands(True):
        found = after_steps(united(), 1, 1, 2)
    assert numbers == {12, 6, 4, 2}
    check_same(found, whole)


def test_bands_are_chosen_where_they_save_time() -> None:
    """Large maps of a few samples; not of many samples, nor of small networks."""
    large, small = fastcnn.models.resnet8(seed=0), fastcnn.models.report_cnn(seed=0)
    for batch, model, wanted in ((1, large, True), (8, large, True), (1, small, False)):
        assert any(row.endswith(": split") for row in names(model, batch)) == wanted
    for batch in (9, 16, 64):
        assert not any(row.endswith(": split") for row in names(large, batch))
    with in_bands(False):
        whole = fastcnn.plan(large, 2, threads=1)
    banded = fastcnn.plan(large, 2, threads=1)
    assert sum(cost.bytes for cost in banded.costs()) < 0.5 * sum(c.bytes for c in whole.costs())


def test_operations_are_counted_in_all_bands() -> None:
    """Those of whole samples, besides other algorithms and sums of neighbours' gradients."""
    counts = []
    for wanted in (True, False):
        with in_bands(wanted):
            plan = fastcnn.plan(fastcnn.models.vgg_small(seed=0), 8, threads=1)
        counts.append(sum(cost.flops for cost in plan.costs()))
    assert counts[0] == pytest.approx(counts[1], rel=0.1)


@pytest.mark.parametrize(("rows", "wanted"), [(9, "3 x 4"), (7, "3 x 4"), (5, "3 x 2")])
def test_bands_have_the_rows_that_their_neighbours_need(rows: int, wanted: str) -> None:
    """Sixteen rows in bands of four serve kernels of nine rows, which need four of each side."""
    model = Sequential(
        Conv2d(3, 64, rows, padding=rows // 2, seed=0), Tanh(), GlobalAvgPool2d(), Flatten(),
        Linear(64, 4, seed=1), input_shape=SHAPE,
    )  # fmt: skip
    with in_bands(True):
        plan = fastcnn.plan(model, 1, threads=1)
    copied = [plan.sizes(i) for i, name in enumerate(plan.names) if name == "0: copy"]
    assert copied == [wanted]


def test_bands_are_united_where_maps_have_few_rows() -> None:
    """In pairs before the last convolution, and after it to whole samples."""
    with in_bands(True):
        found = [row for row in names(windows(), 1) if row.endswith(": join")]
    assert found == ["8: join", "10: join"]


def test_memory_is_less_than_that_of_whole_samples() -> None:
    model = fastcnn.models.vgg_small(seed=0)
    with in_bands(False):
        whole = fastcnn.plan(model, 2, threads=2).arena_size
    assert fastcnn.plan(model, 2, threads=2).arena_size < 0.7 * whole
