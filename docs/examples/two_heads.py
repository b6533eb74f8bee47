"""Two answers from one trunk: which digit it is, and by how far it is turned.

python docs/examples/two_heads.py [PICTURE.png]
"""

import sys

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import fastcnn
from fastcnn.layers import Conv2d, Flatten, Input, Linear, MaxPool2d, Model, ReLU


def turned(images: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each image turned by some angle up to 60 degrees; and the angles in radians, (N, 1)."""
    angles = np.random.default_rng(seed).uniform(-60, 60, len(images))
    pictures = [
        Image.fromarray(image[0]).rotate(angle, Image.Resampling.BILINEAR)
        for image, angle in zip(images, angles, strict=True)
    ]
    return np.stack(pictures)[:, None], np.radians(angles)[:, None].astype(np.float32)


def network() -> Model:
    image = Input((1, 28, 28))
    x = MaxPool2d(2)(ReLU()(Conv2d(1, 16, 5, padding=2, seed=0)(image)))
    x = MaxPool2d(2)(ReLU()(Conv2d(16, 32, 3, padding=1, seed=1)(x)))
    trunk = ReLU()(Linear(32 * 49, 96, seed=2)(Flatten()(x)))
    heads = {"digit": Linear(96, 4, seed=3)(trunk), "angle": Linear(96, 1, seed=4)(trunk)}
    return Model(image, heads)


def main(path: str) -> None:
    train, test = fastcnn.data.digits_dataset(4000, 500, classes=(2, 3, 4, 7))
    images, angles = turned(train.images, 0)
    model = network()
    fastcnn.fit(
        model,
        (images, {"digit": train.labels, "angle": angles}),
        epochs=8,
        loss={"digit": "cross_entropy", "angle": "mse"},
        optimizer="adam",
        lr=0.002,
    )
    images, angles = turned(test.images, 1)
    found = model.predict(images)
    error = np.degrees(np.abs(found["angle"] - angles.ravel()))
    print(f"digits right: {np.mean(found['digit'] == test.labels):.1%}")
    print(f"median error of the angle: {np.median(error):.1f} degrees")

    names = [train.classes[label] for label in found["digit"][:10]]
    figure = Figure((10, 4.4), layout="constrained")
    rows = zip(figure.subplots(2, 5).flat, images, names, found["angle"], strict=False)
    for axes, image, name, angle in rows:
        axes.imshow(image[0], cmap="gray_r")
        down, right = -13 * np.cos(angle), -13 * np.sin(angle)
        axes.plot([14 - right, 14 + right], [14 - down, 14 + down], color="#D55E00")
        axes.set_title(f"{name}, {np.degrees(angle):.0f}°", fontsize=10)
        axes.set_axis_off()
    figure.savefig(path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "two_heads.png")
