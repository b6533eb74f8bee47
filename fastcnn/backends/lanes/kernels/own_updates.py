"""Kernels of the updates that users wrote."""

from functools import lru_cache
from typing import Any

import numpy as np

from fastcnn.backends.lanes.kernels.context import kernel_entry
from fastcnn.backends.lanes.kernels.optimizers import update_kernel
from fastcnn.codegen import linked
from fastcnn.codegen.build import Source
from fastcnn.codegen.identity import function_digest
from fastcnn.operations import own


@lru_cache
def own_update(update: own.Update) -> Source:
    """A user's update: another one of the same name is another function."""
    symbol = f"fastcnn_update_{update.name}_{function_digest(update.function)[:12]}"
    kernel = _kernel(update.function, len(update.slots), len(update.arguments))
    return Source(kernel, kernel_entry(symbol, kernel, {}))


def _kernel(update: Any, slots: int, count: int) -> Any:
    """The kernel of a user's optimiser: the gradient is scaled, numbers follow rate and step."""
    if slots == 0:

        @linked
        def formula(p, g, numbers):
            return update(p, g * numbers[0], *numbers[1:])

    elif slots == 1:

        @linked
        def formula(p, g, a, numbers):
            return update(p, g * numbers[0], a, *numbers[1:])

    elif slots == 2:

        @linked
        def formula(p, g, a, b, numbers):
            return update(p, g * numbers[0], a, b, *numbers[1:])

    else:

        @linked
        def formula(p, g, a, b, c, numbers):
            return update(p, g * numbers[0], a, b, c, *numbers[1:])

    return update_kernel(_step_numbers(count), formula, slots)


def _step_numbers(count: int) -> Any:
    """Scale, rate and step, and ``count`` of the settings."""
    rest = _settings(count)

    @linked
    def prepare(settings, rate, scale, step):
        return (np.float32(scale), np.float32(rate), np.float32(step), *rest(settings))

    return prepare


def _settings(count: int) -> Any:
    if count == 0:

        @linked
        def rest(settings):
            return ()

        return rest
    before, place = _settings(count - 1), count - 1

    @linked
    def more(settings):
        return (*before(settings), np.float32(settings[place]))

    return more
