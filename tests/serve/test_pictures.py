"""From any picture to what a network was trained on."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastcnn.errors import DataError
from fastcnn.serve.pictures import decode, prepare
from tests.serve.conftest import digit, png


def test_pictures_become_what_mnist_has() -> None:
    made = prepare(decode(png(digit(0)), 1), (1, 28, 28))[0]
    rows, columns = np.nonzero(made.max(axis=1) > 32)[0], np.nonzero(made.max(axis=0) > 32)[0]
    assert max(rows[-1] - rows[0], columns[-1] - columns[0]) in (18, 19, 20)
    mass = made / made.sum()
    assert mass.sum(axis=1) @ np.arange(28) == pytest.approx(13.5, abs=1)
    assert (prepare(np.zeros((1, 9, 9), np.uint8), (1, 28, 28)) == 0).all()
    assert prepare(np.zeros((3, 9, 9), np.uint8), (3, 32, 32)).shape == (3, 32, 32)
    assert decode(png(np.zeros((5, 4, 3), np.uint8)), 3).shape == (3, 5, 4)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_pictures_are_refused_and_nothing_else() -> None:
    generator = np.random.default_rng(0)
    picture = Image.fromarray(generator.integers(0, 256, (20, 24), dtype=np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("PNG", "L", {}), ("PNG", "P", {}), ("JPEG", "RGB", {"exif": turned}), ("JPEG", "CMYK", {}),
        ("WEBP", "RGB", {}), ("GIF", "P", {}), ("BMP", "RGB", {}),
    ]  # fmt: skip
    for kind, mode, options in kinds:
        buffer = io.BytesIO()
        picture.convert(mode).save(buffer, kind, **options)
        for _ in range(80):
            content = bytearray(buffer.getvalue())
            for _ in range(int(generator.integers(1, 6))):
                content[int(generator.integers(len(content)))] = int(generator.integers(256))
            with contextlib.suppress(DataError):
                assert decode(bytes(content), 1).dtype == np.uint8


def test_sixteen_bits_are_scaled_and_photographs_turned() -> None:
    bright = np.linspace(0, 65535, 48).reshape(6, 8).astype(np.uint16)
    assert decode(png(bright), 1)[0] == pytest.approx(bright / 257, abs=1)
    pixels = np.zeros((8, 16), np.uint8)
    pixels[:, :8] = 255
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif)
    turned = decode(buffer.getvalue(), 1)[0]
    assert turned.shape == (16, 8)
    assert turned[:7].min() > 200
    assert turned[9:].max() < 50


def test_large_and_long_pictures() -> None:
    assert decode(png(np.zeros((3000, 2000), np.uint8)), 1).shape == (1, 1024, 683)
    long = np.zeros((1, 5000), np.uint8)
    long[0, ::2] = 255
    for channels, shape in ((1, (1, 28, 28)), (3, (3, 32, 32))):
        assert prepare(decode(png(long), channels), shape).shape == shape
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255  # the middle is what is taken
    assert prepare(decode(png(wide), 3), (3, 32, 32)).min() > 200
