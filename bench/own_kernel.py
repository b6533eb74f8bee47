"""Training steps with a built-in activation and with the same one written by a user, in turns."""

import time
from typing import Any

import numpy as np

import fastcnn
from fastcnn import kernel
from fastcnn.layers import Conv2d, Flatten, Layer, Linear, MaxPool2d, Sequential, SiLU

BATCH, STEPS, ROUNDS = 64, 100, 15


def value(x: Any) -> Any:
    """``x * sigmoid(x)``."""
    return x * kernel.sigmoid(x)


def derivative(x: Any) -> Any:
    """Its derivative."""
    s = kernel.sigmoid(x)
    return s * (1.0 + x * (1.0 - s))


def _network(activation: type[Layer]) -> Sequential:
    return Sequential(
        Conv2d(1, 8, 3, padding=1, seed=0),
        activation(),
        MaxPool2d(2),
        Conv2d(8, 16, 3, padding=1, seed=1),
        activation(),
        MaxPool2d(2),
        Flatten(),
        Linear(784, 128, seed=2),
        activation(),
        Linear(128, 10, seed=3),
        input_shape=(1, 28, 28),
    )


def main() -> None:
    """Print the shortest processor times of a step, and their ratio."""
    own = kernel.activation("OwnSiLU", value, derivative)
    generator = np.random.default_rng(0)
    x = generator.standard_normal((BATCH * STEPS, 1, 28, 28)).astype(np.float32)
    y = generator.integers(0, 10, len(x))
    times: dict[str, list[float]] = {"SiLU": [], "own": []}
    for turn in range(ROUNDS + 1):
        for name, kind in (("SiLU", SiLU), ("own", own)):
            model = _network(kind)
            began = time.process_time()
            fastcnn.fit(model, (x, y), epochs=1, batch_size=BATCH, threads=1, diagnose=False)
            if turn:  # the first compiles
                times[name].append((time.process_time() - began) / STEPS)
    for name, found in times.items():
        print(f"{name}: {1e6 * min(found):.1f} us of one core a step of {BATCH}")
    print(f"ratio: {min(times['own']) / min(times['SiLU']):.3f}")


if __name__ == "__main__":
    main()
