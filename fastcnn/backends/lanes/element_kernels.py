"""Kernels that work element by element, each for one block of 16 samples.

A kernel does the ``part``-th of ``parts`` equal shares of the elements. A is the arena, T the
tables, r the program row.
"""

import numpy as np

from fastcnn.backends.lanes import simd
from fastcnn.backends.lanes import vector_math as vm
from fastcnn.backends.lanes.division import share
from fastcnn.backends.lanes.late_codegen import linked
from fastcnn.backends.lanes.layout import (
    ACT_ELU,
    ACT_GELU,
    ACT_GELU_TANH,
    ACT_LEAKY_RELU,
    ACT_RELU,
    ACT_SIGMOID,
    ACT_SILU,
    ACT_SOFTPLUS,
    ACT_TANH,
    CHANNELS,
    M_BLOCK,
    M_CHANNEL,
    M_SLOT,
    M_TABLE,
    MODE,
    POSITIONS,
    RELU,
    SCALE,
    THRESHOLD,
    X_BLOCK,
    X_CHANNEL,
    X_SLOT,
    X_TABLE,
    Y_BLOCK,
    Y_CHANNEL,
    Y_SLOT,
    Y_TABLE,
    M,
    X,
    Y,
)

LANES = simd.LANES


@linked
def activation(A, T, r, block, slot, part, parts):
    """Element-wise function by MODE; SCALE is where its two numbers stand."""
    x0 = r[X] + block * r[X_BLOCK] + slot * r[X_SLOT]
    y0 = r[Y] + block * r[Y_BLOCK] + slot * r[Y_SLOT]
    positions, mode = r[POSITIONS], r[MODE]
    a, b = A[r[SCALE]], A[r[SCALE] + 1]
    xs, ys, x_channel, y_channel = T[r[X_TABLE] :], T[r[Y_TABLE] :], r[X_CHANNEL], r[Y_CHANNEL]
    first, last = share(r[CHANNELS] * positions, part, parts)
    c, p = first // positions, first % positions
    for _ in range(first, last):
        value = simd.load(A, x0 + c * x_channel + xs[p])
        if mode == ACT_RELU:
            value = simd.relu(value)
        elif mode == ACT_SIGMOID:
            value = vm.sigmoid(value)
        elif mode == ACT_TANH:
            value = vm.tanh(value)
        elif mode == ACT_LEAKY_RELU:
            value = vm.leaky(value, a, value)
        elif mode == ACT_ELU:
            value = vm.elu(value, a)
        elif mode == ACT_GELU:
            value = vm.gelu(value)
        elif mode == ACT_GELU_TANH:
            value = vm.gelu_tanh(value)
        elif mode == ACT_SILU:
            value = vm.silu(value)
        elif mode == ACT_SOFTPLUS:
            value = vm.softplus(value, a, b)
        simd.store(A, y0 + c * y_channel + ys[p], value)
        p += 1
        if p == positions:
            c, p = c + 1, 0


@linked
def activation_backward(A, T, r, block, slot, part, parts):
    """X is the input's gradient, Y the output's.

    M is the output of ReLU, sigmoid and tanh, and the input of all others.
    """
    x0 = r[X] + block * r[X_BLOCK] + slot * r[X_SLOT]
    y0 = r[Y] + block * r[Y_BLOCK] + slot * r[Y_SLOT]
    m0 = r[M] + block * r[M_BLOCK] + slot * r[M_SLOT]
    positions, mode = r[POSITIONS], r[MODE]
    a, b = A[r[SCALE]], A[r[SCALE] + 1]
    one = simd.splat(np.float32(1))
    xs, ys, ms = T[r[X_TABLE] :], T[r[Y_TABLE] :], T[r[M_TABLE] :]
    x_channel, y_channel, m_channel = r[X_CHANNEL], r[Y_CHANNEL], r[M_CHANNEL]
    first, last = share(r[CHANNELS] * positions, part, parts)
    c, p = first // positions, first % positions
    for _ in range(first, last):
        grad = simd.load(A, y0 + c * y_channel + ys[p])
        value = simd.load(A, m0 + c * m_channel + ms[p])
        if mode == ACT_RELU:
            grad = simd.keep_positive(value, grad)
        elif mode == ACT_SIGMOID:
            grad = simd.mul(grad, simd.mul(value, simd.sub(one, value)))
        elif mode == ACT_TANH:
            grad = simd.mul(grad, simd.sub(one, simd.mul(value, value)))
        elif mode == ACT_LEAKY_RELU:
            grad = vm.leaky(value, a, grad)
        elif mode == ACT_ELU:
            grad = vm.elu_gradient(value, a, grad)
        elif mode == ACT_GELU:
            grad = vm.gelu_gradient(value, grad)
        elif mode == ACT_GELU_TANH:
            grad = vm.gelu_tanh_gradient(value, grad)
        elif mode == ACT_SILU:
            grad = vm.silu_gradient(value, grad)
        elif mode == ACT_SOFTPLUS:
            grad = vm.softplus_gradient(value, a, b, grad)
        simd.store(A, x0 + c * x_channel + xs[p], grad)
        p += 1
        if p == positions:
            c, p = c + 1, 0


@linked
def addition(A, T, r, block, slot, part, parts):
    """Y = X + M, then rectified with RELU."""
    x0 = r[X] + block * r[X_BLOCK] + slot * r[X_SLOT]
    y0 = r[Y] + block * r[Y_BLOCK] + slot * r[Y_SLOT]
    m0 = r[M] + block * r[M_BLOCK] + slot * r[M_SLOT]
    positions, relu = r[POSITIONS], r[RELU]
    xs, ys, ms = T[r[X_TABLE] :], T[r[Y_TABLE] :], T[r[M_TABLE] :]
    x_channel, y_channel, m_channel = r[X_CHANNEL], r[Y_CHANNEL], r[M_CHANNEL]
    first, last = share(r[CHANNELS] * positions, part, parts)
    c, p = first // positions, first % positions
    for _ in range(first, last):
        value = simd.add(
            simd.load(A, x0 + c * x_channel + xs[p]), simd.load(A, m0 + c * m_channel + ms[p])
        )
        if relu:
            value = simd.relu(value)
        simd.store(A, y0 + c * y_channel + ys[p], value)
        p += 1
        if p == positions:
            c, p = c + 1, 0


@linked
def dropout(A, T, r, key, first_sample, block, slot, part, parts):
    """Zero elements whose hash is below the threshold, scale the rest; forward and backward.

    With MODE 1, all elements of a channel share one hash.
    """
    x0 = r[X] + block * r[X_BLOCK] + slot * r[X_SLOT]
    y0 = r[Y] + block * r[Y_BLOCK] + slot * r[Y_SLOT]
    positions, channelwise = r[POSITIONS], r[MODE] == 1
    elements = r[CHANNELS] * positions
    hashes = r[CHANNELS] if channelwise else elements
    scale = simd.splat(A[r[SCALE]])
    xs, ys, x_channel, y_channel = T[r[X_TABLE] :], T[r[Y_TABLE] :], r[X_CHANNEL], r[Y_CHANNEL]
    first, last = share(elements, part, parts)
    c, p = first // positions, first % positions
    for unit in range(first, last):
        value = simd.load(A, x0 + c * x_channel + xs[p])
        counter = (first_sample + block * LANES) * hashes + (c if channelwise else unit)
        value = simd.keep_random(counter, hashes, key, r[THRESHOLD], simd.mul(value, scale))
        simd.store(A, y0 + c * y_channel + ys[p], value)
        p += 1
        if p == positions:
            c, p = c + 1, 0
