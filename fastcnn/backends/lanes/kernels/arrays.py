"""Kernels that copy arrays, one row per sample, to buffers of 16 samples and back."""

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.kernels.division import base, share
from fastcnn.backends.lanes.kernels.record import numbered, per_number, sizes_of
from fastcnn.backends.lanes.reach.ranges import Reach, Touches, arena
from fastcnn.codegen import linked, simd
from fastcnn.codegen.transpose_tiles import pack_tile, unpack_tile

LANES = simd.LANES


@linked
def pack_block(A, T, r, block, slot, count, order, start, samples, part, parts):
    """Normalise one block's samples and pack them into lanes; idle lanes are zero."""
    pixels, channels, table = r[L.IN], r[L.OUT], r[L.X_TABLE]
    y0 = base(r, L.Y, block, slot)
    sample = start + block * LANES
    valid = min(LANES, count - block * LANES)
    size, scale, shift = pixels // channels, r[L.SCALE], r[L.SCALE] + channels
    first, last = share((pixels + LANES - 1) // LANES, part, parts)
    if pixels >= LANES:
        for unit in range(first, last):
            # The last tile overlaps the one before it, to avoid a partial one.
            i = min(unit * LANES, pixels - LANES)
            pack_tile(
                samples, order, sample, valid, pixels, i, size, A, scale, shift, T, table + i, A, y0
            )
        return
    for lane in range(LANES if last > first else 0):
        image = order[sample + min(lane, valid - 1)] * pixels
        for k in range(pixels):
            value = np.float32(0)
            if lane < valid:
                value = np.float32(samples[image + k]) * A[scale + k // size] + A[shift + k // size]
            A[y0 + T[table + k] + lane] = value


@linked
def gather_input(A, T, r, block, slot, count, order, start, bytes_, floats, part, parts):
    """Pack one block of the input, from bytes if there are any, else from floats."""
    if bytes_.size > 0:
        pack_block(A, T, r, block, slot, count, order, start, bytes_, part, parts)
    else:
        pack_block(A, T, r, block, slot, count, order, start, floats, part, parts)


@linked
def gather_gradient(A, T, r, block, slot, count, target_order, start, targets, part, parts):
    """Pack one block of targets, or of the output's gradient, which is stored in their place."""
    pack_block(A, T, r, block, slot, count, target_order, start, targets, part, parts)


@linked
def write_output(A, T, r, block, count, start, outputs, part, parts):
    """Copy one block of X to a row of ``outputs`` for each sample."""
    size, table = r[L.IN], r[L.X_TABLE]
    x0 = r[L.X] + block * r[L.X_BLOCK]
    valid = min(LANES, count - block * LANES)
    y0 = (start + block * LANES) * size
    if size >= LANES:
        first, last = share((size + LANES - 1) // LANES, part, parts)
        for unit in range(first, last):
            # The last tile overlaps the one before it, to avoid a partial one.
            i = min(unit * LANES, size - LANES)
            unpack_tile(A, x0, T, table + i, valid, outputs, y0 + i, size)
    elif part == 0:
        for lane in range(valid):
            for k in range(size):
                outputs[y0 + lane * size + k] = A[x0 + T[table + k] + lane]


def _input(r: Row) -> Cost:
    pixels = r[L.IN]
    return Cost(2 * pixels * r.batch, pixels * r.batch, FLOAT_BYTES * LANES * pixels * r.blocks)


def _packed(r: Reach) -> Touches:
    """Scale and offset of each channel, and a block."""
    yield arena("SCALE", r.along(2 * r.count(L.OUT, 1), 1) + r[L.SCALE], 1)
    yield arena("Y", r.buffer(L.Y) + r.entries(L.X_TABLE, r.count(L.IN, 1)))


def _written(r: Reach) -> Touches:
    elements = r.entries(L.X_TABLE, r.count(L.IN, 1))
    yield arena("X", r.blocks(L.X, L.X_BLOCK) + elements)


K_INPUT = numbered(
    gather_input,
    "gather input",
    _input,
    sizes_of(L.IN),
    touches=_packed,
    of_run="images",
    gradients=("weight",),
    before_backward=True,
)
K_OUTPUT_GRADIENT = numbered(
    gather_gradient,
    "gather gradient",
    per_number(0, 1),
    sizes_of(L.IN),
    touches=_packed,
    of_run="gradients",
)
K_OUTPUT = numbered(
    write_output,
    "output",
    per_number(0, 1),
    sizes_of(L.IN),
    touches=_written,
    of_run="outputs",
    gradients=("x",),
)
