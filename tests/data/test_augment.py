"""Random augmentation: its results, which depend only on seed, epoch and index."""

from typing import Any

import numpy as np
import pytest

from fastcnn.backends.counter_random import uniform_bits
from fastcnn.data import Augment, augment, digits_dataset
from fastcnn.data.augment import PRESETS
from fastcnn.data.augment_kernels import SETTINGS, transform
from fastcnn.data.image_random import random_bits
from fastcnn.data.mixing_kernels import draw_partners
from fastcnn.errors import ConfigurationError, DataError, ShapeError

EVERYTHING = Augment(
    shift=2, rotation=20, scale=0.2, elastic=1.0, flip=True, crop=1, cutout=5, fill=7
)


def pictures(count: int = 600, channels: int = 1, size: tuple[int, int] = (9, 12)) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.integers(1, 256, (count, channels, *size)).astype(np.uint8)


def shifted(image: np.ndarray, down: int, right: int, fill: int = 0) -> np.ndarray:
    """The image shifted by whole pixels."""
    big = np.pad(image, ((0, 0), (9, 9), (9, 9)), constant_values=fill)
    h, w = image.shape[1:]
    return big[:, 9 - down : 9 - down + h, 9 - right : 9 - right + w]


def between(image: np.ndarray, row: float, column: float, fill: float) -> np.ndarray:
    """Each channel's value at a position between pixels."""
    padded = np.pad(image.astype(float), ((0, 0), (60, 60), (60, 60)), constant_values=fill)
    r, c = int(np.floor(row)) + 60, int(np.floor(column)) + 60
    y, x = row + 60 - r, column + 60 - c
    return (
        (1 - y) * ((1 - x) * padded[:, r, c] + x * padded[:, r, c + 1])
        + y * ((1 - x) * padded[:, r + 1, c] + x * padded[:, r + 1, c + 1])
    )  # fmt: skip


def test_random_numbers_are_those_of_the_backends() -> None:
    key = 0xFEDCBA9876543210
    counters = (0, 1, 77, 2**32 - 1)
    with np.errstate(over="ignore"):
        ours = [random_bits(np.uint64(key), counter) for counter in counters]
    theirs = [uniform_bits(key, counter, 1)[0] for counter in counters]
    assert ours == theirs


def test_nothing_asked_for_changes_nothing() -> None:
    images = pictures(channels=3)
    copy = Augment().apply(images)
    assert (copy == images).all()
    assert not np.shares_memory(copy, images)


@pytest.mark.parametrize("augment", [Augment(shift=2, fill=9), Augment(crop=2, fill=9)])
def test_shifts_move_whole_pixels_evenly(augment: Augment) -> None:
    images = pictures(channels=2)
    changed = augment.apply(images)
    moves = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]
    counts = dict.fromkeys(moves, 0)
    for image, result in zip(images, changed, strict=True):
        found = [move for move in moves if (shifted(image, *move, fill=9) == result).all()]
        assert len(found) == 1
        counts[found[0]] += 1
    assert min(counts.values()) > 8  # of 24 expected
    assert max(counts.values()) < 45


def test_flips_are_as_frequent_as_asked() -> None:
    images = pictures(4000)
    flipped = (Augment(flip=0.3).apply(images) == images[..., ::-1]).all(axis=(1, 2, 3))
    same = (Augment(flip=0.3).apply(images) == images).all(axis=(1, 2, 3))
    assert (flipped ^ same).all()
    assert flipped.mean() == pytest.approx(0.3, abs=0.03)
    assert (Augment(flip=1.0).apply(images) == images[..., ::-1]).all()


def test_cut_outs_are_squares_clipped_at_the_border() -> None:
    images = pictures(400, channels=2)
    changed = Augment(cutout=4, fill=0).apply(images)
    sizes = set()
    for image, result in zip(images, changed, strict=True):
        gone = (result == 0).all(axis=0)
        rows, columns = np.flatnonzero(gone.any(axis=1)), np.flatnonzero(gone.any(axis=0))
        assert gone[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert (result[:, ~gone] == image[:, ~gone]).all()
        sizes.add((len(rows), len(columns)))
    assert max(sizes) == (4, 4)
    assert min(sizes) == (2, 2)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_rotation_and_scale_interpolate(channels: int, mirror: float) -> None:
    """Against a loop over pixels, with angle and scale found from the draws."""
    images = pictures(20, channels).astype(np.float32)
    augment = Augment(shift=1, rotation=30, scale=0.3, flip=mirror, fill=50)
    changed = augment.apply(images, seed=3, epoch=2)
    from fastcnn.backends.counter_random import dropout_key
    from fastcnn.data.augment_kernels import COLUMN_SHIFT, DRAWS, ROTATION, ROW_SHIFT, SCALE

    h, w = images.shape[2:]
    middle = np.array([(h - 1) / 2, (w - 1) / 2])
    for index, (image, result) in enumerate(zip(images, changed, strict=True)):
        draws = uniform_bits(dropout_key(3, 2, -1), index * DRAWS, 16) / 2.0**32
        angle = np.deg2rad(30) * (2 * draws[ROTATION] - 1)
        factor = 1 + 0.3 * (2 * draws[SCALE] - 1)
        move = np.floor(draws[[ROW_SHIFT, COLUMN_SHIFT]] * 3) - 1
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        for pixel in np.ndindex(h, w):
            place = np.array(pixel) - move - middle
            place[1] *= 1 - 2 * mirror
            row, column = middle + turn @ place / factor
            assert result[:, *pixel] == pytest.approx(between(image, row, column, 50), abs=0.05)


def test_elastic_displacements_are_smooth_and_of_the_size_asked_for() -> None:
    ramp = np.broadcast_to(np.arange(100, 140, dtype=np.float32), (300, 1, 40, 40)).copy()
    for size in (0.5, 1.5):
        moved = (Augment(elastic=size).apply(ramp) - ramp)[:, 0, 8:-8, 8:-8]
        assert moved.std() == pytest.approx(0.8 * size, rel=0.15)  # between points it is smaller
        assert np.abs(np.diff(moved, axis=1)).max() < 0.8 * size
        assert np.abs(moved.mean()) < 0.1 * size


def test_only_seed_epoch_and_index_matter() -> None:
    images = pictures(3000)
    whole = EVERYTHING.apply(images, seed=1, epoch=4, threads=1)
    for threads in (2, 3, 4):
        assert (EVERYTHING.apply(images, seed=1, epoch=4, threads=threads) == whole).all()
    order = np.random.default_rng(1).permutation(len(images))[:1000]
    assert (EVERYTHING.apply(images, order, seed=1, epoch=4) == whole[order]).all()
    for other in ({"seed": 2, "epoch": 4}, {"seed": 1, "epoch": 5}):
        same = (EVERYTHING.apply(images, **other) == whole).all(axis=(1, 2, 3))
        assert same.mean() < 0.01


def test_types_agree() -> None:
    images = pictures(200, 3)
    as_bytes = EVERYTHING.apply(images)
    for kind in (np.float32, np.float64):
        floats = EVERYTHING.apply(images.astype(kind))
        assert floats.dtype == kind
        assert np.abs(floats - as_bytes).max() <= 0.501
    strided = np.repeat(images, 2, axis=0)[::2]
    strided.flags.writeable = False
    assert (EVERYTHING.apply(strided) == as_bytes).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2), (28, 3)])
def test_small_images(size: tuple[int, int]) -> None:
    images = pictures(50, 1, size)
    changed = EVERYTHING.apply(images)
    assert changed.shape == images.shape
    assert (Augment(rotation=0.0, scale=0.0, elastic=1e-6).apply(images) == images).mean() > 0.99


def test_a_huge_shift_leaves_nothing() -> None:
    images = pictures(50)
    changed = Augment(shift=1000, fill=3).apply(images)
    assert (changed == 3).mean() > 0.95


def test_a_buffer_is_filled() -> None:
    images, buffer = pictures(50), np.zeros((70, 1, 9, 12), np.uint8)
    result = EVERYTHING.apply(images, out=buffer)
    assert np.shares_memory(result, buffer)
    assert (result == EVERYTHING.apply(images)).all()
    assert not buffer[50:].any()
    with pytest.raises(ShapeError, match="out must be writable, contiguous"):
        EVERYTHING.apply(images, out=np.zeros((3, 1, 9, 12), np.uint8))
    with pytest.raises(ShapeError, match="not share their memory"):
        EVERYTHING.apply(images, out=images)


def test_mixed_images_are_sums_of_two() -> None:
    images = pictures(3000, size=(4, 5)).astype(np.float32)
    labels = np.arange(3000) % 7
    augment = Augment(mixup=0.4)
    mixed, probabilities = augment.mix(images, labels, classes=7, seed=1, epoch=2)
    assert probabilities.sum(axis=1) == pytest.approx(1.0, abs=1e-6)
    partners, shares = np.empty(3000, np.int64), np.empty(3000, np.float32)
    from fastcnn.backends.counter_random import dropout_key

    key = np.uint64(dropout_key(1, 2, -2))
    draw_partners(np.arange(3000), 3000, key, 0.4, partners, shares)
    wide = shares[:, None, None, None]
    assert mixed == pytest.approx(wide * images + (1 - wide) * images[partners], abs=1e-3)
    own = probabilities[np.arange(3000), labels]
    assert own == pytest.approx(shares + (1 - shares) * (labels == labels[partners]), abs=1e-6)
    assert len(np.unique(partners)) > 1500  # of 3000 (1 - 1 / e) expected
    half = augment.mix(images, labels, np.arange(2999, 0, -2), classes=7, seed=1, epoch=2)
    assert (half[0] == mixed[2999:0:-2]).all()
    assert (half[1] == probabilities[2999:0:-2]).all()


@pytest.mark.parametrize("alpha", [0.1, 1.0, 2.0])
def test_shares_have_their_distribution(alpha: float) -> None:
    partners, shares = np.empty(20_000, np.int64), np.empty(20_000, np.float32)
    draw_partners(np.arange(20_000), 50, np.uint64(99), alpha, partners, shares)
    assert 0.0 <= shares.min() <= shares.max() <= 1.0
    assert shares.mean() == pytest.approx(0.5, abs=0.01)
    assert shares.var() == pytest.approx(0.25 / (2 * alpha + 1), rel=0.03)  # of Beta(alpha, alpha)
    counts = np.bincount(partners, minlength=50)
    assert counts.min() > 300
    assert counts.max() < 500


def test_nothing_mixed_is_certain() -> None:
    images = pictures(20)
    same, probabilities = Augment().mix(images, np.arange(20) % 3, classes=3)
    assert (same == images).all()
    assert (probabilities == np.eye(3)[np.arange(20) % 3]).all()
    blended, _ = Augment(mixup=1.0).mix(images, np.arange(20) % 3, classes=3)
    floats, _ = Augment(mixup=1.0).mix(images.astype(np.float32), np.arange(20) % 3, classes=3)
    assert np.abs(blended - floats).max() <= 0.501


def test_words() -> None:
    assert Augment.parse("shift=2, rotation=10,flip") == Augment(shift=2, rotation=10, flip=0.5)
    assert Augment.parse("digits,cutout=6") == Augment(shift=2, rotation=10, scale=0.1, cutout=6)
    assert Augment.parse("pictures") == PRESETS["pictures"]
    assert Augment.parse("") == Augment()


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: Augment(shift=1.5), ConfigurationError, "shift must be a whole number of at least 0"),  # type: ignore[arg-type]
    (lambda: Augment(rotation=-1), ConfigurationError, "rotation must be .* at most 180, got -1"),
    (lambda: Augment(scale=1.0), ConfigurationError, "scale must be below 1"),
    (lambda: Augment(elastic=np.nan), ConfigurationError, "elastic must be a number"),
    (lambda: Augment(flip=1.5), ConfigurationError, "flip must be .* at most 1"),
    (lambda: Augment(crop=True), ConfigurationError, "crop must be a whole number"),
    (lambda: Augment(fill="white"), ConfigurationError, "fill must be a number"),  # type: ignore[arg-type]
    (lambda: Augment(mixup=3), ConfigurationError, "mixup must be .* at most 2"),
    (lambda: Augment(mixup=1).mix(pictures(5), np.zeros(5), classes=2), ShapeError, "5 classes"),
    (lambda: Augment.parse("rotate=3"), ConfigurationError, "no setting named 'rotate'"),
    (lambda: Augment.parse("shift"), ConfigurationError, "shift needs a number, such as shift=2"),
    (lambda: Augment.parse("shift=two"), ConfigurationError, "shift needs a number"),
    (lambda: Augment().apply(pictures()[0]), ShapeError, r"must be \(N, C, H, W\)"),
    (lambda: Augment().apply(pictures().astype(int)), ConfigurationError, "uint8, float32 or"),
    (lambda: Augment(crop=1, fill=256).apply(pictures()), ConfigurationError, r"0\.\.255"),
    (lambda: Augment().apply(pictures(5), [5]), ShapeError, r"indices must lie in 0\.\.4"),
    (lambda: Augment().apply(pictures(5), [0.5]), ShapeError, "indices must be integers"),
    (lambda: Augment(shift=1).apply(pictures(5), names=[1]), ShapeError, r"names .* shape \(5,\)"),
    (lambda: Augment(shift=1).apply(pictures(5), seed=0.5), ConfigurationError, "seed must be an"),
    (lambda: Augment().apply(pictures(5), threads=0), ConfigurationError, "threads must be a posi"),
    (lambda: mixed(labels=[0, 1, 2]), DataError, r"labels must lie in 0\.\.1"),
    (lambda: mixed(labels=[0, 1, -1]), DataError, r"labels must lie in 0\.\.1"),
    (lambda: mixed(names=[7]), ShapeError, r"names must be integers of shape \(3,\)"),
    (lambda: mixed(among=[]), ConfigurationError, "among"),
]


def mixed(labels: Any = (0, 1, 1), **options: Any) -> Any:
    return Augment(mixup=1).mix(pictures(3), labels, classes=2, **options)


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_digits_stay_digits() -> None:
    train, _ = digits_dataset(500, 1)
    changed = PRESETS["digits"].apply(train.images)
    ink = changed.astype(float).sum() / train.images.astype(float).sum()
    assert ink == pytest.approx(1.0, abs=0.05)


def test_the_kernel_takes_part_of_the_work() -> None:
    images, out = pictures(4), np.zeros((4, 1, 9, 12), np.uint8)
    key = np.uint64(5)
    settings = np.zeros(len(SETTINGS))
    transform(images, np.arange(4), np.arange(4), 1, 3, (key, key), settings, out)
    assert not out[[0, 3]].any()
    assert (out[1:3] == images[1:3]).all()


def test_a_compilation_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(augment, "LONG_TO_LOAD", -1.0)
    augment._load.cache_clear()
    for _ in range(2):
        Augment(shift=1).apply(pictures(2))
    assert caplog.text.count("the kernels of augmentation are ready after") == 1


# -- flips that alternate, reflection, colours, erasing, CutMix --------------------------------


def coloured(count: int = 60, dtype: Any = np.uint8) -> np.ndarray:
    images = np.random.default_rng(5).integers(0, 256, (count, 3, 9, 12)).astype(np.uint8)
    return images if dtype == np.uint8 else (images / 255).astype(dtype)


def test_alternating_flips_show_each_image_both_ways() -> None:
    images = coloured()
    augment = Augment(flip="alternating")
    first, second, third = (augment.apply(images, seed=3, epoch=epoch) for epoch in (1, 2, 3))
    mirrored = (first == images[..., ::-1]).all(axis=(1, 2, 3))
    assert 15 < mirrored.sum() < 45
    assert (second[mirrored] == images[mirrored]).all()
    assert (second[~mirrored] == images[~mirrored, ..., ::-1]).all()
    assert (third == first).all()
    assert (augment.apply(images, seed=4, epoch=1) != first).any()
    assert (Augment.parse("flip=alternating").apply(images, seed=3, epoch=1) == first).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_reflect_shifts_are_numpys(dtype: Any) -> None:
    images = coloured(dtype=dtype)
    made = Augment(shift=2, padding_mode="reflect").apply(images, seed=1)
    padded = np.pad(images, [(0, 0), (0, 0), (2, 2), (2, 2)], mode="reflect")
    moves = set()
    for image, source in zip(made, padded, strict=True):
        found = [
            (h, w)
            for h in range(5)
            for w in range(5)
            if (source[:, h : h + 9, w : w + 12] == image).all()
        ]
        assert len(found) == 1
        moves |= set(found)
    assert len(moves) > 15


def test_reflection_far_out_and_between_pixels() -> None:
    """A tiny rotation, between pixels, equals the shift, with repeated reflection if needed."""
    image = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    for seed in range(20):
        whole = Augment(shift=9, padding_mode="reflect").apply(image, seed=seed)
        between = Augment(shift=9, rotation=1e-6, padding_mode="reflect").apply(image, seed=seed)
        np.testing.assert_allclose(whole, between, atol=1e-3)
    turned = Augment(rotation=180.0, padding_mode="reflect").apply(image + 5, seed=1)
    assert turned.min() >= 5.0  # nothing of the value outside
    one = np.full((1, 1, 1, 1), 7, np.uint8)
    assert Augment(shift=3, padding_mode="reflect").apply(one, seed=1)[0, 0, 0, 0] == 7


def test_colours_are_changed_as_the_formulas_say() -> None:
    images = coloured(dtype=np.float32)
    grey = np.tensordot(images, [0.299, 0.587, 0.114], (1, 0))[:, None]
    for name, base in (
        ("brightness", np.zeros_like(images)),
        ("contrast", np.broadcast_to(grey.mean(axis=(2, 3), keepdims=True), images.shape)),
        ("saturation", np.broadcast_to(grey, images.shape)),
    ):
        made = Augment(**{name: 0.5}).apply(images, seed=2)
        inner = (made > 1e-4) & (made < 1 - 1e-4) & (np.abs(images - base) > 0.05)
        factors = (made - base) / np.where(inner, images - base, 1.0)
        for one, valid in zip(factors, inner, strict=True):
            assert np.ptp(one[valid]) < 1e-2
            assert 0.49 < one[valid].mean() < 1.51
        assert np.ptp([one[valid].mean() for one, valid in zip(factors, inner, strict=True)]) > 0.5
    turned = Augment(hue=0.5).apply(images * 0.2 + 0.4, seed=2)
    luma = np.tensordot(turned, [0.299, 0.587, 0.114], (1, 0))
    np.testing.assert_allclose(luma, grey[:, 0] * 0.2 + 0.4, atol=2e-3)
    assert np.abs(turned - images * 0.2 - 0.4).max() > 0.05


def test_bytes_and_numbers_are_coloured_alike() -> None:
    jitter = Augment(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    made = jitter.apply(coloured(), seed=3).astype(int)
    other = jitter.apply(coloured(dtype=np.float32), seed=3)
    assert np.abs(made - 255 * other).max() <= 1.0
    grey = coloured()[:, :1]
    assert (Augment(brightness=0.4, contrast=0.4).apply(grey, seed=3) != grey).any()


def test_random_erasing() -> None:
    images = np.full((400, 3, 16, 20), 200, np.uint8)
    made = Augment(erase=0.5, fill=9).apply(images, seed=1)
    erased = (made == 9).all(axis=1)
    touched = erased.any(axis=(1, 2))
    assert 160 < touched.sum() < 240
    for one in erased[touched]:
        rows, columns = np.flatnonzero(one.any(axis=1)), np.flatnonzero(one.any(axis=0))
        assert one.sum() == len(rows) * len(columns)
        assert 0.01 <= one.mean() <= 0.4
        assert rows[-1] - rows[0] + 1 == len(rows)
        assert 0.2 < len(rows) / len(columns) < 5


def test_cutmix_pastes_a_rectangle_and_shares_the_class() -> None:
    images = np.repeat(np.arange(50, dtype=np.uint8), 3 * 12 * 10).reshape(50, 3, 12, 10)
    labels = np.arange(50)
    made, shares = Augment(cutmix=1.0).mix(images, labels, classes=50, seed=2)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-6)
    seen = []
    for index, image in enumerate(made):
        other = (image != index).all(axis=0)
        seen.append(other.mean())
        assert shares[index, index] == pytest.approx(1.0 - other.mean())
        if other.any():
            rows, columns = other.any(axis=1), other.any(axis=0)
            assert other.sum() == rows.sum() * columns.sum()
            (partner,) = np.unique(image[:, other])
            assert shares[index, partner] == pytest.approx(other.mean())
    assert np.std(seen) > 0.1
    among = np.array([3, 7])
    made, shares = Augment(cutmix=1.0).mix(images, labels, classes=50, among=among)
    assert set(np.unique(np.nonzero(shares * (1 - np.eye(50)))[1])) <= {3, 7}


@pytest.mark.parametrize(
    "augment",
    [
        Augment(flip="alternating", shift=2, padding_mode="reflect"),
        Augment(rotation=20, elastic=1.0, padding_mode="reflect", erase=0.5),
        Augment(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1, cutout=3),
    ],
    ids=str,
)
def test_new_changes_depend_on_neither_threads_nor_batches(augment: Augment) -> None:
    images = coloured(700)
    whole = augment.apply(images, seed=1, epoch=2, threads=1)
    assert (augment.apply(images, seed=1, epoch=2, threads=2) == whole).all()
    some = np.array([600, 3, 77])
    assert (augment.apply(images, some, seed=1, epoch=2) == whole[some]).all()
    named = augment.apply(images[some], names=some, seed=1, epoch=2)
    assert (named == whole[some]).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Augment(flip="always"), "flip must be 'alternating' or a number"),
        (lambda: Augment(padding_mode="wrap"), "padding_mode must be constant or reflect, got"),
        (lambda: Augment(padding_mode="reflect"), "padding_mode='reflect' has no effect"),
        (lambda: Augment(flip=0.5, fill=3), "fill=3 has no effect: nothing is moved in or erased"),
        (lambda: Augment(shift=1, padding_mode="reflect", fill=3), "fill=3 has no effect"),
        (lambda: Augment(mixup=0.2, cutmix=1.0), "mixup and cutmix exclude each other"),
        (lambda: Augment(erase=1.1), "erase must be a number of at least 0 and at most 1"),
        (lambda: Augment(hue=0.6), "hue must be a number of at least 0 and at most 0.5"),
        (lambda: Augment.parse("flip=often"), "needs a number or alternating, such as flip=alter"),
        (lambda: Augment.parse("padding_mode=2"), "padding_mode"),
        (lambda: Augment.parse("shift=1,flip,shift=2"), "augment: shift is given twice"),
        (lambda: Augment(hue=0.1).apply(coloured()[:, :1]), "need images of three channels"),
        (lambda: Augment(contrast=0.1).apply(coloured() * 2.0), r"bytes or numbers in 0\.\.1, got"),
    ],
)
def test_new_settings_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()
