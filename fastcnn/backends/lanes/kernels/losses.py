"""Losses of one block of 16 samples, with the gradient of the outputs.

``losses`` and ``hits`` have an element for each block. Each of POSITIONS pixels has an output for
each of CHANNELS classes, and a target. At SCALE are the loss's factor, negative for a sum instead
of a mean, the label smoothing, the exponent of the focal loss, and a weight for each class.

With several losses, one for each output, MODE is FIRST or FURTHER: targets are stored where their
gradients will be, in the layout of backends/joint.py, and the losses are summed. Hits are counted
if KEY is 1. OUT is the index of the output, by which ``mean_weights`` is read.
"""

from collections.abc import Callable

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.record import map_sizes, numbered, per_number
from fastcnn.backends.lanes.reach.ranges import Range, Reach, Touches, arena
from fastcnn.codegen import linked, simd
from fastcnn.codegen import vector_math as vm

LANES = simd.LANES


@linked
def loss_factor(factor, count, targets, mean_weight):
    """Factor of a target of weight 1: one for a sum, else divided by the batch's total weight."""
    if factor < np.float32(0):
        return -np.float64(factor)
    total = count * targets * mean_weight
    return factor / total if total > 0.0 else 0.0


@linked
def note_loss(r, block, loss, right, losses, hits):
    """Store the loss and the hits of a block: a single loss, or the first or a further one."""
    mode = r[L.MODE]
    if mode != L.ALONE and r[L.KEY] == 0:
        right = 0
    if mode == L.FURTHER:
        loss, right = loss + losses[block], right + hits[block]
    losses[block] = loss
    hits[block] = right


@linked
def largest_output(A, x, step, count):
    """The largest output of each lane and its index: the first maximum, or a NaN."""
    best, place = simd.load(A, x), simd.splat(np.float32(0))
    for k in range(1, count):
        value = simd.load(A, x + k * step)
        place = simd.choose_winner(value, best, simd.splat(np.float32(k)), place)
        best = simd.maximum(best, value)
    return best, place


@linked
def lane_weights(weights, places, order, first, valid, p, factor):
    """A vector of the weights of targets ``p`` of ``places`` for some samples.

    Weights are per sample, or, if ``places`` is above 0, per target.
    """
    found = simd.splat(np.float32(0))
    for lane in range(valid):
        row = order[first + lane]
        at = row * places + p if places > 0 else row
        found = simd.insert(found, lane, np.float32(weights[at] * factor))
    return found


@linked
def class_loss(
    A,
    r,
    block,
    count,
    order,
    start,
    labels,
    targets,
    weights,
    mean_weights,
    losses,
    hits,
    part,
    nll,
    focal,
):
    """Loss, hits and gradient of one block; X outputs, Y gradient.

    Against classes, of which -1 is ignored, or against probabilities if there are targets.
    """
    if part:
        return
    K, P = r[L.CHANNELS], r[L.POSITIONS]
    x0, y0 = r[L.X] + block * r[L.X_BLOCK], r[L.Y] + block * r[L.Y_BLOCK]
    step, of_class = P * LANES, r[L.SCALE] + 3
    smoothing, gamma = A[r[L.SCALE] + 1], A[r[L.SCALE] + 2]
    spread, certain = smoothing / np.float32(K), np.float32(1) - smoothing
    first = start + block * LANES
    valid = min(LANES, count - block * LANES)
    factor = loss_factor(A[r[L.SCALE]], count, P, mean_weights[r[L.OUT]])
    together = r[L.MODE] != L.ALONE
    soft = targets.size > 0
    if together:
        soft = A[y0 + step] >= np.float32(0)
    # Weights may be per pixel.
    places = P if weights.size == (targets.size // K if soft else labels.size) else 0
    if together:
        places = 0
    zero, one = simd.splat(np.float32(0)), simd.splat(np.float32(1))
    share = simd.first_lanes(valid, simd.splat(np.float32(factor)))
    if weights.size > 0 and places == 0:
        share = lane_weights(weights, 0, order, first, valid, 0, factor)
    total, right = 0.0, zero
    for p in range(P):
        x, y = x0 + p * LANES, y0 + p * LANES
        if weights.size > 0 and places > 0:
            share = lane_weights(weights, P, order, first, valid, p, factor)
        best, place = largest_output(A, x, step, K)
        label = simd.splat(np.float32(-1))
        if together:
            if soft:
                _, label = largest_output(A, y, step, K)
            else:
                label = simd.load(A, y)
            label = simd.sub(simd.first_lanes(valid, simd.add(label, one)), one)
        elif soft:
            for lane in range(valid):
                at = order[first + lane] * K * P + p
                likely, most = 0, targets[at]
                for k in range(K):
                    q = targets[at + k * P]
                    A[y + k * step + lane] = q
                    if q > most:
                        likely, most = k, q
                label = simd.insert(label, lane, np.float32(likely))
        else:
            for lane in range(valid):
                of_lane = labels[order[first + lane] * P + p]
                label = simd.insert(label, lane, np.float32(of_lane))
        right = simd.add(right, simd.keep_equal(place, label, one))
        # At least 0 in lanes that count.
        counts = simd.add(label, simd.splat(np.float32(0.5)))
        own = zero
        if nll:
            for k in range(K):
                here = simd.splat(np.float32(k))
                weight = simd.keep_equal(label, here, simd.splat(-A[of_class + k]))
                value = simd.keep_equal(label, here, simd.load(A, x + k * step))
                own = simd.add(own, simd.mul(weight, value))
                slope = simd.keep_positive(counts, simd.mul(share, weight))
                simd.store(A, y + k * step, slope)
        else:
            others, sums, rest, mine, weight, scaled = zero, zero, zero, zero, zero, zero
            for k in range(K):
                here, of_k = simd.splat(np.float32(k)), simd.splat(A[of_class + k])
                shifted = simd.sub(simd.load(A, x + k * step), best)
                e = vm.exp(shifted)
                others = simd.add(others, simd.sub(e, simd.keep_equal(place, here, e)))
                if soft:
                    q = simd.load(A, y + k * step)
                    q = simd.fma(q, simd.splat(certain), simd.splat(spread))
                    c = simd.mul(of_k, q)
                    # Stored for the second pass.
                    simd.store(A, y + k * step, c)
                    sums = simd.add(sums, c)
                    own = simd.sub(own, simd.mul(c, shifted))
                else:
                    # Other classes do not count, even if their logits are infinite.
                    taken = simd.keep_equal(label, here, shifted)
                    weighs = simd.keep_equal(label, here, of_k)
                    weight = simd.add(weight, weighs)
                    mine = simd.add(mine, taken)
                    rest = simd.add(rest, simd.sub(e, simd.keep_equal(label, here, e)))
                    simd.store(A, y + k * step, e)
                    if smoothing > np.float32(0):
                        c = simd.mul(simd.splat(spread), of_k)
                        sums = simd.add(sums, c)
                        own = simd.sub(own, simd.mul(c, shifted))
            # The largest logit's exponential is 1: log1p keeps the precision of small losses.
            log_sum = vm.log1p(others)
            everything = simd.add(one, others)
            if not soft:
                scaled = simd.mul(simd.splat(certain), weight)
                if focal:
                    wrong = simd.div(rest, everything)
                    # Not the logarithm of 0: no multiple of an infinity is 0.
                    log_wrong = vm.log(simd.maximum(rest, simd.splat(np.float32(1.2e-38))))
                    log_wrong = simd.sub(log_wrong, log_sum)
                    power = vm.exp(simd.mul(simd.splat(gamma), log_wrong))
                    less = vm.exp(simd.mul(simd.splat(gamma - np.float32(1)), log_wrong))
                    surprise = simd.sub(log_sum, mine)
                    own = simd.mul(simd.mul(scaled, power), surprise)
                    grows = simd.mul(simd.mul(simd.splat(gamma), simd.sub(one, wrong)), less)
                    scaled = simd.mul(scaled, simd.fma(grows, surprise, power))
                else:
                    own = simd.sub(own, simd.mul(scaled, mine))
                sums = simd.add(sums, scaled)
            if not focal:
                own = simd.fma(sums, log_sum, own)
            per_exponential = simd.div(sums, everything)
            for k in range(K):
                at, here = y + k * step, simd.splat(np.float32(k))
                if soft:
                    e = vm.exp(simd.sub(simd.load(A, x + k * step), best))
                    c = simd.load(A, at)
                else:
                    e = simd.load(A, at)
                    c = simd.keep_equal(label, here, scaled)
                    c = simd.add(c, simd.splat(spread * A[of_class + k]))
                slope = simd.mul(share, simd.sub(simd.mul(per_exponential, e), c))
                simd.store(A, at, simd.keep_positive(counts, slope))
        total += simd.lane_sum(simd.keep_positive(counts, simd.mul(share, own)))
    note_loss(r, block, total, np.int64(simd.lane_sum(right)), losses, hits)


def loss_reach(numbers: int, by_channel: bool) -> Callable[[Reach], Touches]:
    """Memory of a loss with some floats at SCALE, and optionally one per channel after them."""

    def touches(r: Reach) -> Touches:
        channels = r.count(L.CHANNELS, 1)
        r.count(L.OUT)  # of which a run has as many mean weights
        outputs = r.along(channels * r.count(L.POSITIONS, 1), LANES)
        yield arena("X", r.blocks(L.X, L.X_BLOCK) + outputs)
        yield arena("Y", r.blocks(L.Y, L.Y_BLOCK) + outputs)
        read = numbers + (channels if by_channel else 0)
        yield arena("SCALE", Range(r[L.SCALE], r[L.SCALE]), read)

    return touches


def _kernel(name: str, nll: bool = False, focal: bool = False) -> int:
    fixed = {"nll": nll, "focal": focal}
    return numbered(
        class_loss,
        name,
        per_number(10, 1),
        map_sizes,
        fixed=fixed,
        touches=loss_reach(3, by_channel=True),
        of_run="classes",
    )


K_CROSS_ENTROPY = _kernel("cross-entropy")
K_NLL = _kernel("log-likelihood", nll=True)
K_FOCAL = _kernel("focal loss", focal=True)
