"""Compiled functions that run a forward pass: for the caller, and for threads that help it.

A pass is divided into segments; the threads present claim a segment's units one by one, and the
next segment begins when all are done. A thread that arrives late finds less to do, and the caller
never waits for one to wake up. A unit's result does not depend on the thread that computes it. A
segment's units form two halves, in the order of pixels or channels: a thread begins with the same
half of each segment, as it has written most of the inputs itself, and then helps with the other. If
several callers are inside, helpers leave between two segments, so that each caller has a core.
"""

from typing import Any

from llvmlite import ir

from fastcnn.backends.lanes.kernels.context import COUNT, FIELDS
from fastcnn.backends.lanes.kernels.division import NOUGHT, ONE
from fastcnn.backends.lanes.session.dispatcher import MANY, address, run_row
from fastcnn.codegen import linked
from fastcnn.codegen.denormals import flush_denormals, restore_denormals
from fastcnn.codegen.simd import INT64, define, prefetch_write
from fastcnn.codegen.threads import atomic_add, atomic_load, atomic_store, relax, sched_yield

#: Columns of a segment: its rows, its units, their kind, the blocks.
FIRST, LAST, UNITS, KIND, BLOCK, BLOCKS, EACH = range(7)
#: Kinds: a unit is a share of the rows over some blocks, or BLOCKS blocks of EACH in all rows.
SHARES, PIECES = 0, 1
#: Int64 between counters that threads modify, so that no two share a cache line.
APART = 16
#: Counters of a pass: the current segment, failures, helpers that have arrived, and whether the
#: first of them has swapped places with the caller.
CURRENT, FAILED, HELPERS, SWAPPED = 0, APART, 2 * APART, 2 * APART + 1
#: Counters of each segment, from this offset on: units claimed of either half, units done.
CLAIMED, DONE, OF_SEGMENT = 0, 2 * APART, 3 * APART
FIRST_SEGMENT = 3 * APART
#: Counters of a team of helpers: callers inside a pass, whether one of them has the team, the pass
#: to help with, threads inside that pass, sleeping threads, whether they should end, the core of
#: the last caller, and the number of cores.
CALLERS, TAKEN, PASS, INSIDE, ASLEEP, STOPPED, AVOIDED, ROOM = (n * APART for n in range(8))
TEAM_SIZE = 8 * APART
#: How helpers are kept off a core: the addresses of ``sched_getcpu``, ``sched_getaffinity`` and
#: ``sched_setaffinity``, the number of cores that have a mask, the words of a mask, the threads'
#: ids, or 0, and the masks. The first mask is scratch for the caller's, the next has all cores of
#: the team, and one for each core has all others.
CORE_OF, GET_CORES, SET_CORES, CORES, WORDS, FIRST_HELPER = range(6)
#: Maximum threads that are kept off the caller's core; among many cores the system finds free ones.
FEW = 8
MASKS = FIRST_HELPER + FEW
OF_CALLER, ALL, OTHERS = range(3)

#: How a pass runs: with the team, if there are cores, or on its thread alone.
TOGETHER, ALONE = 0, 1

#: The packed arguments of a pass; its helpers read those up to ``team``.
PASS_KINDS = {
    "counters": "int64[:]",
    "segments": "int64[:,:]",
    "rows": "int64[:]",
    "entries": "int64[:,:]",
    "context": "int64[:]",
    # Threads with scratch memory, including the caller.
    "threads": "int64",
    "team": "int64[:]",
    # How to keep its threads off a core, if they are few, and how to ring their bell.
    "moves": "int64[:]",
    "wake": "int64",
    "bell": "int64",
    # The address of these packed arguments.
    "here": "int64",
    # Arguments that change from run to run.
    "bytes_": "int64",
    "floats": "int64",
    "images": "int64",
    "outputs": "int64",
    "results": "int64",
    "count": "int64",
    # TOGETHER, ALONE, or alone after ringing a bell, given by its handle.
    "how": "int64",
}
#: The packed arguments of a helper.
HELP_KINDS = {"team": "int64[:]", "sleep": "int64", "bell": "int64", "assist": "int64"}
_BYTES, _FLOATS, _OUTPUTS = (FIELDS[name][0] for name in ("bytes_", "floats", "outputs"))


def _emit_foreign(builder: Any, function: Any, *arguments: Any) -> Any:
    kind = ir.FunctionType(INT64, [INT64] * len(arguments))
    made = builder.inttoptr(function, kind.as_pointer())
    return builder.call(made, arguments)


#: ``foreign(function, first, second, third)``: call a C function of up to three arguments.
foreign = define("int64", _emit_foreign, *["int64"] * 4)


def _emit_assist(builder: Any, function: Any, packed: Any) -> Any:
    kind = ir.FunctionType(INT64, [INT64])
    return builder.call(builder.inttoptr(function, kind.as_pointer()), [packed])


#: ``run_pass(entry, packed)``: call an entry with packed arguments.
run_pass = define("int64", _emit_assist, "int64", "int64")


@linked
def run_unit(program, segment, unit, worker):
    """Run one unit of a segment; returns whether a kernel failed."""
    failed, first, last = 0, segment[FIRST], segment[LAST]
    if segment[KIND] == SHARES:
        shared = segment[BLOCK], segment[BLOCKS], NOUGHT, worker, unit, segment[UNITS]
        for n in range(first, last):
            failed |= run_row(program, n, *shared)
        return failed
    block = segment[BLOCK] + unit * segment[EACH]
    blocks = min(segment[EACH], segment[BLOCK] + segment[BLOCKS] - block)
    for n in range(first, last):
        failed |= run_row(program, n, block, blocks, worker, worker, NOUGHT, ONE)
    return failed


@linked
def run_alone(counters, segments, program):
    """Run all segments on this thread, undivided."""
    (entries, _, _), failed = program, 0
    for s in range(segments.shape[0]):
        segment = segments[s]
        if segment[KIND] == SHARES or entries[segment[FIRST], MANY]:
            whole = segment[BLOCK], segment[BLOCKS], NOUGHT, NOUGHT, NOUGHT, ONE
            for n in range(segment[FIRST], segment[LAST]):
                failed |= run_row(program, n, *whole)
        else:
            for unit in range(segment[UNITS]):
                failed |= run_unit(program, segment, unit, NOUGHT)
    counters[FAILED] = failed


#: Reads of a counter before a waiting thread yields: some tens of microseconds. Shares take about
#: equally long, unless the thread that is waited for has no core.
PATIENCE = 2_000


@linked
def spin(spins):
    """Wait briefly for other threads, given the number of earlier waits; returns the new number."""
    relax()
    if spins >= PATIENCE:
        sched_yield()
    return spins + 1


@linked
def claim_units(counters, place, program, segment, worker):
    """Claim units of a segment, a thread's own half first; returns how many are done, or fewer."""
    units, done, turn = segment[UNITS], 0, 0
    halves = (units + 1) // 2
    while turn < 2 and done < units:
        side = (worker + turn) % 2
        first, size = side * halves, units - halves if side else halves
        counter, mine = place + CLAIMED + side * APART, 0
        while atomic_load(counters, counter) < size:
            unit = atomic_add(counters, counter, 1)
            if unit < size:
                if run_unit(program, segment, first + unit, worker):
                    atomic_add(counters, FAILED, 1)
                mine += 1
        if mine > 0:
            done = atomic_add(counters, place + DONE, mine) + mine
        turn += 1
    return done


@linked
def is_full(team, helpers):
    """Whether other callers need the cores of some helpers."""
    callers = atomic_load(team, CALLERS)
    return callers > 1 and callers + helpers > team[ROOM]


@linked
def run_together(counters, segments, program, team, number):
    """Claim units of one segment after the other, waiting for each to be completed.

    ``number`` is 0 for the caller.
    """
    worker = number ^ counters[SWAPPED]
    s = atomic_load(counters, CURRENT)
    while s < segments.shape[0] and (number == 0 or not is_full(team, number)):
        place = FIRST_SEGMENT + s * OF_SEGMENT
        units, done = segments[s, UNITS], 0
        # Another core may hold the next counter's cache line.
        prefetch_write(counters, place + OF_SEGMENT + CLAIMED + worker % 2 * APART)
        if units > 1:
            done = claim_units(counters, place, program, segments[s], worker)
        elif number == 0:
            # The caller's core has most of what a single unit reads in its cache.
            if run_unit(program, segments[s], NOUGHT, worker):
                atomic_add(counters, FAILED, 1)
            atomic_store(counters, place + DONE, 1)
            done = 1
        spins = 0
        while done < units:
            spins = spin(spins)
            done = atomic_load(counters, place + DONE)
        s += 1
        if number == 0:
            atomic_store(counters, CURRENT, s)


@linked
def is_confined(moves):
    """Whether the caller may no longer run on all cores of the team, as after ``taskset``."""
    words, here = moves[WORDS], MASKS + OF_CALLER * moves[WORDS]
    status = foreign(moves[GET_CORES], NOUGHT, words * 8, address(moves, here))
    differs = status & 0xFFFFFFFF != 0
    for word in range(words):
        differs |= moves[here + word] != moves[here + ALL * words + word]
    return differs


@linked
def leave_core(team, moves):
    """Keep helpers off the caller's core.

    If the other cores are busy, the system may schedule a waking thread there, where it takes turns
    with the thread that waits for it.
    """
    core, words = foreign(moves[CORE_OF], NOUGHT, NOUGHT, NOUGHT) & 0xFFFFFFFF, moves[WORDS]
    if core != team[AVOIDED] and core < moves[CORES]:
        team[AVOIDED] = core
        if is_confined(moves):
            return
        mask = address(moves, MASKS + (OTHERS + core) * words)
        for helper in range(FIRST_HELPER, FIRST_HELPER + FEW):
            if moves[helper] > 0:
                foreign(moves[SET_CORES], moves[helper], words * 8, mask)


@linked
def set_arrays(context, bytes_, floats, images, outputs, results):
    """Set what a pass reads and writes."""
    context[_BYTES], context[_BYTES + 1] = bytes_, images if bytes_ else 0
    context[_FLOATS], context[_FLOATS + 1] = floats, images if floats else 0
    context[_OUTPUTS], context[_OUTPUTS + 1] = outputs, results


@linked
def take_team(team, threads, how):
    """Enter a pass; returns whether it has the team: nobody else has, and cores are free."""
    if threads == 1:
        return False
    atomic_add(team, CALLERS, 1)
    if how != TOGETHER or is_full(team, ONE):
        return False
    if atomic_add(team, TAKEN, 1) > 0:
        atomic_add(team, TAKEN, -1)
        return False
    return True


@linked
def reset(counters, team, moves, threads):
    """Begin with the first segment, alone, and keep helpers off the caller's core."""
    counters[CURRENT], counters[HELPERS] = 0, 1
    counters[SWAPPED] = 0
    if moves.size > 0:
        leave_core(team, moves)
        # Two threads on two cores swap places if each is on the core that has the other's halves.
        if threads == 2 and team[ROOM] == 2:
            counters[SWAPPED] = team[AVOIDED] & 1


@linked
def call_helpers(team, helpers, wake, bell):
    """Wake sleeping helpers."""
    for _ in range(helpers):
        if atomic_load(team, ASLEEP) > 0:
            if atomic_add(team, ASLEEP, -1) > 0:
                foreign(wake, bell, ONE, NOUGHT)
            else:
                atomic_add(team, ASLEEP, 1)


@linked
def dismiss(team):
    """Wait until all helpers have left the pass, and release the team."""
    spins = 0
    while atomic_load(team, INSIDE) > 0:
        spins = spin(spins)
    atomic_add(team, TAKEN, -1)


@linked
def clear(counters, segments):
    """Reset the counters of segments."""
    for s in range(segments):
        place = FIRST_SEGMENT + s * OF_SEGMENT
        counters[place + CLAIMED], counters[place + CLAIMED + APART] = 0, 0
        counters[place + DONE] = 0


def lead(
    counters,
    segments,
    rows,
    entries,
    context,
    threads,
    team,
    moves,
    wake,
    bell,
    here,
    bytes_,
    floats,
    images,
    outputs,
    results,
    count,
    how,
):
    """Run a pass on the calling thread, and on the team's if nobody else has it and cores are free.

    ``bytes_`` or ``floats`` is the address of the ``images`` values, the other is 0; ``outputs`` is
    that of the ``results`` values.
    """
    # Not earlier: a caller that wakes up on this core needs the interpreter's lock immediately.
    if how > ALONE:
        foreign(wake, how, ONE, NOUGHT)
    state = flush_denormals()
    set_arrays(context, bytes_, floats, images, outputs, results)
    context[COUNT], counters[FAILED] = count, 0
    program = entries, address(context, 0), address(rows, 0)
    has_team = take_team(team, threads, how)
    if has_team:
        reset(counters, team, moves, threads)
        atomic_add(team, PASS, here)
        call_helpers(team, threads - 1, wake, bell)
        run_together(counters, segments, program, team, NOUGHT)
        atomic_add(team, PASS, -here)
        dismiss(team)
    else:
        run_alone(counters, segments, program)
    if threads > 1:
        atomic_add(team, CALLERS, -1)
    restore_denormals(state)
    if has_team:
        # Last, since other cores hold these cache lines: nothing waits for the stores.
        clear(counters, segments.shape[0])


def assist(counters, segments, rows, entries, context, threads, team):
    """Help with a pass, unless all threads with scratch memory already do."""
    worker = atomic_add(counters, HELPERS, 1)
    if worker < threads:
        state = flush_denormals()
        program = entries, address(context, 0), address(rows, 0)
        run_together(counters, segments, program, team, worker)
        restore_denormals(state)


#: Checks for a new pass before a thread sleeps again: some tens of microseconds, in which the next
#: call of a loop arrives.
LINGER = 2_000


def wait_and_help(team, sleep, bell, assist):
    """The main loop of a helper: sleep until a pass begins, help with it."""
    while not atomic_load(team, STOPPED):
        looks, seen = 0, 0
        while looks < LINGER and not is_full(team, ONE):
            packed = atomic_load(team, PASS)
            if packed != 0 and packed != seen:
                atomic_add(team, INSIDE, 1)
                # The pass may be over by now; it cannot end while a thread is inside.
                packed = atomic_load(team, PASS)
                if packed != 0:
                    run_pass(assist, packed)
                atomic_add(team, INSIDE, -1)
                looks = 0
            seen = packed
            relax()
            looks += 1
        atomic_add(team, ASLEEP, 1)
        packed = atomic_load(team, PASS)
        if packed != 0 and packed != seen and not is_full(team, ONE):
            # A pass begun in between, by a caller that saw nobody asleep, or is ringing now.
            if atomic_add(team, ASLEEP, -1) > 0:
                continue
            atomic_add(team, ASLEEP, 1)
        foreign(sleep, bell, -ONE, NOUGHT)
