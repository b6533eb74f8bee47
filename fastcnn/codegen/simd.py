"""A vector of 16 float32, and the operations on it that kernels need.

It is the LLVM vector ``<16 x float>``, which becomes one AVX-512 register, two of AVX2 or four of
NEON. In compiled functions it has the operators ``+ - * /``, negation and comparisons, also with
scalars; further functions are in elementary.py. Every function here emits a few instructions
inline. Arrays are one-dimensional, contiguous float32; indices count floats and are neither checked
nor wrapped.
"""

from typing import Any

from llvmlite import ir

from fastcnn.codegen.declarations import Emitted

LANES = 16
FLOAT = ir.FloatType()
INT32 = ir.IntType(32)
INT64 = ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, LANES)
INT_VECTOR = ir.VectorType(INT32, LANES)
LANE_NUMBERS = ir.Constant(INT_VECTOR, list(range(LANES)))


def emit_call(builder: Any, name: str, kind: Any, values: Any) -> Any:
    """Call a function of LLVM or of the C library, declaring it if needed."""
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, values)


def constant(value: float) -> ir.Constant:
    """A vector constant with ``value`` in every lane."""
    return ir.Constant(VECTOR, [value] * LANES)


def int_constant(value: int) -> ir.Constant:
    """A vector of 16 int32 with ``value`` in every lane."""
    return ir.Constant(INT_VECTOR, [value] * LANES)


def emit_load(builder: Any, pointer: Any) -> Any:
    """Load a vector from a float pointer that is aligned to one float."""
    value = builder.load(builder.bitcast(pointer, VECTOR.as_pointer()))
    value.align = 4
    return value


def emit_store(builder: Any, value: Any, pointer: Any) -> None:
    """Store a vector at a float pointer that is aligned to one float."""
    builder.store(value, builder.bitcast(pointer, VECTOR.as_pointer())).align = 4


def emit_store_first(builder: Any, count: Any, value: Any, pointer: Any) -> None:
    """Store the first ``count`` lanes of a vector; memory after them is not modified."""
    mask = ir.VectorType(ir.IntType(1), LANES)
    target = builder.bitcast(pointer, VECTOR.as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [VECTOR, target.type, INT32, mask])
    values = (value, target, ir.Constant(INT32, 4), emit_first(builder, count))
    emit_call(builder, f"llvm.masked.store.v{LANES}f32.p0", kind, values)


def emit_stream(builder: Any, value: Any, pointer: Any) -> None:
    """Store a vector to a cache line that is written completely and read much later.

    The line is not loaded into the cache first. Other threads see it after a fence.
    """
    store = builder.store(value, builder.bitcast(pointer, VECTOR.as_pointer()))
    store.align = 4 * LANES
    rule = builder.module.add_metadata([ir.Constant(INT32, 1)])
    store.set_metadata("nontemporal", rule)


def emit_prefetch(builder: Any, pointer: Any, write: bool = False, level: int = 2) -> None:
    """Prefetch the cache line at a float pointer, which will be read or written soon.

    Into the second-level cache, or with ``level`` 3 into the first.
    """
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, INT32, INT32, INT32])
    numbers = [ir.Constant(INT32, value) for value in (int(write), level, 1)]  # 1: data
    emit_call(builder, "llvm.prefetch.p0", kind, (builder.bitcast(pointer, byte), *numbers))


def emit_splat(builder: Any, scalar: Any) -> Any:
    """Broadcast a scalar to a vector of 16 float32, or int32."""
    undefined = ir.Constant(ir.VectorType(scalar.type, LANES), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(INT32, 0))
    return builder.shuffle_vector(first, undefined, int_constant(0))


def emit_int_splat(builder: Any, number: Any) -> Any:
    """Broadcast an int64, as int32, to all lanes."""
    return emit_splat(builder, builder.trunc(number, INT32))


def emit_first(builder: Any, count: Any) -> Any:
    """The mask of the first ``count`` lanes."""
    return builder.icmp_signed("<", LANE_NUMBERS, emit_int_splat(builder, count))


def emit_fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """``x * y + z``, with a single rounding where the target has FMA."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    return emit_call(builder, "llvm.fmuladd.v16f32", kind, (x, y, z))


def emit_relu(builder: Any, x: Any) -> Any:
    """``max(0, x)``; NaN stays NaN."""
    zero = constant(0.0)
    return builder.select(builder.fcmp_ordered("<=", x, zero), zero, x)


def emit_keep_positive(builder: Any, mask: Any, x: Any) -> Any:
    """``x`` where ``mask > 0`` or NaN, else 0."""
    zero = constant(0.0)
    return builder.select(builder.fcmp_ordered("<=", mask, zero), zero, x)


def emit_keep_open(builder: Any, mask: Any, x: Any) -> Any:
    """``x`` where ``mask`` is not 0, else 0."""
    zero = constant(0.0)
    return builder.select(builder.fcmp_ordered("==", mask, zero), zero, x)


def emit_keep_equal(builder: Any, a: Any, b: Any, x: Any) -> Any:
    """``x`` where ``a == b``, else 0."""
    return builder.select(builder.fcmp_ordered("==", a, b), x, constant(0.0))


def emit_has_bits(builder: Any, x: Any, bits: int) -> Any:
    """The mask of lanes whose float32 has any of the given bits."""
    found = builder.and_(builder.bitcast(x, INT_VECTOR), int_constant(bits))
    return builder.icmp_signed("!=", found, int_constant(0))


def emit_wins(builder: Any, candidate: Any, best: Any) -> Any:
    """The mask of lanes in which ``candidate`` replaces ``best`` as maximum: larger, or NaN."""
    return builder.or_(
        builder.fcmp_ordered(">", candidate, best),
        builder.fcmp_unordered("!=", candidate, candidate),
    )


def emit_shuffle(builder: Any, x: Any, y: Any, lanes: list[int]) -> Any:
    """Select lanes of two vectors: 0..15 are those of ``x``, 16..31 those of ``y``."""
    return builder.shuffle_vector(x, y, ir.Constant(INT_VECTOR, lanes))


def emit_sums(builder: Any, values: list[Any]) -> Any:
    """One vector whose lane i is the sum of the lanes of ``values[i]``; up to 16 vectors.

    A tree that adds pairs of vectors while halving each: 16 sums take 15 additions and 30 shuffles,
    a third of the cost of 16 separate reductions.
    """
    rows = list(values) + [constant(0.0)] * (LANES - len(values))
    width = LANES
    # At each level, rows[i] and rows[i + half] are merged: afterwards segment 0..width/2 of each
    # group belongs to the first and the other half to the second.
    while len(rows) > 1:
        half = len(rows) // 2
        segment = width // 2
        merged = []
        of_first = [lane // segment % 2 == 0 for lane in range(LANES)]
        low = [i if own else i - segment + LANES for i, own in enumerate(of_first)]
        high = [lane + segment for lane in low]
        for first, second in zip(rows[:half], rows[half:], strict=True):
            halves = (emit_shuffle(builder, first, second, lanes) for lanes in (low, high))
            merged.append(builder.fadd(*halves))
        rows = merged
        width = segment
    return rows[0]


def emit_transpose(builder: Any, rows: list[Any]) -> list[Any]:
    """The 16 columns of a 16 x 16 matrix given by rows: four rounds of 16 shuffles.

    Each shuffle is a single x86 instruction: first the quarters of rows are interleaved, as 4 x 4
    matrices, then whole quarters are moved to their places.
    """
    quarters = range(0, LANES, 4)
    for pick, step in (([0, 16, 1, 17], 1), ([0, 1, 16, 17], 2)):
        low = [quarter + lane for quarter in quarters for lane in pick]
        high = [lane + 2 for lane in low]
        made = list(rows)
        for i in range(LANES):
            if not i & step:
                made[i] = emit_shuffle(builder, rows[i], rows[i + step], low)
                made[i + step] = emit_shuffle(builder, rows[i], rows[i + step], high)
        rows = made
    # Vector 4 g + c has columns c, 4 + c, 8 + c and 12 + c of rows 4 g to 4 g + 3.
    rows = [rows[4 * (i // 4) + (0, 2, 1, 3)[i % 4]] for i in range(LANES)]
    even = [*range(4), *range(8, 12), *range(16, 20), *range(24, 28)]
    odd = [lane + 4 for lane in even]
    columns = [rows[0]] * LANES
    for c in range(4):
        for second, first_lanes in enumerate((even, odd)):
            left = emit_shuffle(builder, rows[c], rows[4 + c], first_lanes)
            right = emit_shuffle(builder, rows[8 + c], rows[12 + c], first_lanes)
            columns[4 * second + c] = emit_shuffle(builder, left, right, even)
            columns[8 + 4 * second + c] = emit_shuffle(builder, left, right, odd)
    return columns


def define(result: str, emit: Any, *arguments: str | None) -> Emitted:
    """An emitted function with fixed kinds of arguments and result; ``None`` is an array."""
    return Emitted(emit, result, arguments)


def _at(emit: Any) -> Any:
    return lambda builder, array, index, *rest: emit(builder, builder.gep(array, [index]), *rest)


load = define("vector", _at(emit_load), None, "int64")
store = define(
    "void",
    _at(lambda builder, pointer, value: emit_store(builder, value, pointer)),
    None,
    "int64",
    "vector",
)


def _emit_fence(builder: Any) -> None:
    builder.fence("seq_cst")


#: Makes earlier streaming stores visible to all threads.
fence = define("void", _emit_fence)
prefetch = define("void", _at(emit_prefetch), None, "int64")
prefetch_write = define(
    "void", _at(lambda builder, pointer: emit_prefetch(builder, pointer, True)), None, "int64"
)
splat = define("vector", emit_splat, "float32")
add = define("vector", lambda builder, x, y: builder.fadd(x, y), "vector", "vector")
sub = define("vector", lambda builder, x, y: builder.fsub(x, y), "vector", "vector")
mul = define("vector", lambda builder, x, y: builder.fmul(x, y), "vector", "vector")
div = define("vector", lambda builder, x, y: builder.fdiv(x, y), "vector", "vector")
fma = define("vector", emit_fma, "vector", "vector", "vector")
relu = define("vector", emit_relu, "vector")
keep_positive = define("vector", emit_keep_positive, "vector", "vector")
#: ``x`` where ``a == b``, else 0.
keep_equal = define("vector", emit_keep_equal, "vector", "vector", "vector")
#: The larger of two, or a NaN of either; ``x`` is ``candidate``.
maximum = define(
    "vector",
    lambda builder, best, x: builder.select(emit_wins(builder, x, best), x, best),
    "vector",
    "vector",
)
#: ``other`` where ``candidate`` beats ``best``, else ``kept``.
choose_winner = define(
    "vector",
    lambda builder, candidate, best, other, kept: builder.select(
        emit_wins(builder, candidate, best), other, kept
    ),
    "vector",
    "vector",
    "vector",
    "vector",
)


def _emit_sum(builder: Any, x: Any) -> Any:
    total = emit_sums(builder, [x])
    return builder.extract_element(total, ir.Constant(INT32, 0))


def _emit_first_lanes(builder: Any, count: Any, x: Any) -> Any:
    return builder.select(emit_first(builder, count), x, constant(0.0))


#: ``x`` in the first ``count`` lanes, else 0.
first_lanes = define("vector", _emit_first_lanes, "int64", "vector")

#: Sum of the 16 lanes, in the order of a binary tree.
lane_sum = define("float32", _emit_sum, "vector")


def _emit_hash(builder: Any, x: Any) -> Any:
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = builder.xor(x, builder.lshr(x, int_constant(shift)))
        x = builder.mul(x, int_constant(factor))
    return builder.xor(x, builder.lshr(x, int_constant(16)))


def _emit_keep_random(
    builder: Any, counter: Any, step: Any, key: Any, threshold: Any, x: Any
) -> Any:
    """``x`` in the lanes whose hash reaches the threshold, else 0; see counter_random.py."""
    high = builder.lshr(key, ir.Constant(INT64, 32))
    counter, step, key, high, threshold = (
        emit_int_splat(builder, number) for number in (counter, step, key, high, threshold)
    )
    counters = builder.add(counter, builder.mul(LANE_NUMBERS, step))
    hashed = _emit_hash(builder, builder.xor(counters, key))
    hashed = _emit_hash(builder, builder.add(hashed, high))
    kept = builder.icmp_unsigned(">=", hashed, threshold)
    return builder.select(kept, x, constant(0.0))


#: ``keep_random(counter, counters_per_sample, key, threshold, x)``
keep_random = define("vector", _emit_keep_random, "int64", "int64", "int64", "int64", "vector")
#: The first lane.
first_lane = define(
    "float32", lambda builder, x: builder.extract_element(x, ir.Constant(INT32, 0)), "vector"
)
#: ``insert(x, lane, value)``: ``x`` with one lane replaced.
insert = define(
    "vector",
    lambda builder, x, lane, value: builder.insert_element(x, value, builder.trunc(lane, INT32)),
    "vector",
    "int64",
    "float32",
)
