"""All kernels, and what they are compiled from."""

from collections.abc import Mapping
from typing import Any

from fastcnn.backends.lanes.convolution.channels import records as _channels
from fastcnn.backends.lanes.convolution.depthwise import records as _depthwise
from fastcnn.backends.lanes.convolution.direct import records as _direct
from fastcnn.backends.lanes.convolution.direct_batch import records as _direct_batch
from fastcnn.backends.lanes.convolution.input_lanes import records as _input_lanes
from fastcnn.backends.lanes.convolution.winograd1d import records as _winograd1d
from fastcnn.backends.lanes.convolution.winograd2d import records as _winograd2d
from fastcnn.backends.lanes.convolution.winograd2d_batch import records as _winograd2d_batch
from fastcnn.backends.lanes.kernels import (
    channel_maps,
    constraints,
    elements,
    inputs,
    join,
    linear,
    local_response,
    losses,
    norm,
    outputs,
    pool,
    sample_norm,
    sampling,
    softmax,
)
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.context import kernel_entry
from fastcnn.backends.lanes.kernels.formula_table import element_loss_kernel, formula_kernel
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
from fastcnn.codegen.entry import ArgumentEntry
from fastcnn.operations import OPERATIONS, Elementwise, own
from fastcnn.operations.losses import LOSSES

#: Whose records are in KERNELS.
FAMILIES = (
    _channels,
    _depthwise,
    _direct,
    _direct_batch,
    _input_lanes,
    _winograd1d,
    _winograd2d,
    _winograd2d_batch,
    channel_maps,
    constraints,
    elements,
    inputs,
    join,
    linear,
    local_response,
    losses,
    norm,
    outputs,
    pool,
    sample_norm,
    sampling,
    softmax,
)

#: The updates of the package's optimisers, by name.
UPDATE_KERNELS = {
    **UPDATES,
    "muon": UpdateKernel(muon, 1, muon_scratch),
    "clip": UpdateKernel(clip, 0),
}


def update_record(name: str) -> UpdateKernel | None:
    """What is known of an update, the package's or a user's."""
    if name in own.UPDATES:
        update = own.UPDATES[name]
        return UpdateKernel(own_update(update).function, len(update.slots))
    return UPDATE_KERNELS.get(name)


def formula_source(operation: str, arguments: Mapping[str, Any], what: str) -> Source:
    """What the kernel of an operation of the package is compiled from, for another process."""
    record = OPERATIONS[operation]
    assert isinstance(record, Elementwise)
    return kernel_source(formula_kernel(record, arguments, what))


def loss_source(name: str) -> Source:
    """What the kernel of a loss of the package is compiled from, for another process."""
    return kernel_source(element_loss_kernel(LOSSES[name]))


def kernel_source(key: int | str) -> Source:
    """What a kernel is compiled from, by its number, or the name of an update."""
    if isinstance(key, int):
        kernel = KERNELS[key]
        function, fixed = kernel.function, dict(kernel.fixed)
        if key >= L.FIRST_FORMULA:
            entry = kernel_entry(f"fastcnn_{kernel.symbol}", function, fixed)
            return Source(function, entry, kernel.origin)
        symbol = "_".join([function.__name__, *(n for n, value in fixed.items() if value)])
    elif key in own.UPDATES:
        return own_update(own.UPDATES[key])
    else:
        function = gradient_squares if key == SQUARES else UPDATE_KERNELS[key].function
        fixed, symbol = {}, f"update_{key}"
    origin = (__name__, "kernel_source", [key])
    return Source(function, kernel_entry(f"fastcnn_{symbol}", function, fixed), origin)


def all_sources() -> list[Source]:
    """What all kernels and the dispatcher are compiled from."""
    keys: tuple[int | str, ...] = (*KERNELS, *UPDATE_KERNELS, SQUARES)
    return [dispatcher_source(), *conductor_sources(), *(kernel_source(key) for key in keys)]


def conductor_sources() -> list[Source]:
    """What runs a forward pass on the caller's thread, on one that helps, and a helper's life."""
    return [conductor_source(name) for name in ("lead", "assist", "wait_and_help")]


def conductor_source(name: str) -> Source:
    """What one of them is compiled from."""
    kinds = conductor.HELP_KINDS if name == "wait_and_help" else conductor.PASS_KINDS
    entry = ArgumentEntry(f"fastcnn_{name}", tuple(kinds.values()))
    return Source(getattr(conductor, name), entry, (__name__, "conductor_source", [name]))


def dispatcher_source() -> Source:
    """What the dispatcher is compiled from."""
    entry = ArgumentEntry("fastcnn_run", tuple(dispatcher.KINDS.values()))
    return Source(dispatcher.run, entry, (__name__, "dispatcher_source", []))
