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
    "rows": "int64[:]",
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
def run_row(program, n, block, blocks, slot, worker, part, parts):
    """Run one row on some blocks; returns whether its kernel failed.

    ``program`` has the rows' entries, and the addresses of the context and of the first row.
    """
    entries, context, rows = program
    row = rows + n * WIDTH * 8
    return call(entries[n, ENTRY], context, row, block, blocks, slot, worker, part, parts)


@linked
def meet(failed, team):
    """Wait for all threads, unless this one failed; returns whether none has failed.

    ``team`` has this thread, the number of threads, and the array by which they synchronise.
    """
    _, threads, sync = team
    return failed == 0 and barrier(sync, threads)


@linked
def own_blocks(program, first, last, mine, rounds, thread):
    """Run a thread's own blocks through all rows of a phase, one block after the other.

    Rows that process many blocks together get all of them.
    """
    entries, _, _ = program
    failed, n = 0, first
    while n < last:
        end = n + 1
        if entries[n, MANY]:
            failed |= run_row(program, n, mine, rounds, thread, thread, NOUGHT, ONE)
        else:
            while end < last and not entries[end, MANY]:
                end += 1
            for block in range(mine, mine + rounds):
                for i in range(n, end):
                    failed |= run_row(program, i, block, ONE, thread, thread, NOUGHT, ONE)
        n = end
    return failed


@linked
def run_phase(program, phase, blocks, team):
    """Run one phase; returns whether no thread failed.

    In a batch phase each thread gets parts, and runs all rows of one before the next part. In a
    block phase it gets whole blocks; the remaining ones are computed by all threads together, row
    by row.
    """
    thread, threads, _ = team
    first, last, failed = phase[0], phase[1], 0
    if phase[2]:
        each = (phase[2] + threads - 1) // threads
        for part in range(thread * each, thread * each + each):
            for n in range(first, last):
                shared = NOUGHT, blocks, thread, thread, part, threads * each
                failed |= run_row(program, n, *shared)
    else:
        rounds = blocks // threads
        failed = own_blocks(program, first, last, thread * rounds, rounds, thread)
        # Another thread's slot is about to be used.
        if blocks % threads and not meet(failed, team):
            return False
        for block in range(rounds * threads, blocks):
            for n in range(first, last):
                failed = run_row(program, n, block, ONE, NOUGHT, thread, thread, threads)
                if not meet(failed, team):
                    return False
    return meet(failed, team)


@linked
def begin_pass(context, numbers, schedule, rates, mean_weights, s):
    """Set the kernels' values of a pass; returns its number of blocks."""
    count, each = schedule[s, SAMPLES], mean_weights.size // rates.size
    context[STEP], context[START], context[COUNT] = schedule[s, NUMBER], schedule[s, BEGIN], count
    context[FIRST_SAMPLE], numbers[RATE] = schedule[s, FIRST], rates[s]
    context[MEAN_WEIGHTS], context[MEAN_WEIGHTS + 1] = address(mean_weights, s * each), each
    return (count + LANES - 1) // LANES


@linked
def ask_python(python, calls, place, index, team):
    """Call Python on the first thread while the others wait, if the pass asks for it here.

    ``python`` has the function's address, and the state of denormals outside of programs. Returns
    whether no thread failed.
    """
    if not calls & place:
        return True
    (function, state), failed = python, 0
    if team[0] == 0:
        restore_denormals(state)
        failed = call(function, NOUGHT, NOUGHT, index, place, NOUGHT, NOUGHT, NOUGHT, ONE)
        flush_denormals()
    return meet(failed, team)


@linked
def sums_of(block_losses, block_hits, blocks):
    """The loss and the hits of a pass."""
    loss, hits = 0.0, 0
    for block in range(blocks):
        loss += block_losses[block]
        hits += block_hits[block]
    return loss, hits


@linked
def update(program, team, numbers, units, limit, square):
    """Apply the update; returns whether no thread failed."""
    (_, context, rows), thread, failed = program, team[0], 0
    squares, owners, updates = units
    numbers[SCALE] = 1.0
    # Without clipping, the norm is computed during the update, which then reads the gradient once.
    if limit > 0.0:
        for unit in range(updates.size):
            if owners[unit] == thread:
                failed |= call(square, context, rows, unit, ONE, NOUGHT, thread, NOUGHT, ONE)
        if not meet(failed, team):
            return False
        norm = total_norm(squares)
        if norm > limit:
            numbers[SCALE] = limit / norm
    for unit in range(updates.size):
        if owners[unit] == thread:
            if limit <= 0.0:
                failed |= call(square, context, rows, unit, ONE, NOUGHT, thread, NOUGHT, ONE)
            failed |= call(updates[unit], context, rows, unit, ONE, NOUGHT, thread, NOUGHT, ONE)
    return meet(failed, team)


def run(
    thread,
    threads,
    sync,
    phases,
    rows,
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
    python, team = (function, flush_denormals()), (thread, threads, sync)
    program, units = (entries, address(context, 0), address(rows, 0)), (squares, owners, updates)
    for s in range(rates.size):
        calls, succeeds = schedule[s, CALLS], True
        blocks = begin_pass(context, numbers, schedule, rates, mean_weights, s)
        for f in range(phases.shape[0]):
            if f == middle:
                succeeds = succeeds and ask_python(python, calls, MIDDLE, s, team)
            succeeds = succeeds and run_phase(program, phases[f], blocks, team)
        if thread == 0:
            losses[s], hits[s] = sums_of(block_losses, block_hits, blocks)
        succeeds = succeeds and ask_python(python, calls, READY, s, team)
        # The array has one element more than there are sums of squares.
        if squares.size > 1 and not calls & KEEP:
            succeeds = succeeds and update(program, team, numbers, units, limit, square)
            # Other threads modify the squares only many barriers later.
            if thread == 0:
                norms[s] = total_norm(squares)
        succeeds = succeeds and ask_python(python, calls, AFTER, s, team)
        if not succeeds:
            atomic_add(sync, FAILED, 1)
            break
    restore_denormals(python[1])
