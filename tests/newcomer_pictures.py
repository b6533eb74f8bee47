"""Draws a folder of pictures of mixed sizes for newcomer.sh: circles, squares and triangles."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

KINDS, PICTURES = ("circle", "square", "triangle"), 150


def draw_picture(kind: str, generator: np.random.Generator) -> Image.Image:
    width, height = (int(size) for size in generator.integers(32, 64, 2))
    paper, ink = (
        tuple(int(value) for value in generator.integers(low, high, 3))
        for low, high in ((200, 256), (0, 120))
    )
    image = Image.new("RGB", (width, height), paper)
    radius = int(min(width, height) * generator.uniform(0.2, 0.35))
    x = int(generator.integers(radius, width - radius))
    y = int(generator.integers(radius, height - radius))
    pen, box = ImageDraw.Draw(image), (x - radius, y - radius, x + radius, y + radius)
    if kind == "circle":
        pen.ellipse(box, fill=ink)
    elif kind == "square":
        pen.rectangle(box, fill=ink)
    else:
        pen.regular_polygon((x, y, radius), 3, fill=ink)
    return image


def main(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
        for number in range(PICTURES):
            draw_picture(kind, generator).save(folder / kind / f"{number:03d}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
