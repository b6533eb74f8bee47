"""Kernels of normalisation within each sample: by layer, group, instance, pixel or mean square.

A lane holds a sample, so the mean of a set is a vector and nothing crosses lanes. Sets and tables
are those of sets.py; M_TABLE likewise has the indices of the weights. EXTRA, with a stride of
EXTRA_BLOCK, has mean and 1 / deviation of each set, both vectors.

Four sets are processed together, so that four independent sums hide latency, and, if sets are the
pixels of a map, whole cache lines are read for each channel.
"""

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.kernels.division import STRIP, base, share
from fastcnn.backends.lanes.kernels.record import numbered
from fastcnn.backends.lanes.kernels.sets import set_elements, set_sizes, sets_reach, sums_of_two
from fastcnn.backends.lanes.reach.ranges import Range, Reach, Touches, arena, gradient
from fastcnn.codegen import linked, simd
from fastcnn.codegen.elementary import sqrt

LANES = simd.LANES
#: Floats of a set's mean and 1 / deviation.
STATISTICS = 2 * LANES
INFINITE = np.float32(np.inf)


@linked
def mean_of(A, x, xs, members):
    """Mean of one set, from deviations from its first member, as it may be far from 0."""
    level, zero = simd.load(A, x + xs[0]), simd.splat(np.float32(0))
    total, k = zero, 0
    while k < members:
        a, b, end = zero, zero, min(k + STRIP, members)
        while k + 2 <= end:
            a = simd.add(a, simd.sub(simd.load(A, x + xs[k]), level))
            b = simd.add(b, simd.sub(simd.load(A, x + xs[k + 1]), level))
            k += 2
        if k < end:
            a = simd.add(a, simd.sub(simd.load(A, x + xs[k]), level))
            k += 1
        total = simd.add(total, simd.add(a, b))
    return simd.fma(total, simd.splat(np.float32(1.0 / members)), level)


@linked
def variance_of(A, x, xs, members, mean, eps):
    """Mean squared deviation of one set from a given mean, plus eps."""
    zero, k = simd.splat(np.float32(0)), 0
    total = zero
    while k < members:
        a, b, end = zero, zero, min(k + STRIP, members)
        while k + 2 <= end:
            one = simd.sub(simd.load(A, x + xs[k]), mean)
            two = simd.sub(simd.load(A, x + xs[k + 1]), mean)
            a, b = simd.fma(one, one, a), simd.fma(two, two, b)
            k += 2
        if k < end:
            one = simd.sub(simd.load(A, x + xs[k]), mean)
            a = simd.fma(one, one, a)
            k += 1
        total = simd.add(total, simd.add(a, b))
    return simd.fma(total, simd.splat(np.float32(1.0 / members)), eps)


@linked
def overflow_of(A, x, xs, members, variance):
    """1 in lanes whose members are finite and whose variance is not, else 0.

    There 1 / deviation is 0, and so is the normalised value. The mean and the deviations from it
    may have overflowed as well, and infinity times 0 would be NaN.
    """
    zero, one = simd.splat(np.float32(0)), simd.splat(np.float32(1))
    total = zero
    for k in range(members):
        total = simd.fma(simd.load(A, x + xs[k]), zero, total)
    finite = simd.keep_equal(total, zero, one)
    return simd.sub(finite, simd.keep_equal(simd.sub(variance, variance), zero, finite))


@linked
def without_overflow(A, x, xs, members, mean, variance):
    """Mean and variance of one set: where the variance overflowed, 0 and infinity."""
    zero, infinite = simd.splat(np.float32(0)), simd.splat(INFINITE)
    overflow = overflow_of(A, x, xs, members, variance)
    mean = simd.keep_equal(overflow, zero, mean)
    return mean, simd.choose_winner(overflow, zero, infinite, variance)


@linked
def four(value):
    return value, value, value, value


@linked
def loads(A, places, at):
    a, b, c, d = places
    return simd.load(A, a + at), simd.load(A, b + at), simd.load(A, c + at), simd.load(A, d + at)


@linked
def sums(x, y):
    return simd.add(x[0], y[0]), simd.add(x[1], y[1]), simd.add(x[2], y[2]), simd.add(x[3], y[3])


@linked
def differences(x, y):
    return simd.sub(x[0], y[0]), simd.sub(x[1], y[1]), simd.sub(x[2], y[2]), simd.sub(x[3], y[3])


@linked
def multiply_add(x, y, z):
    a, b = simd.fma(x[0], y[0], z[0]), simd.fma(x[1], y[1], z[1])
    return a, b, simd.fma(x[2], y[2], z[2]), simd.fma(x[3], y[3], z[3])


@linked
def means_of_four(A, x, xs, members):
    """Means of four sets, as :func:`mean_of`."""
    level, mean = loads(A, x, xs[0]), four(simd.splat(np.float32(0)))
    for start in range(0, members, STRIP):
        strip = four(simd.splat(np.float32(0)))
        for k in range(start, min(start + STRIP, members)):
            strip = sums(strip, differences(loads(A, x, xs[k]), level))
        mean = sums(mean, strip)
    return multiply_add(mean, four(simd.splat(np.float32(1.0 / members))), level)


@linked
def variances_of_four(A, x, xs, members, mean, eps):
    """Mean squared deviations of four sets from given means, plus eps."""
    variance = four(simd.splat(np.float32(0)))
    for start in range(0, members, STRIP):
        strip = four(simd.splat(np.float32(0)))
        for k in range(start, min(start + STRIP, members)):
            away = differences(loads(A, x, xs[k]), mean)
            strip = multiply_add(away, away, strip)
        variance = sums(variance, strip)
    return multiply_add(variance, four(simd.splat(np.float32(1.0 / members))), four(eps))


@linked
def store_statistics(A, at, mean, inverse):
    simd.store(A, at, mean)
    simd.store(A, at + LANES, inverse)


@linked
def scaled(P, r, value, number):
    """A normalised value with weight, bias and rectifier."""
    if r[L.W] >= 0:
        value = simd.mul(value, simd.splat(P[r[L.W] + number]))
    if r[L.BIAS] >= 0:
        value = simd.add(value, simd.splat(P[r[L.BIAS] + number]))
    if r[L.RELU]:
        value = simd.relu(value)
    return value


@linked
def normalise_samples(A, T, P, r, block, slot, part, parts):
    """Y = (X - mean) / deviation, then weight and bias; without CENTRED the mean is 0."""
    sets, members = r[L.GROUPS], r[L.POSITIONS]
    x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    xs, ys, ws = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :], T[r[L.M_TABLE] :]
    inner, inner_y, inner_w = xs[sets:], ys[sets:], ws[sets:]
    out = r[L.EXTRA] + block * r[L.EXTRA_BLOCK]
    zero, one = simd.splat(np.float32(0)), simd.splat(np.float32(1))
    eps = simd.splat(A[r[L.SCALE]])
    centred = r[L.MODE] == L.CENTRED
    # Whole groups of four: how a set is summed must not depend on the threads.
    first, last = share((sets + 3) // 4, part, parts)
    s, last = 4 * first, min(4 * last, sets)
    while s + 4 <= last:
        xa, xb, xc, xd = x = x0 + xs[s], x0 + xs[s + 1], x0 + xs[s + 2], x0 + xs[s + 3]
        ma, mb, mc, md = means_of_four(A, x, inner, members) if centred else four(zero)
        va, vb, vc, vd = variances_of_four(A, x, inner, members, (ma, mb, mc, md), eps)
        largest = simd.lane_sum(simd.add(simd.add(va, vb), simd.add(vc, vd)))
        if centred and not largest < INFINITE:
            ma, va = without_overflow(A, xa, inner, members, ma, va)
            mb, vb = without_overflow(A, xb, inner, members, mb, vb)
            mc, vc = without_overflow(A, xc, inner, members, mc, vc)
            md, vd = without_overflow(A, xd, inner, members, md, vd)
        ia, ib = simd.div(one, sqrt(va)), simd.div(one, sqrt(vb))
        ic, id_ = simd.div(one, sqrt(vc)), simd.div(one, sqrt(vd))
        if r[L.EXTRA] >= 0:
            at = out + s * STATISTICS
            store_statistics(A, at, ma, ia)
            store_statistics(A, at + STATISTICS, mb, ib)
            store_statistics(A, at + 2 * STATISTICS, mc, ic)
            store_statistics(A, at + 3 * STATISTICS, md, id_)
        ya, yb, yc, yd = y0 + ys[s], y0 + ys[s + 1], y0 + ys[s + 2], y0 + ys[s + 3]
        wa, wb, wc, wd = ws[s], ws[s + 1], ws[s + 2], ws[s + 3]
        for k in range(members):
            at, to, number = inner[k], inner_y[k], inner_w[k]
            va = simd.mul(simd.sub(simd.load(A, xa + at), ma), ia)
            vb = simd.mul(simd.sub(simd.load(A, xb + at), mb), ib)
            vc = simd.mul(simd.sub(simd.load(A, xc + at), mc), ic)
            vd = simd.mul(simd.sub(simd.load(A, xd + at), md), id_)
            simd.store(A, ya + to, scaled(P, r, va, wa + number))
            simd.store(A, yb + to, scaled(P, r, vb, wb + number))
            simd.store(A, yc + to, scaled(P, r, vc, wc + number))
            simd.store(A, yd + to, scaled(P, r, vd, wd + number))
        s += 4
    while s < last:
        x, y = x0 + xs[s], y0 + ys[s]
        mean = mean_of(A, x, inner, members) if centred else zero
        variance = variance_of(A, x, inner, members, mean, eps)
        if centred and not simd.lane_sum(variance) < INFINITE:
            mean, variance = without_overflow(A, x, inner, members, mean, variance)
        inverse = simd.div(one, sqrt(variance))
        if r[L.EXTRA] >= 0:
            store_statistics(A, out + s * STATISTICS, mean, inverse)
        for k in range(members):
            value = simd.mul(simd.sub(simd.load(A, x + inner[k]), mean), inverse)
            simd.store(A, y + inner_y[k], scaled(P, r, value, ws[s] + inner_w[k]))
        s += 1


@linked
def weighted(P, r, value, number):
    """The output's gradient times the weight."""
    if r[L.W] >= 0:
        value = simd.mul(value, simd.splat(P[r[L.W] + number]))
    return value


@linked
def sample_norm_gradient(A, T, P, r, block, slot, part, parts):
    """The input's gradient Z from the output's, Y.

    With g = weight * Y, ``Z = g / deviation + slope * (X - mean) + level``. A set is read
    completely before it is written, so Z may equal X.
    """
    sets, members = r[L.GROUPS], r[L.POSITIONS]
    x0, y0, z0 = base(r, L.X, block, slot), base(r, L.Y, block, slot), base(r, L.Z, block, slot)
    xs, ys, zs, ws = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :], T[r[L.Z_TABLE] :], T[r[L.M_TABLE] :]
    inner, inner_y, inner_z, inner_w = xs[sets:], ys[sets:], zs[sets:], ws[sets:]
    out = r[L.EXTRA] + block * r[L.EXTRA_BLOCK]
    zero, minus = simd.splat(np.float32(0)), simd.splat(np.float32(-1.0 / members))
    centred = r[L.MODE] == L.CENTRED
    first, last = share(sets, part, parts)
    s = first
    while s < last:
        # A second set, or the same one again, which is then not stored.
        t = min(s + 1, last - 1)
        xa, ya, za, wa = x0 + xs[s], y0 + ys[s], z0 + zs[s], ws[s]
        xb, yb, zb, wb = x0 + xs[t], y0 + ys[t], z0 + zs[t], ws[t]
        at = out + s * STATISTICS
        ma, ia = simd.load(A, at), simd.load(A, at + LANES)
        at = out + t * STATISTICS
        mb, ib = simd.load(A, at), simd.load(A, at + LANES)
        plain_a, plain_b, along_a, along_b = zero, zero, zero, zero
        for start in range(0, members, STRIP):
            a, b, c, d = zero, zero, zero, zero
            for k in range(start, min(start + STRIP, members)):
                ga = weighted(P, r, simd.load(A, ya + inner_y[k]), wa + inner_w[k])
                gb = weighted(P, r, simd.load(A, yb + inner_y[k]), wb + inner_w[k])
                a, b = simd.add(a, ga), simd.add(b, gb)
                c = simd.fma(ga, simd.sub(simd.load(A, xa + inner[k]), ma), c)
                d = simd.fma(gb, simd.sub(simd.load(A, xb + inner[k]), mb), d)
            plain_a, plain_b = simd.add(plain_a, a), simd.add(plain_b, b)
            along_a, along_b = simd.add(along_a, c), simd.add(along_b, d)
        # Where a variance overflowed, sums of products may have as well: infinity times 0 is NaN.
        along_a = simd.choose_winner(ia, zero, along_a, zero)
        along_b = simd.choose_winner(ib, zero, along_b, zero)
        slope_a = simd.mul(simd.mul(simd.mul(along_a, ia), simd.mul(ia, ia)), minus)
        slope_b = simd.mul(simd.mul(simd.mul(along_b, ib), simd.mul(ib, ib)), minus)
        level_a = simd.mul(simd.mul(plain_a, ia), minus) if centred else zero
        level_b = simd.mul(simd.mul(plain_b, ib), minus) if centred else zero
        for k in range(members):
            ga = weighted(P, r, simd.load(A, ya + inner_y[k]), wa + inner_w[k])
            va = simd.sub(simd.load(A, xa + inner[k]), ma)
            made = simd.fma(ga, ia, simd.fma(va, slope_a, level_a))
            if t > s:
                gb = weighted(P, r, simd.load(A, yb + inner_y[k]), wb + inner_w[k])
                vb = simd.sub(simd.load(A, xb + inner[k]), mb)
                simd.store(A, zb + inner_z[k], simd.fma(gb, ib, simd.fma(vb, slope_b, level_b)))
            simd.store(A, za + inner_z[k], made)
        s += 2


@linked
def sample_norm_parameters(A, T, r, block, slot, part, parts):
    """One block's sums of Y times the normalised X, and of Y, for each of OUT weights.

    A weight has POSITIONS elements; the tables have entries for the weights, then for the elements
    of a weight, M_TABLE the indices of their sets. The sums go to M: those of the weight if W is
    not negative, then those of the bias if BIAS is not. Idle lanes have no gradient.
    """
    weights, members = r[L.OUT], r[L.POSITIONS]
    x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    xs, ys, ss = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :], T[r[L.M_TABLE] :]
    inner, inner_y, inner_s = xs[weights:], ys[weights:], ss[weights:]
    statistics, to = r[L.EXTRA] + block * r[L.EXTRA_BLOCK], r[L.M] + block * r[L.M_BLOCK]
    zero = simd.splat(np.float32(0))
    first, last = share(weights, part, parts)
    for w in range(first, last):
        along, plain = zero, zero
        for start in range(0, members, STRIP):
            a, b = zero, zero
            for k in range(start, min(start + STRIP, members)):
                grad = simd.load(A, y0 + ys[w] + inner_y[k])
                at = statistics + (ss[w] + inner_s[k]) * STATISTICS
                value = simd.sub(simd.load(A, x0 + xs[w] + inner[k]), simd.load(A, at))
                a = simd.fma(grad, simd.mul(value, simd.load(A, at + LANES)), a)
                b = simd.add(b, grad)
            along, plain = simd.add(along, a), simd.add(plain, b)
        place = to + w
        if r[L.W] >= 0:
            A[place] = simd.lane_sum(along)
            place += weights
        if r[L.BIAS] >= 0:
            A[place] = simd.lane_sum(plain)


def _sums(r: Row) -> Cost:
    n = r[L.OUT] * r[L.POSITIONS]
    kinds = (r[L.W] >= 0) + (r[L.BIAS] >= 0)
    done = r.cost(4 * n, 2 * n, 0)
    return Cost(done.flops, done.read, FLOAT_BYTES * kinds * r[L.OUT] * r.blocks)


def _parameters_reach(r: Reach) -> Touches:
    weights, members = r.count(L.OUT, 1), r.count(L.POSITIONS, 1)
    for name in ("X", "Y"):
        places = sums_of_two(r, getattr(L, f"{name}_TABLE"), weights, members)
        yield arena(name, r.buffer(getattr(L, name)) + places)
    numbers = sums_of_two(r, L.M_TABLE, weights, members)
    statistics = Range(2 * LANES * numbers.low, 2 * LANES * numbers.high)
    yield arena("EXTRA", r.blocks(L.EXTRA, L.EXTRA_BLOCK) + statistics, 2 * LANES)
    kinds = (r[L.W] >= 0) + (r[L.BIAS] >= 0)
    yield arena("M", r.blocks(L.M, L.M_BLOCK) + r.along(kinds * weights, 1), 1)
    yield gradient("W", r.optional(L.W, weights))
    yield gradient("BIAS", r.optional(L.BIAS, weights))


K_NORM = numbered(
    normalise_samples,
    "normalise within samples",
    set_elements(7, 1),
    set_sizes,
    touches=sets_reach("X", "Y", weighted=True),
)
K_GRADIENT = numbered(
    sample_norm_gradient,
    "gradient of normalisation within samples",
    set_elements(9, 2),
    set_sizes,
    touches=sets_reach("X", "Y", "Z", weighted=True),
)
K_PARAMETERS = numbered(
    sample_norm_parameters,
    "parameter gradients of normalisation within samples",
    _sums,
    lambda r: f"{r[L.OUT]} x {r[L.POSITIONS]}",
    touches=_parameters_reach,
)
