"""Costs and records of the kernels of depthwise convolutions."""

from fastcnn.backends.lanes.convolution.depthwise import kernels, reach
from fastcnn.backends.lanes.convolution.phases import pixels_of, products_of, vectors_read
from fastcnn.backends.lanes.convolution.tiles import CONV_WIDTHS
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Cost, Row
from fastcnn.backends.lanes.kernels.record import clipped, numbered
from fastcnn.codegen.target import blocking


def _depthwise(r: Row) -> Cost:
    groups, outputs = r[L.GROUPS], r[L.GROUPS] * r[L.CHANNELS]
    written = outputs * pixels_of(r)
    read = groups * vectors_read(r) + (written if r[L.MODE] == L.MASKED else 0)
    weights = outputs * r[L.TAPS]
    return r.cost(2 * outputs * products_of(r), read, written, parameters_read=weights)


def _depthwise_gradient(r: Row) -> Cost:
    groups, outputs = r[L.GROUPS], r[L.GROUPS] * r[L.CHANNELS]
    biases, weights, pixels = int(r[L.BIAS] >= 0), outputs * r[L.TAPS], groups * pixels_of(r)
    products = 2 * groups * products_of(r) if r[L.Z] >= 0 else 0
    return r.cost(
        r.elements * (2 * r[L.TAPS] + biases) + products,
        r.elements + pixels,
        pixels if r[L.Z] >= 0 else 0,
        partial=weights + biases * outputs,
        parameters_read=weights,
    )


def _tile(r: Row) -> str:
    short = 0 < r[L.Y_WIDTH] < kernels.LONG_ROW
    return clipped((1, kernels.SHORT_ROW if short else CONV_WIDTHS[1]), blocking().windows)


def _gradient_tile(r: Row) -> str:
    return clipped((1, 9), blocking().gradients)


def _sizes(r: Row) -> str:
    return f"{r[L.GROUPS] * r[L.CHANNELS]} x {pixels_of(r)}, {r[L.TAPS]} taps"


K_DEPTHWISE = numbered(
    kernels.depthwise,
    "depthwise",
    _depthwise,
    _sizes,
    _tile,
    touches=reach.product,
    speed=0.42,
    gradients=("x",),
)
K_DEPTHWISE_GRADIENT = numbered(
    kernels.depthwise_gradient,
    "depthwise gradients",
    _depthwise_gradient,
    _sizes,
    _gradient_tile,
    touches=reach.gradients,
)
