"""The table of all kernels, with their sources for compilation.

The session loads kernels by these sources; importing this module registers every kernel.
"""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from fastcnn.backends.lanes import kernels
from fastcnn.backends.lanes.convolution.algorithms import ALGORITHMS
from fastcnn.backends.lanes.convolution.channel_algorithms import CHANNEL_ALGORITHMS
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.context import kernel_entry
from fastcnn.backends.lanes.kernels.formula_table import element_loss_kernel, formula_kernel
from fastcnn.backends.lanes.kernels.linear_gradients import updating_outer
from fastcnn.backends.lanes.kernels.muon import muon, muon_scratch
from fastcnn.backends.lanes.kernels.optimizers import (
    SQUARES,
    UPDATES,
    UpdateKernel,
    clip,
    gradient_squares,
)
from fastcnn.backends.lanes.kernels.own_updates import own_update
from fastcnn.backends.lanes.kernels.record import KERNELS
from fastcnn.backends.lanes.session import conductor, dispatcher
from fastcnn.codegen.build import Source
from fastcnn.codegen.declarations import parameter_names
from fastcnn.codegen.entry import ArgumentEntry
from fastcnn.operations import OPERATIONS, Elementwise
from fastcnn.operations.losses import LOSSES
from fastcnn.operations.record import OWN_UPDATES

ROOM = "fastcnn.backends.lanes"
# Kernel files are found by their folder, algorithms by their lists.
for _file in iter_modules(kernels.__path__):
    import_module(f"{ROOM}.kernels.{_file.name}")
for _algorithm in ALGORITHMS:
    import_module(f"{ROOM}.convolution.{_algorithm.name}.records")
for _channels in CHANNEL_ALGORITHMS:
    import_module(f"{ROOM}.convolution.channel_{_channels.name}.records")

#: The updates of the package's optimisers, by name.
UPDATE_KERNELS = {
    **UPDATES,
    "muon": UpdateKernel(muon, 1, muon_scratch),
    "clip": UpdateKernel(clip, 0),
}
#: Prefix of an update's name for the weight-gradient kernel that the update directly follows.
FOLLOWING = "outer_"
OUTER_KERNELS = {
    FOLLOWING + name: updating_outer(*update.step, update.slots)
    for name, update in UPDATES.items()
    if update.step is not None
}


def update_record(name: str) -> UpdateKernel | None:
    """The record of an update, the package's or a user's."""
    if name in OWN_UPDATES:
        update = OWN_UPDATES[name]
        return UpdateKernel(own_update(update).function, len(update.slots))
    return UPDATE_KERNELS.get(name)


def formula_source(operation: str, arguments: Mapping[str, Any], what: str) -> Source:
    """The source of an operation's kernel, for another process."""
    record = OPERATIONS[operation]
    assert isinstance(record, Elementwise)
    return kernel_source(formula_kernel(record, arguments, what))


def loss_source(name: str) -> Source:
    """The source of a loss's kernel, for another process."""
    return kernel_source(element_loss_kernel(LOSSES[name]))


def kernel_source(key: int | str) -> Source:
    """The source of a kernel, by its number or the name of an update."""
    if isinstance(key, int):
        kernel = KERNELS[key]
        fixed = dict(kernel.fixed)
        names = [kernel.function.__name__, *(name for name, value in fixed.items() if value)]
        symbol = "fastcnn_" + (kernel.symbol or "_".join(names))
        # Another process may use another number for it.
        by_symbol = (__name__, "symbol_source", [symbol])
        origin = kernel.origin if key >= L.FIRST_FORMULA else by_symbol
        entry = kernel_entry(symbol, kernel.function, fixed)
        return Source(kernel.function, entry, origin, kernel.strength_reduction)
    if key in OWN_UPDATES:
        return own_update(OWN_UPDATES[key])
    if key in OUTER_KERNELS:
        function = OUTER_KERNELS[key]
    else:
        function = gradient_squares if key == SQUARES else UPDATE_KERNELS[key].function
    entry = kernel_entry(f"fastcnn_update_{key}", function, {})
    return Source(function, entry, (__name__, "kernel_source", [key]))


def symbol_source(symbol: str) -> Source:
    """The source of the kernel with this symbol, for another process."""
    sources = (kernel_source(number) for number in KERNELS)
    return next(source for source in sources if source.name == symbol)


def all_sources() -> list[Source]:
    """The sources of all kernels and the dispatcher."""
    keys: tuple[int | str, ...] = (*KERNELS, *UPDATE_KERNELS, *OUTER_KERNELS, SQUARES)
    return [dispatcher_source(), *conductor_sources(), *(kernel_source(key) for key in keys)]


def conductor_sources() -> list[Source]:
    """Sources of a forward pass on the caller's thread and on a helper, and of a helper's loop."""
    return [conductor_source(name) for name in ("lead", "assist", "wait_and_help")]


def conductor_source(name: str) -> Source:
    """The source of one of these."""
    function = getattr(conductor, name)
    kinds = conductor.HELP_KINDS if name == "wait_and_help" else conductor.PASS_KINDS
    taken = tuple(kinds.values())[: len(parameter_names(function))]
    entry = ArgumentEntry(f"fastcnn_{name}", taken)
    return Source(function, entry, (__name__, "conductor_source", [name]))


def dispatcher_source() -> Source:
    """The source of the dispatcher."""
    entry = ArgumentEntry("fastcnn_run", tuple(dispatcher.KINDS.values()))
    return Source(dispatcher.run, entry, (__name__, "dispatcher_source", []))
