"""Tells numba the operators of vectors and truth values, and numpy's functions of them."""

import inspect
import itertools
import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import lower_builtin, type_callable

from fastcnn.codegen.numba_types import (
    ChoiceType,
    VectorType,
    choice,
    is_number,
    spread,
    unliteral,
    vector,
)
from fastcnn.codegen.simd import FLOAT, VECTOR, emit_call, emit_splat
from fastcnn.codegen.vector_math import OF_NUMPY

#: Types of arguments.
_KINDS = VectorType, ChoiceType, types.Number, types.Boolean
#: Largest whole power that is computed by products.
MOST_POWER = 64


def _type(known: Any, typed: Any, arity: int) -> None:
    """Register what types a function has; ``typed`` returns a signature or None."""
    # numba compares a call with the signature, which a function of any arguments would not have.
    kind = inspect.Parameter.POSITIONAL_ONLY
    parameters = [inspect.Parameter(f"x{i}", kind) for i in range(arity)]
    typed.__signature__ = inspect.Signature(parameters)
    type_callable(known)(lambda context: typed)


def _register(known: Any, emit: Any, arity: int, result: Any = vector, truths: int = 0) -> None:
    """Register a function of vectors, truth values and numbers; numba has those of other types.

    The first ``truths`` arguments are truth values; elsewhere, these count as 1 and 0.
    """

    def typed(*args: Any) -> Any:
        args = tuple(unliteral(kind) for kind in args)
        if not {vector, choice} & set(args):
            return None
        if not all(kind in (vector, choice) or is_number(kind) for kind in args):
            return None
        # numpy's sum of truth values is a truth value.
        of_truths = {choice, types.boolean}
        if set(args[:truths]) - of_truths or (set(args) <= of_truths and not truths):
            return None
        return result(*args)

    _type(known, typed, arity)

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        values = spread(context, builder, signature.args, values, truths)
        for i, kind in enumerate(signature.args):
            if kind is choice and i >= truths:
                values[i] = builder.uitofp(values[i], VECTOR)
        return emit(builder, *values)

    for kinds in itertools.product(_KINDS, repeat=arity):
        if VectorType in kinds or ChoiceType in kinds:
            lower_builtin(known, *kinds)(lower)


def _compare(sign: str) -> Any:
    return lambda builder, x, y: builder.fcmp_ordered(sign, x, y)


def _magnitude(builder: Any, x: Any) -> Any:
    return emit_call(builder, "llvm.fabs.v16f32", ir.FunctionType(VECTOR, [VECTOR]), [x])


_register(operator.add, lambda builder, x, y: builder.fadd(x, y), 2)
_register(operator.sub, lambda builder, x, y: builder.fsub(x, y), 2)
_register(operator.mul, lambda builder, x, y: builder.fmul(x, y), 2)
_register(operator.truediv, lambda builder, x, y: builder.fdiv(x, y), 2)
_register(operator.neg, lambda builder, x: builder.fneg(x), 1)
_register(operator.pos, lambda builder, x: x, 1)
_register(abs, _magnitude, 1)
for _symbol, _sign in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
    (operator.eq, "=="),
):
    _register(_symbol, _compare(_sign), 2, choice)
_register(operator.ne, lambda builder, x, y: builder.fcmp_unordered("!=", x, y), 2, choice)
_register(operator.and_, lambda builder, x, y: builder.and_(x, y), 2, choice, truths=2)
_register(operator.or_, lambda builder, x, y: builder.or_(x, y), 2, choice, truths=2)
_register(operator.xor, lambda builder, x, y: builder.xor(x, y), 2, choice, truths=2)
_register(operator.invert, lambda builder, x: builder.not_(x), 1, choice, truths=1)
for _known, (_emit, _arity) in OF_NUMPY.items():
    _register(_known, _emit, _arity, truths=int(_known is np.where))


def _type_of_power(base: Any, power: Any) -> Any:
    if base is not vector or not isinstance(power, types.IntegerLiteral):
        return None
    return vector(base, power) if abs(power.literal_value) <= MOST_POWER else None


_type(operator.pow, _type_of_power, 2)


@lower_builtin(operator.pow, VectorType, types.IntegerLiteral)
def _whole_power(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    power, square = signature.args[1].literal_value, values[0]
    product = one = emit_splat(builder, ir.Constant(FLOAT, 1.0))
    for bit in reversed(f"{abs(power):b}"):
        product = builder.fmul(product, square) if bit == "1" else product
        square = builder.fmul(square, square)
    return builder.fdiv(one, product) if power < 0 else product


def _type_of_where(*args: Any) -> Any:
    if not all(is_number(unliteral(kind)) for kind in args):
        return None
    return types.float64(types.boolean, types.float64, types.float64)


_type(np.where, _type_of_where, 3)


@lower_builtin(np.where, types.Boolean, types.Float, types.Float)
def _where_of_numbers(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    return builder.select(*values)
