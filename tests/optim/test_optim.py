"""Optimisers and schedules."""

from typing import Any

import numpy as np
import pytest

from fastcnn.errors import ConfigurationError
from fastcnn.optim import (
    OPTIMIZERS,
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    OneCycle,
    RMSprop,
    StepDecay,
    Warmup,
    as_optimizer,
    as_schedule,
    clip_gradient_norm,
    learning_rates,
)
from fastcnn.optim.base import lerp


def run(optimizer: Any, gradients: list[np.ndarray], start: np.ndarray) -> np.ndarray:
    """Parameters after one step for each gradient."""
    parameters = start.copy()
    slots = {name: np.zeros_like(parameters) for name in optimizer.slots}
    for step, gradient in enumerate(gradients, 1):
        kept = gradient.copy()
        optimizer.update(parameters, gradient, slots, optimizer.lr, step)
        assert (gradient == kept).all()
    return parameters


def test_sgd_by_hand() -> None:
    p, g = np.array([1.0]), [np.array([0.5]), np.array([-0.25])]
    assert run(SGD(0.1), g, p) == pytest.approx(1 - 0.05 + 0.025)
    # v1 = 0.5, v2 = 0.9 * 0.5 - 0.25 = 0.2
    assert run(SGD(0.1, momentum=0.9), g, p) == pytest.approx(1 - 0.05 - 0.02)
    # steps g + 0.9 v: 0.95, -0.25 + 0.18
    assert run(SGD(0.1, momentum=0.9, nesterov=True), g, p) == pytest.approx(1 - 0.095 + 0.007)
    assert run(SGD(0.1, weight_decay=0.1), g[:1], p) == pytest.approx(1 - 0.1 * (0.5 + 0.1))


def test_the_first_step_of_adam_is_the_learning_rate() -> None:
    p, g = np.array([1.0, 1.0]), [np.array([1e-3, -5.0])]
    assert run(Adam(0.1), g, p) == pytest.approx([0.9, 1.1], rel=1e-4)
    assert run(AdamW(0.1, weight_decay=0.5), g, p) == pytest.approx([0.85, 1.05], rel=1e-4)


def test_rmsprop_by_hand() -> None:
    p, g = np.array([1.0]), [np.array([0.5]), np.array([-0.5])]
    # mean squares 0.025, 0.0475; steps g / sqrt of them
    first, second = 0.5 / 0.025**0.5, -0.5 / 0.0475**0.5
    assert run(RMSprop(0.1, alpha=0.9, eps=0.0), g, p) == pytest.approx(1 - 0.1 * (first + second))
    smoothed = first + (0.9 * first + second)
    assert run(RMSprop(0.1, 0.9, 0.0, momentum=0.9), g, p) == pytest.approx(1 - 0.1 * smoothed)
    # mean 0.05, variance 0.0225; with a constant gradient and alpha 0 the variance is zero
    assert run(RMSprop(0.1, 0.9, 0.0, centered=True), g[:1], p) == pytest.approx(
        1 - 0.1 * 0.5 / 0.0225**0.5
    )
    assert np.isfinite(run(RMSprop(0.1, 0.0, centered=True), g, p)).all()


@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("SGD", {"lr": 0.05}),
        ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}),
        ("SGD", {"lr": 0.05, "momentum": 0.8, "nesterov": True}),
        ("Adam", {"lr": 0.01, "weight_decay": 0.1}),
        ("AdamW", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1}),
        ("RMSprop", {"lr": 0.01}),
        ("RMSprop", {"lr": 0.01, "alpha": 0.9, "momentum": 0.8, "weight_decay": 0.1}),
        ("RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.5}),
        ("NAdam", {"lr": 0.01, "weight_decay": 0.1, "momentum_decay": 0.01}),
        ("NAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
        ("Adam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
        ("Adagrad", {"lr": 0.05, "lr_decay": 0.1, "weight_decay": 0.1}),
        ("Adagrad", {"lr": 0.05, "initial_accumulator_value": 0.3}),
        ("Adadelta", {"lr": 0.5, "rho": 0.8, "weight_decay": 0.1}),
    ],
)
def test_against_torch(name: str, arguments: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    generator = np.random.default_rng(0)
    start = generator.standard_normal(6)
    gradients = list(generator.standard_normal((20, 6)))
    parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
    theirs = getattr(torch.optim, name)([parameter], **arguments)
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient.copy())
        theirs.step()
    ours = run(OPTIMIZERS[name.lower()](**arguments), gradients, start)
    # PyTorch keeps NAdam's product of coefficients in float32.
    exact = 1e-12 if name != "NAdam" else 1e-8
    assert ours == pytest.approx(parameter.detach().numpy(), rel=exact)


@pytest.mark.torch
def test_one_cycle_against_torch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.3, total_steps=40, cycle_momentum=False
    )
    expected = []
    for _ in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    ours = learning_rates(OneCycle(), 0.3, 0, 40, 40, 10)
    assert ours == pytest.approx(np.array(expected), rel=1e-9)


def test_schedules() -> None:
    assert learning_rates(Constant(), 0.1, 3, 2, 10, 5).tolist() == [0.1, 0.1]
    steps = learning_rates(StepDecay(2, 0.5), 1.0, 0, 6, 6, 1)
    assert steps.tolist() == [1, 1, 0.5, 0.5, 0.25, 0.25]
    cosine = learning_rates(Cosine(0.1), 1.0, 0, 101, 100, 10)
    assert cosine[[0, 50, 100]] == pytest.approx([1.0, 0.55, 0.1])
    cycle = learning_rates(OneCycle(), 1.0, 0, 100, 100, 10)
    assert cycle[0] == pytest.approx(0.04)
    assert cycle.argmax() == 29
    assert cycle[-1] == pytest.approx(0.04e-4)
    warm = learning_rates(Warmup(3), 1.0, 0, 5, 5, 5)
    assert warm == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert as_schedule("cosine", 2) == Warmup(2, Cosine())


def test_clipping() -> None:
    gradient = np.array([3.0, 4.0], np.float32)
    assert clip_gradient_norm(gradient, None) == 5.0
    assert gradient.tolist() == [3.0, 4.0]
    assert clip_gradient_norm(gradient, 1.0) == 5.0
    assert gradient == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SGD(-1.0), "SGD: lr must be at least"),
        (lambda: SGD(float("nan")), "SGD: lr must be at least"),
        (lambda: SGD(float("inf")), "SGD: lr must be at least 0 and below inf, got inf"),
        (lambda: SGD("0.1"), "SGD: lr must be a number, got '0.1'"),
        (lambda: SGD(0.1, momentum=1.0), "momentum"),
        (lambda: SGD(0.1, nesterov=True), "nesterov needs a momentum"),
        (lambda: Adam(betas=(0.9, 1.0)), "betas"),
        (lambda: as_optimizer("lamb"), "one of sgd, adam, adamw"),
        (lambda: as_optimizer("adam", momentum=0.9), "belongs to sgd, rmsprop, muon"),
        (lambda: as_schedule("linear"), "one of constant, step"),
        (lambda: OneCycle(warmup_fraction=1.0), "warmup_fraction"),
        (lambda: Warmup(-1), "steps must be"),
        (lambda: StepDecay(0), "every_epochs"),
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        call()


@pytest.mark.parametrize("name", ["cosine", "one-cycle", "triangular"])
def test_after_the_training_the_last_rate_stays(name: str) -> None:
    rates = learning_rates(name, 0.1, 8, 9, 8, 1)  # type: ignore[arg-type]
    assert (rates == rates[0]).all()
    assert rates[0] < 0.01


@pytest.mark.parametrize("rate", [-0.1, float("nan"), float("inf"), "0.1", None])
def test_a_schedule_gives_rates(rate: Any) -> None:
    """A negative one would raise the loss."""

    class Falling:
        def lr(self, step: int, *_: Any) -> Any:
            return 0.1 if step < 4 else rate

    assert learning_rates(Falling(), 0.1, 0, 4, 8, 1).tolist() == [0.1] * 4
    with pytest.raises(ConfigurationError, match=r"gives a learning rate of .* at step 4: it must"):
        learning_rates(Falling(), 0.1, 0, 8, 8, 1)


@pytest.mark.parametrize("weight", [0.0, 0.001, 0.4, 0.5, 0.9, 1.0])
def test_averages_do_not_cancel(weight: float) -> None:
    """From a large value to a small one and back, whichever end is nearer."""
    for first, second in ((1e8, 1.0), (1.0, 1e8), (-3e7, 0.125)):
        start, end = np.array([first], np.float32), np.array([second], np.float32)
        lerp(start, end, weight)
        assert start[0] == pytest.approx((1.0 - weight) * first + weight * second, rel=1e-6)


@pytest.mark.torch
@pytest.mark.parametrize("beta", [0.0, 0.3, 0.9])
def test_first_moments_of_gradients_of_very_different_size(beta: float) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ours, theirs = np.zeros(1, np.float32), torch.nn.Parameter(torch.zeros(1))
    method, slots = Adam(0.1, (beta, 0.9)), {"exp_avg": ours.copy(), "exp_avg_sq": ours.copy()}
    reference = torch.optim.Adam([theirs], 0.1, (beta, 0.9))
    for step, value in enumerate((1e8, 1.0, -3e-4, 2e5, 1.0), start=1):
        method.update(ours, np.array([value], np.float32), slots, 0.1, step)
        theirs.grad = torch.tensor([value])
        reference.step()
        moment = reference.state[theirs]["exp_avg"].item()
        assert slots["exp_avg"][0] == pytest.approx(moment, rel=1e-6)
