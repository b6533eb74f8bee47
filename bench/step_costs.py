"""The cost of a training step with one thing changed, measured in turns in one process.

``python -m bench.step_costs NAME`` prints the shortest time of a step of each contestant, on one
thread by the thread's own clock, and its ratio to the first. The comparisons are ``optimizers``;
``kernel``, an activation written by a user; ``python``, a loss and an optimiser in Python; and
``options``, training options that average weights or accumulate gradients, whose steps have 4 times
the samples.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench.shortest import shortest
from fastcnn import kernel, models
from fastcnn.data.dataset import ArrayDataset
from fastcnn.execution import Executor, Watch, make_executor
from fastcnn.execution.executors import make_accumulating
from fastcnn.layers import Conv2d, Flatten, Layer, Linear, MaxPool2d, ReLU, Sequential, SiLU
from fastcnn.losses import CrossEntropyLoss, MSELoss, PythonLoss
from fastcnn.optim import OPTIMIZERS, SGD
from fastcnn.training.averaging import make_average
from fastcnn.training.options import TrainingOptions

STEPS, RATE = 40, 1e-4
#: Seconds of measuring for each contestant.
SECONDS = 2.0


def _lenet(activation: Callable[[], Layer] = ReLU) -> Sequential:
    """The LeNet of SimpleChains.jl, with 44,426 parameters."""
    return Sequential(
        Conv2d(1, 6, 5, seed=0), activation(), MaxPool2d(2), Conv2d(6, 16, 5, seed=1),
        activation(), MaxPool2d(2), Flatten(), Linear(256, 120, seed=2), activation(),
        Linear(120, 84, seed=3), activation(), Linear(84, 10, seed=4), input_shape=(1, 28, 28),
    )  # fmt: skip


def own_adam(
    p: Any, g: Any, m: Any, v: Any, lr: float, step: float, beta1: float = 0.9,
    beta2: float = 0.999, eps: float = 1e-8,
) -> Any:  # fmt: skip
    """Adam without its bias corrections."""
    m = beta1 * m + (1.0 - beta1) * g
    v = beta2 * v + (1.0 - beta2) * g * g
    return p - lr * m / (kernel.sqrt(v) + eps), m, v


def optimizers(batch: int, threads: int) -> dict[str, Executor]:
    """Each optimiser, and one written by a user."""
    kernel.optimizer("OwnAdam", own_adam, ("mean", "square"), lr=1e-3)
    return {
        name: _executor(_lenet(), CrossEntropyLoss(), kind(lr=RATE), batch, threads)
        for name, kind in OPTIMIZERS.items()
    }


def silu_slope(x: Any) -> Any:
    """The derivative of ``x * sigmoid(x)``."""
    s = kernel.sigmoid(x)
    return s * (1.0 + x * (1.0 - s))


def activations(batch: int, threads: int) -> dict[str, Executor]:
    """SiLU, and the same function written by a user."""
    own = kernel.activation("OwnSiLU", lambda x: x * kernel.sigmoid(x), silu_slope)
    return {
        name: _executor(_lenet(kind), CrossEntropyLoss(), SGD(RATE), batch, threads)
        for name, kind in (("built-in", SiLU), ("own", own))
    }


def mean_square(outputs: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """The built-in loss, and its gradient."""
    error = outputs - targets
    flat = error.reshape(-1)
    return float(flat @ flat) / error.size, error * np.float32(2.0 / error.size)


class Descent:
    """Stochastic gradient descent without momentum."""

    lr, slots = RATE, ()

    def update(
        self, parameters: np.ndarray, gradient: np.ndarray, slots: Any, lr: float, step: int
    ) -> None:
        """Take a step."""
        parameters -= np.float32(lr) * gradient


def python(batch: int, threads: int) -> dict[str, Executor]:
    """Loss and update by the engine or by Python."""
    ways: dict[str, tuple[Any, Any]] = {
        "built-in": (MSELoss(), SGD(RATE)),
        "loss in Python": (PythonLoss(mean_square), SGD(RATE)),
        "update in Python": (MSELoss(), Descent()),
        "both in Python": (PythonLoss(mean_square), Descent()),
    }
    return {
        name: _executor(models.report_cnn(seed=0, num_classes=10), *way, batch, threads)
        for name, way in ways.items()
    }


def options(batch: int, threads: int) -> dict[str, Executor]:
    """Training options that act after steps."""
    chosen: dict[str, dict[str, Any]] = {
        "plain": {},
        "lookahead": {"lookahead": 5},
        "ema": {"ema_decay": 0.99},
        "accumulate": {"accumulate": 4},
    }
    made = {}
    for name, given in chosen.items():
        settings = TrainingOptions(batch_size=batch, **given)
        model = models.report_cnn(seed=0, num_classes=10)
        made[name] = executor = make_accumulating(
            model,
            loss=settings.make_loss(),
            optimizer=SGD(RATE),
            batch_size=settings.step_size,
            accumulate=settings.accumulate,
            threads=threads,
        )
        average = make_average(model, settings, lambda: None)
        if average is not None and average.every is not None:
            executor.watch = Watch(average.every, partial(average.update, share=0.5))
    return made


def _executor(model: Any, loss: Any, optimizer: Any, batch: int, threads: int) -> Executor:
    return make_executor(model, loss=loss, optimizer=optimizer, batch_size=batch, threads=threads)


#: Comparisons by name, and the batches of each.
COMPARISONS: dict[str, tuple[Callable[[int, int], dict[str, Executor]], tuple[int, ...]]] = {
    "optimizers": (optimizers, (32,)),
    "kernel": (activations, (64,)),
    "python": (python, (16, 64, 256)),
    "options": (options, (16, 64)),
}


def steps(contestants: dict[str, Executor], samples: ArrayDataset) -> list[Callable[[], Any]]:
    """A call for each contestant, of one training epoch."""
    order = np.arange(len(samples))
    return [
        partial(run.train_steps, samples, order, np.full(len(order) // run.batch_size, RATE))
        for run in contestants.values()
    ]


def main() -> None:
    """Print times and ratios."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name", choices=COMPARISONS)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    make, batches = COMPARISONS[given.name]
    generator = np.random.default_rng(0)
    for batch in batches:
        x = generator.standard_normal((batch * STEPS, 1, 28, 28)).astype(np.float32)
        y: np.ndarray = generator.integers(0, 10, len(x))
        if given.name == "python":
            y = generator.standard_normal((len(x), 10)).astype(np.float32)
        contestants = make(batch, given.threads)
        runs = steps(contestants, ArrayDataset(x, y))
        best = shortest(runs, SECONDS * len(runs), given.threads)
        for name, seconds in zip(contestants, best, strict=True):
            ratio = f"{seconds / best[0]:.3f} times"
            print(f"batch {batch}, {name}: {1e6 * seconds / STEPS:.1f} us a step, {ratio}")


if __name__ == "__main__":
    main()
