"""From picture files to samples: one decoder for every format, one rule for every command."""

import contextlib
import io
import os
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastcnn import data
from fastcnn.data import Pictures, Preprocessing, read_picture
from fastcnn.data.images import decode, picture_shape
from fastcnn.errors import ConfigurationError, DataError
from tests.serve.conftest import digit, png

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
DIGIT = Pictures((1, 28, 28), "ink", "dark", True, 20 / 28)


def content(picture: Any, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def grey(mode: str) -> Any:
    """The ramp in one of Pillow's modes."""
    deep = {"I;16": RAMP.astype(np.uint16) * 257, "I": RAMP.astype(np.int32) * 257,
            "F": RAMP.astype(np.float32) / 255}  # fmt: skip
    return Image.fromarray(deep.get(mode, RAMP)).convert(None if mode in deep else mode)


GREY = [
    ("L", "PNG"), ("L", "BMP"), ("L", "GIF"), ("L", "TIFF"), ("LA", "PNG"), ("P", "PNG"),
    ("P", "GIF"), ("RGB", "PNG"), ("RGB", "TIFF"), ("RGBA", "PNG"), ("CMYK", "TIFF"),
    ("I;16", "PNG"), ("I;16", "TIFF"), ("I", "TIFF"), ("F", "TIFF"),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "kind"), GREY)
def test_every_depth_gives_the_same_grey(mode: str, kind: str) -> None:
    pixels, notes = decode(content(grey(mode), kind), (1, 16, 16))
    assert np.abs(pixels[0].astype(int) - RAMP).max() <= 1
    assert not notes


def test_big_endian_and_twelve_bits() -> None:
    head = struct.pack("<2sHIH", b"II", 42, 8, 9)
    tags = [(256, 3, 1, 4), (257, 3, 1, 2), (258, 3, 1, 12), (259, 3, 1, 1), (262, 3, 1, 1),
            (273, 4, 1, 122), (277, 3, 1, 1), (278, 3, 1, 2), (279, 4, 1, 12)]  # fmt: skip
    body = head + b"".join(struct.pack("<HHII", *tag) for tag in tags) + b"\0\0\0\0"
    white = body + b"\xff" * 12
    assert len(body) == 122
    assert (decode(white, (1, 2, 4))[0] == 255).all()  # and not 16, as of 16 bits
    big = Image.fromarray(RAMP.astype(np.uint16) * 257)
    motorola = content(big, "TIFF")
    assert Image.open(io.BytesIO(motorola)).mode == "I;16"
    swapped = Image.frombytes("I;16B", big.size, (RAMP.astype(">u2") * 257).tobytes())
    pixels, _ = decode(content(swapped, "TIFF"), (1, 16, 16))
    assert np.abs(pixels[0].astype(int) - RAMP).max() <= 1


def test_sixteen_bits_of_which_zero_is_white_or_with_a_sign() -> None:
    deep = Image.fromarray(RAMP.astype(np.uint16) * 257)
    negative, _ = decode(content(deep, "TIFF", tiffinfo={262: 0}), (1, 16, 16))
    assert np.abs(negative[0].astype(int) - (255 - RAMP)).max() <= 1
    half = Image.fromarray(RAMP.astype(np.uint16) * 128)
    signed, _ = decode(content(half, "TIFF", tiffinfo={339: 2}), (1, 16, 16))
    assert np.abs(signed[0].astype(int) - RAMP).max() <= 1


def test_bytes_in_deep_pixels_are_said_to_be_nearly_black() -> None:
    for deep in (np.int32, np.uint16):
        pixels, notes = decode(content(Image.fromarray(RAMP.astype(deep)), "TIFF"), (1, 16, 16))
        assert pixels.max() == 1
        assert notes == ["nearly black, as its pixels are white at 65,535"]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_one_bit(kind: str) -> None:
    bits = RAMP > 99
    pixels, _ = decode(content(Image.fromarray(bits), kind), (1, 16, 16))
    assert (pixels[0] == 255 * bits).all()
    assert (decode(content(Image.fromarray(bits), kind), (3, 16, 16))[0] == 255 * bits).all()


def test_colours(tmp_path: Path) -> None:
    def channels_of(picture: Any, kind: str) -> int:
        (tmp_path / "picture").write_bytes(content(picture, kind))
        return picture_shape(tmp_path / "picture")[0]

    red = Image.new("RGB", (4, 3), (250, 10, 20))
    palette = red.convert("P", palette=Image.Palette.ADAPTIVE)
    for picture, kind in ((red, "PNG"), (palette, "PNG"), (palette, "GIF"), (red, "BMP")):
        pixels, _ = decode(content(picture, kind), (3, 3, 4))
        assert np.abs(pixels[:, 0, 0].astype(int) - (250, 10, 20)).max() <= 2
        assert decode(content(picture, kind), (1, 3, 4))[1] == ["colours read as grey"]
        assert channels_of(picture, kind) == 3
    for picture, kind in ((red.convert("CMYK"), "TIFF"), (red.convert("YCbCr"), "JPEG")):
        pixels, _ = decode(content(picture, kind), (3, 3, 4))
        assert np.abs(pixels[:, 0, 0].astype(int) - (250, 10, 20)).max() <= 6
    for mode, kind in GREY:
        assert channels_of(grey(mode), kind) == (3 if mode in ("RGB", "RGBA", "CMYK") else 1)


def test_what_is_transparent_is_white() -> None:
    clear = Image.new("RGBA", (5, 4), (0, 0, 0, 0))
    with_key = [
        content(Image.fromarray(np.zeros((4, 5), np.uint8)), transparency=0),
        content(Image.fromarray(np.zeros((4, 5), np.uint16)), transparency=0),
        content(Image.new("RGB", (5, 4), (1, 2, 3)), transparency=(1, 2, 3)),
        content(Image.new("P", (5, 4)), transparency=0),
        content(Image.new("P", (5, 4)), "GIF", transparency=0),
        content(clear), content(clear, "WEBP", lossless=True), content(clear.convert("LA")),
    ]  # fmt: skip
    for given in with_key:
        for shape in ((1, 4, 5), (3, 4, 5)):
            assert (decode(given, shape)[0] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "dtype"), [
    ("JPEG", np.uint8), ("PNG", np.uint8), ("PNG", np.uint16), ("TIFF", np.uint8),
    ("TIFF", np.uint16),
])  # fmt: skip
def test_photographs_are_turned(kind: str, dtype: Any, orientation: int, tmp_path: Path) -> None:
    upright = np.zeros((8, 16), np.uint8)
    upright[:, :8], upright[:4] = 255, 128
    views = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
             5: upright.T, 6: upright.T[::-1], 7: upright[::-1, ::-1].T,
             8: upright.T[:, ::-1]}  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = views[orientation].astype(dtype) * (257 if dtype == np.uint16 else 1)
    options = {"quality": 95} if kind == "JPEG" else {}
    path = tmp_path / "picture"
    path.write_bytes(content(Image.fromarray(stored), kind, exif=exif, **options))
    assert picture_shape(path) == (1, 8, 16)
    pixels, _ = decode(path, (1, 8, 16))
    assert np.abs(pixels[0].astype(int) - upright).max() < 60
    assert np.median(np.abs(pixels[0].astype(int) - upright)) <= 2


def test_of_several_frames_the_first_counts_and_is_said() -> None:
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (10, 200, 90)]
    for kind in ("GIF", "TIFF", "WEBP", "PNG"):
        many = content(frames[0], kind, save_all=True, append_images=frames[1:])
        pixels, notes = decode(many, (1, 4, 4))
        assert pixels.max() < 30
        assert notes == ["the first of 3 frames"]


def bomb(width: int, height: int) -> bytes:
    """A small PNG that claims a huge size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not a picture of the formats PNG"),
    "text": (b"hello" * 9, "not a picture of the formats PNG"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not a picture"),
    "SVG": (b"<svg/>" * 100, "not a picture"),
    "PPM": (content(Image.new("RGB", (2, 2)), "PPM"), "not a picture"),
    "DDS": (content(Image.new("RGBA", (4, 4)), "DDS"), "not a picture"),
    "ICO": (content(Image.new("RGBA", (16, 16)), "ICO"), "not a picture"),
    "half": (png(RAMP)[: len(png(RAMP)) // 2], "damaged, cannot be read|not a picture"),
    "wide bomb": (bomb(100_000, 100_000), "damaged|too many"),
    "long bomb": (bomb(1, 16_000_000), "16,000,000 pixels are too many"),
    "large bomb": (bomb(9_000, 9_000), "9,000 x 9,000 pixels are too many"),
    "deep": (content(Image.fromarray(np.full((3, 3), 70_000, np.int32)), "TIFF"),
             r"mode I must lie in 0\.\.65535, got 70000"),
    "below": (content(Image.fromarray(np.full((3, 3), -1, np.int32)), "TIFF"), "must lie in"),
    "bright": (content(Image.fromarray(np.full((3, 3), 255, np.float32)), "TIFF"),
               r"mode F must lie in 0\.\.1, got 255"),
    "not a number": (content(Image.fromarray(np.full((3, 3), np.nan, np.float32)), "TIFF"),
                     r"must lie in 0\.\.1, got nan"),
    "Lab": (content(Image.new("LAB", (3, 3)), "TIFF"), "mode LAB are not supported"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    given, message = REFUSED[name]
    path = tmp_path / "picture.png"
    path.write_bytes(given)
    for source, place in ((given, "the picture"), (path, str(path))):
        with pytest.raises(DataError, match=message) as refused:
            decode(source, (1, 8, 8))
        assert str(refused.value).startswith(f"{place}: ")
    with pytest.raises(DataError, match=message):
        picture_shape(path)


def test_paths_that_are_not_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        data.read_image(tmp_path / "none.png", (1, 8, 8))
    with pytest.raises(DataError, match="is a folder"):
        data.read_image(tmp_path, (1, 8, 8))


@pytest.mark.posix
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="is a pipe"):
        data.read_image(tmp_path / "pipe.png", (1, 8, 8))


@pytest.mark.filterwarnings("ignore")
def test_damaged_pictures_are_refused_and_nothing_else() -> None:
    generator = np.random.default_rng(0)
    picture = Image.fromarray(generator.integers(0, 256, (20, 24), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("PNG", "L", {"exif": exif}), ("PNG", "P", {}), ("JPEG", "RGB", {"exif": exif}),
        ("JPEG", "CMYK", {}), ("WEBP", "RGB", {}), ("GIF", "P", {}), ("BMP", "RGB", {}),
        ("TIFF", "L", {"exif": exif}), ("TIFF", "RGB", {"compression": "tiff_deflate"}),
    ]  # fmt: skip
    for kind, mode, options in kinds:
        good = content(picture.convert(mode), kind, **options)
        for _ in range(80):
            mutated = bytearray(good)
            for _ in range(int(generator.integers(1, 6))):
                mutated[int(generator.integers(len(mutated)))] = int(generator.integers(256))
            with contextlib.suppress(DataError):
                assert decode(bytes(mutated), (1, 8, 8))[0].dtype == np.uint8


def test_large_pictures_become_smaller_before_they_take_memory() -> None:
    large = png(np.zeros((3000, 2000), np.uint8))
    assert decode(large, (1, 28, 28))[0].shape == (1, 1000, 667)
    assert decode(large, (1, 2000, 2000))[0].shape == (1, 3000, 2000)
    tracemalloc.start()
    read_picture(large, DIGIT)
    assert tracemalloc.get_traced_memory()[1] < 40e6
    tracemalloc.stop()


# -- the rule ----------------------------------------------------------------------------------


def test_drawings_become_what_mnist_has() -> None:
    picture = read_picture(png(digit(0)), DIGIT)
    made = picture.pixels[0]
    rows, columns = np.nonzero(made.max(axis=1) > 32)[0], np.nonzero(made.max(axis=0) > 32)[0]
    assert max(rows[-1] - rows[0], columns[-1] - columns[0]) in (18, 19, 20)
    mass = made / made.sum()
    assert mass.sum(axis=1) @ np.arange(28) == pytest.approx(13.5, abs=1)
    assert picture.done == (
        "inverted (it is on bright paper)",
        "ink scaled to 20 of 28 pixels and centred",
    )
    kept = read_picture(png(digit(0)), DIGIT, invert=False)
    assert "inverted" not in " ".join(kept.done)
    assert (kept.pixels != made[None]).any()
    assert (read_picture(png(np.zeros((9, 9), np.uint8)), DIGIT).pixels == 0).all()


def test_a_picture_of_the_networks_size_stays() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[3:9, 2:5] = 200
    assert (read_picture(png(image), DIGIT).pixels[0] == image).all()
    assert read_picture(png(image), DIGIT).done == ()
    assert (read_picture(png(255 - image), DIGIT).pixels[0] == image).all()
    assert (read_picture(png(image), DIGIT, invert=True).pixels[0] == 255 - image).all()


def test_ink_on_bright_paper() -> None:
    rule = Pictures((1, 28, 28), "ink", "bright", True, 20 / 28)
    dark = read_picture(png(digit(1)), DIGIT).pixels
    assert (read_picture(png(digit(1)), rule).pixels == 255 - dark).all()
    assert (read_picture(png(255 - digit(1)), rule).pixels == 255 - dark).all()


def test_stretched_and_cropped() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    assert read_picture(png(wide), Pictures((3, 32, 32), "crop")).pixels.min() > 200
    assert read_picture(png(wide), Pictures((3, 10, 15))).pixels.min() < 5
    assert (
        read_picture(png(wide), Pictures((3, 10, 30)), invert=True).pixels[0] == 255 - wide[..., 0]
    ).all()
    line = np.zeros((1, 5000), np.uint8)
    line[0, ::2] = 255
    for rule in (DIGIT, Pictures((1, 28, 28), "crop"), Pictures((1, 28, 28))):
        assert read_picture(png(line), rule).pixels.shape == (1, 28, 28)


def test_the_rule_follows_from_the_training_images() -> None:
    digits, _ = data.digits_dataset(300, 1)
    rule = Pictures.like(digits.images)
    assert (rule.fit, rule.paper, rule.inverts) == ("ink", "dark", True)
    assert 0.5 < rule.fill < 0.9
    assert Pictures.like((digits.images / 255).astype(np.float32)) == rule
    on_paper = Pictures.like(255 - digits.images)
    assert on_paper == Pictures((1, 28, 28), "ink", "bright", True, rule.fill)
    noise = np.random.default_rng(0).integers(0, 256, (50, 1, 9, 7), dtype=np.uint8)
    assert Pictures.like(noise) == Pictures((1, 9, 7), "crop")
    assert Pictures.like(np.repeat(noise, 3, axis=1)).fit == "crop"
    assert Pictures.like(np.zeros((50, 1, 9, 9), np.uint8)).fit == "crop"
    assert Pictures.like(digits.images, from_files=True) == Pictures((1, 28, 28), "stretch", "dark")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shape": (2, 8, 8)}, "shape must be"),
        ({"shape": (1, 8)}, "shape must be"),
        ({"shape": (1, 8, 2**20)}, "shape must be"),
        ({"shape": (1, 8, 8.5)}, "shape must be"),
        ({"shape": (1, 8, 8), "fit": "pad"}, "fit must be one of"),
        ({"shape": (1, 8, 8), "paper": "blue"}, "paper must be one of"),
        ({"shape": (1, 8, 8), "paper": [1]}, "paper must be one of"),
        ({"shape": (1, 8, 8), "inverts": True}, "needs paper"),
        ({"shape": (3, 8, 8), "fit": "ink", "paper": "dark"}, "needs grey pictures"),
        ({"shape": (1, 8, 8), "fill": 1.5}, "fill must lie in"),
        ({"shape": (1, 8, 8), "size": 3}, "must be a table"),
        ({"fit": "crop"}, "must be a table"),
    ],
)
def test_rules_that_are_none(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Pictures.from_dict(values)


def test_a_rule_survives_as_plain_data() -> None:
    kept = Preprocessing((0.1,), (0.2,), "uint8", None, DIGIT)
    assert Preprocessing.from_metadata(kept.to_metadata()) == kept
    assert "ink scaled to 20 of 28" in DIGIT.describe()


@pytest.mark.parametrize(
    ("preprocessing", "shape", "message"),
    [
        (Preprocessing(), (64,), r"shape \(64,\), which are not pictures"),
        (Preprocessing(), (4, 8, 8), "which are not pictures"),
        (Preprocessing(), (1, 8, 8), "not trained by fit"),
        (Preprocessing(trained_on="float", bounds=(-2.0, 2.0)), (1, 8, 8), r"numbers in -2\.\.2"),
    ],
)
def test_networks_that_take_no_pictures(
    preprocessing: Preprocessing, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        preprocessing.rule_for_pictures(shape)


# -- folders -----------------------------------------------------------------------------------


def folder(path: Path, sizes: Any = ((16, 16),), mode: str = "L") -> Path:
    for index in range(8):
        for name in ("a", "b"):
            (path / name).mkdir(parents=True, exist_ok=True)
            size = sizes[index % len(sizes)]
            Image.new(mode, size, 20 * index).save(path / name / f"{index}.png")
    return path


def test_a_folder_records_its_rule_and_can_be_read_by_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train, _ = data.read_folder(folder(tmp_path / "d"))
    assert train.preprocessing.pictures == Pictures((1, 16, 16), "stretch", train_paper(train))
    rule = Pictures((3, 9, 7), "crop")
    train, test = data.load(tmp_path / "d", pictures=rule)
    assert train.input_shape == test.input_shape == (3, 9, 7)
    assert train.preprocessing.pictures == rule
    caplog.clear()
    data.read_folder(folder(tmp_path / "e", sizes=((16, 16), (20, 8))))
    assert "stretched to 16 x 16 pixels (8 of 16)" in caplog.text


def train_paper(train: data.Dataset) -> Any:
    return Pictures.like(train.images).paper


def test_colours_that_a_folder_loses_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder(tmp_path / "d")
    Image.new("RGB", (16, 16), "red").save(tmp_path / "d" / "b" / "7.png")
    data.read_folder(tmp_path / "d")
    assert "colours read as grey (1 of 16)" in caplog.text


def test_copies_of_pictures_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for label in ("a", "b"):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            for index in range(3):
                pixels = generator.integers(0, 256, (6, 6)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    data.load(tmp_path)
    assert "same pixels" not in caplog.text
    first = (tmp_path / "train" / "a" / "0.png").read_bytes()
    (tmp_path / "train" / "b" / "copy.png").write_bytes(first)
    (tmp_path / "test" / "a" / "copy.png").write_bytes(first)
    data.load(tmp_path)
    assert (
        "pictures with the same pixels are of two classes, such as train/a/0.png and "
        "train/b/copy.png (1 pair)" in caplog.text
    )
    assert "pictures with the same pixels are in the training and in the test part" in caplog.text
