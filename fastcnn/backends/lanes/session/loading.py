"""Loads the kernels of a program, compiling those that are not in the cache."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastcnn.backends.lanes.kernel_table import KERNELS, kernel_source
from fastcnn.backends.lanes.kernels.formula_table import element_loss_kernel
from fastcnn.backends.lanes.kernels.layout import BY_BLOCK, FIRST_FORMULA, KERNEL
from fastcnn.backends.lanes.planning.grouping import Unsupported
from fastcnn.codegen import build
from fastcnn.codegen.build import Source
from fastcnn.operations.losses import LOSSES


def check_enabled() -> None:
    """Unsupported if compiled functions run as plain Python."""
    if reason := build.disabled_by():
        raise Unsupported(reason)


def check_own_update(kind: str) -> None:
    """Compile the update of a user's optimiser; Unsupported if that fails."""
    _check_compiles(f"the optimiser {kind}", kernel_source(kind))


def check_own_loss(name: str) -> None:
    """Compile the loss of a given name, if a user wrote it; Unsupported if that fails."""
    if name in LOSSES:
        check_own_kernels([element_loss_kernel(LOSSES[name])])


def check_own_kernels(numbers: Iterable[int]) -> None:
    """Compile those of some kernels that users wrote.

    Raises Unsupported if that fails; the message says what numba does not support.
    """
    for number in sorted(set(numbers)):
        if number >= FIRST_FORMULA and KERNELS[number].origin is None:
            _check_compiles(KERNELS[number].name, kernel_source(number))


def _check_compiles(name: str, source: Source) -> None:
    try:
        build.addresses([source])
    except Exception as error:  # numba's errors have no common base
        lines = [line.strip() for line in str(error).splitlines()]
        # numba shows the call that it does not support after ">>> ".
        calls = [f"numba does not support {line[4:]}" for line in lines if line.startswith(">>> ")]
        said = [line for line in lines if line and not line.startswith("Failed in ")]
        reason = [*calls, *said, type(error).__name__][0]
        raise Unsupported(f"{name}, which cannot be compiled ({reason})") from error


def _takes_many(row: np.ndarray) -> bool:
    """Whether a row processes many blocks together."""
    return KERNELS[int(row[KERNEL])].many and not row[BY_BLOCK]


def load_kernels(
    rows: np.ndarray, more: Sequence[Source], ahead: Sequence[Source] = ()
) -> tuple[Any, ...]:
    """Address and MANY flag of each row's kernel; then the addresses of ``more``.

    Kernels that are needed next are compiled at the same time.
    """
    numbers = sorted({int(number) for number in rows[:, KERNEL]})
    found = build.addresses([*more, *map(kernel_source, numbers), *ahead])
    table = dict(zip(numbers, found[len(more) :], strict=False))
    entries = np.array([(table[int(row[KERNEL])], _takes_many(row)) for row in rows], np.int64)
    return entries.reshape(-1, 2), *found[: len(more)]
