"""Signals instead of images: a 1-D network tells three kinds of heartbeat apart.

python docs/examples/time_series.py [PICTURE.png]
"""

import sys

import numpy as np
from matplotlib.figure import Figure

import fastcnn
from fastcnn.layers import (
    BatchNorm1d,
    Conv1d,
    Flatten,
    GlobalAvgPool1d,
    Linear,
    MaxPool1d,
    ReLU,
    Sequential,
)

KINDS = ("regular", "missing beats", "irregular")


def beats(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Signals of shape (N, 1, 256), and the kind of each."""
    random = np.random.default_rng(seed)
    kinds = random.integers(0, 3, count)
    time = np.arange(256)
    signals = random.normal(0, 0.15, (count, 1, 256)).astype(np.float32)
    for signal, kind in zip(signals, kinds, strict=True):
        period = random.uniform(24, 36)
        moments = np.arange(random.uniform(0, period), 256, period)
        if kind == 1:
            missing = random.choice(np.arange(1, len(moments) - 1), 2, replace=False)
            moments = np.delete(moments, missing)
        if kind == 2:
            moments = moments + random.uniform(-0.4, 0.4, len(moments)) * period
        for moment in moments:
            after = time - moment
            signal[0] += np.exp(-(after**2) / 5) - 0.4 * np.exp(-((after - 5) ** 2) / 12)
    return signals, kinds


def main(path: str) -> None:
    train, (signals, kinds) = beats(4000, 0), beats(500, 1)
    model = Sequential(
        Conv1d(1, 16, 7, padding=3, seed=0),
        BatchNorm1d(16),
        ReLU(),
        MaxPool1d(4),
        Conv1d(16, 32, 9, padding=4, seed=1),
        BatchNorm1d(32),
        ReLU(),
        MaxPool1d(2),
        Conv1d(32, 32, 9, padding=4, seed=2),
        BatchNorm1d(32),
        ReLU(),
        GlobalAvgPool1d(),
        Flatten(),
        Linear(32, 3, seed=3),
        input_shape=(1, 256),
    )
    fastcnn.fit(model, train, (signals, kinds), epochs=8, optimizer="adam", lr=0.003)
    likely = model.predict_proba(signals)
    print(f"right: {np.mean(likely.argmax(1) == kinds):.1%}")

    figure = Figure((10, 5), layout="constrained")
    for kind, axes in enumerate(figure.subplots(3, 1, sharex=True)):
        place = int(np.flatnonzero(kinds == kind)[0])
        axes.plot(signals[place, 0], color="#0072B2", linewidth=1)
        said = ", ".join(
            f"{name} {value:.0%}" for name, value in zip(KINDS, likely[place], strict=True)
        )
        axes.set_title(f"{KINDS[kind]}: {said}", loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "time_series.png")
