"""Training steps of LeNet at batch 32 with each optimiser, in turns in one process."""

import argparse
import time
from typing import Any

import numpy as np

import fastcnn
from fastcnn import kernel
from fastcnn.data.dataset import ArrayDataset
from fastcnn.execution import Executor, make_executor
from fastcnn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from fastcnn.optim import OPTIMIZERS

BATCH, STEPS, ROUNDS = 32, 40, 60


def _network() -> Sequential:
    """The LeNet of SimpleChains.jl, of 44,426 parameters."""
    return Sequential(
        Conv2d(1, 6, 5, seed=0), ReLU(), MaxPool2d(2), Conv2d(6, 16, 5, seed=1), ReLU(),
        MaxPool2d(2), Flatten(), Linear(256, 120, seed=2), ReLU(), Linear(120, 84, seed=3), ReLU(),
        Linear(84, 10, seed=4), input_shape=(1, 28, 28),
    )  # fmt: skip


def _own_adam(
    p: Any, g: Any, m: Any, v: Any, lr: float, step: float, beta1: float = 0.9,
    beta2: float = 0.999, eps: float = 1e-8,
) -> Any:  # fmt: skip
    m = beta1 * m + (1.0 - beta1) * g
    v = beta2 * v + (1.0 - beta2) * g * g
    return p - lr * m / (kernel.sqrt(v) + eps), m, v


def main() -> None:
    """Print the shortest processor time of a step with each optimiser, less that with SGD."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    kernel.optimizer("OwnAdam", _own_adam, ("mean", "square"), lr=1e-3)
    generator = np.random.default_rng(0)
    x = generator.random((256, 1, 28, 28), np.float32)
    y, order = generator.integers(0, 10, 256), np.resize(np.arange(256), BATCH * STEPS)
    executors: dict[str, Executor] = {
        name: make_executor(
            _network(), loss=fastcnn.CrossEntropyLoss(), optimizer=kind(lr=1e-4),
            batch_size=BATCH, threads=threads,
        )
        for name, kind in OPTIMIZERS.items()
    }  # fmt: skip
    best = dict.fromkeys(executors, np.inf)
    clock = time.thread_time if threads == 1 else time.perf_counter
    for _ in range(ROUNDS):
        for name, executor in executors.items():
            began = clock()
            executor.train_steps(ArrayDataset(x, y), order, np.full(STEPS, 1e-4))
            best[name] = min(best[name], (clock() - began) / STEPS)
    for name, seconds in best.items():
        more = seconds - best["sgd"]
        print(f"{name:10} {1e6 * seconds:7.1f} us a step, {1e6 * more:+6.1f} us to sgd")


if __name__ == "__main__":
    main()
