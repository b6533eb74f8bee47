"""A vector of 16 float32 for numba, and the operations on it that the kernels need.

``Vector`` is a numba type whose data model is the LLVM vector ``<16 x float>``; LLVM lowers it to
one AVX-512 register, two AVX2 or four NEON registers. Every function here is an intrinsic: it
emits a few instructions in place. Arrays are one-dimensional, contiguous float32; indices count
floats and are neither checked nor wrapped.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic, models, register_model
from numba.np import arrayobj

LANES = 16
FLOAT = ir.FloatType()
INT32 = ir.IntType(32)
INT64 = ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, LANES)
INT_VECTOR = ir.VectorType(INT32, LANES)


class VectorType(types.Type):
    """The numba type of a vector of 16 float32."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


vector = VectorType()


@register_model(VectorType)
class VectorModel(models.PrimitiveModel):
    """Represents :class:`VectorType` by the LLVM vector itself."""

    def __init__(self, manager: Any, frontend_type: Any) -> None:
        super().__init__(manager, frontend_type, VECTOR)


def constant(value: float) -> ir.Constant:
    """A vector constant with ``value`` in every lane."""
    return ir.Constant(VECTOR, [value] * LANES)


def int_constant(value: int) -> ir.Constant:
    """A vector of 16 int32 with ``value`` in every lane."""
    return ir.Constant(INT_VECTOR, [value] * LANES)


def data_pointer(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    """Pointer to the first element of a numba array."""
    return arrayobj.make_array(array_type)(context, builder, array).data


def emit_load(builder: Any, pointer: Any) -> Any:
    """Load a vector from a float pointer that is aligned to one float."""
    value = builder.load(builder.bitcast(pointer, VECTOR.as_pointer()))
    value.align = 4
    return value


def emit_store(builder: Any, value: Any, pointer: Any) -> None:
    """Store a vector at a float pointer that is aligned to one float."""
    builder.store(value, builder.bitcast(pointer, VECTOR.as_pointer())).align = 4


def emit_splat(builder: Any, scalar: Any) -> Any:
    """A vector with a scalar in every lane."""
    undefined = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(INT32, 0))
    return builder.shuffle_vector(first, undefined, int_constant(0))


def emit_fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """``x * y + z`` with one rounding."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), "llvm.fma.v16f32"
    )
    return builder.call(function, (x, y, z))


def emit_relu(builder: Any, x: Any) -> Any:
    """``max(0, x)``; NaN stays NaN."""
    zero = constant(0.0)
    return builder.select(builder.fcmp_ordered("<=", x, zero), zero, x)


def emit_wins(builder: Any, candidate: Any, best: Any) -> Any:
    """Lanes in which ``candidate`` replaces ``best`` as maximum: larger, or NaN."""
    return builder.or_(
        builder.fcmp_ordered(">", candidate, best),
        builder.fcmp_unordered("!=", candidate, candidate),
    )


def emit_shuffle(builder: Any, x: Any, y: Any, lanes: list[int]) -> Any:
    """Select lanes of two vectors: 0..15 are those of ``x``, 16..31 those of ``y``."""
    return builder.shuffle_vector(x, y, ir.Constant(INT_VECTOR, lanes))


def emit_sums(builder: Any, values: list[Any]) -> Any:
    """One vector whose lane i is the sum of the lanes of ``values[i]``; up to 16 vectors.

    A tree that adds pairs of vectors while halving each, so 16 sums cost 15 additions and 30
    shuffles, a third of 16 reductions done one by one.
    """
    rows = list(values) + [constant(0.0)] * (LANES - len(values))
    width = LANES
    # At each level, rows[i] and rows[i + half] are merged: afterwards segment 0..width/2 of each
    # group belongs to the first and the other half to the second.
    while len(rows) > 1:
        half = len(rows) // 2
        segment = width // 2
        merged = []
        for first, second in zip(rows[:half], rows[half:], strict=True):
            low = [
                (lane if (lane // segment) % 2 == 0 else lane - segment + LANES)
                for lane in range(LANES)
            ]
            high = [
                (lane + segment if (lane // segment) % 2 == 0 else lane + LANES)
                for lane in range(LANES)
            ]
            merged.append(
                builder.fadd(
                    emit_shuffle(builder, first, second, low),
                    emit_shuffle(builder, first, second, high),
                )
            )
        rows = merged
        width = segment
    return rows[0]


def emit_transpose(builder: Any, rows: list[Any]) -> list[Any]:
    """The 16 columns of a 16 x 16 matrix given by rows: four rounds of 16 shuffles."""
    for bit in (8, 4, 2, 1):
        low = [lane if not lane & bit else lane - bit + LANES for lane in range(LANES)]
        high = [lane + bit if not lane & bit else lane + LANES for lane in range(LANES)]
        result = list(rows)
        for i in range(LANES):
            if not i & bit:
                result[i] = emit_shuffle(builder, rows[i], rows[i + bit], low)
                result[i + bit] = emit_shuffle(builder, rows[i], rows[i + bit], high)
        rows = result
    return rows


def _unary(emit: Any) -> Any:
    def define(typing: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return emit(builder, args[0])

        return vector(vector), generate

    return intrinsic(define)


def _binary(emit: Any) -> Any:
    def define(typing: Any, x: Any, y: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return emit(builder, args[0], args[1])

        return vector(vector, vector), generate

    return intrinsic(define)


add = _binary(lambda builder, x, y: builder.fadd(x, y))
sub = _binary(lambda builder, x, y: builder.fsub(x, y))
mul = _binary(lambda builder, x, y: builder.fmul(x, y))
div = _binary(lambda builder, x, y: builder.fdiv(x, y))
relu = _unary(emit_relu)
