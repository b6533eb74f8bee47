"""Updates of the parameters, and the gradient's norm: the end of a training step.

An update is a formula of one parameter, evaluated on vectors; :func:`update_kernel` generates its
kernel, for the package's optimisers and for users' own. The formulas are those of
``fastcnn.optim``. Steps common to all optimisers precede the formula: the gradient is scaled
(clipping), and weight decay is added to it or subtracted from the parameter.

``settings`` has a row of :data:`SETTINGS` floats for each part of the parameters: the settings of
its formula first, then those at the indices below.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.backends.lanes.kernels.tuples import reads, writes
from fastcnn.codegen import linked, simd
from fastcnn.codegen.elementary import maximum, sqrt, where

LANES = simd.LANES
#: Maximum parameters in an optimiser's unit of work, and in the norm's partial sums.
UNIT = 1024
#: Indices in a row of settings: the part's factor of the learning rate, coupled and decoupled
#: weight decay, steps before its first one, and floats of each thread's scratch.
FACTOR, DECAY, DECOUPLED, BEGAN, ROOM = 11, 12, 13, 14, 15
#: Length of a row of settings.
SETTINGS = 16
#: Fields of a unit in ``spans``: first and last + 1 parameter, and its row of settings.
SPAN = 3


@linked
def gradient_squares(G, squares, spans, block):
    """Sum of ``G[i] ** 2`` over a unit."""
    i, last = spans[SPAN * block], spans[SPAN * block + 1]
    total = 0.0
    while i < last:
        end = min(i + UNIT, last)
        a = b = simd.splat(np.float32(0))
        while i + 2 * LANES <= end:
            x, y = simd.load(G, i), simd.load(G, i + LANES)
            a, b = simd.fma(x, x, a), simd.fma(y, y, b)
            i += 2 * LANES
        total += np.float64(simd.lane_sum(simd.add(a, b)))
        while i < end:
            total += np.float64(G[i]) * G[i]
            i += 1
    squares[block] = total


@linked
def total_norm(squares):
    """The norm from partial sums of squares, added in order."""
    total = 0.0
    for unit in range(squares.size):
        total += squares[unit]
    return math.sqrt(total)


@linked
def clip(G, scale, spans, block):
    """Scale a unit's gradient, for an update outside the engine."""
    if scale != 1.0:
        for i in range(spans[SPAN * block], spans[SPAN * block + 1]):
            G[i] *= np.float32(scale)


@linked
def _splat(S, at):
    return simd.splat(S[at])


@linked
def _store_first(S, at, value):
    S[at] = simd.first_lane(value)


def update_step(prepare: Any, formula: Any, slots: int) -> tuple[Any, Any]:
    """The building blocks of an update, independent of where the gradient is.

    Parameters
    ----------
    prepare : Linked
        ``prepare(settings, row, rate, step)`` returns the coefficients of a step, a tuple of
        float32; ``settings[row]`` is the formula's first setting, ``step`` counts from 1.
    formula : Linked
        ``formula(parameter, gradient, slots, numbers)`` returns a tuple of the new parameter and
        the new slots.
    slots : int
        State values per parameter, in consecutive arrays in ``S``.

    Returns
    -------
    numbers : Linked
        ``numbers(settings, part, scale, rate, step)``: a step's coefficients for a part of the
        parameters.
    advance : Linked
        ``advance(P, G, S, first, end, g, numbers)`` updates some parameters, whose gradients begin
        at ``G[g]``. A remainder of less than a vector is computed one parameter per vector, so that
        the result does not depend on a parameter's position.
    """
    load, store = reads(slots, simd.load), writes(slots, simd.store)
    load_one, store_one = reads(slots, _splat), writes(slots, _store_first)

    @linked
    def numbers(settings, part, scale, rate, step):
        row = SETTINGS * part
        own_rate = rate * settings[row + FACTOR]
        count = step + 1 - np.int64(settings[row + BEGAN])
        keep = np.float32(1.0 - own_rate * settings[row + DECOUPLED])
        shared = np.float32(scale), np.float32(settings[row + DECAY]), keep
        return shared, prepare(settings, row, own_rate, count)

    @linked
    def advance(P, G, S, first, end, g, numbers):
        (scale, decay_by, keep_of), own = numbers
        scales, decay, keep = simd.splat(scale), simd.splat(decay_by), simd.splat(keep_of)
        stride = (P.size + LANES - 1) // LANES * LANES
        i, there = first, g - first
        while i + LANES <= end:
            p = simd.load(P, i)
            g = simd.fma(decay, p, simd.load(G, there + i) * scales)
            made = formula(p * keep, g, load(S, i, stride), own)
            simd.store(P, i, made[0])
            store(S, i, stride, made)
            i += LANES
        for k in range(i, end):
            p = simd.splat(P[k])
            g = simd.fma(decay, p, simd.splat(G[there + k]) * scales)
            made = formula(p * keep, g, load_one(S, k, stride), own)
            P[k] = simd.first_lane(made[0])
            store_one(S, k, stride, made)

    return numbers, advance


def update_kernel(numbers: Any, advance: Any) -> Any:
    """The kernel of an optimiser's update, built from an :func:`update_step`."""

    @linked
    def update(P, G, S, settings, scale, rate, step, spans, block):
        first, end, part = spans[SPAN * block], spans[SPAN * block + 1], spans[SPAN * block + 2]
        advance(P, G, S, first, end, first, numbers(settings, part, scale, rate, step))

    return update


@linked
def _lerp(start, end, share):
    """Interpolate from the nearer end: a share of 1 gives exactly ``end``."""
    near = np.float32(1.0) - share
    return where(simd.splat(share) < 0.5, start + share * (end - start), end - near * (end - start))


@linked
def _sgd_numbers(settings, row, rate, step):
    return (np.float32(rate),)


@linked
def _sgd(p, g, slots, numbers):
    return (p - numbers[0] * g,)


@linked
def _momentum_numbers(settings, row, rate, step):
    # With Nesterov momentum the step is along g + beta * v, without along v.
    beta, rate32 = np.float32(settings[row]), np.float32(rate)
    nesterov = settings[row + 1] != 0.0
    along_g = rate32 if nesterov else np.float32(0)
    along_v = rate32 * beta if nesterov else rate32
    return beta, -along_g, -along_v


@linked
def _momentum(p, g, slots, numbers):
    beta, along_g, along_v = numbers
    v = simd.fma(simd.splat(beta), slots[0], g)
    return simd.fma(simd.splat(along_v), v, simd.fma(simd.splat(along_g), g, p)), v


@linked
def _adam_numbers(settings, row, rate, step):
    """One minus a coefficient is computed in float64: in float32, 1 - 0.9999 is off by 2e-4."""
    beta1, beta2 = settings[row], settings[row + 1]
    corrected = rate / (1.0 - math.pow(beta1, np.float64(step)))
    root = 1.0 / math.sqrt(1.0 - math.pow(beta2, np.float64(step)))
    return (
        np.float32(1.0 - beta1),
        np.float32(beta2),
        np.float32(1.0 - beta2),
        np.float32(settings[row + 2]),
        np.float32(corrected),
        np.float32(root),
    )


@linked
def _adam(p, g, slots, numbers):
    share1, beta2, share2, eps, rate, root = numbers
    m = _lerp(slots[0], g, share1)
    v = beta2 * slots[1] + share2 * g * g
    return p - rate * m / (sqrt(v) * root + eps), m, v


@linked
def _nadam_numbers(settings, row, rate, step):
    beta1, beta2, t = settings[row], settings[row + 1], np.float64(step)
    mu = beta1 * (1.0 - 0.5 * math.pow(0.96, t * settings[row + 3]))
    following = beta1 * (1.0 - 0.5 * math.pow(0.96, (t + 1.0) * settings[row + 3]))
    return (
        np.float32(1.0 - beta1),
        np.float32(beta2),
        np.float32(1.0 - beta2),
        np.float32(settings[row + 2]),
        np.float32(1.0 / math.sqrt(1.0 - math.pow(beta2, t))),
        np.float32(mu),
        np.float32(following),
        np.float32(rate * (1.0 - mu)),
        np.float32(rate * following),
    )


@linked
def _nadam(p, g, slots, numbers):
    share1, beta2, share2, eps, root, mu, following, along_g, along_m = numbers
    m = _lerp(slots[0], g, share1)
    v = beta2 * slots[1] + share2 * g * g
    product = mu * (np.float32(1.0) - slots[2])
    steps = along_g * g / (np.float32(1.0) - product)
    steps = steps + along_m * m / (np.float32(1.0) - product * following)
    return p - steps / (sqrt(v) * root + eps), m, v, np.float32(1.0) - product


@linked
def _rmsprop_numbers(settings, row, rate, step):
    return (
        np.float32(settings[row]),
        np.float32(1.0 - settings[row]),
        np.float32(settings[row + 1]),
        np.float32(settings[row + 2]),
        np.float32(rate),
    )


@linked
def _rmsprop(p, g, slots, numbers):
    alpha, share, _, eps, rate = numbers
    s = alpha * slots[0] + share * g * g
    return p - rate * g / (sqrt(s) + eps), s


@linked
def _rmsprop_momentum(p, g, slots, numbers):
    alpha, share, momentum, eps, rate = numbers
    s = alpha * slots[0] + share * g * g
    v = momentum * slots[1] + g / (sqrt(s) + eps)
    return p - rate * v, s, v


@linked
def _rmsprop_centered(p, g, slots, numbers):
    alpha, share, _, eps, rate = numbers
    s = alpha * slots[0] + share * g * g
    m = _lerp(slots[1], g, share)
    return p - rate * g / (sqrt(maximum(s - m * m, 0.0)) + eps), s, m


@linked
def _rmsprop_both(p, g, slots, numbers):
    alpha, share, momentum, eps, rate = numbers
    s = alpha * slots[0] + share * g * g
    m = _lerp(slots[2], g, share)
    v = momentum * slots[1] + g / (sqrt(maximum(s - m * m, 0.0)) + eps)
    return p - rate * v, s, v, m


@linked
def _lion_numbers(settings, row, rate, step):
    beta1, beta2 = settings[row], settings[row + 1]
    return np.float32(1.0 - beta1), np.float32(1.0 - beta2), np.float32(rate)


@linked
def _lion(p, g, slots, numbers):
    share1, share2, rate = numbers
    direction = _lerp(slots[0], g, share1)
    down, up = simd.splat(-rate), simd.splat(rate)
    nothing = simd.splat(np.float32(0))
    change = where(direction > 0.0, down, where(direction < 0.0, up, nothing))
    return p + change, _lerp(slots[0], g, share2)


@linked
def _adagrad_numbers(settings, row, rate, step):
    rate = rate / (1.0 + (np.float64(step) - 1.0) * settings[row])
    return np.float32(rate), np.float32(settings[row + 1]), np.float32(settings[row + 2])


@linked
def _adagrad(p, g, slots, numbers):
    rate, initial, eps = numbers
    s = slots[0] + g * g
    return p - rate * g / (sqrt(s + initial) + eps), s


@linked
def _adadelta_numbers(settings, row, rate, step):
    rho = settings[row]
    return np.float32(rho), np.float32(1.0 - rho), np.float32(settings[row + 1]), np.float32(rate)


#: The factor of Adadelta's quotient, and that of its root.
SCALE, UNSCALE = np.float32(2.0**48), np.float32(2.0**-24)


@linked
def _adadelta(p, g, slots, numbers):
    rho, share, eps, rate = numbers
    s = rho * slots[0] + share * g * g
    # A root of the quotient: two roots take longer than the memory traffic. It is scaled, as it
    # would be denormal for a gradient above 1e16.
    change = sqrt((slots[1] + eps) * SCALE / (s + eps)) * (g * UNSCALE)
    return p - rate * change, s, rho * slots[1] + share * change * change


@dataclass(frozen=True)
class UpdateKernel:
    """The kernel of an update."""

    function: Any
    #: State values per parameter.
    slots: int
    #: ``scratch(rows, columns)``: floats of scratch for an update of whole matrices. Other updates
    #: apply to any range of parameters.
    scratch: Callable[[int, int], int] | None = None
    #: Its building blocks, if it may directly follow the gradient of a fully connected layer's
    #: weights.
    step: tuple[Any, Any] | None = None


#: By name; some optimisers have several, which differ in their slots.
UPDATES: dict[str, UpdateKernel] = {
    name: UpdateKernel(update_kernel(*step), slots, step=step)
    for name, step, slots in (
        ("sgd", update_step(_sgd_numbers, _sgd, 0), 0),
        ("momentum", update_step(_momentum_numbers, _momentum, 1), 1),
        ("adam", update_step(_adam_numbers, _adam, 2), 2),
        ("nadam", update_step(_nadam_numbers, _nadam, 3), 3),
        ("rmsprop", update_step(_rmsprop_numbers, _rmsprop, 1), 1),
        ("rmsprop_momentum", update_step(_rmsprop_numbers, _rmsprop_momentum, 2), 2),
        ("rmsprop_centered", update_step(_rmsprop_numbers, _rmsprop_centered, 2), 2),
        ("rmsprop_both", update_step(_rmsprop_numbers, _rmsprop_both, 3), 3),
        ("lion", update_step(_lion_numbers, _lion, 1), 1),
        ("adagrad", update_step(_adagrad_numbers, _adagrad, 1), 1),
        ("adadelta", update_step(_adadelta_numbers, _adadelta, 2), 2),
    )
}
#: The name of the kernel that computes the sums for the gradient's norm.
SQUARES = "gradient_squares"
