"""Training steps with what Python does between them, and without it, in turns.

``python -m bench.python_loss`` prints processor times of a step on one core, and their ratios to a
plain step: of a loss and an optimiser in Python; and of the options of training that average
weights, or add up gradients, whose steps have 4 times the samples.
"""

import time
from functools import partial
from typing import Any

import numpy as np

from fastcnn import models
from fastcnn.data.dataset import ArrayDataset
from fastcnn.execution import Watch, make_executor
from fastcnn.execution.executors import make_accumulating
from fastcnn.losses import Loss, MSELoss, PythonLoss
from fastcnn.optim import SGD, Optimizer
from fastcnn.training.averaging import make_average
from fastcnn.training.options import TrainingOptions

STEPS, ROUNDS = 40, 12


def mean_square(outputs: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """The built-in loss, and its gradient."""
    error = outputs - targets
    flat = error.reshape(-1)
    return float(flat @ flat) / error.size, error * np.float32(2.0 / error.size)


class Descent:
    """Stochastic gradient descent without momentum."""

    lr, slots = 0.01, ()

    def update(
        self, parameters: np.ndarray, gradient: np.ndarray, slots: Any, lr: float, step: int
    ) -> None:
        """Take a step."""
        parameters -= np.float32(lr) * gradient


def times(batch: int) -> dict[str, float]:
    """Shortest processor times of a step by who computes the loss and the update."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((batch * STEPS, 1, 28, 28)).astype(np.float32)
    y = generator.standard_normal((len(x), 3)).astype(np.float32)
    runs: dict[str, tuple[Loss, Optimizer | Descent]] = {
        "built-in": (MSELoss(), SGD(0.01)),
        "loss in Python": (PythonLoss(mean_square), SGD(0.01)),
        "update in Python": (MSELoss(), Descent()),
        "both in Python": (PythonLoss(mean_square), Descent()),
    }
    made = {
        name: make_executor(
            models.report_cnn(seed=0),
            loss=loss,
            optimizer=optimizer,  # type: ignore[arg-type]
            batch_size=batch,
            threads=1,
        )
        for name, (loss, optimizer) in runs.items()
    }
    order, rates = np.arange(len(x)), np.full(STEPS, 1e-4)
    best = dict.fromkeys(made, float("inf"))
    for _ in range(ROUNDS):
        for name, executor in made.items():
            began = time.thread_time()
            executor.train_steps(ArrayDataset(x, y), order, rates)
            best[name] = min(best[name], (time.thread_time() - began) / STEPS)
    return best


def option_times(batch: int) -> dict[str, float]:
    """Shortest processor times of a pass by the options of training."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((batch * STEPS, 1, 28, 28)).astype(np.float32)
    y = generator.integers(0, 3, len(x))
    options: dict[str, dict[str, Any]] = {
        "plain": {},
        "lookahead": {"lookahead": 5},
        "ema": {"ema_decay": 0.99},
        "accumulate": {"accumulate": 4},
    }
    best = dict.fromkeys(options, float("inf"))
    for _ in range(ROUNDS):
        for name, chosen in options.items():
            settings = TrainingOptions(batch_size=batch, **chosen)
            model = models.report_cnn(seed=0)
            executor = make_accumulating(
                model,
                loss=settings.make_loss(),
                optimizer=SGD(0.01),
                batch_size=settings.step_size,
                accumulate=settings.accumulate,
                threads=1,
            )
            average = make_average(model, settings, lambda: None)
            if average is not None and average.every is not None:
                executor.watch = Watch(average.every, partial(average.update, share=0.5))
            order, rates = np.arange(len(x)), np.full(STEPS // settings.accumulate, 1e-4)
            executor.train_steps(ArrayDataset(x, y), order, rates)
            for _ in range(3):
                began = time.thread_time()
                executor.train_steps(ArrayDataset(x, y), order, rates)
                best[name] = min(best[name], (time.thread_time() - began) / STEPS)
    return best


def main() -> None:
    """Print times and ratios."""
    for batch in (16, 64):
        best = option_times(batch)
        for name, seconds in best.items():
            ratio = seconds / best["plain"]
            print(f"batch {batch}, {name}: {1e6 * seconds:.1f} us a pass, {ratio:.2f} times")
    for batch in (16, 64, 256):
        best = times(batch)
        for name, seconds in best.items():
            ratio = seconds / best["built-in"]
            print(f"batch {batch}, {name}: {1e6 * seconds:.1f} us a step, {ratio:.2f} times")


if __name__ == "__main__":
    main()
