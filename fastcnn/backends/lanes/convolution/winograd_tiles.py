"""Building blocks of all Winograd transforms; a vector holds one pixel of 16 samples."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastcnn.backends.lanes.convolution.winograd import Matrix, factors
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import constant, emit_fma


class Grid(NamedTuple):
    """Vectors of an array in rows and columns, which are ``down`` and ``along`` floats apart."""

    array: Any
    first: Any
    down: Any
    along: Any

    def place(self, at: Emitter, i: int, j: int) -> Any:
        """The address of a vector."""
        return at.offset(at.offset(self.first, i, self.down), j, self.along)


class Inside(NamedTuple):
    """The numbers of rows and columns of a tile that are in the map.

    All others are stored at ``spare``, room for one vector.
    """

    rows: Any
    columns: Any
    spare: Any

    def are_at_least(self, at: Emitter, side: int) -> Any:
        """Whether there are ``side`` rows and columns."""
        rows, columns = (
            at.builder.icmp_signed(">=", count, at.index(side))
            for count in (self.rows, self.columns)
        )
        return at.builder.and_(rows, columns)

    def place(self, at: Emitter, i: int, j: int, place: Any) -> Any:
        """The address of a vector: ``place`` if it is in the map."""
        builder = at.builder
        inside = builder.and_(
            builder.icmp_signed("<", at.index(i), self.rows),
            builder.icmp_signed("<", at.index(j), self.columns),
        )
        return builder.select(inside, place, self.spare)


def bias_of(at: Emitter, bias: tuple[Any, Any]) -> Any:
    """The bias of a channel in all lanes, given an array and an offset."""
    return at.bias(bias[0], bias[1], 1)[0]


def emit_combination(builder, factors: Sequence[float], values: Sequence[Any]) -> Any:
    """A linear combination of vectors.

    Terms of factor 1 come first, or else of -1, whose sign is folded into the next multiplication.
    """
    total = None
    terms = [pair for pair in zip(factors, values, strict=True) if pair[0] != 0]
    for factor, value in sorted(terms, key=lambda pair: (pair[0] != 1, pair[0] != -1)):
        if total is None and factor == 1:
            total = value
        elif total is None:
            total = builder.fneg(value) if factor == -1 else builder.fmul(value, constant(factor))
        elif factor == 1:
            total = builder.fadd(total, value)
        elif factor == -1:
            total = builder.fsub(total, value)
        else:
            total = emit_fma(builder, value, constant(factor), total)
    return total


def emit_product(builder, matrix: Matrix, values: list[Any]) -> list[Any]:
    """A matrix times a column of vectors."""
    for factor in reversed(factors(matrix)):
        values = [emit_combination(builder, row, values) for row in factor.tolist()]
    return values


def emit_both_ways(
    builder, matrix: Matrix, tile: list[list[Any]], along: Matrix | None = None
) -> list[list[Any]]:
    """``matrix @ tile @ matrix.T`` of a tile of vectors, or ``matrix @ tile @ along.T``."""
    along = matrix if along is None else along
    columns = [emit_product(builder, matrix, list(column)) for column in zip(*tile, strict=True)]
    return [emit_product(builder, along, list(row)) for row in zip(*columns, strict=True)]


def store_both_ways(at: Emitter, matrix: Matrix, tile: list[list[Any]], Y, y0, step) -> None:
    """Store ``matrix @ tile @ matrix.T``, with elements ``step`` floats apart.

    Row by row: stored rows free their registers.
    """
    columns = [emit_product(at.builder, matrix, list(column)) for column in zip(*tile, strict=True)]
    for i, row in enumerate(zip(*columns, strict=True)):
        made = emit_product(at.builder, matrix, list(row))
        store_all(at, made, Y, at.offset(y0, i * len(made), step), step)


def load_all(at: Emitter, count: int, X, x0, step) -> list[Any]:
    """Load vectors that are ``step`` floats apart."""
    return [at.load(X, at.offset(x0, i, step)) for i in range(count)]


def load_rows(at: Emitter, rows: int, columns: int, X, x0, step) -> list[list[Any]]:
    """Load a matrix of vectors, row by row, that are ``step`` floats apart."""
    flat = load_all(at, rows * columns, X, x0, step)
    return [flat[columns * i : columns * (i + 1)] for i in range(rows)]


def load_pixels(at: Emitter, sides: Sequence[range], source: Grid) -> list[list[Any]]:
    """Load some rows and columns of pixels."""
    rows, columns = sides
    return [[at.load(source.array, source.place(at, i, j)) for j in columns] for i in rows]


def ask_for_pixels(at: Emitter, sides: Sequence[range], source: Grid, ahead) -> None:
    """Prefetch some rows and columns of a map, ``ahead`` floats further."""
    rows, columns = sides
    for i in rows:
        for j in columns:
            place = at.offset(source.place(at, i, j), 1, ahead)
            at.prefetch(source.array, place, level=3)


@tile(2)
def ask_tile(at: Emitter, side: int, write: int, X, x0, down, along) -> None:
    """Prefetch square tiles of a map into the second-level cache, or for writing."""
    for i in range(side):
        for j in range(side):
            at.prefetch(X, Grid(X, x0, down, along).place(at, i, j), write=bool(write))


def emit_either(at: Emitter, condition: Any, emit: Callable[[bool], None]) -> None:
    """Emit code for both values of a condition; at run time the one for its value runs."""
    with at.builder.if_else(condition) as branches:
        for branch, value in zip(branches, (True, False), strict=True):
            with branch:
                emit(value)


def store_all(at: Emitter, values: list[Any], Y, y0, step) -> None:
    """Store vectors ``step`` floats apart."""
    for i, value in enumerate(values):
        at.store(value, Y, at.offset(y0, i, step))
