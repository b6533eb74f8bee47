"""Plans a network: from a graph to a program. The entry point of lowering."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fastcnn.backends.graph import INPUT, Graph
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.elements import copy
from fastcnn.backends.lanes.kernels.formula_table import element_loss_kernel
from fastcnn.backends.lanes.kernels.formulas import MOST_NUMBERS
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.losses import K_CROSS_ENTROPY, K_FOCAL, K_NLL
from fastcnn.backends.lanes.kernels.operation import LOWERINGS
from fastcnn.backends.lanes.lowering import (  # noqa: F401
    batch_norm,
    convolution,
    linear,
    sample_norm,
    shapes,
)
from fastcnn.backends.lanes.lowering.backward import Backward
from fastcnn.backends.lanes.lowering.forward import Forward
from fastcnn.backends.lanes.lowering.program import Program
from fastcnn.backends.lanes.planning.bands import Banded, in_bands
from fastcnn.backends.lanes.planning.buffers import NO_HALO, Buffer
from fastcnn.backends.lanes.planning.grouping import Unsupported
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.backends.one_row import on_maps, with_one_row
from fastcnn.operations import OPERATIONS, Elementwise, Number
from fastcnn.operations.losses import LOSSES

#: Kernels of losses of classes.
CLASS_LOSSES = {"cross_entropy": K_CROSS_ENTROPY, "nll": K_NLL, "focal": K_FOCAL}


@dataclass(frozen=True)
class Purpose:
    """The purpose of a program, besides the network's forward pass."""

    #: ``engine_key`` of a loss, its operation and settings; implies ``backward``. Without a loss, a
    #: backward pass starts from the current contents of the output's gradient.
    loss: tuple[Any, ...] | None = None
    #: Whether the gradients of all parameters are computed.
    backward: bool = False
    #: Whether dropout is active and batch normalisation uses the batch's statistics.
    training: bool = False
    #: Whether the gradient of the input is computed, too.
    input_gradient: bool = False
    #: Whether the network's output is copied out of the arena.
    outputs: bool = False
    #: Whether every node's output is kept to the end.
    values: bool = False
    #: Whether the output's gradient is read from an array, ``targets``, and the input's gradient
    #: copied to one, ``outputs``.
    arrays: bool = False
    #: Parameters whose gradients are not needed; these stay zero.
    frozen: Collection[str] = ()
    #: By state key of a weight: the maximum norm of each output's slice, enforced by a step before
    #: it reads the weight.
    largest_norms: Mapping[str, float] | None = None
    #: Whether the samples of a small batch may be divided into bands.
    bands: bool = True


def plan(
    graph: Graph,
    batch: int,
    parameters: dict[str, tuple[int, tuple[int, ...]]],
    workers: int,
    purpose: Purpose,
) -> Program:
    """Plan a network for one batch size: forward, and if requested the loss and all gradients.

    ``parameters`` has the offset in the flat array and the shape of each one. Raises Unsupported if
    the engine has no kernel for an operation.
    """
    graph = on_maps(graph)
    backward = purpose.backward or purpose.loss is not None
    # Otherwise something outside the program runs between outputs and gradients, or reads outputs.
    turns = purpose.loss is not None and not purpose.input_gradient
    for node in graph.nodes:
        if not _has_rows(node.operation):
            raise Unsupported(f"the operation {node.operation}")
    network = Banded(graph)
    if turns and purpose.bands:
        network = in_bands(graph, batch, parameters)
        graph = network.graph
    planner = Planner(
        network,
        batch,
        parameters,
        workers,
        backward=backward,
        training=purpose.training,
        keep=purpose.values or (backward and not turns),
        frozen=purpose.frozen,
    )
    forward = Forward(planner)
    normalisation = forward.input_row()
    forward.add_groups()
    planner.bands = 0
    output = forward.values[len(graph.nodes) - 1]
    gradient, input_grad = None, None
    if purpose.outputs:
        forward.output_row(output)
    if backward:
        gradient = planner.like(output)
        if purpose.loss is None:
            planner.seal()
        else:
            _add_losses(forward, purpose.loss, output, gradient)
    planner.complete()
    boundary, forward_rows = len(planner.phases), len(planner.rows)
    if backward:
        assert gradient is not None
        input_grad = _add_backward(forward, gradient, purpose)
    planner.constrain(purpose.largest_norms or {})
    preparations = planner.put_preparations_first()
    boundary += preparations
    planner.place_scratch()
    return Program.collected(
        planner,
        first_backward=boundary,
        forward_rows=forward_rows + len(planner.preparations) + len(planner.constraints),
        input=forward.values[INPUT],
        output=output,
        values={
            index: forward.values[group.target]
            for group in planner.groups
            for index in group.members
        },
        output_gradient=gradient,
        input_gradient=input_grad,
        normalisation=normalisation,
        preparations=preparations,
    )


def _add_backward(forward: Forward, gradient: Buffer, purpose: Purpose) -> Buffer | None:
    """The gradients of all parameters, from the output's; returns the input's, if it is wanted."""
    planner, input_grad = forward.planner, None
    if purpose.arrays:
        forward.gradient_row(gradient)
    walk = Backward(
        planner, forward.values, forward.winners, forward.kept, gradient, purpose.input_gradient
    )
    for group in reversed(planner.groups):
        planner.enter(group)
        walk.add(group)
    planner.bands = 0
    if purpose.input_gradient:
        input_grad = walk.collected(INPUT)
        if purpose.arrays:
            forward.output_row(input_grad)
    planner.complete()
    planner.emit_reductions()
    return input_grad


def _has_rows(operation: str) -> bool:
    record = OPERATIONS[operation]
    if isinstance(record, Elementwise):
        numbers = sum(isinstance(argument, Number) for argument in record.arguments)
        return len(record.parameters) <= 1 and numbers <= MOST_NUMBERS
    return operation in LOWERINGS


def _add_losses(forward: Forward, loss: tuple[Any, ...], output: Buffer, gradient: Buffer) -> None:
    """The loss and its gradient, or the losses of several, adjacent outputs."""
    name, *parts = loss
    if name != "joint":
        _add_loss(forward, loss, output, gradient)
        return
    forward.gradient_row(gradient, "targets")
    for index, (weight, start, shape, counts, key) in enumerate(parts):
        own, slope = (each.part_as(start, with_one_row(shape)) for each in (output, gradient))
        columns = {"mode": L.FURTHER if index else L.FIRST, "key": int(counts), "out": index}
        _add_loss(forward, key, own, slope, weight, **columns)


def _add_loss(
    forward: Forward,
    loss: tuple[Any, ...],
    output: Buffer,
    gradient: Buffer,
    weight: float = 1.0,
    **more: int,
) -> None:
    """A loss and its gradient; maps with a halo are copied to ones without."""
    planner, (name, *numbers) = forward.planner, loss
    numbers[0] = -weight if numbers[0] else weight
    channels, positions = output.channels, output.height * output.width
    flat, flat_gradient = output, gradient
    if output.halo != NO_HALO:
        flat, flat_gradient = planner.buffer(output.shape), planner.buffer(output.shape)
        copy(planner, "output", output, flat)
    if name in LOSSES:
        record = LOSSES[name]
        kernel, fixed = element_loss_kernel(record), 1 + len(record.arguments)
        if not more:
            forward.gradient_row(flat_gradient, "targets")
    elif name in CLASS_LOSSES:
        kernel, fixed = CLASS_LOSSES[name], 3
        numbers += [1.0] * channels if len(numbers) == fixed else []
    else:
        raise Unsupported(f"the loss {name}")
    # One value for all channels, or one for each.
    rest = numbers[fixed:]
    numbers[fixed:] = rest * channels if len(rest) == 1 else rest
    columns = flat.columns("x") | flat_gradient.columns("y")
    columns |= {"channels": channels, "positions": positions} | more
    planner.emit(f"loss {name}", row(kernel, **columns, scale=planner.constant(numbers)))
    if flat is not output:
        copy(planner, "output gradient", flat_gradient, gradient)
