"""numba types of vectors, and of the kinds that declarations.py defines."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import models, register_model

from fastcnn.codegen.simd import VECTOR, emit_splat


class VectorType(types.Type):
    """The numba type of a vector of 16 float32."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


class ChoiceType(types.Type):
    """The numba type of 16 truth values."""

    def __init__(self) -> None:
        super().__init__(name="boolx16")


vector, choice = VectorType(), ChoiceType()


@register_model(VectorType)
class VectorModel(models.PrimitiveModel):
    """Represents :class:`VectorType` by the LLVM vector itself."""

    def __init__(self, manager: Any, frontend_type: Any) -> None:
        super().__init__(manager, frontend_type, VECTOR)


@register_model(ChoiceType)
class ChoiceModel(models.PrimitiveModel):
    """Represents :class:`ChoiceType` by a vector of bits."""

    def __init__(self, manager: Any, frontend_type: Any) -> None:
        super().__init__(manager, frontend_type, ir.VectorType(ir.IntType(1), VECTOR.count))


def numba_type(kind: str) -> Any:
    """The numba type of a kind; see declarations.py."""
    name, _, dimensions = kind.partition("[")
    known = {"void": types.void, "bool": types.boolean, "vector": vector, "choice": choice}
    scalar = known.get(name) or getattr(types, name)
    return types.Array(scalar, dimensions.count(":"), "C") if dimensions else scalar


def kind_of(numba: Any) -> str:
    """The kind of a numba type, for an array that of its elements."""
    return str(numba.dtype if isinstance(numba, types.Array) else numba)


def unliteral(kind: Any) -> Any:
    """The type of a literal; other types are unchanged."""
    return getattr(kind, "literal_type", kind)


def is_number(kind: Any) -> bool:
    """Whether a type is that of a number or a truth value."""
    return isinstance(kind, types.Number | types.Boolean)


def taken(kind: Any) -> Any:
    """The type to which an emitted function converts an argument of any kind."""
    if isinstance(kind, types.BaseTuple):
        return types.BaseTuple.from_types([taken(part) for part in kind])
    return kind if isinstance(kind, types.Array) else types.intp


def spread(context: Any, builder: Any, kinds: Any, values: Any, truths: int = 0) -> list[Any]:
    """Broadcast numbers to all lanes, the first ``truths`` as truth values; vectors are kept."""
    scalars = [types.boolean] * truths + [types.float32] * (len(kinds) - truths)
    return [
        value
        if kind in (vector, choice)
        else emit_splat(builder, context.cast(builder, value, kind, scalar))
        for kind, value, scalar in zip(kinds, values, scalars, strict=True)
    ]
