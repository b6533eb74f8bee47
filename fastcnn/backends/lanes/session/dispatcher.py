"""The compiled function that runs a program: whole training steps without Python."""

from typing import Any

from llvmlite import ir

from fastcnn.backends.lanes.kernels.context import (
    COUNT,
    FIRST_SAMPLE,
    MEAN_WEIGHTS,
    NUMBERS,
    RATE,
    SCALE,
    START,
    STEP,
)
from fastcnn.backends.lanes.kernels.division import NOUGHT, ONE
from fastcnn.backends.lanes.kernels.layout import WIDTH
from fastcnn.backends.lanes.kernels.optimizers import total_norm
from fastcnn.backends.lanes.session.schedule import (
    AFTER,
    BEGIN,
    CALLS,
    FIRST,
    KEEP,
    MIDDLE,
    NUMBER,
    READY,
    SAMPLES,
)
from fastcnn.codegen import linked
from fastcnn.codegen.denormals import flush_denormals, restore_denormals
from fastcnn.codegen.simd import INT64, LANES, define
from fastcnn.codegen.threads import FAILED, atomic_add, barrier

#: Fields of a row's entry: its kernel's address, and whether it processes many blocks together.
ENTRY, MANY = 0, 1
#: Types of :func:`run`'s arguments.
KINDS = {
    "thread": "int64",
    "threads": "int64",
    "sync": "int64[:]",
    "phases": "int64[:,:]",
    "program": "int64[:]",
    "entries": "int64[:,:]",
    "context": "int64[:]",
    "numbers": "float64[:]",
    "rates": "float64[:]",
    "schedule": "int64[:,:]",
    # The address of a Python function, and the phase before which it may be called.
    "function": "int64",
    "middle": "int64",
    # One or more for each pass.
    "mean_weights": "float64[:]",
    "losses": "float64[:]",
    "hits": "int64[:]",
    "norms": "float64[:]",
    "block_losses": "float64[:]",
    "block_hits": "int64[:]",
    "squares": "float64[:]",
    "owners": "int64[:]",
    # The address of each unit's kernel.
    "updates": "int64[:]",
    "limit": "float64",
    "square": "int64",
}


def _emit_address(builder: Any, array: Any, index: Any) -> Any:
    return builder.ptrtoint(builder.gep(array, [index]), INT64)


def _emit_call(builder: Any, entry: Any, context: Any, row: Any, *numbers: Any) -> Any:
    kind = ir.FunctionType(INT64, [INT64] * (2 + len(NUMBERS)))
    function = builder.inttoptr(entry, kind.as_pointer())
    return builder.call(function, [context, row, *numbers])


#: Address of an element of an array.
address = define("int64", _emit_address, None, "int64")
#: ``call(entry, context, row, block, blocks, slot, worker, part, parts)``: a kernel's status.
call = define("int64", _emit_call, *["int64"] * (3 + len(NUMBERS)))


@linked
def run_row(entries, n, context, rows, block, blocks, slot, worker, part, parts):
    """Run one row on some blocks; returns whether its kernel failed."""
    row = rows + n * WIDTH * 8
    return call(entries[n, ENTRY], context, row, block, blocks, slot, worker, part, parts)


@linked
def own_blocks(entries, first, last, mine, rounds, thread, context, rows):
    """Run a thread's own blocks through all rows of a phase, one block after the other.

    Rows that process many blocks together get all of them.
    """
    failed, n = 0, first
    while n < last:
        end = n + 1
        if entries[n, MANY]:
            own = mine, rounds, thread, thread, NOUGHT, ONE
            failed |= run_row(entries, n, context, rows, *own)
        else:
            while end < last and not entries[end, MANY]:
                end += 1
            for block in range(mine, mine + rounds):
                for i in range(n, end):
                    own = block, ONE, thread, thread, NOUGHT, ONE
                    failed |= run_row(entries, i, context, rows, *own)
        n = end
    return failed


@linked
def run_phase(entries, phase, blocks, thread, threads, sync, arrived, context, rows):
    """Run one phase; returns the number of barriers passed, or -1 after a failure of any thread.

    In a batch phase each thread gets parts, and runs all rows of one before the next part. In a
    block phase it gets whole blocks; the remaining ones are computed by all threads together, row
    by row.
    """
    first, last, failed = phase[0], phase[1], 0
    if phase[2]:
        each = (phase[2] + threads - 1) // threads
        for part in range(thread * each, thread * each + each):
            for n in range(first, last):
                shared = NOUGHT, blocks, thread, thread, part, threads * each
                failed |= run_row(entries, n, context, rows, *shared)
    else:
        rounds = blocks // threads
        failed = own_blocks(entries, first, last, thread * rounds, rounds, thread, context, rows)
        if blocks % threads:
            # Another thread's slot is about to be used.
            if failed or not barrier(sync, arrived, threads):
                return -1
            arrived += 1
        for block in range(rounds * threads, blocks):
            for n in range(first, last):
                shared = block, ONE, NOUGHT, thread, thread, threads
                failed = run_row(entries, n, context, rows, *shared)
                if failed or not barrier(sync, arrived, threads):
                    return -1
                arrived += 1
    if failed or not barrier(sync, arrived, threads):
        return -1
    return arrived + 1


@linked
def ask_python(function, index, place, state, thread, threads, sync, arrived):
    """Call Python on the first thread while the others wait; returns whether it succeeded."""
    failed = 0
    if thread == 0:
        restore_denormals(state)
        failed = call(function, NOUGHT, NOUGHT, index, place, NOUGHT, NOUGHT, NOUGHT, ONE)
        flush_denormals()
    return failed == 0 and barrier(sync, arrived, threads)


@linked
def update(
    thread, threads, sync, arrived, here, rows, numbers, squares, owners, updates, limit, square
):
    """Apply the update; returns the number of barriers passed, or -1 after a failure."""
    failed, units = 0, updates.size
    numbers[SCALE] = 1.0
    # Without clipping, the norm is computed during the update, which then reads the gradient once.
    if limit > 0.0:
        for unit in range(units):
            if owners[unit] == thread:
                failed |= call(square, here, rows, unit, ONE, NOUGHT, thread, NOUGHT, ONE)
        if failed or not barrier(sync, arrived, threads):
            return -1
        arrived += 1
        norm = total_norm(squares)
        if norm > limit:
            numbers[SCALE] = limit / norm
    for unit in range(units):
        if owners[unit] == thread:
            if limit <= 0.0:
                failed |= call(square, here, rows, unit, ONE, NOUGHT, thread, NOUGHT, ONE)
            failed |= call(updates[unit], here, rows, unit, ONE, NOUGHT, thread, NOUGHT, ONE)
    if failed or not barrier(sync, arrived, threads):
        return -1
    return arrived + 1


@linked
def fail(sync, state):
    """Signal a failure to all threads at their barriers."""
    atomic_add(sync, FAILED, 1)
    restore_denormals(state)


def run(
    thread,
    threads,
    sync,
    phases,
    program,
    entries,
    context,
    numbers,
    rates,
    schedule,
    function,
    middle,
    mean_weights,
    losses,
    hits,
    norms,
    block_losses,
    block_hits,
    squares,
    owners,
    updates,
    limit,
    square,
):
    """Run a program once for each learning rate, on the scheduled parts of ``order``.

    All threads call this together, each with its context, whose float64 view is ``numbers``. A
    failing kernel ends the run.
    """
    state = flush_denormals()
    arrived, here, rows = 0, address(context, 0), address(program, 0)
    work = here, rows, numbers, squares, owners, updates, limit, square
    for s in range(rates.size):
        start, count, calls = schedule[s, BEGIN], schedule[s, SAMPLES], schedule[s, CALLS]
        blocks = (count + LANES - 1) // LANES
        context[STEP], context[START], context[COUNT] = schedule[s, NUMBER], start, count
        context[FIRST_SAMPLE] = schedule[s, FIRST]
        numbers[RATE] = rates[s]
        each = mean_weights.size // rates.size
        context[MEAN_WEIGHTS] = address(mean_weights, s * each)
        context[MEAN_WEIGHTS + 1] = each
        for f in range(phases.shape[0]):
            if calls & MIDDLE and f == middle:
                if not ask_python(function, s, MIDDLE, state, thread, threads, sync, arrived):
                    fail(sync, state)
                    return
                arrived += 1
            arrived = run_phase(
                entries, phases[f], blocks, thread, threads, sync, arrived, here, rows
            )
            if arrived < 0:
                fail(sync, state)
                return
        if thread == 0:
            total, right = 0.0, 0
            for block in range(blocks):
                total += block_losses[block]
                right += block_hits[block]
            losses[s], hits[s] = total, right
        if calls & READY:
            if not ask_python(function, s, READY, state, thread, threads, sync, arrived):
                fail(sync, state)
                return
            arrived += 1
        # The array has one element more than there are sums of squares.
        if squares.size > 1 and not calls & KEEP:
            arrived = update(thread, threads, sync, arrived, *work)
            if arrived < 0:
                fail(sync, state)
                return
            # Other threads modify the squares only many barriers later.
            if thread == 0:
                norms[s] = total_norm(squares)
        if calls & AFTER:
            if not ask_python(function, s, AFTER, state, thread, threads, sync, arrived):
                fail(sync, state)
                return
            arrived += 1
    restore_denormals(state)
