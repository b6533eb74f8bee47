"""Kernels of local response normalisation, each for one block of 16 samples.

A pixel is divided by a power of what the TAPS channels around it hold. SCALE is where alpha / size,
beta and k stand. M has the divisors before the power, and EXTRA, with a stride of EXTRA_BLOCK for
each thread and in M's layout, what each output sends back to the inputs of its window.
"""

from collections.abc import Callable

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Cost, Row
from fastcnn.backends.lanes.kernels.division import share
from fastcnn.backends.lanes.kernels.record import Kernel, map_sizes, register
from fastcnn.codegen import linked, simd
from fastcnn.codegen.elementary import exp, log, minimum

#: The largest exponent of e that is taken: float32 ends there.
HIGHEST = 88.0


@linked
def inverse_power(value, beta):
    """``value ** -beta``."""
    return exp(minimum(simd.mul(log(value), simd.splat(np.float32(-beta))), HIGHEST))


@linked
def local_response(A, T, r, block, slot, part, parts):
    """Y = X / M ** beta, and M = k + alpha / size * sum of squares over the window."""
    x0 = r[L.X] + block * r[L.X_BLOCK] + slot * r[L.X_SLOT]
    y0 = r[L.Y] + block * r[L.Y_BLOCK] + slot * r[L.Y_SLOT]
    m0 = r[L.M] + block * r[L.M_BLOCK] + slot * r[L.M_SLOT]
    xs, ys, ms = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :], T[r[L.M_TABLE] :]
    channels, size = r[L.CHANNELS], r[L.TAPS]
    alpha, beta, k = simd.splat(A[r[L.SCALE]]), A[r[L.SCALE] + 1], simd.splat(A[r[L.SCALE] + 2])
    first, last = share(channels, part, parts)
    for c in range(first, last):
        low, high = max(0, c - size // 2), min(channels, c - size // 2 + size)
        x, y, m = x0 + c * r[L.X_CHANNEL], y0 + c * r[L.Y_CHANNEL], m0 + c * r[L.M_CHANNEL]
        for p in range(r[L.POSITIONS]):
            total = simd.splat(np.float32(0))
            for j in range(low, high):
                value = simd.load(A, x0 + j * r[L.X_CHANNEL] + xs[p])
                total = simd.fma(value, value, total)
            divisor = simd.fma(total, alpha, k)
            simd.store(A, m + ms[p], divisor)
            value = simd.mul(simd.load(A, x + xs[p]), inverse_power(divisor, beta))
            simd.store(A, y + ys[p], value)


@linked
def local_response_shares(A, T, r, block, slot, part, parts):
    """What each output sends back: EXTRA = Y * X * M ** (-beta - 1), Y being its gradient."""
    x0 = r[L.X] + block * r[L.X_BLOCK] + slot * r[L.X_SLOT]
    y0 = r[L.Y] + block * r[L.Y_BLOCK] + slot * r[L.Y_SLOT]
    m0 = r[L.M] + block * r[L.M_BLOCK] + slot * r[L.M_SLOT]
    q0 = r[L.EXTRA] + slot * r[L.EXTRA_BLOCK]
    xs, ys, ms = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :], T[r[L.M_TABLE] :]
    beta = A[r[L.SCALE] + 1] + np.float32(1)
    first, last = share(r[L.CHANNELS], part, parts)
    for c in range(first, last):
        x, y, m = x0 + c * r[L.X_CHANNEL], y0 + c * r[L.Y_CHANNEL], m0 + c * r[L.M_CHANNEL]
        for p in range(r[L.POSITIONS]):
            product = simd.mul(simd.load(A, y + ys[p]), simd.load(A, x + xs[p]))
            value = simd.mul(product, inverse_power(simd.load(A, m + ms[p]), beta))
            simd.store(A, q0 + c * r[L.M_CHANNEL] + ms[p], value)


@linked
def local_response_gradient(A, T, r, block, slot, part, parts):
    """The input's gradient Z = Y * M ** -beta - 2 alpha beta / size * X * sum of EXTRA."""
    x0 = r[L.X] + block * r[L.X_BLOCK] + slot * r[L.X_SLOT]
    y0 = r[L.Y] + block * r[L.Y_BLOCK] + slot * r[L.Y_SLOT]
    z0 = r[L.Z] + block * r[L.Z_BLOCK] + slot * r[L.Z_SLOT]
    m0 = r[L.M] + block * r[L.M_BLOCK] + slot * r[L.M_SLOT]
    q0 = r[L.EXTRA] + slot * r[L.EXTRA_BLOCK]
    xs, ys, ms, zs = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :], T[r[L.M_TABLE] :], T[r[L.Z_TABLE] :]
    channels, size, beta = r[L.CHANNELS], r[L.TAPS], A[r[L.SCALE] + 1]
    factor = simd.splat(np.float32(-2) * A[r[L.SCALE]] * beta)
    first, last = share(channels, part, parts)
    for c in range(first, last):
        # The outputs whose windows hold this channel.
        low, high = max(0, c + size // 2 - size + 1), min(channels, c + size // 2 + 1)
        x, y, z = x0 + c * r[L.X_CHANNEL], y0 + c * r[L.Y_CHANNEL], z0 + c * r[L.Z_CHANNEL]
        for p in range(r[L.POSITIONS]):
            total = simd.splat(np.float32(0))
            for j in range(low, high):
                total = simd.add(total, simd.load(A, q0 + j * r[L.M_CHANNEL] + ms[p]))
            power = inverse_power(simd.load(A, m0 + c * r[L.M_CHANNEL] + ms[p]), beta)
            direct = simd.mul(simd.load(A, y + ys[p]), power)
            through = simd.mul(simd.mul(simd.load(A, x + xs[p]), factor), total)
            simd.store(A, z + zs[p], simd.add(direct, through))


def _window(flops: int, read: int, written: int) -> Callable[[Row], Cost]:
    """Work on each element, and on each of its window."""

    def cost(r: Row) -> Cost:
        n = r[L.CHANNELS] * r[L.POSITIONS]
        return r.cost((flops + 2 * r[L.TAPS]) * n, read * n, written * n)

    return cost


register(
    {
        L.K_LOCAL_RESPONSE: Kernel(local_response, "local response", _window(4, 1, 2), map_sizes),
        L.K_LOCAL_RESPONSE_SHARES: Kernel(
            local_response_shares, "shares of a local response", _window(4, 3, 1), map_sizes
        ),
        L.K_LOCAL_RESPONSE_GRADIENT: Kernel(
            local_response_gradient, "gradient of a local response", _window(5, 4, 1), map_sizes
        ),
    }
)
