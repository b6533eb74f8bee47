"""The maximum norm of an output's weights, which training enforces on every backend."""

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.backends import BACKENDS
from fastcnn.data.dataset import ArrayDataset
from fastcnn.errors import ConfigurationError
from fastcnn.execution import make_executor
from fastcnn.layers import BatchNorm2d, Conv2d, Flatten, Linear, ReLU, Sequential
from fastcnn.layers.definition import from_definition
from fastcnn.layers.description import to_definition
from fastcnn.optim import SGD, Adam


def network(bound: float | None = 0.5) -> Sequential:
    layers: list[Any] = [
        Conv2d(2, 8, 3, groups=2, max_norm=bound, seed=0), ReLU(), Conv2d(8, 4, 3, seed=1),
        Flatten(), Linear(64, 3, max_norm=bound, seed=2),
    ]  # fmt: skip
    return Sequential(*layers, input_shape=(2, 8, 8))


def norms(weight: np.ndarray) -> np.ndarray:
    return np.linalg.norm(weight.reshape(len(weight), -1).astype(np.float64), axis=1)


def data(count: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((count, 2, 8, 8)).astype(np.float32)
    return x, generator.integers(0, 3, count)


@pytest.mark.parametrize("backend", BACKENDS)
def test_training_keeps_it(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    model = network()
    x, y = data(24)
    free = network(None)
    for each in (model, free):
        fastcnn.fit(each, (x, y), epochs=2, batch_size=8, lr=0.5, backend=backend, seed=0)
    for name, bounded in (("0", True), ("2", False), ("4", True)):
        assert (norms(model[name].weight).max() <= 0.5 * (1 + 2e-6)) == bounded
        assert norms(free[name].weight).max() > 0.5
    assert np.isclose(norms(model["4"].weight), 0.5, rtol=1e-5).any()
    assert not [entry for entry in caplog.records if entry.name == "fastcnn.lanes"]


@pytest.mark.parametrize("backend", ["im2col", "lanes"])
@pytest.mark.parametrize("optimizer", [SGD(lr=0.3, momentum=0.9), Adam(lr=0.05)], ids=repr)
@pytest.mark.torch
def test_like_pytorch(backend: str, optimizer: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model = network()
    nn = torch.nn
    theirs = nn.Sequential(
        nn.Conv2d(2, 8, 3, groups=2), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(64, 3)
    ).double()
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in model.state_dict().items()})
    made: Any = torch.optim.SGD(theirs.parameters(), lr=0.3, momentum=0.9)
    if isinstance(optimizer, Adam):
        made = torch.optim.Adam(theirs.parameters(), lr=0.05)
    x, y = data(40)
    executor = make_executor(
        model, loss=fastcnn.CrossEntropyLoss(), optimizer=optimizer, backend=backend, batch_size=8,
        threads=2,
    )  # fmt: skip
    executor.train_steps(ArrayDataset(x, y), np.arange(40), np.full(5, optimizer.lr))
    for first in range(0, 40, 8):
        made.zero_grad()
        logits = theirs(torch.from_numpy(x[first : first + 8]).double())
        nn.functional.cross_entropy(logits, torch.from_numpy(y[first : first + 8])).backward()
        made.step()
        with torch.no_grad():
            for place in (0, 4):
                weight = theirs[place].weight
                weight.copy_(torch.renorm(weight, 2, 0, 0.5))
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[key], value.numpy(), rtol=2e-3, atol=2e-4)


def test_results_depend_neither_on_threads_nor_on_how_steps_are_divided() -> None:
    x, y = data(64)
    found = []
    for threads, calls in ((1, 1), (2, 1), (3, 4), (1, 4)):
        model = network()
        executor = make_executor(
            model, loss=fastcnn.CrossEntropyLoss(), optimizer=SGD(lr=0.5), backend="lanes",
            batch_size=16, threads=threads,
        )  # fmt: skip
        for part in np.split(np.arange(64), calls):
            executor.train_steps(ArrayDataset(x, y), part, np.full(len(part) // 16, 0.5))
        found.append(model.parameter_vector.copy())
    for other in found[1:]:
        assert (other == found[0]).all()


@pytest.mark.parametrize("layer", [Conv2d(3, 4, 3, max_norm=0.1, seed=0), Linear(9, 4, max_norm=1)])
def test_the_first_weights_obey(layer: Any) -> None:
    assert norms(layer.weight).max() <= layer.max_norm * (1 + 1e-6)
    assert f"max_norm={layer.max_norm}" in repr(layer)


@pytest.mark.parametrize("backend", ["im2col", "lanes"])
def test_running_statistics_count_steps_alone(backend: str) -> None:
    model = Sequential(
        Conv2d(2, 4, 3, max_norm=0.5, seed=0), BatchNorm2d(4), Flatten(), Linear(144, 3, seed=1),
        input_shape=(2, 8, 8),
    )  # fmt: skip
    samples = ArrayDataset(*data(24))
    executor = make_executor(
        model, loss=fastcnn.CrossEntropyLoss(), optimizer=SGD(), backend=backend, batch_size=8
    )
    executor.train_steps(samples, np.arange(24), np.full(3, 0.1))
    assert model.state_dict()["1.num_batches_tracked"] == 3
    executor.update(executor.gradient(samples, np.arange(8))[2], 0.1)
    assert model.state_dict()["1.num_batches_tracked"] == 4


@pytest.mark.parametrize("backend", BACKENDS)
def test_frozen_weights_stay(backend: str) -> None:
    model = network()
    for name in ("0", "4"):
        model[name].weight[...] = 1.0
    model["4"].requires_grad = False
    for groups, kept in ((None, False), ("0.weight: freeze", True)):
        model["0"].weight[...] = 1.0
        fastcnn.fit(model, data(16), epochs=1, batch_size=8, groups=groups, backend=backend)
        assert (model["4"].weight == 1.0).all()
        assert (model["0"].weight == 1.0).all() == kept


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("first", "second", "bound"), [(0.3, None, 0.3), (0.3, 0.2, 0.2)])
def test_shared_weights_obey_the_smallest(
    first: float, second: float | None, bound: float, backend: str
) -> None:
    layer, other = Linear(8, 8, max_norm=first, seed=0), Linear(8, 8, max_norm=second, seed=0)
    model = Sequential(layer, ReLU(), layer, ReLU(), other, Linear(8, 3, seed=1), input_shape=(8,))
    other.weight = layer.weight
    x, y = data(64)
    fastcnn.fit(model, (x[:, 0, 0], y), epochs=1, batch_size=8, lr=0.5, backend=backend)
    assert other.weight is layer.weight
    assert norms(layer.weight).max() == pytest.approx(bound, rel=1e-5)


def test_folded_weights_have_no_bound() -> None:
    model = Sequential(
        Conv2d(2, 4, 3, max_norm=0.5, seed=0), BatchNorm2d(4), Flatten(), Linear(144, 3, seed=1),
        input_shape=(2, 8, 8),
    )  # fmt: skip
    x, y = data(24)
    fastcnn.fit(model, (x, y), epochs=2, batch_size=8)
    folded = model.fold_batch_norm()
    assert norms(folded["0"].weight).max() > 0.5
    before = folded.logits(x)
    fastcnn.fit(folded, (x, y), epochs=1, lr=0.0, diagnose=False)
    np.testing.assert_array_equal(folded.logits(x), before)
    assert model["0"].max_norm == 0.5


def test_what_is_kept_and_refused() -> None:
    back = from_definition(to_definition(network()))
    assert [layer.max_norm for layer in (back["0"], back["2"], back["4"])] == [0.5, None, 0.5]
    for bad in (0.0, -1.0, np.inf, "a", True):
        with pytest.raises(ConfigurationError, match="Linear: max_norm must be a finite number"):
            Linear(2, 2, max_norm=bad)  # type: ignore[arg-type]
    layer = Linear(2, 2, seed=0)
    layer.max_norm = 0.25
    assert layer.max_norm == 0.25
