"""A class for every pixel: a small U-Net finds the discs among squares.

python docs/examples/segmentation.py [PICTURE.png]
"""

import sys

import numpy as np
from matplotlib.figure import Figure

import fastcnn
from fastcnn.layers import Concat, Conv2d, ConvTranspose2d, Input, MaxPool2d, Model, ReLU


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images of 32 x 32 with discs and squares, and 1 where a disc is."""
    random = np.random.default_rng(seed)
    images = np.zeros((count, 1, 32, 32), np.float32)
    masks = np.zeros_like(images)
    h, w = np.mgrid[:32, :32]
    for image, mask in zip(images, masks, strict=True):
        for kind in random.permutation((0, 0, 1, 1)):
            y, x, r = random.uniform(5, 27), random.uniform(5, 27), random.uniform(3, 6)
            square = np.maximum(abs(h - y), abs(w - x)) < 0.9 * r
            inside = np.hypot(h - y, w - x) < r if kind else square
            image[0][inside] = random.uniform(0.5, 1.0)
            mask[0][inside] = kind
        image += random.normal(0, 0.15, image.shape)
    return images, masks


def block(channels: int, width: int, seed: int):
    return lambda x: ReLU()(Conv2d(channels, width, 3, padding=1, seed=seed)(x))


def unet() -> Model:
    """Down to a quarter of the size and up again, with the maps of each size joined."""
    image = Input((1, 32, 32))
    fine = block(8, 8, 1)(block(1, 8, 0)(image))
    middle = block(16, 16, 3)(block(8, 16, 2)(MaxPool2d(2)(fine)))
    coarse = block(32, 32, 5)(block(16, 32, 4)(MaxPool2d(2)(middle)))
    up = ConvTranspose2d(32, 16, 2, stride=2, seed=6)(coarse)
    up = block(32, 16, 7)(Concat()(up, middle))
    up = ConvTranspose2d(16, 8, 2, stride=2, seed=8)(up)
    return Model(image, Conv2d(8, 1, 1, seed=10)(block(16, 8, 9)(Concat()(up, fine))))


def main(path: str) -> None:
    train, (images, masks) = draw(1500, 0), draw(200, 1)
    model = unet()
    fastcnn.fit(
        model, train, epochs=8, batch_size=32, loss="bce_with_logits", optimizer="adam", lr=0.003
    )
    found = model.logits(images) > 0
    shared, either = (found & (masks > 0)).sum(), (found | (masks > 0)).sum()
    print(f"intersection over union: {shared / either:.1%}")

    figure = Figure((10, 6), layout="constrained")
    shown = {"image": images, "discs": masks, "found": found}
    for row, (name, pictures) in zip(figure.subplots(3, 5), shown.items(), strict=True):
        for axes, picture in zip(row, pictures, strict=False):
            axes.imshow(picture[0], cmap="gray_r")
            axes.set_axis_off()
        row[0].set_title(name, loc="left", fontsize=10)
    figure.savefig(path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "segmentation.png")
