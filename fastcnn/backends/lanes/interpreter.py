"""One compiled function that runs any program: whole training steps without Python."""

import numpy as np
from numba import njit, types

from fastcnn.backends.lanes import conv_kernels as conv
from fastcnn.backends.lanes import element_kernels as elements
from fastcnn.backends.lanes import linear_kernels as dense
from fastcnn.backends.lanes import norm_kernels as norm
from fastcnn.backends.lanes import pixel_kernels as single
from fastcnn.backends.lanes import pool_kernels as pooling
from fastcnn.backends.lanes import simd
from fastcnn.backends.lanes import winograd1d_kernels as winograd1d
from fastcnn.backends.lanes import winograd2d_kernels as winograd2d
from fastcnn.backends.lanes.denormals import flush_denormals, restore_denormals
from fastcnn.backends.lanes.division import NOUGHT, ONE, share
from fastcnn.backends.lanes.late_codegen import linked
from fastcnn.backends.lanes.layout import (
    IN,
    K_ACTIVATION,
    K_ACTIVATION_BACKWARD,
    K_ADD,
    K_AVG_POOL,
    K_AVG_POOL_BACKWARD,
    K_BIAS_GRADIENT,
    K_CLEAR,
    K_CONV,
    K_CROSS_ENTROPY,
    K_DROPOUT,
    K_GATHER,
    K_IMAGE,
    K_INPUT,
    K_LINEAR,
    K_LINEAR_BACKWARD,
    K_LINEAR_BIAS_GRADIENT,
    K_MATRIX_VECTOR,
    K_MAX_POOL,
    K_MAX_POOL_BACKWARD,
    K_MSE,
    K_NORM,
    K_NORM_GRADIENT,
    K_NORM_GRADIENT_STATISTICS,
    K_NORM_GRADIENT_SUMS,
    K_NORM_STATISTICS,
    K_NORM_SUMS,
    K_OUTER,
    K_OUTPUT,
    K_OUTPUT_GRADIENT,
    K_PACK,
    K_REDUCE,
    K_TRANSPOSE,
    K_UNPOOL,
    K_WEIGHT_GRADIENT,
    K_WINOGRAD1D,
    K_WINOGRAD1D_GRADIENT,
    K_WINOGRAD1D_REDUCE,
    K_WINOGRAD1D_TRANSPOSED,
    K_WINOGRAD1D_WEIGHTS,
    K_WINOGRAD2D,
    K_WINOGRAD2D_GRADIENT,
    K_WINOGRAD2D_REDUCE,
    K_WINOGRAD2D_WEIGHT_GRADIENT,
    K_WINOGRAD2D_WEIGHTS,
    KERNEL,
    KEY,
    OUT,
    SCALE,
    X_TABLE,
    Y_BLOCK,
    Y_SLOT,
    Y,
)
from fastcnn.backends.lanes.loss_kernels import batch_weight, cross_entropy, mean_squared_error
from fastcnn.backends.lanes.optimizer_kernels import (
    NONE,
    UNIT,
    sum_of_squares,
    total_norm,
    update,
)
from fastcnn.backends.lanes.output_kernels import write_output
from fastcnn.backends.lanes.threads import barrier
from fastcnn.backends.lanes.transpose_tiles import pack_tile

LANES = simd.LANES


@linked
def splitmix64(value):
    """See counter_random.py."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@linked
def dropout_key(seed, step, node):
    """See counter_random.py."""
    key = splitmix64(np.uint64(seed))
    key = splitmix64(key ^ np.uint64(step))
    return np.int64(splitmix64(key ^ np.uint64(node)))


@linked
def gather_input(A, T, r, block, slot, count, order, start, bytes_, floats, part, parts):
    """Normalise one block's images and pack them into lanes; idle lanes are zero."""
    pixels, channels, table = r[IN], r[OUT], r[X_TABLE]
    y0 = r[Y] + block * r[Y_BLOCK] + slot * r[Y_SLOT]
    sample = start + block * LANES
    valid = min(LANES, count - block * LANES)
    size = pixels // channels
    strips = (size + LANES - 1) // LANES
    first, last = share(channels * strips, part, parts)
    for unit in range(first, last):
        channel, strip = unit // strips, unit % strips
        scale, shift = r[SCALE] + channel, r[SCALE] + channels + channel
        i = channel * size + strip * LANES
        end = min(i + LANES, (channel + 1) * size)
        if end - i == LANES:
            if bytes_.size > 0:
                pack_tile(
                    bytes_, order, sample, valid, pixels, i, A, scale, shift, T, table + i, A, y0
                )
            else:
                pack_tile(
                    floats, order, sample, valid, pixels, i, A, scale, shift, T, table + i, A, y0
                )
            continue
        for lane in range(LANES):
            base = order[sample + min(lane, valid - 1)] * pixels
            for k in range(i, end):
                value = np.float32(0)
                if lane < valid:
                    value = np.float32(bytes_[base + k]) if bytes_.size > 0 else floats[base + k]
                    value = value * A[scale] + A[shift]
                A[y0 + T[table + k] + lane] = value


@linked
def run_block_row(
    A, T, P, r, seed, step, first_sample, block, slot, worker, part, parts,
    count, order, start, bytes_, floats, labels, targets, weights, mean_weight,
    outputs, losses, hits,
):  # fmt: skip
    """Run one row for one block of 16 samples."""
    kernel = r[KERNEL]
    valid = min(LANES, count - block * LANES)
    if kernel == K_CONV:
        conv.convolution(A, T, P, r, block, slot, part, parts)
    elif kernel == K_WEIGHT_GRADIENT:
        conv.weight_gradient(A, T, r, block, slot, worker, part, parts)
    elif kernel == K_WINOGRAD2D:
        winograd2d.winograd2d(A, T, P, r, block, slot, worker, part, parts)
    elif kernel == K_WINOGRAD2D_GRADIENT:
        winograd2d.winograd2d_gradient(A, T, r, block, slot, worker, part, parts)
    elif kernel == K_WINOGRAD2D_WEIGHT_GRADIENT:
        winograd2d.winograd2d_weight_gradient(A, r, block, slot, part, parts)
    elif kernel in (K_WINOGRAD1D, K_WINOGRAD1D_TRANSPOSED):
        winograd1d.winograd1d(
            A, T, P, r, block, slot, worker, part, parts, kernel == K_WINOGRAD1D_TRANSPOSED
        )
    elif kernel == K_WINOGRAD1D_GRADIENT:
        winograd1d.winograd1d_gradient(A, T, r, block, slot, worker, part, parts)
    elif kernel == K_BIAS_GRADIENT:
        conv.bias_gradient(A, T, r, block, slot, part, parts)
    elif kernel == K_UNPOOL:
        pooling.unpool(A, T, r, block, slot, part, parts)
    elif kernel == K_INPUT:
        gather_input(A, T, r, block, slot, count, order, start, bytes_, floats, part, parts)
    elif kernel == K_MAX_POOL:
        pooling.max_pool(A, T, r, block, slot, part, parts)
    elif kernel == K_MAX_POOL_BACKWARD:
        pooling.max_pool_backward(A, T, r, block, slot, part, parts)
    elif kernel in (K_AVG_POOL, K_AVG_POOL_BACKWARD):
        pooling.avg_pool(A, T, r, block, slot, part, parts, kernel == K_AVG_POOL_BACKWARD)
    elif kernel == K_ACTIVATION:
        elements.activation(A, T, r, block, slot, part, parts)
    elif kernel == K_ACTIVATION_BACKWARD:
        elements.activation_backward(A, T, r, block, slot, part, parts)
    elif kernel == K_ADD:
        elements.addition(A, T, r, block, slot, part, parts)
    elif kernel == K_NORM_SUMS:
        norm.sums(A, T, r, block, slot, valid, part, parts)
    elif kernel == K_NORM:
        norm.normalise(A, T, r, block, slot, part, parts)
    elif kernel == K_NORM_GRADIENT_SUMS:
        norm.gradient_sums(A, T, r, block, slot, part, parts)
    elif kernel == K_NORM_GRADIENT:
        norm.gradient(A, T, r, block, slot, valid, part, parts)
    elif kernel == K_DROPOUT:
        elements.dropout(
            A, T, r, dropout_key(seed, step, r[KEY]), first_sample, block, slot, part, parts
        )
    elif kernel == K_OUTPUT:
        write_output(A, T, r, block, count, start, outputs, part, parts)
    elif kernel == K_OUTPUT_GRADIENT:
        gather_input(A, T, r, block, slot, count, order, start, bytes_[:0], targets, part, parts)
    elif kernel == K_IMAGE:
        single.image(A, T, r, order[start], bytes_, floats)
    elif kernel == K_GATHER:
        single.gather(A, T, r)
    elif kernel == K_CLEAR:
        single.clear(A, T, r)
    elif kernel == K_MATRIX_VECTOR:
        single.matrix_vector(A, P, r)
    elif part == 0 and kernel == K_CROSS_ENTROPY:
        cross_entropy(
            A, r, block, count, order, start, labels, targets, weights, mean_weight, losses, hits
        )
    elif part == 0 and kernel == K_MSE:
        mean_squared_error(
            A, r, block, count, order, start, labels, targets, weights, mean_weight, losses, hits
        )


@linked
def takes_many(r):
    """Whether a row had better take many blocks at once."""
    return r[KERNEL] == K_LINEAR or r[KERNEL] == K_LINEAR_BACKWARD or r[KERNEL] == K_TRANSPOSE


@linked
def run_linear_row(A, P, r, block, blocks, part, parts):
    """Run a thread's share of a row for some blocks from ``block`` on."""
    if r[KERNEL] == K_TRANSPOSE:
        dense.transpose(A, r, block, blocks, part, parts)
    else:
        dense.linear(A, P, r, block, blocks, part, parts, r[KERNEL] == K_LINEAR_BACKWARD)


@linked
def run_batch_row(A, T, P, G, r, blocks, count, worker, part, parts):
    """Run a thread's share of a row that takes the whole batch at once."""
    kernel = r[KERNEL]
    if takes_many(r):
        run_linear_row(A, P, r, NOUGHT, blocks, part, parts)
    elif kernel == K_OUTER:
        dense.outer(A, P, G, r, blocks, worker, part, parts)
    elif kernel == K_LINEAR_BIAS_GRADIENT:
        dense.linear_bias_gradient(A, G, r, blocks, part, parts)
    elif kernel == K_PACK:
        conv.pack(A, T, P, r, part, parts)
    elif kernel == K_WINOGRAD2D_WEIGHTS:
        winograd2d.winograd2d_weights(A, T, P, r, part, parts)
    elif kernel == K_WINOGRAD2D_REDUCE:
        winograd2d.winograd2d_reduce(A, G, r, blocks, worker, part, parts)
    elif kernel == K_WINOGRAD1D_WEIGHTS:
        winograd1d.winograd1d_weights(A, T, P, r, part, parts)
    elif kernel == K_WINOGRAD1D_REDUCE:
        winograd1d.winograd1d_reduce(A, G, r, blocks, worker, part, parts)
    elif kernel == K_NORM_STATISTICS:
        norm.statistics(A, P, r, blocks, count, part, parts)
    elif kernel == K_NORM_GRADIENT_STATISTICS:
        norm.gradient_statistics(A, P, G, r, blocks, count, part, parts)
    elif kernel == K_REDUCE:
        dense.reduce_partials(A, G, r, blocks, part, parts)


@njit(nogil=True)
def run(
    thread, threads, sync, phases, program, A, T, P, G, S1, S2, kind, settings, rates, seed,
    first_step, first_sample, batch, samples, order, bytes_, floats, labels, targets, weights,
    outputs, losses, hits, norms, block_losses, block_hits, squares, owners,
):  # fmt: skip
    """Run a program once for each learning rate, on consecutive batches of ``order``.

    ``first_sample`` is where the batches begin in larger ones, of which other processes have the
    rest.

    All threads call this together. A phase of rows over blocks gives each thread whole blocks,
    which it takes through all its rows while they are in its cache, one after the other but for
    linear layers; blocks that are left over are done by all threads together, row by row.
    """
    state = flush_denormals()
    arrived = 0
    units = (P.size + UNIT - 1) // UNIT
    for s in range(rates.size):
        start = s * batch
        count = min(batch, samples - start)
        blocks = (count + LANES - 1) // LANES
        step = first_step + s
        mean_weight = batch_weight(weights, order, start, count)
        for f in range(phases.shape[0]):
            first, last = phases[f, 0], phases[f, 1]
            if phases[f, 2]:
                for n in range(first, last):
                    run_batch_row(A, T, P, G, program[n], blocks, count, thread, thread, threads)
            else:
                rounds = blocks // threads
                mine = thread * rounds
                n = first
                while n < last:
                    end = n + 1
                    if takes_many(program[n]):
                        run_linear_row(A, P, program[n], mine, rounds, NOUGHT, ONE)
                    else:
                        while end < last and not takes_many(program[end]):
                            end += 1
                        for block in range(mine, mine + rounds):
                            for i in range(n, end):
                                run_block_row(
                                    A, T, P, program[i], seed, step, first_sample, block, thread,
                                    thread, NOUGHT, ONE,
                                    count, order, start, bytes_, floats, labels, targets, weights,
                                    mean_weight, outputs, block_losses, block_hits,
                                )  # fmt: skip
                    n = end
                if blocks % threads:
                    # Another thread's slot is about to be used.
                    if not barrier(sync, arrived, threads):
                        return restore_denormals(state)
                    arrived += 1
                for block in range(rounds * threads, blocks):
                    for n in range(first, last):
                        if takes_many(program[n]):
                            run_linear_row(A, P, program[n], block, ONE, thread, threads)
                        else:
                            run_block_row(
                                A, T, P, program[n], seed, step, first_sample, block, NOUGHT,
                                thread, thread, threads,
                                count, order, start, bytes_, floats, labels, targets, weights,
                                mean_weight, outputs, block_losses, block_hits,
                            )  # fmt: skip
                        if not barrier(sync, arrived, threads):
                            return restore_denormals(state)
                        arrived += 1
            if not barrier(sync, arrived, threads):
                return restore_denormals(state)
            arrived += 1
        if thread == 0:
            total, right = 0.0, 0
            for block in range(blocks):
                total += block_losses[block]
                right += block_hits[block]
            losses[s], hits[s] = total, right
        if kind == NONE:
            continue
        scale = np.float32(1)
        limit = settings[5]
        # A norm that clips nothing is known behind the update, which then reads the gradient once.
        if limit > 0.0:
            for unit in range(units):
                if owners[unit] == thread:
                    end = min(unit * UNIT + UNIT, P.size)
                    squares[unit] = sum_of_squares(G, unit * UNIT, end)
            if not barrier(sync, arrived, threads):
                return restore_denormals(state)
            arrived += 1
            norm = total_norm(squares, units)
            if norm > limit:
                scale = np.float32(limit / norm)
        for unit in range(units):
            if owners[unit] == thread:
                i, end = unit * UNIT, min(unit * UNIT + UNIT, P.size)
                if limit <= 0.0:
                    squares[unit] = sum_of_squares(G, i, end)
                update(kind, P, G, S1, S2, i, end, scale, settings, rates[s], step + 1)
        if not barrier(sync, arrived, threads):
            return restore_denormals(state)
        arrived += 1
        # The others change the squares behind many more barriers.
        if thread == 0:
            norms[s] = total_norm(squares, units)
    return restore_denormals(state)


_floats, _doubles, _ints = types.float32[::1], types.float64[::1], types.int64[::1]
_rows = types.int64[:, ::1]
#: The one signature of :func:`run`: no argument may cost another compilation.
SIGNATURE = (
    types.int64, types.int64, _ints, _rows, _rows, _floats, types.int32[::1], _floats, _floats,
    _floats, _floats, types.int64, _doubles, _doubles, types.int64,
    types.int64, types.int64, types.int64, types.int64,
    _ints, types.uint8[::1], _floats, _ints, _floats, _doubles,
    _floats, _doubles, _ints, _doubles, _doubles, _ints, _doubles, _ints,
)  # fmt: skip
