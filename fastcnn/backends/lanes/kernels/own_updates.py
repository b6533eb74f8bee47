"""Kernels of updates written by users."""

from functools import lru_cache
from typing import Any

import numpy as np

from fastcnn.backends.lanes.kernels.context import kernel_entry
from fastcnn.backends.lanes.kernels.division import ONE
from fastcnn.backends.lanes.kernels.optimizers import update_kernel, update_step
from fastcnn.backends.lanes.kernels.tuples import reads
from fastcnn.codegen import linked
from fastcnn.codegen.build import Source
from fastcnn.codegen.identity import function_digest
from fastcnn.operations.record import Update


@lru_cache
def own_update(update: Update) -> Source:
    """The source of a user's update; another update may have the same name."""
    symbol = f"fastcnn_update_{update.name}_{function_digest(update.function)[:12]}"
    kernel = _kernel(update.function, len(update.slots), len(update.arguments))
    return Source(kernel, kernel_entry(symbol, kernel, {}))


def _kernel(update: Any, slots: int, count: int) -> Any:
    """The kernel of a user's optimiser: its settings follow rate and step."""
    if slots == 0:

        @linked
        def formula(p, g, kept, numbers):
            return (update(p, g, *numbers),)

    else:

        @linked
        def formula(p, g, kept, numbers):
            return update(p, g, *kept, *numbers)

    return update_kernel(*update_step(_step_numbers(count), formula, slots))


def _step_numbers(count: int) -> Any:
    """Rate and step, and ``count`` of the settings."""
    rest = reads(count, _setting)

    @linked
    def prepare(settings, row, rate, step):
        return (np.float32(rate), np.float32(step), *rest(settings, row, ONE))

    return prepare


@linked
def _setting(settings, at):
    return np.float32(settings[at])
