"""Training on the lanes engine: the same steps as im2col, for any threads and values."""

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.data.dataset import ArrayDataset
from fastcnn.execution import make_executor
from fastcnn.execution.lanes import LanesExecutor
from fastcnn.execution.step import Step
from fastcnn.layers import Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential, Sigmoid
from fastcnn.optim import SGD, Adam, AdamW, RMSprop

BYTES = fastcnn.data.Preprocessing((0.3, 0.6), (0.5, 0.7))


def network() -> Sequential:
    return Sequential(
        Conv2d(2, 5, 3, padding=1, seed=0), ReLU(), MaxPool2d(2), Dropout(0.2),
        Conv2d(5, 6, 3, stride=2, seed=1), Sigmoid(), Flatten(), Dropout(0.4),
        Linear(6, 9, seed=2), ReLU(), Linear(9, 3, seed=3), input_shape=(2, 7, 6),
    )  # fmt: skip


def train(
    backend: str,
    optimizer: Any,
    loss: Any,
    *,
    threads: int | None = None,
    clip_norm: float | None = None,
    batch_size: int = 21,
    weighted: bool = False,
    rounds: int = 3,
) -> tuple[Any, ...]:
    """Some steps on bytes, with a short last batch: parameters, slots, losses, hits and norms."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (90, 2, 7, 6), dtype=np.uint8)
    labels = generator.integers(0, 3, 90)
    weights = generator.uniform(0.1, 5.0, 90) if weighted else None
    model = network()
    model.preprocessing = BYTES
    executor = make_executor(
        model, loss=loss, optimizer=optimizer, backend=backend, batch_size=batch_size, seed=4,
        threads=threads, clip_norm=clip_norm,
    )  # fmt: skip
    assert isinstance(executor, LanesExecutor) == (backend == "lanes")
    rates = np.linspace(1.0, 0.5, -(-90 // batch_size)) * optimizer.lr
    samples = ArrayDataset(images, labels, weights)
    results = [
        executor.train_steps(samples, generator.permutation(90), rates) for _ in range(rounds)
    ]
    slots = [value.copy() for value in executor.optimizer_state().values()]
    figures = [np.concatenate([getattr(r, name) for r in results])
               for name in ("losses", "gradient_norms", "correct")]  # fmt: skip
    return model.parameter_vector, slots, *figures


@pytest.mark.parametrize("loss", [fastcnn.CrossEntropyLoss(0.1), fastcnn.MSELoss()])
@pytest.mark.parametrize(
    ("optimizer", "clip_norm"),
    [
        (SGD(lr=0.05), None),
        (SGD(lr=0.05, momentum=0.9, weight_decay=0.01), 0.05),
        (SGD(lr=0.05, momentum=0.9, nesterov=True), None),
        (Adam(lr=0.01, weight_decay=0.01), None),
        (AdamW(lr=0.01, betas=(0.8, 0.99), weight_decay=0.1), 0.1),
        (RMSprop(lr=0.001, eps=1e-3), None),
        (RMSprop(lr=0.001, alpha=0.9, eps=1e-3, momentum=0.8, weight_decay=0.01), 0.1),
        (RMSprop(lr=0.001, eps=1e-3, centered=True), None),
        (RMSprop(lr=0.001, eps=1e-3, centered=True, momentum=0.5), None),
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_steps_of_im2col(
    optimizer: Any, clip_norm: float | None, loss: Any, weighted: bool
) -> None:
    ours = train("lanes", optimizer, loss, clip_norm=clip_norm, weighted=weighted)
    theirs = train("im2col", optimizer, loss, clip_norm=clip_norm, weighted=weighted)
    assert ours[0] == pytest.approx(theirs[0], abs=2e-4)
    for mine, other in zip(ours[1], theirs[1], strict=True):
        assert mine == pytest.approx(other, abs=2e-4)
    assert ours[2] == pytest.approx(theirs[2], rel=1e-4)
    assert ours[3] == pytest.approx(theirs[3], rel=1e-3)
    assert (ours[4] == theirs[4]).mean() > 0.9  # a sample may stand on the boundary


@pytest.mark.parametrize("optimizer", [SGD(lr=0.1, momentum=0.9), RMSprop(1e-3, momentum=0.9)])
@pytest.mark.parametrize("batch_size", [90, 21, 5])
def test_results_do_not_depend_on_the_number_of_threads(batch_size: int, optimizer: Any) -> None:
    """Including momentum, clipping, dropout and sample weights, bit for bit."""
    rounds = 3 if batch_size == 90 else 1  # more threads than cores take long
    results = [
        train("lanes", optimizer, fastcnn.CrossEntropyLoss(), clip_norm=0.1,
              threads=threads, batch_size=batch_size, weighted=True, rounds=rounds)
        for threads in (1, 2, 4, 8)
    ]  # fmt: skip
    for other in results[1:]:
        assert (other[0] == results[0][0]).all()
        assert (other[2] == results[0][2]).all()
        assert (other[3] == results[0][3]).all()


@pytest.mark.parametrize("kind", ["classes", "probabilities", "values"])
@pytest.mark.parametrize("count", [1, 16, 21])
def test_weighted_gradients(kind: str, count: int) -> None:
    generator = np.random.default_rng(count)
    x = generator.standard_normal((count, 2, 7, 6)).astype(np.float32)
    weight = generator.uniform(0.01, 10.0, count)
    loss = fastcnn.MSELoss() if kind == "values" else fastcnn.CrossEntropyLoss(0.1)
    y = (
        generator.integers(0, 3, count)
        if kind == "classes"
        else generator.dirichlet([1] * 3, count)
    )
    ours, theirs, plain = (
        fastcnn.execution.loss_and_gradients(
            network(), x, y, loss=loss, sample_weight=given, backend=backend, step=Step(True, 3)
        )
        for backend, given in (("lanes", weight), ("im2col", weight), ("lanes", None))
    )
    assert ours[0] == pytest.approx(theirs[0], rel=1e-5)
    assert ours[2] == pytest.approx(theirs[2], abs=1e-5)
    assert (count == 1) == np.allclose(ours[2], plain[2])


def test_as_many_weights_as_samples() -> None:
    x, y = np.zeros((3, 2, 7, 6)), np.zeros(3, int)
    with pytest.raises(
        fastcnn.errors.DataError, match=r"expected a weight for each sample, 3 in all, got \(2,\)"
    ):
        fastcnn.execution.loss_and_gradients(network(), x, y, sample_weight=np.ones(2))


@pytest.mark.torch
@pytest.mark.parametrize(
    "arguments",
    [{}, {"momentum": 0.8, "weight_decay": 0.01}, {"centered": True, "momentum": 0.5}],
)
def test_rmsprop_and_weights_against_torch(arguments: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    generator = np.random.default_rng(0)
    x = generator.standard_normal((40, 1, 6, 6)).astype(np.float32)
    y, weight = generator.integers(0, 3, 40), generator.uniform(0.1, 5.0, 40)
    model = Sequential(
        Conv2d(1, 4, 3, seed=0), Sigmoid(), Flatten(), Linear(64, 3, seed=1), input_shape=(1, 6, 6)
    )
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.Sigmoid(), torch.nn.Flatten(), torch.nn.Linear(64, 3)
    )
    theirs.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in model.state_dict().items()})
    ours = RMSprop(lr=0.002, eps=1e-4, **arguments)
    executor = make_executor(model, loss=fastcnn.CrossEntropyLoss(), optimizer=ours, batch_size=20)
    assert isinstance(executor, LanesExecutor)
    results = executor.train_steps(
        ArrayDataset(x, y, weight), np.tile(np.arange(40), 5), np.full(10, ours.lr)
    )
    optimizer = torch.optim.RMSprop(theirs.parameters(), lr=ours.lr, eps=ours.eps, **arguments)
    losses = []
    for step in range(10):
        part = slice(20 * (step % 2), 20 * (step % 2) + 20)
        each = torch.nn.functional.cross_entropy(
            theirs(torch.from_numpy(x[part])), torch.from_numpy(y[part]), reduction="none"
        )
        w = torch.from_numpy(weight[part]).float()
        loss = (w * each).sum() / w.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert results.losses == pytest.approx(losses, rel=1e-4)
    for key, value in theirs.state_dict().items():
        assert model.state_dict()[key] == pytest.approx(value.numpy(), abs=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("backend", ["im2col", "lanes"])
def test_a_bad_sample_spoils_its_own_output_alone(backend: str, value: float) -> None:
    """The value is propagated, and the 15 other samples of its block are unchanged."""
    model = Sequential(
        Conv2d(1, 3, 3, padding=1, seed=0), Sigmoid(), MaxPool2d(2), Conv2d(3, 2, 3, seed=1),
        ReLU(), Flatten(), Linear(8, 3, seed=2), input_shape=(1, 8, 8),
    )  # fmt: skip
    x = np.random.default_rng(0).standard_normal((20, 1, 8, 8)).astype(np.float32)
    good = fastcnn.execution.forward(model, x, backend=backend)
    x[7, 0, 3, 3] = np.nan if np.isnan(value) else value
    bad = fastcnn.execution.forward(model, x, backend=backend)
    others = np.arange(20) != 7
    assert (bad[others] == good[others]).all()
    assert np.isnan(bad[7]).all() if np.isnan(value) else (bad[7] != good[7]).any()


@pytest.mark.parametrize("backend", ["im2col", "lanes"])
def test_nan_goes_through_every_operation(backend: str) -> None:
    layers = [ReLU(), Sigmoid(), MaxPool2d(2), MaxPool2d(3, 1, 1), fastcnn.AvgPool2d(2)]
    for layer in layers:
        model = Sequential(layer, Flatten(), input_shape=(1, 4, 4))
        x = np.zeros((2, 1, 4, 4), np.float32)
        x[1, 0, 1, 2] = np.nan
        y = fastcnn.execution.forward(model, x, backend=backend)
        assert not np.isnan(y[0]).any()
        assert np.isnan(y[1]).any(), layer


def test_tiny_and_wide_networks() -> None:
    for model in (
        Sequential(Conv2d(1, 1, 1, seed=0), Flatten(), Linear(1, 2, seed=0), input_shape=(1, 1, 1)),
        Sequential(Conv2d(37, 67, 1, seed=0), ReLU(), Flatten(), Linear(67, 1001, seed=0),
                   input_shape=(37, 1, 1)),
        Sequential(Conv2d(1, 2, (1, 9), seed=0), MaxPool2d((1, 4)), Flatten(),
                   Linear(498, 2, seed=0), input_shape=(1, 1, 1005)),
        Sequential(Flatten(), Linear(2, 4099, seed=0), ReLU(), Linear(4099, 2, seed=1),
                   input_shape=(2, 1, 1)),
    ):  # fmt: skip
        assert model.input_shape is not None
        x = np.random.default_rng(0).standard_normal((3, *model.input_shape)).astype(np.float32)
        y = np.zeros(3, np.int64)
        ours = fastcnn.execution.loss_and_gradients(model, x, y, backend="lanes")
        theirs = fastcnn.execution.loss_and_gradients(model, x, y, backend="im2col")
        assert ours[1] == pytest.approx(theirs[1], abs=1e-5)
        assert ours[2] == pytest.approx(theirs[2], abs=1e-5)


def test_denormals_count_as_zero_in_the_engine_alone() -> None:
    """The gradients of a saturated sigmoid would take a hundred cycles per operation."""
    model = fastcnn.models.report_cnn("sigmoid", seed=0)
    model.parameter_vector[...] *= np.float32(1e-9)
    x = np.random.default_rng(0).random((64, 1, 28, 28), np.float32)
    gradient = fastcnn.execution.loss_and_gradients(model, x, np.zeros(64, int), backend="lanes")[2]
    assert not ((gradient != 0) & (np.abs(gradient) < np.finfo(np.float32).tiny)).any()
    expected = fastcnn.execution.loss_and_gradients(model, x, np.zeros(64, int), backend="im2col")
    assert gradient == pytest.approx(expected[2], abs=1e-6)
    assert np.float32(2e-38) * np.float32(0.1) != 0
