"""Batch normalisation as a layer: running statistics, state, folding, training."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.backends import BACKENDS
from fastcnn.data.dataset import ArrayDataset
from fastcnn.errors import CheckpointError, ConfigurationError, ShapeError
from fastcnn.execution import forward, loss_and_gradients, make_executor
from fastcnn.execution.step import Step
from fastcnn.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Identity,
    Linear,
    ReLU,
    Residual,
    Sequential,
    fold_batch_norm,
    init,
)
from fastcnn.models import resnet8
from fastcnn.optim import SGD
from fastcnn.training.run import Run


def small_model(momentum: float | None = 0.1) -> Sequential:
    """Convolutions with batch normalisation in a chain and in a block, and such a linear layer."""
    block = Sequential(Conv2d(4, 4, 3, padding=1, bias=False, seed=1), BatchNorm2d(4), ReLU())
    return Sequential(
        {
            "conv": Conv2d(2, 4, 3, seed=0),
            "bn": BatchNorm2d(4, momentum=0.3),
            "relu": ReLU(),
            "block": Residual(block, BatchNorm2d(4, affine=False)),
            "flatten": Flatten(),
            "fc1": Linear(16, 6, seed=2),
            "bn1": BatchNorm1d(6, momentum=momentum),
            "fc2": Linear(6, 3, seed=3),
        },
        input_shape=(2, 4, 4),
    )


def batch(count: int = 9) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.normal(2.0, 3.0, (count, 2, 4, 4)), generator.integers(0, 3, count)


def test_state_has_pytorchs_keys_in_their_order() -> None:
    model = small_model()
    assert [key for key in model.state_dict() if key.startswith("bn.")] == [
        "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked",
    ]  # fmt: skip
    assert model.state_dict()["bn.num_batches_tracked"].shape == ()
    assert "bn.running_mean" not in model.named_parameters()
    assert model.num_parameters == sum(v.size for v in model.named_parameters().values())
    assert not [key for key in model.state_dict() if key.startswith("block.shortcut.weight")]


def test_counters_of_a_state_of_floats_are_loaded() -> None:
    model = small_model()
    forward(model, batch()[0], training=True)
    state = {key: value.astype(np.float64) for key, value in model.state_dict().items()}
    other = small_model()
    other.load_state_dict(state)
    assert other.state_dict()["bn.num_batches_tracked"] == 1
    assert other.state_dict()["bn.num_batches_tracked"].dtype == np.int64
    for value in (2.5, np.nan, 1e30, 3j):
        with pytest.raises(CheckpointError, match="num_batches_tracked: values of type"):
            other.load_state_dict(state | {"bn.num_batches_tracked": np.asarray(value)})


def test_buffers_are_converted_copied_and_loaded() -> None:
    model = small_model()
    other = deepcopy(model).to(np.float64)
    assert other.state_dict()["bn.running_var"].dtype == np.float64
    assert other.state_dict()["bn.num_batches_tracked"].dtype == np.int64
    forward(model, batch()[0], training=True)
    assert (other.state_dict()["bn.running_mean"] == 0).all()
    other.load_state_dict(model.state_dict())
    assert other.state_dict()["bn.running_mean"] == pytest.approx(
        model.state_dict()["bn.running_mean"]
    )
    state = model.copy_state()
    del state["bn.running_var"]
    with pytest.raises(CheckpointError, match=r"missing \['bn.running_var'\]"):
        other.load_state_dict(state)


def test_running_statistics_move_in_training_alone() -> None:
    x, y = batch()
    for backend in BACKENDS:
        model = small_model()
        before = model.copy_state()
        model.logits(x, backend=backend)
        fastcnn.gradients(model, x, y, backend=backend)
        assert all((before[key] == value).all() for key, value in model.state_dict().items())
        for _ in range(3):
            loss_and_gradients(model, x, y, backend=backend)
        state = model.state_dict()
        assert state["bn.num_batches_tracked"] == 3
        maps = Sequential(model.layers["conv"]).logits(x, backend="im2col")
        mean, variance = maps.mean(axis=(0, 2, 3)), maps.var(axis=(0, 2, 3), ddof=1)
        share = 1 - 0.7**3
        assert state["bn.running_mean"] == pytest.approx(share * mean, rel=1e-4)
        assert state["bn.running_var"] == pytest.approx(0.7**3 + share * variance, rel=1e-4)
        weights = (key for key in before if key.endswith(("weight", "bias")))
        assert all((before[key] == state[key]).all() for key in weights)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("training", [True, False])
def test_backends_agree_on_a_normalised_network(training: bool, momentum: float | None) -> None:
    x, y = batch(21)
    results = []
    for backend in BACKENDS:
        model = small_model(momentum).to(np.float64)
        model.initialize(init.Kaiming(), seed=4)
        loss_and_gradients(model, x, y, backend=backend)  # moves the running statistics
        value, logits, gradient = loss_and_gradients(
            model, x, y, backend=backend, step=Step(training)
        )
        results.append((value, logits, gradient, model.copy_state()))
    for value, logits, gradient, state in results[1:]:
        assert value == pytest.approx(results[0][0], rel=1e-10)
        assert logits == pytest.approx(results[0][1], rel=1e-9)
        assert gradient == pytest.approx(results[0][2], rel=1e-7, abs=1e-11)
        for key, expected in results[0][3].items():
            assert state[key] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [2, 16, 37])
def test_the_engine_normalises_as_im2col_does(count: int, caplog: pytest.LogCaptureFixture) -> None:
    x, y = batch(count)
    single, double = small_model(), small_model().to(np.float64)
    for _ in range(2):
        value, _, gradient = loss_and_gradients(single, x, y)
        expected = loss_and_gradients(double, x, y, backend="im2col")
    assert value == pytest.approx(expected[0], rel=1e-4)
    assert gradient == pytest.approx(expected[2], abs=1e-4 * np.abs(expected[2]).max())
    for key, wanted in double.state_dict().items():
        assert single.state_dict()[key] == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    assert single.logits(x) == pytest.approx(double.logits(x, backend="im2col"), abs=1e-4)
    assert not caplog.records  # the engine covers all of it


def test_the_engine_infers_with_a_plain_mean_and_leaves_its_training_to_im2col(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model, (x, _) = small_model(None), batch(21)
    expected = model.logits(x, backend="im2col")
    assert model.logits(x) == pytest.approx(expected, abs=1e-4)
    assert not caplog.records
    fastcnn.plan(model, 16, training=False)
    with pytest.raises(ConfigurationError, match="does not support a plain mean of running"):
        fastcnn.plan(model, 16)


def test_training_moves_running_statistics_alike() -> None:
    train, _ = fastcnn.data.digits_dataset(300, 1, classes=(0, 1, 2))
    states = []
    for backend, threads in (("im2col", 1), ("lanes", 1), ("lanes", 2)):
        model = Sequential(
            Conv2d(1, 5, 3, stride=3, seed=0), BatchNorm2d(5), ReLU(), Flatten(),
            Linear(405, 3, seed=1),
        )  # fmt: skip
        fastcnn.fit(model, train, epochs=2, batch_size=40, backend=backend, threads=threads)
        states.append(model.copy_state())
    for key, expected in states[0].items():
        assert states[1][key] == pytest.approx(expected, rel=2e-3, abs=2e-3), key
        assert (states[1][key] == states[2][key]).all(), key
    assert states[1]["1.num_batches_tracked"] == 16


@pytest.mark.parametrize("momentum", [0.1, None])
def test_torch_agrees_on_every_step_of_training(momentum: float | None) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model = Sequential(
        Conv2d(2, 4, 3, seed=0), BatchNorm2d(4, momentum=momentum), ReLU(), Flatten(),
        Linear(16, 6, seed=1), BatchNorm1d(6, momentum=momentum), Linear(6, 3, seed=2),
    ).to(np.float64)  # fmt: skip
    nn = torch.nn
    theirs = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, momentum=momentum), nn.ReLU(), nn.Flatten(),
        nn.Linear(16, 6), nn.BatchNorm1d(6, momentum=momentum), nn.Linear(6, 3),
    ).double()  # fmt: skip
    x, y = batch(10)
    model.logits(x)
    theirs.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in model.state_dict().items()})
    method = SGD(lr=0.05, momentum=0.9, weight_decay=1e-3)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    slots = {"momentum_buffer": np.zeros_like(model.parameter_vector)}
    for step in range(1, 5):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        value, _, gradient = loss_and_gradients(model, x, y, backend="im2col")
        method.update(model.parameter_vector, gradient, slots, 0.05, step)
        assert value == pytest.approx(loss.item(), rel=1e-9)
    for key, expected in theirs.state_dict().items():
        assert model.state_dict()[key] == pytest.approx(expected.numpy(), rel=1e-8), key
    theirs.eval()
    expected = theirs(torch.from_numpy(x)).detach().numpy()
    assert model.logits(x, backend="im2col") == pytest.approx(expected, rel=1e-8)


def test_folding_gives_the_same_logits() -> None:
    x, y = batch()
    model = small_model().to(np.float64)
    generator = np.random.default_rng(1)
    for key, value in model.named_parameters().items():
        if "bn" in key or key.startswith("block.main.1"):
            value[...] = generator.normal(1.0, 0.5, value.shape)
    for _ in range(4):
        loss_and_gradients(model, x, y)
    before, logits = model.copy_state(), model.logits(x)
    folded = model.fold_batch_norm()
    assert folded.logits(x) == pytest.approx(logits, rel=1e-9)
    # The shortcut's normalisation does not directly follow a layer of its own.
    assert [n.name for n in folded.graph().nodes if n.operation == "batch_norm"] == [
        "block.shortcut"
    ]
    assert isinstance(folded.layers["bn"], Identity)
    assert {key: value for key, value in before.items() if "block.main.0" in key}.keys() != {
        key for key in folded.state_dict() if "block.main.0" in key
    }  # the convolution without a bias has one now
    assert all((before[key] == value).all() for key, value in model.state_dict().items())


def test_a_transposed_convolution_takes_up_its_normalisation() -> None:
    model = Sequential(
        ConvTranspose2d(4, 6, 3, stride=2, groups=2, seed=0), BatchNorm2d(6), input_shape=(4, 3, 3)
    ).to(np.float64)
    model.state_dict()["1.weight"][...] = np.arange(6) - 2.5
    x = np.random.default_rng(0).normal(1.0, 2.0, (5, 4, 3, 3))
    forward(model, x, training=True)
    folded = fold_batch_norm(model)
    assert len(folded.graph().nodes) == 1
    assert folded.logits(x) == pytest.approx(model.logits(x), rel=1e-9)


def test_what_others_read_is_not_folded() -> None:
    shared = Conv2d(2, 2, 1, seed=0)
    twice = Sequential(shared, BatchNorm2d(2), shared, BatchNorm2d(2), input_shape=(2, 3, 3))
    read = Sequential(Conv2d(2, 2, 1, seed=0), Residual(BatchNorm2d(2)), input_shape=(2, 3, 3))
    loose = Sequential(
        Conv2d(2, 2, 1, seed=0), BatchNorm2d(2, track_running_stats=False), input_shape=(2, 3, 3)
    )
    for model in (twice, read, loose):
        assert len(fold_batch_norm(model).graph().nodes) == len(model.graph().nodes)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_value_a_channel_has_no_variance(backend: str) -> None:
    x, y = batch(1)
    model = small_model()
    with pytest.raises(ShapeError, match=r"layer 'bn1': .* more than one value per channel"):
        loss_and_gradients(model, x, y, backend=backend)
    with pytest.raises(ShapeError, match="more than one value per channel"):
        forward(model, x, backend=backend, training=True)
    assert model.logits(x, backend=backend).shape == (1, 3)
    x, y = batch(9)
    with pytest.raises(ShapeError, match="more than one value per channel"):
        fastcnn.fit(model, (x, y), batch_size=4, epochs=1, backend=backend)
    executor = make_executor(
        model, loss=fastcnn.CrossEntropyLoss(), optimizer=SGD(), backend=backend, batch_size=4
    )
    with pytest.raises(ShapeError, match="more than one value per channel"):
        executor.train_steps(ArrayDataset(x.astype(np.float32), y), np.arange(1), np.zeros(1))
    assert model.state_dict()["bn.num_batches_tracked"] == 0


def test_a_normalised_network_trains_and_its_run_keeps_the_statistics(tmp_path: Path) -> None:
    train, test = fastcnn.data.digits_dataset(600, 100, classes=(0, 1, 2))
    model = Sequential(
        Conv2d(1, 4, 3, stride=2, bias=False, seed=0), BatchNorm2d(4), ReLU(), Flatten(),
        Linear(4 * 13 * 13, 3, seed=1),
    )  # fmt: skip
    history = fastcnn.fit(model, train, test, epochs=2, out=tmp_path / "run")
    assert history.final["test_accuracy"] > 0.9
    assert model.state_dict()["1.num_batches_tracked"] == 2 * 10
    from safetensors.numpy import load_file

    saved = load_file(Run.open(tmp_path / "run").folder / "model.safetensors")
    assert all((saved[key] == value).all() for key, value in model.state_dict().items())
    assert saved["1.num_batches_tracked"].shape == ()


def test_resnet8_trains_on_every_backend_alike() -> None:
    model: Any = resnet8(seed=0)
    # MLPerf Tiny's 78,186 without the biases that normalisation cancels.
    assert model.num_parameters == 78_186 - (3 * 16 + 2 * 32 + 2 * 64)
    shapes = {node.name: node.output_shape for node in model.graph().nodes}
    assert shapes["block1.add"] == (16, 32, 32)
    assert shapes["block2.add"] == (32, 16, 16)
    assert shapes["block3.add"] == (64, 8, 8)
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((6, 3, 32, 32)), generator.integers(0, 10, 6)
    value, _, gradient = loss_and_gradients(model, x, y)
    expected = loss_and_gradients(resnet8(seed=0).to(np.float64), x, y, backend="im2col")
    assert value == pytest.approx(expected[0], rel=1e-4)
    assert gradient == pytest.approx(expected[2], abs=1e-3 * np.abs(expected[2]).max())


def test_resnet8_is_what_pytorch_makes_of_the_same_modules() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    nn = torch.nn

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.main = nn.Sequential()
            self.main.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.main.bn1 = nn.BatchNorm2d(outputs)
            self.main.relu1 = nn.ReLU()
            self.main.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.main.bn2 = nn.BatchNorm2d(outputs)
            if stride > 1:
                self.shortcut = nn.Conv2d(inputs, outputs, 1, stride)

        def forward(self, x: Any) -> Any:
            return self.main(x) + (self.shortcut(x) if hasattr(self, "shortcut") else x)

    theirs = nn.Sequential()
    theirs.conv1, theirs.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
    theirs.relu1, theirs.block1 = nn.ReLU(), Block(16, 16, 1)
    theirs.relu2, theirs.block2 = nn.ReLU(), Block(16, 32, 2)
    theirs.relu3, theirs.block3 = nn.ReLU(), Block(32, 64, 2)
    theirs.relu4, theirs.pool, theirs.flatten = nn.ReLU(), nn.AvgPool2d(8), nn.Flatten()
    theirs.fc = nn.Linear(64, 10)
    theirs.double()
    model = resnet8(seed=3).to(np.float64)
    state = {key: torch.from_numpy(value) for key, value in model.copy_state().items()}
    theirs.load_state_dict(state)
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((5, 3, 32, 32)), generator.integers(0, 10, 5)
    loss = nn.functional.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(y))
    loss.backward()
    value, _, gradient = loss_and_gradients(model, x, y, backend="im2col")
    assert value == pytest.approx(loss.item(), rel=1e-10)
    expected = np.concatenate([p.grad.numpy().ravel() for p in theirs.parameters()])
    assert gradient == pytest.approx(expected, abs=1e-9 * np.abs(expected).max())
    for key, wanted in theirs.state_dict().items():
        assert model.state_dict()[key] == pytest.approx(wanted.numpy(), rel=1e-9, abs=1e-12), key
    theirs.eval()
    outputs = theirs(torch.from_numpy(x)).detach().numpy()
    assert model.logits(x) == pytest.approx(outputs, rel=1e-8)
    assert model.fold_batch_norm().logits(x) == pytest.approx(outputs, rel=1e-7)
