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
from fastcnn.backends.lanes.reach.ranges import Range, Reach, Touches, arena, gradient, optional
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
def settled(overflow, variance):
    """A variance, infinite where it overflowed."""
    infinite = simd.splat(INFINITE)
    return simd.choose_winner(overflow, simd.splat(np.float32(0)), infinite, variance)


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
    eps, portion = simd.splat(A[r[L.SCALE]]), simd.splat(np.float32(1.0 / members))
    # Whole groups of four: how a set is summed must not depend on the threads.
    first, last = share((sets + 3) // 4, part, parts)
    s, last = 4 * first, min(4 * last, sets)
    while s + 4 <= last:
        xa, xb, xc, xd = x0 + xs[s], x0 + xs[s + 1], x0 + xs[s + 2], x0 + xs[s + 3]
        ma, mb, mc, md = zero, zero, zero, zero
        if r[L.MODE] == L.CENTRED:
            la, lb = simd.load(A, xa + inner[0]), simd.load(A, xb + inner[0])
            lc, ld = simd.load(A, xc + inner[0]), simd.load(A, xd + inner[0])
            for start in range(0, members, STRIP):
                a, b, c, d = zero, zero, zero, zero
                for k in range(start, min(start + STRIP, members)):
                    at = inner[k]
                    a = simd.add(a, simd.sub(simd.load(A, xa + at), la))
                    b = simd.add(b, simd.sub(simd.load(A, xb + at), lb))
                    c = simd.add(c, simd.sub(simd.load(A, xc + at), lc))
                    d = simd.add(d, simd.sub(simd.load(A, xd + at), ld))
                ma, mb = simd.add(ma, a), simd.add(mb, b)
                mc, md = simd.add(mc, c), simd.add(md, d)
            ma, mb = simd.fma(ma, portion, la), simd.fma(mb, portion, lb)
            mc, md = simd.fma(mc, portion, lc), simd.fma(md, portion, ld)
        ia, ib, ic, id_ = zero, zero, zero, zero
        for start in range(0, members, STRIP):
            a, b, c, d = zero, zero, zero, zero
            for k in range(start, min(start + STRIP, members)):
                at = inner[k]
                va, vb = simd.sub(simd.load(A, xa + at), ma), simd.sub(simd.load(A, xb + at), mb)
                vc, vd = simd.sub(simd.load(A, xc + at), mc), simd.sub(simd.load(A, xd + at), md)
                a, b = simd.fma(va, va, a), simd.fma(vb, vb, b)
                c, d = simd.fma(vc, vc, c), simd.fma(vd, vd, d)
            ia, ib, ic, id_ = simd.add(ia, a), simd.add(ib, b), simd.add(ic, c), simd.add(id_, d)
        ia, ib = simd.fma(ia, portion, eps), simd.fma(ib, portion, eps)
        ic, id_ = simd.fma(ic, portion, eps), simd.fma(id_, portion, eps)
        largest = simd.lane_sum(simd.add(simd.add(ia, ib), simd.add(ic, id_)))
        if r[L.MODE] == L.CENTRED and not largest < INFINITE:
            oa = overflow_of(A, xa, inner, members, ia)
            ob = overflow_of(A, xb, inner, members, ib)
            oc = overflow_of(A, xc, inner, members, ic)
            od = overflow_of(A, xd, inner, members, id_)
            ma, ia = simd.keep_equal(oa, zero, ma), settled(oa, ia)
            mb, ib = simd.keep_equal(ob, zero, mb), settled(ob, ib)
            mc, ic = simd.keep_equal(oc, zero, mc), settled(oc, ic)
            md, id_ = simd.keep_equal(od, zero, md), settled(od, id_)
        ia, ib = simd.div(one, sqrt(ia)), simd.div(one, sqrt(ib))
        ic, id_ = simd.div(one, sqrt(ic)), simd.div(one, sqrt(id_))
        if r[L.EXTRA] >= 0:
            at = out + s * STATISTICS
            simd.store(A, at, ma)
            simd.store(A, at + LANES, ia)
            simd.store(A, at + STATISTICS, mb)
            simd.store(A, at + STATISTICS + LANES, ib)
            simd.store(A, at + 2 * STATISTICS, mc)
            simd.store(A, at + 2 * STATISTICS + LANES, ic)
            simd.store(A, at + 3 * STATISTICS, md)
            simd.store(A, at + 3 * STATISTICS + LANES, id_)
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
        mean = mean_of(A, x, inner, members) if r[L.MODE] == L.CENTRED else zero
        variance = variance_of(A, x, inner, members, mean, eps)
        if r[L.MODE] == L.CENTRED and not simd.lane_sum(variance) < INFINITE:
            overflow = overflow_of(A, x, inner, members, variance)
            mean = simd.keep_equal(overflow, zero, mean)
            variance = settled(overflow, variance)
        inverse = simd.div(one, sqrt(variance))
        if r[L.EXTRA] >= 0:
            simd.store(A, out + s * STATISTICS, mean)
            simd.store(A, out + s * STATISTICS + LANES, inverse)
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
    yield gradient("W", optional(r, L.W, weights))
    yield gradient("BIAS", optional(r, L.BIAS, weights))


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
