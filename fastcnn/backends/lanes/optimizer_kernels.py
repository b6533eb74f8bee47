"""Updates of the parameters, and the gradient's norm."""

import math

import numpy as np

from fastcnn.backends.lanes import simd
from fastcnn.backends.lanes.late_codegen import linked

LANES = simd.LANES
SGD, ADAM, ADAMW, RMSPROP, NONE = 0, 1, 2, 3, 4
#: Elements of the parameters that an optimiser's unit of work has; also of the norm's partial sums.
UNIT = 1024


@linked
def sum_of_squares(G, first, last):
    """Sum of ``G[i] ** 2`` over a range of at most :data:`UNIT` elements."""
    a = b = simd.splat(np.float32(0))
    i = first
    while i + 2 * LANES <= last:
        x, y = simd.load(G, i), simd.load(G, i + LANES)
        a, b = simd.fma(x, x, a), simd.fma(y, y, b)
        i += 2 * LANES
    total = np.float64(simd.lane_sum(simd.add(a, b)))
    while i < last:
        total += np.float64(G[i]) * G[i]
        i += 1
    return total


@linked
def total_norm(squares, units):
    """The norm from the units' sums of squares, in their order."""
    total = 0.0
    for unit in range(units):
        total += squares[unit]
    return math.sqrt(total)


@linked
def update(kind, P, G, S1, S2, i, end, scale, settings, lr, step):
    """An optimiser's step on the parameters ``i`` to ``end``; see optim/optimizers.py.

    ``settings``: momentum or beta1, beta2, eps, weight decay, 1 for Nesterov; of RMSprop alpha,
    momentum, eps, weight decay, 1 for the centred form. RMSprop's S2 has the velocity of every
    parameter, then its gradient's mean.
    """
    decay, beta = np.float32(settings[3]), np.float32(settings[0])
    rate = np.float32(lr)
    if kind == SGD:
        # With Nesterov's form the step is along g + beta * v, without along v.
        g_share = np.float32(1) if settings[4] != 0.0 else np.float32(0)
        v_share = beta if settings[4] != 0.0 else np.float32(1)
        if beta == np.float32(0):
            while i < end:
                P[i] -= rate * (G[i] * scale + decay * P[i])
                i += 1
            return
        scales, decays, betas = simd.splat(scale), simd.splat(decay), simd.splat(beta)
        g_rate, v_rate = simd.splat(-rate * g_share), simd.splat(-rate * v_share)
        while i + LANES <= end:
            p = simd.load(P, i)
            g = simd.fma(decays, p, simd.mul(simd.load(G, i), scales))
            v = simd.fma(betas, simd.load(S1, i), g)
            simd.store(S1, i, v)
            simd.store(P, i, simd.fma(v_rate, v, simd.fma(g_rate, g, p)))
            i += LANES
        while i < end:
            g = G[i] * scale + decay * P[i]
            v = beta * S1[i] + g
            S1[i] = v
            P[i] -= rate * (g_share * g + v_share * v)
            i += 1
        return
    beta2, eps = np.float32(settings[1]), np.float32(settings[2])
    one = np.float32(1)
    if kind == RMSPROP:
        # One loop for all forms: what a form has not got is multiplied by zero.
        centred, means = np.float32(settings[4]), P.size
        for k in range(i, end):
            g = G[k] * scale + decay * P[k]
            s = beta * S1[k] + (one - beta) * g * g
            m = S2[means + k] + (one - beta) * (g - S2[means + k])
            variance = max(s - centred * m * m, np.float32(0))
            v = beta2 * S2[k] + g / (np.float32(math.sqrt(variance)) + eps)
            S1[k], S2[k], S2[means + k] = s, v, m
            P[k] -= rate * v
        return
    shrink = np.float32(1.0 - lr * settings[3]) if kind == ADAMW else one
    l2 = decay if kind == ADAM else np.float32(0)
    rate = np.float32(lr / (1.0 - settings[0] ** step))
    root = np.float32(1.0 / math.sqrt(1.0 - settings[1] ** step))
    for k in range(i, end):
        p = P[k] * shrink
        g = G[k] * scale + l2 * p
        m = S1[k] + (one - beta) * (g - S1[k])
        v = beta2 * S2[k] + (one - beta2) * g * g
        S1[k], S2[k] = m, v
        P[k] = p - rate * m / (np.float32(math.sqrt(v)) * root + eps)
