"""Convolutions of every backend against the nested loops in float64, over awkward geometries."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastcnn import functional as F
from tests.operations.conftest import assert_close, random_array

# (N, C, H, W), (O, C / groups, KH, KW), arguments
CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 1, 6, 6), (4, 1, 3, 3), {"padding": 1}),
    ((3, 3, 5, 7), (2, 3, 3, 2), {"stride": (2, 1), "padding": (1, 0)}),
    ((1, 2, 7, 6), (3, 2, 3, 3), {"dilation": 2, "padding": 2}),
    ((2, 4, 5, 5), (6, 2, 3, 3), {"groups": 2, "stride": 2, "padding": 1}),
    ((2, 3, 6, 5), (3, 1, 3, 3), {"groups": 3, "padding": "same"}),
    ((2, 3, 6, 5), (6, 1, 2, 2), {"groups": 3, "stride": 3}),
    ((2, 3, 4, 4), (5, 3, 1, 1), {}),
    ((2, 3, 5, 4), (5, 3, 1, 1), {"stride": 2, "padding": 1}),
    ((1, 2, 4, 3), (2, 2, 4, 3), {"padding": "valid"}),
    ((1, 1, 5, 8), (2, 1, 2, 4), {"padding": "same", "dilation": (2, 1)}),
    ((1, 1, 9, 9), (1, 1, 2, 3), {"stride": (3, 4), "dilation": (3, 2)}),
    ((17, 2, 3, 3), (2, 2, 3, 3), {"padding": 1}),
    # Rows of columns and of pixels that end within a vector, and more of them than one block.
    ((3, 2, 9, 11), (4, 2, 5, 5), {}),
    ((2, 1, 5, 40), (3, 1, 3, 5), {"dilation": (1, 3)}),
    ((2, 1, 3, 40), (2, 1, 1, 9), {"dilation": (1, 4), "padding": (0, 3)}),
    ((6, 1, 14, 17), (1, 1, 2, 2), {}),
    ((1, 1, 1, 1), (1, 1, 1, 1), {}),
]


# (N, C, H, W), (C, O / groups, KH, KW), arguments
TRANSPOSED: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 4, 5), (3, 2, 3, 3), {}),
    ((2, 3, 4, 5), (3, 4, 3, 2), {"stride": 2, "padding": 1, "output_padding": 1}),
    ((1, 4, 3, 3), (4, 2, 2, 3), {"stride": (2, 3), "groups": 2, "output_padding": (0, 2)}),
    ((2, 3, 4, 3), (3, 1, 3, 3), {"groups": 3, "padding": (1, 2), "dilation": (1, 2)}),
    ((3, 2, 3, 4), (2, 3, 2, 2), {"dilation": 3, "output_padding": 2}),
    ((17, 2, 2, 2), (2, 2, 4, 4), {"stride": 2, "padding": 1}),
    ((2, 5, 3, 3), (5, 2, 1, 1), {}),
    # Pixels that no 1 x 1 window reads.
    ((2, 5, 3, 4), (5, 2, 1, 1), {"dilation": 3, "output_padding": (2, 1)}),
    ((2, 4, 3, 4), (4, 1, 1, 1), {"dilation": 3, "output_padding": (0, 2), "groups": 2}),
    ((1, 2, 3, 3), (2, 1, 1, 1), {"stride": 3}),
    ((1, 1, 1, 1), (1, 1, 2, 3), {}),
]


#: All geometries, with the operation.
GEOMETRIES = [
    *(("conv2d", *case) for case in CONVOLUTIONS),
    *(("conv_transpose2d", *case) for case in TRANSPOSED),
]


drawn = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def check_convolution(
    operation: str,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    arguments: dict[str, Any],
    backend: str,
    dtype: str,
) -> None:
    """Compare forward and all three gradients."""
    function, backward = getattr(F, operation), getattr(F, f"{operation}_backward")
    outputs = w_shape[0] if operation == "conv2d" else w_shape[1] * arguments.get("groups", 1)
    x, w, b = random_array(x_shape, 1), random_array(w_shape, 2), random_array((outputs,), 3)
    y = function(x, w, b, **arguments, backend="reference")
    dy = random_array(y.shape, 4)
    expected = (y, *backward(dy, x, w, **arguments, backend="reference"))
    x, w, b, dy = (array.astype(dtype) for array in (x, w, b, dy))
    actual = (
        function(x, w, b, **arguments, backend=backend),
        *backward(dy, x, w, **arguments, backend=backend),
    )
    for ours, theirs in zip(actual, expected, strict=True):
        assert_close(ours, theirs, dtype)
    without = function(x, w, **arguments, backend=backend)
    assert_close(without, expected[0] - b.astype(float)[:, None, None], dtype)


@pytest.mark.parametrize(("operation", "x_shape", "w_shape", "arguments"), GEOMETRIES)
def test_convolution(
    operation: str,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    arguments: dict[str, Any],
    backend: str,
    dtype: str,
) -> None:
    check_convolution(operation, x_shape, w_shape, arguments, backend, dtype)


@given(st.data())
@drawn
def test_convolution_of_any_geometry(backend: str, data: st.DataObject) -> None:
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    groups = draw(1, 3)
    kernel, dilation = (draw(1, 3), draw(1, 3)), (draw(1, 2), draw(1, 2))
    padding = (draw(0, 2), draw(0, 2))
    size = tuple(
        max(1, d * (k - 1) + 1 - 2 * p) + draw(0, 3)
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    )
    channels = draw(1, 2)
    check_convolution(
        "conv2d",
        (draw(1, 3), channels * groups, *size),
        (draw(1, 2) * groups, channels, *kernel),
        {"stride": (draw(1, 3), draw(1, 3)), "padding": padding, "dilation": dilation,
         "groups": groups},
        backend,
        data.draw(st.sampled_from(["float32", "float64"])),
    )  # fmt: skip


@given(st.data())
@drawn
def test_transposed_convolution_of_any_geometry(backend: str, data: st.DataObject) -> None:
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    groups, stride, dilation = draw(1, 3), (draw(1, 3), draw(1, 3)), (draw(1, 2), draw(1, 2))
    kernel, size = (draw(1, 3), draw(1, 3)), (draw(1, 4), draw(1, 4))
    extra = tuple(draw(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True))
    largest = (
        (n - 1) * s + d * (k - 1) + e
        for n, s, d, k, e in zip(size, stride, dilation, kernel, extra, strict=True)
    )
    padding = tuple(draw(0, min(2, most // 2)) for most in largest)
    channels = draw(1, 2)
    check_convolution(
        "conv_transpose2d",
        (draw(1, 3), channels * groups, *size),
        (channels * groups, draw(1, 2), *kernel),
        {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
         "output_padding": extra},
        backend,
        data.draw(st.sampled_from(["float32", "float64"])),
    )  # fmt: skip


def test_a_transposed_convolution_is_the_gradient_of_a_convolution(backend: str) -> None:
    x, w = random_array((2, 3, 7, 6)), random_array((4, 3, 3, 2), 1)
    arguments: dict[str, Any] = {"stride": (3, 2), "padding": 1}
    y = F.conv2d(x, w, **arguments, backend=backend)
    dx = F.conv2d_backward(y, x, w, **arguments, backend=backend)[0]
    ours = F.conv_transpose2d(y, w, **arguments, output_padding=(0, 0), backend=backend)
    assert ours.shape == dx.shape
    assert ours == pytest.approx(dx)


def test_columns_are_bounded_without_changing_the_result(
    monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    from fastcnn.backends.im2col import blocks, conv

    x, w = random_array((45, 2, 6, 7)).astype(dtype), random_array((3, 2, 3, 3), 1).astype(dtype)
    whole = F.conv2d(x, w, padding=1, backend="im2col")
    grads = F.conv2d_backward(whole, x, w, padding=1, backend="im2col")
    monkeypatch.setattr(conv, "COLUMN_BYTES", 1)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)
    assert_close(F.conv2d(x, w, padding=1, backend="im2col"), whole, dtype)
    again = F.conv2d_backward(whole, x, w, padding=1, backend="im2col")
    for ours, theirs in zip(again, grads, strict=True):
        assert_close(ours, theirs, dtype)


def test_images_with_zeros_around_them_are_bounded() -> None:
    """A group has one sample where 16, padded to whole cache lines, would be many megabytes."""
    from fastcnn.backends.im2col import blocks

    assert blocks._samples(32, 64 * 113 * 113 * 4, 111 * 111) == 1
    assert blocks._samples(32, 1000, 111 * 111) == 32


@pytest.mark.parametrize(
    ("samples", "channels", "filters", "size", "kernel", "arguments"),
    [
        (3, 2, 13, (5, 7), (3, 3), {"padding": 1}),  # every height of a tile, and positions left
        (17, 3, 6, (1, 37), (1, 5), {"padding": (0, 4), "dilation": (1, 2)}),  # wide rows
        (9, 5, 8, (6, 6), (1, 1), {}),  # the pixels are the columns
        (9, 5, 8, (6, 6), (1, 1), {"padding": 1}),  # dx would need fewer pixels than there are
        (5, 4, 4, (9, 1), (4, 1), {"padding": (3, 0)}),  # columns of one pixel
        (5, 3, 9, (11, 10), (5, 3), {"stride": (2, 3), "padding": (2, 0)}),
        (40, 1, 16, (16, 16), (3, 3), {"stride": (3, 1)}),  # several blocks
        (7, 3, 5, (9, 37), (3, 3), {"stride": 2, "padding": 1}),  # every second pixel
        (7, 3, 5, (9, 36), (1, 1), {"stride": 2}),
        (6, 2, 5, (9, 21), (5, 5), {}),  # far fewer outputs than pixels
    ],
)
def test_blocks_of_columns_give_what_whole_arrays_do(
    samples: int,
    channels: int,
    filters: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    arguments: dict[str, Any],
) -> None:
    x, w = random_array((samples, channels, *size)), random_array((filters, channels, *kernel), 1)
    bias = random_array((filters,), 2)
    expected = F.conv2d(x, w, bias, **arguments, backend="im2col")
    dy = random_array(expected.shape, 3)
    gradients = F.conv2d_backward(dy, x, w, **arguments, backend="im2col")
    x, w, bias, dy = (array.astype("float32") for array in (x, w, bias, dy))
    assert_close(F.conv2d(x, w, bias, **arguments, backend="im2col"), expected, "float32")
    ours = F.conv2d_backward(dy, x, w, **arguments, backend="im2col")
    for mine, theirs in zip(ours, gradients, strict=True):
        assert_close(mine, theirs, "float32")


@pytest.mark.parametrize("mask", [(True, False, False), (False, True, False), (False, False, True)])
def test_gradients_of_a_convolution_apart(
    mask: tuple[bool, bool, bool], backend: str, dtype: str
) -> None:
    x, w = random_array((3, 4, 5, 6), 1), random_array((6, 2, 3, 3), 2)
    arguments: dict[str, Any] = {"stride": 2, "padding": 1, "groups": 2}
    dy = random_array(F.conv2d(x, w, **arguments, backend="reference").shape, 3)
    expected = F.conv2d_backward(dy, x, w, **arguments, backend="reference")
    apart = F.conv2d_backward(dy, x, w, **arguments, output_mask=mask, backend="reference")
    x, w, dy = (array.astype(dtype) for array in (x, w, dy))
    ours = F.conv2d_backward(dy, x, w, **arguments, output_mask=mask, backend=backend)
    for wanted, part, mine, whole in zip(mask, apart, ours, expected, strict=True):
        if wanted:
            assert (part == whole).all()
            assert_close(mine, whole, dtype)
        else:
            assert part is None
            assert mine is None
