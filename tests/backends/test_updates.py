"""Updates on the engine: the same steps as the formulas in ``optim``, on any threads."""

import os
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import kernel
from fastcnn.execution import make_executor
from fastcnn.layers import Conv2d, Flatten, Linear, ReLU, Sequential
from fastcnn.optim import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    Assignment,
    Lion,
    Muon,
    NAdam,
    RMSprop,
    as_groups,
)
from tests.guard_pages import guarded_engine

OPTIMIZERS = [
    SGD(0.1), SGD(0.1, weight_decay=0.3), SGD(0.1, weight_decay=0.3, decoupled_weight_decay=True),
    SGD(0.1, momentum=0.9, weight_decay=0.1), SGD(0.1, momentum=0.8, nesterov=True),
    SGD(0.1, momentum=0.8, nesterov=True, weight_decay=0.2, decoupled_weight_decay=True),
    Adam(0.1), Adam(0.1, (0.3, 0.9), weight_decay=0.2), AdamW(0.1, weight_decay=0.3),
    NAdam(0.1, weight_decay=0.2), NAdam(0.1, decoupled_weight_decay=True, weight_decay=0.2),
    RMSprop(0.1), RMSprop(0.1, momentum=0.5, weight_decay=0.2), RMSprop(0.1, centered=True),
    RMSprop(0.1, 0.3, momentum=0.5, centered=True), Lion(0.1, weight_decay=0.3),
    Lion(0.1, (0.2, 0.4)), Adagrad(0.1, lr_decay=0.2, weight_decay=0.1),
    Adagrad(0.1, initial_accumulator_value=0.5), Adadelta(weight_decay=0.1),
    Muon(0.1, weight_decay=0.2), Muon(0.1, nesterov=False, adjust_lr_fn="match_rms_adamw"),
    Muon(0.1, 0.6, ns_steps=3, normalize_weight=True, adjust_lr_fn="none", others=SGD(0.3)),
    Muon(0.1, weight_decay=0.2, decoupled_weight_decay=False, ns_steps=0),
]  # fmt: skip

#: Two kinds of optimiser, with different slots and factors, and a frozen part.
GROUPS = as_groups(
    [
        {"match": "*.bias", "lr_factor": 3.0},
        {"match": "2.*", "optimizer": SGD(0.05, momentum=0.9, nesterov=True)},
        {"match": "4.weight", "freeze": True},
        {"match": "6.*", "lr": 0.01},
    ]
)


def network() -> Sequential:
    """Parameters of odd sizes; one is larger than a unit of the update."""
    return Sequential(
        Conv2d(2, 5, 3, seed=0), ReLU(), Conv2d(5, 7, (1, 3), seed=1), Flatten(),
        Linear(56, 37, seed=2), ReLU(), Linear(37, 3, seed=3), input_shape=(2, 6, 6),
    )  # fmt: skip


def steps(optimizer: Any, backend: str, threads: int, clip: float | None) -> list[np.ndarray]:
    """Parameters after each of several steps, whose gradients differ much in size, then state."""
    model = network()
    executor = make_executor(
        model, loss=fastcnn.CrossEntropyLoss(), optimizer=optimizer, backend=backend,
        batch_size=8, threads=threads, clip_norm=clip,
    )  # fmt: skip
    assert type(executor).__name__ == (
        "LanesExecutor" if backend == "lanes" else "OperationExecutor"
    )
    generator, found = np.random.default_rng(7), []
    for _ in range(6):
        gradient = generator.standard_normal(model.num_parameters)
        gradient *= 10.0 ** generator.uniform(-3, 1, gradient.size)
        executor.update(gradient.astype(np.float32), optimizer.lr)
        found.append(model.parameter_vector.copy())
    return [*found, *executor.optimizer_state().values()]


@pytest.mark.parametrize("clip", [None, 0.7])
@pytest.mark.parametrize("groups", [(), GROUPS], ids=["all", "groups"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_steps_are_the_formulas(optimizer: Any, groups: Any, clip: float | None) -> None:
    assigned = Assignment(optimizer, groups)
    found = [steps(assigned, "lanes", threads, clip) for threads in (1, 3)]
    expected = steps(assigned, "im2col", 1, clip)
    for name, (ours, theirs) in enumerate(zip(found[0], expected, strict=True)):
        np.testing.assert_allclose(
            ours, theirs, rtol=1e-4, atol=1e-5, equal_nan=False, err_msg=str(name)
        )
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def lion(p: Any, g: Any, m: Any, lr: float, step: float, b1: float = 0.9, b2: float = 0.99) -> Any:
    change = b1 * m + (1.0 - b1) * g
    sign = kernel.where(change > 0.0, 1.0, kernel.where(change < 0.0, -1.0, 0.0))
    return p - lr * sign, b2 * m + (1.0 - b2) * g


def test_an_own_optimiser_has_groups_too() -> None:
    made = kernel.optimizer("OwnLion", lion, ("mean",), lr=0.1)()
    groups = as_groups([{"match": "*.bias", "lr_factor": 0.5, "b1": 0.5}])
    package = as_groups([{"match": "*.bias", "lr_factor": 0.5, "betas": (0.5, 0.99)}])
    ours = steps(Assignment(made, groups), "lanes", 2, None)
    theirs = steps(Assignment(Lion(0.1), package), "im2col", 1, None)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=5e-5, atol=5e-6, equal_nan=False)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("ours", "name", "arguments"),
    [
        (SGD(0.1, momentum=0.8, nesterov=True, weight_decay=0.1), "SGD",
         {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
        (Adam(0.1, weight_decay=0.1), "Adam", {"weight_decay": 0.1}),
        (AdamW(0.1, weight_decay=0.1), "AdamW", {"weight_decay": 0.1}),
        (NAdam(0.1, weight_decay=0.1), "NAdam", {"weight_decay": 0.1}),
        (NAdam(0.1, weight_decay=0.1, decoupled_weight_decay=True), "NAdam",
         {"weight_decay": 0.1, "decoupled_weight_decay": True}),
        (RMSprop(0.1, centered=True, momentum=0.5, weight_decay=0.1), "RMSprop",
         {"centered": True, "momentum": 0.5, "weight_decay": 0.1}),
        (Adagrad(0.1, lr_decay=0.1, weight_decay=0.1), "Adagrad",
         {"lr_decay": 0.1, "weight_decay": 0.1}),
        (Adadelta(1.0, weight_decay=0.1), "Adadelta", {"weight_decay": 0.1}),
    ],
)  # fmt: skip
def test_steps_are_pytorchs(ours: Any, name: str, arguments: dict[str, Any]) -> None:
    """The engine's steps against float64, one after the other."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model = network()
    parameter = torch.nn.Parameter(torch.from_numpy(model.parameter_vector.astype(np.float64)))
    theirs = getattr(torch.optim, name)([parameter], lr=ours.lr, **arguments)
    executor = make_executor(
        model, loss=fastcnn.CrossEntropyLoss(), optimizer=ours, batch_size=8, threads=2
    )
    generator = np.random.default_rng(7)
    for _ in range(10):
        gradient = generator.standard_normal(model.num_parameters).astype(np.float32)
        executor.update(gradient, ours.lr)
        parameter.grad = torch.from_numpy(gradient.astype(np.float64))
        theirs.step()
        np.testing.assert_allclose(
            model.parameter_vector,
            parameter.detach().numpy(),
            rtol=5e-5,
            atol=1e-5,
            equal_nan=False,
        )


@pytest.mark.parametrize("optimizer", [Adam(), AdamW(), NAdam(), RMSprop(), Adagrad(), Adadelta()])
def test_steps_of_tiny_and_huge_gradients(optimizer: Any) -> None:
    """Those whose squares float32 can represent, or can count as 0, against float64."""
    model = network()
    executor = make_executor(
        model, loss=fastcnn.CrossEntropyLoss(), optimizer=optimizer, batch_size=8, threads=2
    )
    slots = {slot: np.zeros(model.num_parameters) for slot in optimizer.slots}
    generator = np.random.default_rng(7)
    model.parameter_vector[...] = 0.0
    parameters = np.zeros(model.num_parameters)
    sizes = 10.0 ** generator.uniform(-20, 18, model.num_parameters)
    for step in range(1, 7):
        gradient = (sizes * generator.uniform(0.5, 2.0, sizes.size)).astype(np.float32)
        executor.update(gradient, optimizer.lr)
        optimizer.update(parameters, gradient.astype(np.float64), slots, optimizer.lr, step)
        np.testing.assert_allclose(model.parameter_vector, parameters, rtol=1e-4, atol=1e-18)


@pytest.mark.skipif(os.name != "posix", reason="needs mprotect, which is POSIX's")
@pytest.mark.parametrize("at_end", [True, False])
def test_updates_stay_inside_their_arrays(at_end: bool) -> None:
    """Each array is next to an unreadable page."""
    with guarded_engine(at_end) as runs:
        for optimizer in (Muon(0.1), NAdam(0.1), RMSprop(0.1, momentum=0.5, centered=True)):
            steps(Assignment(optimizer, GROUPS), "lanes", 2, 0.7)
    assert runs["engine runs"] >= 18
