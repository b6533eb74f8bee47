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
from fastcnn.backends.lanes.reach.ranges import Reach, Touches, arena
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
def likeliest_class(A, y, step, classes, pixels, p, targets, order, first, valid):
    """The likeliest class of each lane's target probabilities, which are copied to ``y``."""
    label = simd.splat(np.float32(-1))
    for lane in range(valid):
        at = order[first + lane] * classes * pixels + p
        likely, most = 0, targets[at]
        for k in range(classes):
            q = targets[at + k * pixels]
            A[y + k * step + lane] = q
            if q > most:
                likely, most = k, q
        label = simd.insert(label, lane, np.float32(likely))
    return label


@linked
def target_class(labels, pixels, p, order, first, valid):
    """The class of each lane's target; -1 in lanes without a sample."""
    label = simd.splat(np.float32(-1))
    for lane in range(valid):
        label = simd.insert(label, lane, np.float32(labels[order[first + lane] * pixels + p]))
    return label


@linked
def stored_class(A, y, step, classes, soft, valid):
    """The class of each lane's target, which is stored at ``y`` itself or as probabilities."""
    one = simd.splat(np.float32(1))
    label = simd.load(A, y)
    if soft:
        _, label = largest_output(A, y, step, classes)
    return simd.sub(simd.first_lanes(valid, simd.add(label, one)), one)


@linked
def keep_counted(label, value):
    """A value where the target is a class, and 0 where it is ignored."""
    return simd.keep_positive(simd.add(label, simd.splat(np.float32(0.5))), value)


@linked
def log_likelihood(A, x, y, step, classes, label, share, of_class):
    """The loss of log-probabilities at ``x`` against classes; the slope is stored at ``y``."""
    own = simd.splat(np.float32(0))
    for k in range(classes):
        here = simd.splat(np.float32(k))
        weight = simd.keep_equal(label, here, simd.splat(-A[of_class + k]))
        value = simd.keep_equal(label, here, simd.load(A, x + k * step))
        own = simd.add(own, simd.mul(weight, value))
        simd.store(A, y + k * step, keep_counted(label, simd.mul(share, weight)))
    return own


@linked
def cross_entropy_of_shares(A, x, y, step, classes, best, place, label, share, of_class, smoothing):
    """The loss against probabilities stored at ``y``, which the slope replaces."""
    certain, spread = np.float32(1) - smoothing, smoothing / np.float32(classes)
    zero = simd.splat(np.float32(0))
    others, sums, own = zero, zero, zero
    for k in range(classes):
        shifted = simd.sub(simd.load(A, x + k * step), best)
        e = vm.exp(shifted)
        others = simd.add(others, simd.sub(e, simd.keep_equal(place, simd.splat(np.float32(k)), e)))
        q = simd.fma(simd.load(A, y + k * step), simd.splat(certain), simd.splat(spread))
        c = simd.mul(simd.splat(A[of_class + k]), q)
        simd.store(A, y + k * step, c)
        sums = simd.add(sums, c)
        own = simd.sub(own, simd.mul(c, shifted))
    # The largest logit's exponential is 1: log1p keeps the precision of small losses.
    own = simd.fma(sums, vm.log1p(others), own)
    per_exponential = simd.div(sums, simd.add(simd.splat(np.float32(1)), others))
    for k in range(classes):
        e = vm.exp(simd.sub(simd.load(A, x + k * step), best))
        slope = simd.sub(simd.mul(per_exponential, e), simd.load(A, y + k * step))
        simd.store(A, y + k * step, keep_counted(label, simd.mul(share, slope)))
    return own


@linked
def exponentials(A, x, y, step, classes, best, place, label, of_class):
    """Store exponentials of the distances to the largest output.

    Returns their sum without the largest, their sum without the target's, the target's distance,
    and the weight of its class.
    """
    zero = simd.splat(np.float32(0))
    others, rest, mine, weight = zero, zero, zero, zero
    for k in range(classes):
        here, of_k = simd.splat(np.float32(k)), simd.splat(A[of_class + k])
        shifted = simd.sub(simd.load(A, x + k * step), best)
        e = vm.exp(shifted)
        others = simd.add(others, simd.sub(e, simd.keep_equal(place, here, e)))
        # Other classes do not count, even if their logits are infinite.
        mine = simd.add(mine, simd.keep_equal(label, here, shifted))
        weight = simd.add(weight, simd.keep_equal(label, here, of_k))
        rest = simd.add(rest, simd.sub(e, simd.keep_equal(label, here, e)))
        simd.store(A, y + k * step, e)
    return others, rest, mine, weight


@linked
def cross_entropy(A, x, y, step, classes, best, place, label, share, of_class, smoothing):
    """The loss of logits at ``x`` against classes; the slope is stored at ``y``."""
    certain, spread = np.float32(1) - smoothing, smoothing / np.float32(classes)
    others, _, mine, weight = exponentials(A, x, y, step, classes, best, place, label, of_class)
    sums, own = simd.splat(np.float32(0)), simd.splat(np.float32(0))
    if smoothing > np.float32(0):
        for k in range(classes):
            c = simd.mul(simd.splat(spread), simd.splat(A[of_class + k]))
            sums = simd.add(sums, c)
            own = simd.sub(own, simd.mul(c, simd.sub(simd.load(A, x + k * step), best)))
    scaled = simd.mul(simd.splat(certain), weight)
    sums = simd.add(sums, scaled)
    # The largest logit's exponential is 1: log1p keeps the precision of small losses.
    own = simd.fma(sums, vm.log1p(others), simd.sub(own, simd.mul(scaled, mine)))
    per_exponential = simd.div(sums, simd.add(simd.splat(np.float32(1)), others))
    for k in range(classes):
        c = simd.keep_equal(label, simd.splat(np.float32(k)), scaled)
        c = simd.add(c, simd.splat(spread * A[of_class + k]))
        slope = simd.sub(simd.mul(per_exponential, simd.load(A, y + k * step)), c)
        simd.store(A, y + k * step, keep_counted(label, simd.mul(share, slope)))
    return own


@linked
def focal_loss(A, x, y, step, classes, best, place, label, share, of_class, gamma):
    """The focal loss of logits at ``x`` against classes; the slope is stored at ``y``."""
    one = simd.splat(np.float32(1))
    others, rest, mine, weight = exponentials(A, x, y, step, classes, best, place, label, of_class)
    log_sum, everything = vm.log1p(others), simd.add(one, others)
    wrong = simd.div(rest, everything)
    # Not the logarithm of 0: no multiple of an infinity is 0.
    log_wrong = vm.log(simd.maximum(rest, simd.splat(np.float32(1.2e-38))))
    log_wrong = simd.sub(log_wrong, log_sum)
    power = vm.exp(simd.mul(simd.splat(gamma), log_wrong))
    less = vm.exp(simd.mul(simd.splat(gamma - np.float32(1)), log_wrong))
    surprise = simd.sub(log_sum, mine)
    grows = simd.mul(simd.mul(simd.splat(gamma), simd.sub(one, wrong)), less)
    scaled = simd.mul(weight, simd.fma(grows, surprise, power))
    per_exponential = simd.div(scaled, everything)
    for k in range(classes):
        c = simd.keep_equal(label, simd.splat(np.float32(k)), scaled)
        slope = simd.sub(simd.mul(per_exponential, simd.load(A, y + k * step)), c)
        simd.store(A, y + k * step, keep_counted(label, simd.mul(share, slope)))
    return simd.mul(simd.mul(weight, power), surprise)


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
    share = simd.first_lanes(valid, simd.splat(np.float32(factor)))
    if weights.size > 0 and places == 0:
        share = lane_weights(weights, 0, order, first, valid, 0, factor)
    total, right = 0.0, simd.splat(np.float32(0))
    for p in range(P):
        x, y = x0 + p * LANES, y0 + p * LANES
        if weights.size > 0 and places > 0:
            share = lane_weights(weights, P, order, first, valid, p, factor)
        best, place = largest_output(A, x, step, K)
        if together:
            label = stored_class(A, y, step, K, soft, valid)
        elif soft:
            label = likeliest_class(A, y, step, K, P, p, targets, order, first, valid)
        else:
            label = target_class(labels, P, p, order, first, valid)
        right = simd.add(right, simd.keep_equal(place, label, simd.splat(np.float32(1))))
        if nll:
            own = log_likelihood(A, x, y, step, K, label, share, of_class)
        elif focal:
            own = focal_loss(A, x, y, step, K, best, place, label, share, of_class, gamma)
        elif soft:
            own = cross_entropy_of_shares(
                A, x, y, step, K, best, place, label, share, of_class, smoothing
            )
        else:
            own = cross_entropy(A, x, y, step, K, best, place, label, share, of_class, smoothing)
        total += simd.lane_sum(keep_counted(label, simd.mul(share, own)))
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
        yield r.floats("SCALE", read)

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
