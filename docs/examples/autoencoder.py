"""An autoencoder: digits through sixteen numbers and back, and what it does with noise.

python docs/examples/autoencoder.py [PICTURE.png]
"""

import sys

import numpy as np
from matplotlib.figure import Figure

import fastcnn
from fastcnn.layers import (
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Linear,
    ReLU,
    Sequential,
    Unflatten,
)


def main(path: str) -> None:
    train, test = fastcnn.data.digits_dataset(5000, 200, classes=range(10))
    clean, held = (part.images.astype(np.float32) / 255 for part in (train, test))
    noise = np.random.default_rng(0)
    model = Sequential(
        Conv2d(1, 16, 4, stride=2, padding=1, seed=0),
        ReLU(),
        Conv2d(16, 32, 4, stride=2, padding=1, seed=1),
        ReLU(),
        Flatten(),
        Linear(32 * 49, 16, seed=2),
        Linear(16, 32 * 49, seed=3),
        ReLU(),
        Unflatten(1, (32, 7, 7)),
        ConvTranspose2d(32, 16, 4, stride=2, padding=1, seed=4),
        ReLU(),
        ConvTranspose2d(16, 1, 4, stride=2, padding=1, seed=5),
        input_shape=(1, 28, 28),
    )
    noisy = clean + noise.normal(0, 0.4, clean.shape).astype(np.float32)
    fastcnn.fit(model, (noisy, clean), epochs=8, loss="mse", optimizer="adam", lr=0.002)
    seen = held + noise.normal(0, 0.4, held.shape).astype(np.float32)
    made = model.predict(seen)
    before, after = (np.mean((images - held) ** 2) for images in (seen, made))
    print(f"squared error: {before:.3f} before, {after:.3f} after")

    figure = Figure((10, 4), layout="constrained")
    shown = {"with noise": seen, "what it makes of it": made, "without": held}
    for row, (name, pictures) in zip(figure.subplots(3, 10), shown.items(), strict=True):
        for axes, picture in zip(row, pictures, strict=False):
            axes.imshow(picture[0], cmap="gray_r", vmin=0, vmax=1)
            axes.set_axis_off()
        row[0].set_title(name, loc="left", fontsize=10)
    figure.savefig(path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "autoencoder.png")
