"""``requires_grad = False``: the parameters do not change, on any backend."""

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.backends import BACKENDS
from fastcnn.data.dataset import ArrayDataset
from fastcnn.errors import ConfigurationError
from fastcnn.execution import loss_and_gradients, make_executor
from fastcnn.execution.step import Step
from fastcnn.layers import BatchNorm2d, Conv2d, Flatten, Linear, ReLU, Residual, Sequential
from fastcnn.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from tests.random_networks import random_case

torch = pytest.importorskip("torch")
COUNT = 24
generator = np.random.default_rng(0)
X = generator.standard_normal((COUNT, 2, 6, 6)).astype(np.float32)
Y = generator.integers(0, 3, COUNT)


def network() -> Sequential:
    return Sequential(
        {
            "conv": Conv2d(2, 3, 3, padding=1, seed=0),
            "bn": BatchNorm2d(3),
            "relu": ReLU(),
            "block": Residual(Sequential(Conv2d(3, 3, 3, padding=1, seed=1), ReLU())),
            "flat": Flatten(),
            # Ranges of the flat vector that do not align with units of the engine's update.
            "fc1": Linear(108, 37, seed=2),
            "fc2": Linear(37, 3, seed=3),
        },
        input_shape=(2, 6, 6),
    )


def module() -> Any:
    class Block(torch.nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.main = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.ReLU())

        def forward(self, x: Any) -> Any:
            return self.main(x) + x

    names = ["conv", "bn", "relu", "block", "flat", "fc1", "fc2"]
    layers = [
        torch.nn.Conv2d(2, 3, 3, padding=1), torch.nn.BatchNorm2d(3), torch.nn.ReLU(), Block(),
        torch.nn.Flatten(), torch.nn.Linear(108, 37), torch.nn.Linear(37, 3),
    ]  # fmt: skip
    made = torch.nn.Sequential()
    for name, layer in zip(names, layers, strict=True):
        made.add_module(name, layer)
    return made


OPTIMIZERS = {
    "sgd": (SGD(momentum=0.9, weight_decay=0.1),
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1)),
    "plain": (SGD(momentum=0.0, weight_decay=0.1),
              lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.1)),
    "adam": (Adam(weight_decay=0.1, eps=1e-3),
             lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1, eps=1e-3)),
    "adamw": (AdamW(weight_decay=0.1, eps=1e-3),
              lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1, eps=1e-3)),
    "rmsprop": (RMSprop(momentum=0.5, weight_decay=0.1, eps=1e-2),
                lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.5, weight_decay=0.1, eps=1e-2)),
}  # fmt: skip


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("frozen", [("conv", "fc1"), ("bn", "block"), ("conv", "bn", "block")])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("backend", ["im2col", "lanes"])
def test_steps_are_pytorchs(
    backend: str, name: str, frozen: tuple[str, ...], clip: float | None
) -> None:
    model, other = network(), module()
    other.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in model.state_dict().items()})
    optimizer: Optimizer = OPTIMIZERS[name][0]
    theirs = OPTIMIZERS[name][1](other.parameters())
    executor = make_executor(
        model, loss=fastcnn.CrossEntropyLoss(), optimizer=optimizer, backend=backend,
        batch_size=COUNT, threads=2, clip_norm=clip,
    )  # fmt: skip

    def steps(count: int) -> None:
        made = executor.train_steps(
            ArrayDataset(X, Y), np.tile(np.arange(COUNT), count), np.full(count, 0.1)
        )
        for index in range(count):
            theirs.zero_grad()
            loss = torch.nn.functional.cross_entropy(
                other(torch.from_numpy(X)), torch.from_numpy(Y)
            )
            loss.backward()
            limit = 1e9 if clip is None else clip
            norm = torch.nn.utils.clip_grad_norm_(other.parameters(), limit)
            assert made.gradient_norms[index] == pytest.approx(float(norm), rel=1e-2)
            theirs.step()

    steps(1)
    for layer in frozen:
        model[layer].requires_grad = False
        getattr(other, layer).requires_grad_(False)
    before = model.copy_state()
    steps(2)
    for key, value in model.state_dict().items():
        if key.startswith(frozen) and "running" not in key and "num_batches" not in key:
            assert (value == before[key]).all(), key
        wanted = other.state_dict()[key].numpy()
        np.testing.assert_allclose(
            value, wanted, rtol=1e-2, atol=1e-3, equal_nan=False, err_msg=key
        )
    # After unfreezing, they are trained again, with the earlier optimiser state.
    for layer in frozen:
        model[layer].requires_grad = True
    executor.train_steps(ArrayDataset(X, Y), np.arange(COUNT), np.full(1, 0.1))
    changed = {k.split(".")[0] for k, v in model.state_dict().items() if (v != before[k]).any()}
    assert changed >= set(frozen)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_frozen_parameters_are_zero(backend: str) -> None:
    model = network()
    wanted = fastcnn.gradients(model, X, Y, backend=backend)[1]
    model["fc1"].requires_grad = False
    model["block"].requires_grad = False
    found = fastcnn.gradients(model, X, Y, backend=backend)[1]
    for key, value in found.items():
        if key.startswith(("fc1", "block")):
            assert not value.any()
        else:
            np.testing.assert_allclose(value, wanted[key], rtol=0, atol=1e-6, equal_nan=False)


def test_a_model_is_frozen_and_thawed_as_a_whole() -> None:
    model = network()
    assert model.requires_grad
    model["block"].requires_grad = False
    assert not model["block.main.0"].requires_grad
    assert model.requires_grad
    model.requires_grad = False
    assert model.trainable_ranges() == []
    before = model.copy_state()
    fastcnn.fit(model, (X, Y), epochs=1, diagnose=False, optimizer=AdamW(weight_decay=0.5))
    after = model.state_dict()
    assert all((before[key] == after[key]).all() for key in model.named_parameters())
    model.requires_grad = True
    assert model.trainable_ranges() == [(0, model.num_parameters)]


def test_one_array_is_not_frozen_in_one_of_its_layers_alone() -> None:
    model = Sequential(Linear(4, 4, seed=0), Linear(4, 4, seed=1), input_shape=(4,))
    model["1"].weight = model["0"].weight  # type: ignore[attr-defined]
    model["1"].requires_grad = False
    with pytest.raises(ConfigurationError, match=r"0.weight: layers .* differ in requires_grad"):
        fastcnn.fit(model, (np.ones((4, 4)), np.arange(4)), epochs=1, diagnose=False)


@pytest.mark.parametrize("seed", range(12))
def test_the_other_gradients_are_the_same_whatever_is_frozen(seed: int) -> None:
    """In random networks with randomly frozen layers: omitted rows were not needed."""
    case = random_case(seed, 200_000)
    model, kept = case.model, case.model.copy_state()
    layers = list({id(layer): layer for _, layer in model.named_leaves()}.values())

    def gradient(backend: str) -> np.ndarray:
        model.load_state_dict(kept)
        x, y = case.x[: case.batch], case.y[: case.batch]
        return loss_and_gradients(
            model, x, y, loss=case.loss, backend=backend, step=Step(case.training, seed=1)
        )[2].copy()

    whole, random = gradient("lanes"), np.random.default_rng(seed)
    for _ in range(2):
        for layer in layers:
            layer.requires_grad = bool(random.random() < 0.5)
        try:
            ranges = model.trainable_ranges()
        except ConfigurationError:  # one array in two layers
            continue
        trained = np.zeros(whole.size, np.bool_)
        for first, end in ranges:
            trained[first:end] = True
        for backend in ("lanes", "im2col"):
            found = gradient(backend)
            assert not found[~trained].any()
            size = float(np.abs(whole).max(initial=1e-9))
            np.testing.assert_allclose(
                found[trained], whole[trained], rtol=5e-4, atol=1e-3 * size, equal_nan=False
            )
