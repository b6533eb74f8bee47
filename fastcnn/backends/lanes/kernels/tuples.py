"""Compiled functions of tuples whose length is known when a kernel is generated."""

from typing import Any

from fastcnn.codegen import linked


def reads(count: int, read: Any) -> Any:
    """``made(array, at, step)``: a tuple of ``read(array, at + k * step)``, k from 0 on."""
    if count == 0:

        @linked
        def nothing(array, at, step):
            return ()

        return nothing
    before, k = reads(count - 1, read), count - 1

    @linked
    def made(array, at, step):
        return (*before(array, at, step), read(array, at + k * step))

    return made


def writes(count: int, write: Any) -> Any:
    """``made(array, at, step, values)``: ``write(array, at + k * step, values[k + 1])``."""
    if count == 0:

        @linked
        def nothing(array, at, step, values):
            pass

        return nothing
    before, k = writes(count - 1, write), count - 1

    @linked
    def made(array, at, step, values):
        before(array, at, step, values)
        write(array, at + k * step, values[k + 1])

    return made
