"""Several labels for each image: which of three shapes are in a picture?

python docs/examples/multi_label.py [PICTURE.png]
"""

import sys

import numpy as np
from matplotlib.figure import Figure

import fastcnn
from fastcnn.layers import Conv2d, Flatten, GlobalMaxPool2d, Linear, MaxPool2d, ReLU, Sequential

SHAPES = ("disc", "square", "cross")


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of 32 x 32 with none to three shapes, and for each shape whether it is there."""
    random = np.random.default_rng(seed)
    images = random.normal(0, 0.2, (count, 1, 32, 32)).astype(np.float32)
    labels = random.integers(0, 2, (count, 3)).astype(np.float32)
    h, w = np.mgrid[-5:6, -5:6]
    far = np.maximum(abs(h), abs(w))
    stamps = (np.hypot(h, w) < 5, (far > 2) & (far < 5), abs(h) == abs(w))
    for image, present in zip(images, labels, strict=True):
        for stamp, there in zip(stamps, present, strict=True):
            if there:
                top, left = random.integers(0, 22, 2)
                image[0, top : top + 11, left : left + 11] += stamp
    return images, labels


def main(path: str) -> None:
    train, test = draw(4000, 0), draw(500, 1)
    model = Sequential(
        Conv2d(1, 16, 5, padding=2, seed=0),
        ReLU(),
        MaxPool2d(2),
        Conv2d(16, 32, 5, padding=2, seed=1),
        ReLU(),
        GlobalMaxPool2d(),
        Flatten(),
        Linear(32, 3, seed=2),
        input_shape=(1, 32, 32),
    )
    # One yes or no for each label, and not one of three as cross-entropy has it.
    fastcnn.fit(model, train, epochs=8, loss="bce_with_logits", optimizer="adam", lr=0.003)
    likely = 1 / (1 + np.exp(-model.logits(test[0])))
    found = likely > 0.5
    print(f"labels right: {np.mean(found == test[1]):.1%}")

    figure = Figure((10, 4.4), layout="constrained")
    for axes, image, row in zip(figure.subplots(2, 5).flat, test[0], likely, strict=False):
        axes.imshow(image[0], cmap="gray_r", vmin=-0.5, vmax=1.5)
        title = "\n".join(f"{name} {value:.0%}" for name, value in zip(SHAPES, row, strict=True))
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    figure.savefig(path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "multi_label.png")
