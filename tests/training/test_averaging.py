"""Accumulated gradients, Lookahead, averages over epochs; each also stopped and resumed."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.data.dataset import ArrayDataset
from fastcnn.errors import CheckpointError
from fastcnn.execution import make_executor
from fastcnn.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Linear, ReLU, Sequential
from fastcnn.optim import SGD, Lookahead
from fastcnn.training import Callback, fit
from tests.command import fastcnn as command
from tests.training.resuming import TEST, TRAIN, records, settings
from tests.training.resuming import network as small
from tests.training.test_resume import StopAt

pytestmark = pytest.mark.usefixtures("no_pictures")

generator = np.random.default_rng(0)
X = generator.standard_normal((50, 2, 6, 6)).astype(np.float32)
Y = generator.integers(0, 3, 50)
WEIGHT = generator.uniform(0.1, 2.0, 50)


def network(normalised: bool = False, dropout: float = 0.0) -> Sequential:
    return Sequential(
        Conv2d(2, 4, 3, seed=0), *([BatchNorm2d(4)] if normalised else []), ReLU(), Flatten(),
        *([Dropout(dropout)] if dropout else []), Linear(64, 3, seed=1), input_shape=(2, 6, 6),
    )  # fmt: skip


# -- accumulation -----------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["equal", "weighted"])
@pytest.mark.parametrize("backend", ["reference", "im2col", "lanes"])
def test_accumulated_gradients_are_those_of_the_whole_batch(
    backend: str, weight: np.ndarray | None
) -> None:
    """Also with dropout, and with a smaller last batch."""
    data = (X, Y) if weight is None else (X, Y, weight)
    found, losses = [], []
    for options in ({"batch_size": 24}, {"batch_size": 8, "accumulate": 3}):
        model = network(dropout=0.3)
        history = fit(
            model, data, epochs=2, optimizer=SGD(0.1, momentum=0.9), clip_norm=0.5,
            backend=backend, diagnose=False, seed=3, **options,
        )  # fmt: skip
        found.append(model.parameter_vector.copy())
        losses.append([step["loss"] for step in history.steps])
    assert len(losses[0]) == 6
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert found[1] == pytest.approx(found[0], abs=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("backend", ["reference", "im2col", "lanes"])
@pytest.mark.parametrize("choice", ["plain", "cosine", "lookahead"])
def test_accumulated_steps_are_pytorchs(choice: str, backend: str) -> None:
    """With weights, a learning rate per step, a short last group, and small batches' statistics."""
    torch = pytest.importorskip("torch")
    count, size, steps = len(X), 8, 2 * -(-len(X) // 24)
    model = network(normalised=True)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 3),
    ).double()
    names = dict(zip(model.state_dict(), module.state_dict(), strict=True))
    module.load_state_dict({n: torch.tensor(model.state_dict()[k]) for k, n in names.items()})
    slow = [value.detach().clone() for value in module.parameters()]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    generator, step = np.random.default_rng(3), 0
    for _ in range(2):
        order = generator.permutation(count)
        for start in range(0, count, 3 * size):
            rows = order[start : start + 3 * size]
            optimizer.zero_grad()
            for first in range(0, len(rows), size):
                part = rows[first : first + size]
                losses = torch.nn.functional.cross_entropy(
                    module(torch.tensor(X[part]).double()), torch.tensor(Y[part]), reduction="none"
                )
                ((losses * torch.tensor(WEIGHT[part])).sum() / WEIGHT[rows].sum()).backward()
            if choice == "cosine":
                optimizer.param_groups[0]["lr"] = 0.05 * (1 + np.cos(np.pi * step / steps))
            optimizer.step()
            step += 1
            if choice == "lookahead" and step % 2 == 0:
                for own, value in zip(slow, module.parameters(), strict=True):
                    own += 0.5 * (value.detach() - own)
                    value.data.copy_(own)
    options = {
        "plain": {},
        "cosine": {"schedule": "cosine"},
        "lookahead": {"lookahead": "every=2,alpha=0.5"},
    }
    fit(
        model,
        (X, Y, WEIGHT),
        epochs=2,
        batch_size=size,
        accumulate=3,
        optimizer=SGD(0.1, momentum=0.9),
        seed=3,
        backend=backend,
        diagnose=False,
        **options[choice],
    )
    expected = {key: value.numpy() for key, value in module.state_dict().items()}
    if choice == "lookahead":  # which moves running statistics, too
        expected = dict(zip((n for n, _ in module.named_parameters()), slow, strict=True))
    for key, value in model.state_dict().items():
        if names[key] in expected:
            assert value == pytest.approx(np.asarray(expected[names[key]]), abs=1e-6), key


def test_bits_of_accumulated_steps_do_not_depend_on_threads() -> None:
    found = []
    for threads in (1, 2, 3):
        model = network(normalised=True)
        fit(
            model, (X, Y), epochs=1, batch_size=16, accumulate=2, optimizer="adam",
            threads=threads, diagnose=False,
        )  # fmt: skip
        found.append(model.parameter_vector.copy())
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


# -- lookahead --------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["im2col", "lanes"])
def test_lookahead_is_its_algorithm(backend: str) -> None:
    """Including statistics of batch normalisation, and a weight that changes."""
    lookahead = Lookahead(3, 1.0, 0.25, 2.0)
    assert lookahead.weight(0.5) == 1.0 - 0.75 * 0.25
    model = network(normalised=True)
    fit(
        model, (X, Y), epochs=2, batch_size=8, optimizer=SGD(0.1), lookahead=lookahead,
        backend=backend, diagnose=False, seed=4,
    )  # fmt: skip
    other = network(normalised=True)
    executor = make_executor(
        other, loss=fastcnn.CrossEntropyLoss(), optimizer=SGD(0.1), backend=backend, batch_size=8,
        seed=4,
    )  # fmt: skip
    random = np.random.default_rng(4)
    names = [key for key, value in other.state_dict().items() if value.dtype.kind == "f"]
    slow, steps = other.copy_state(), 0
    for _ in range(2):
        order = random.permutation(50)
        for first in range(0, 50, 8):
            executor.train_steps(ArrayDataset(X, Y), order[first : first + 8], np.full(1, 0.1))
            steps += 1
            if steps % 3 == 0:
                for key in names:
                    alpha = lookahead.weight(steps / 14)
                    slow[key] += alpha * (other.state_dict()[key] - slow[key])
                    other.state_dict()[key][...] = slow[key]
    for key in names:
        assert model.state_dict()[key] == pytest.approx(slow[key], abs=1e-5), key


def test_epochs_are_measured_with_the_slow_weights() -> None:
    kept: list[np.ndarray] = []

    class Keep(Callback):
        def on_epoch_end(self, epoch: Any, model: Any) -> None:
            kept.append(model.parameter_vector.copy())

    model = network()
    history = fit(
        model, (X, Y), (X, Y), epochs=1, batch_size=8, lookahead="every=4,alpha=0.3",
        callbacks=[Keep()], diagnose=False,
    )  # fmt: skip
    np.testing.assert_array_equal(kept[0], model.parameter_vector)
    assert history.final["test_loss"] == pytest.approx(fastcnn.evaluate(model, (X, Y)).loss)


# -- averages over epochs ---------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("backend", ["im2col", "lanes"])
def test_the_mean_of_epochs_is_pytorchs(backend: str) -> None:
    """Its statistics are those measured by ``update_bn``."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    states: list[np.ndarray] = []

    class Keep(Callback):
        def on_steps(self, steps: Any) -> None:
            if steps.step % 5 == 0:
                states.append(model.parameter_vector.copy())

    model = network(normalised=True)
    fit(
        model, (X, Y), epochs=4, batch_size=10, swa_start=2, callbacks=[Keep()], backend=backend,
        diagnose=False, optimizer=SGD(0.2),
    )  # fmt: skip
    assert len(states) == 4
    assert model.parameter_vector == pytest.approx(np.mean(states[1:], axis=0), abs=1e-6)
    other = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(64, 3),
    )  # fmt: skip
    other.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in model.state_dict().items()})
    batches = [torch.from_numpy(X[first : first + 10]) for first in range(0, 50, 10)]
    torch.optim.swa_utils.update_bn(batches, other)
    for key, value in other.state_dict().items():
        if "running" in key:
            assert model.state_dict()[key] == pytest.approx(value.numpy(), rel=1e-4, abs=1e-5)
    assert model.state_dict()["1.num_batches_tracked"] == 20


@pytest.mark.torch
@pytest.mark.parametrize("backend", ["im2col", "lanes"])
@pytest.mark.parametrize("momentum", [0.0, 0.1, None])
def test_statistics_of_a_layer_in_two_places_are_pytorchs(
    momentum: float | None, backend: str
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    norm = BatchNorm2d(2, momentum=momentum)
    model = Sequential(
        norm, Conv2d(2, 2, 3, seed=0), norm, Flatten(), Linear(32, 3, seed=1), input_shape=(2, 6, 6)
    )
    fit(
        model, (X, Y), epochs=2, batch_size=10, swa_start=1, backend=backend, diagnose=False,
    )  # fmt: skip
    other, conv = torch.nn.BatchNorm2d(2), torch.nn.Conv2d(2, 2, 3)
    for module, index in ((other, "0"), (conv, "1")):
        for name in ("weight", "bias"):
            getattr(module, name).data = torch.from_numpy(getattr(model[index], name).copy())
    batches = [torch.from_numpy(X[first : first + 10]) for first in range(0, 50, 10)]
    torch.optim.swa_utils.update_bn(batches, torch.nn.Sequential(other, conv, other))
    for key in ("running_mean", "running_var"):
        expected = getattr(other, key).numpy()
        assert model.state_dict()[f"0.{key}"] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_frozen_statistics_are_not_measured_again() -> None:
    model = network(normalised=True)
    fit(model, (X, Y), epochs=1, diagnose=False)
    before = model.copy_state()
    fit(
        model, (X, Y), epochs=2, batch_size=10, swa_start=1, groups="1.*: freeze freeze_statistics",
        diagnose=False,
    )  # fmt: skip
    for key, value in model.state_dict().items():
        assert (value == before[key]).all() == key.startswith("1."), key


# -- stopped and resumed ----------------------------------------------------------------------

GROUPS = "*.bias: lr_factor=2 weight_decay=0.1; 2.*: freeze_after=2; 4.*: optimizer=lion"
CHOICES: dict[str, dict[str, Any]] = {
    "accumulation": {"accumulate": 2, "batch_size": 16},
    "lookahead": {"lookahead": 5, "ema_decay": None},
    "epochs": {"swa_start": 2, "ema_decay": None},
    "groups": {"groups": GROUPS},
    "muon": {"optimizer": "muon", "groups": "4.*: optimizer=adam"},
    "nadam": {"optimizer": "nadam"},
    "adadelta": {"optimizer": "adadelta", "groups": "2.*: freeze_until=1"},
}


@pytest.mark.parametrize("backend", ["lanes", "im2col"])
@pytest.mark.parametrize("name", CHOICES)
def test_a_resumed_run_has_the_same_bits(
    tmp_path: Path, name: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["fastcnn.training.loop"], "CHUNK_SECONDS", 0.0)
    chosen = settings(**CHOICES[name], backend=backend)
    fit(small(), TRAIN, TEST, **chosen, out=tmp_path / "whole")
    for step in (7, 31):
        folder = tmp_path / str(step)
        stopped = settings(**CHOICES[name], backend=backend)
        stopped["callbacks"].append(StopAt(step))
        with pytest.raises(KeyboardInterrupt):
            fit(small(), TRAIN, TEST, **stopped, out=folder)
        fit(small(), TRAIN, TEST, **settings(**CHOICES[name], backend=backend), out=folder,
            resume=True)  # fmt: skip
        assert records(folder) == records(tmp_path / "whole")


def test_other_settings_are_refused(tmp_path: Path) -> None:
    chosen = settings(schedule="constant", ema_decay=None, lookahead=Lookahead(5, 1.0, 0.5))
    fit(small(), TRAIN, TEST, **chosen | {"epochs": 1}, out=tmp_path)
    with pytest.raises(
        CheckpointError, match="lookahead's alpha depends on the number of epochs, which was"
    ):
        fit(small(), TRAIN, TEST, **chosen, out=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match=r"training\.groups"):
        fit(small(), TRAIN, TEST, **chosen | {"epochs": 1, "groups": "2.*: freeze"}, out=tmp_path,
            resume=True)  # fmt: skip


def test_command_line_and_sweep(tmp_path: Path) -> None:
    archive, run = tmp_path / "digits.npz", tmp_path / "run"
    fastcnn.data.write_npz(archive, *fastcnn.data.digits_dataset(300, 60, classes=(0, 1, 2)))
    groups = "*.bias: weight_decay=0; conv1.*: freeze"
    command(
        "train", "--data", archive, "--epochs", 1, "--out", run, "--groups", groups,
        "--optimizer", "muon", "--lookahead", "every=2,alpha=0.8", "--accumulate", 2,
        "--batch-size", 16,
    )  # fmt: skip
    found = fastcnn.training.run.Run.open(run).config["training"]
    assert found["accumulate"] == 2
    assert found["lookahead"]["alpha"] == 0.8
    assert found["groups"][1] == {"match": "conv1.*", "freeze": True}
    initial = fastcnn.models.report_cnn(seed=0).state_dict()
    trained = fastcnn.load(run / "model.safetensors").state_dict()
    assert (initial["conv1.weight"] == trained["conv1.weight"]).all()
    assert (initial["fc1.weight"] != trained["fc1.weight"]).any()
    message = command(
        "train", "--data", archive, "--groups", "nothing.*: freeze", "--out", tmp_path / "x", code=2
    )
    assert "group 'nothing.*' matches no parameter" in message
    command(
        "sweep", "optimizer=lion,adagrad", "epochs=1", "groups=*.bias: weight_decay=0.1 lr=0.1",
        "--data", archive, "--workers", 1, "--out", tmp_path / "sweep",
    )  # fmt: skip


def test_lookahead_is_given_as_steps_as_text_or_as_an_object() -> None:
    assert Lookahead.of("7") == Lookahead.of(7) == Lookahead(7)
    assert Lookahead.of("every=2, alpha=0.25") == Lookahead(2, 0.25)
    assert Lookahead.of(Lookahead(2)) == Lookahead(2)
