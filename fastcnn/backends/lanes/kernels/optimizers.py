"""Updates of the parameters, and the gradient's norm.

An update is a formula of one parameter, evaluated on vectors; :func:`update_kernel` makes the
kernel of it. The formulas are those of optim/optimizers.py. ``settings``: momentum or beta1,
beta2, eps, weight decay, 1 for Nesterov, limit of the norm; of RMSprop alpha, momentum, eps,
weight decay, 1 for the centred form.
"""

import math
from typing import Any

import numpy as np

from fastcnn.codegen import linked, simd
from fastcnn.codegen.elementary import maximum, sqrt, where

LANES = simd.LANES
#: Elements of the parameters that an optimiser's unit of work has at most; also of the norm's
#: partial sums.
UNIT = 1024


@linked
def gradient_squares(G, squares, spans, block):
    """Sum of ``G[i] ** 2`` over a unit."""
    a = b = simd.splat(np.float32(0))
    i, last = spans[2 * block], spans[2 * block + 1]
    while i + 2 * LANES <= last:
        x, y = simd.load(G, i), simd.load(G, i + LANES)
        a, b = simd.fma(x, x, a), simd.fma(y, y, b)
        i += 2 * LANES
    total = np.float64(simd.lane_sum(simd.add(a, b)))
    while i < last:
        total += np.float64(G[i]) * G[i]
        i += 1
    squares[block] = total


@linked
def total_norm(squares, units):
    """The norm from the units' sums of squares, in their order."""
    total = 0.0
    for unit in range(units):
        total += squares[unit]
    return math.sqrt(total)


def update_kernel(prepare: Any, formula: Any, slots: int) -> Any:
    """The kernel of an optimiser's update.

    Parameters
    ----------
    prepare : Linked
        ``prepare(settings, rate, scale, step)`` gives the numbers of a step, a tuple of float32;
        ``scale`` is what the gradient is multiplied by, ``step`` counts from 1.
    formula : Linked
        ``formula(parameter, gradient, *slots, numbers)`` gives the new parameter, or without
        slots that alone, else a tuple of it and the new slots.
    slots : int
        Numbers kept for each parameter: 0 to 3. The last of three follows the second in one
        array.

    The last parameters, fewer than a vector's, are each computed in a vector of their own: the
    result does not depend on a parameter's place.
    """
    if slots == 0:

        @linked
        def update(P, G, settings, scale, rate, step, spans, block):
            numbers = prepare(settings, rate, scale, step + 1)
            i, end = spans[2 * block], spans[2 * block + 1]
            while i + LANES <= end:
                simd.store(P, i, formula(simd.load(P, i), simd.load(G, i), numbers))
                i += LANES
            for k in range(i, end):
                P[k] = simd.first_lane(formula(simd.splat(P[k]), simd.splat(G[k]), numbers))

    elif slots == 1:

        @linked
        def update(P, G, S1, settings, scale, rate, step, spans, block):
            numbers = prepare(settings, rate, scale, step + 1)
            i, end = spans[2 * block], spans[2 * block + 1]
            while i + LANES <= end:
                p, a = formula(simd.load(P, i), simd.load(G, i), simd.load(S1, i), numbers)
                simd.store(P, i, p)
                simd.store(S1, i, a)
                i += LANES
            for k in range(i, end):
                p, a = formula(simd.splat(P[k]), simd.splat(G[k]), simd.splat(S1[k]), numbers)
                P[k], S1[k] = simd.first_lane(p), simd.first_lane(a)

    elif slots == 2:

        @linked
        def update(P, G, S1, S2, settings, scale, rate, step, spans, block):
            numbers = prepare(settings, rate, scale, step + 1)
            i, end = spans[2 * block], spans[2 * block + 1]
            while i + LANES <= end:
                p, a, b = formula(
                    simd.load(P, i), simd.load(G, i), simd.load(S1, i), simd.load(S2, i), numbers
                )
                simd.store(P, i, p)
                simd.store(S1, i, a)
                simd.store(S2, i, b)
                i += LANES
            for k in range(i, end):
                p, a, b = formula(
                    simd.splat(P[k]),
                    simd.splat(G[k]),
                    simd.splat(S1[k]),
                    simd.splat(S2[k]),
                    numbers,
                )
                P[k], S1[k] = simd.first_lane(p), simd.first_lane(a)
                S2[k] = simd.first_lane(b)

    else:

        @linked
        def update(P, G, S1, S2, settings, scale, rate, step, spans, block):
            numbers = prepare(settings, rate, scale, step + 1)
            i, end, third = spans[2 * block], spans[2 * block + 1], P.size
            while i + LANES <= end:
                p, a, b, c = formula(
                    simd.load(P, i),
                    simd.load(G, i),
                    simd.load(S1, i),
                    simd.load(S2, i),
                    simd.load(S2, third + i),
                    numbers,
                )
                simd.store(P, i, p)
                simd.store(S1, i, a)
                simd.store(S2, i, b)
                simd.store(S2, third + i, c)
                i += LANES
            for k in range(i, end):
                p, a, b, c = formula(
                    simd.splat(P[k]),
                    simd.splat(G[k]),
                    simd.splat(S1[k]),
                    simd.splat(S2[k]),
                    simd.splat(S2[third + k]),
                    numbers,
                )
                P[k], S1[k] = simd.first_lane(p), simd.first_lane(a)
                S2[k], S2[third + k] = simd.first_lane(b), simd.first_lane(c)

    return update


@linked
def _sgd_numbers(settings, rate, scale, step):
    return np.float32(scale), np.float32(settings[3]), np.float32(rate)


@linked
def _sgd(p, g, numbers):
    scale, decay, rate = numbers
    return p - rate * (g * scale + decay * p)


@linked
def _momentum_numbers(settings, rate, scale, step):
    # With Nesterov's form the step is along g + beta * v, without along v.
    beta, rate = np.float32(settings[0]), np.float32(rate)
    nesterov = settings[4] != 0.0
    along_g = rate if nesterov else np.float32(0)
    along_v = rate * beta if nesterov else rate
    return np.float32(scale), np.float32(settings[3]), beta, -along_g, -along_v


@linked
def _momentum(p, g, v, numbers):
    scale, decay, beta, along_g, along_v = numbers
    g = simd.fma(simd.splat(decay), p, g * scale)
    v = simd.fma(simd.splat(beta), v, g)
    return simd.fma(simd.splat(along_v), v, simd.fma(simd.splat(along_g), g, p)), v


@linked
def _adam_numbers(settings, rate, scale, step):
    """What a coefficient is short of 1 is formed in float64: in float32 1 - 0.9999 is 2e-4 off."""
    beta1, beta2 = settings[0], settings[1]
    corrected = rate / (1.0 - math.pow(beta1, np.float64(step)))
    root = 1.0 / math.sqrt(1.0 - math.pow(beta2, np.float64(step)))
    return (
        np.float32(scale),
        np.float32(settings[3]),
        np.float32(1.0 - rate * settings[3]),
        np.float32(1.0 - beta1),
        np.float32(beta2),
        np.float32(1.0 - beta2),
        np.float32(settings[2]),
        np.float32(corrected),
        np.float32(root),
    )


@linked
def _adam_step(p, g, m, v, numbers):
    _, _, _, share1, beta2, share2, eps, rate, root = numbers
    m = m + share1 * (g - m)
    v = beta2 * v + share2 * g * g
    return p - rate * m / (sqrt(v) * root + eps), m, v


@linked
def _adam(p, g, m, v, numbers):
    return _adam_step(p, g * numbers[0] + numbers[1] * p, m, v, numbers)


@linked
def _adamw(p, g, m, v, numbers):
    return _adam_step(p * numbers[2], g * numbers[0], m, v, numbers)


@linked
def _rmsprop_numbers(settings, rate, scale, step):
    return (
        np.float32(scale),
        np.float32(settings[3]),
        np.float32(settings[0]),
        np.float32(1.0 - settings[0]),
        np.float32(settings[1]),
        np.float32(settings[2]),
        np.float32(rate),
        np.float32(settings[4]),
    )


@linked
def _rmsprop(p, g, s, v, m, numbers):
    scale, decay, alpha, share, momentum, eps, rate, centred = numbers
    g = g * scale + decay * p
    s = alpha * s + share * g * g
    m = m + share * (g - m)
    variance = where(simd.splat(centred) > 0.0, maximum(s - m * m, 0.0), s)
    v = momentum * v + g / (sqrt(variance) + eps)
    return p - rate * v, s, v, m


#: By the name of an optimiser; SGD has two, with and without momentum.
UPDATES = {
    "sgd": update_kernel(_sgd_numbers, _sgd, 0),
    "momentum": update_kernel(_momentum_numbers, _momentum, 1),
    "adam": update_kernel(_adam_numbers, _adam, 2),
    "adamw": update_kernel(_adam_numbers, _adamw, 2),
    "rmsprop": update_kernel(_rmsprop_numbers, _rmsprop, 3),
}
#: The name of the kernel that makes the sums of the gradient's norm.
SQUARES = "gradient_squares"
