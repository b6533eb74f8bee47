"""Rows of convolutions of single channels."""

from fastcnn.backends.lanes.convolution.depthwise.kernels import SCRATCH
from fastcnn.backends.lanes.convolution.direct import rows as direct
from fastcnn.backends.lanes.convolution.task import Task
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.planning.buffers import Buffer
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.backends.lanes.planning.rows import grid


def product(task: Task, x: Buffer, y: Buffer, pooled: bool, columns: dict[str, int]) -> None:
    """Add the row of a convolution of X into Y; where it is pooled, that of any convolution."""
    planner, name, g, weight = task
    if pooled:
        direct.product(task, x, y, pooled, columns)
        return
    sums = direct.product_sums(g, x, y)
    places = {"x_group": x.channel, "y_channel": y.channel}
    sizes: dict[str, int] = {"groups": g.groups, "channels": g.group_outputs, "taps": g.taps}
    columns = {"bias": -1, "w": weight} | columns | places | sizes | _phases(planner, [sums])
    planner.emit(name, row(L.K_DEPTHWISE, **x.columns("x"), **y.columns("y"), **columns))


def transpose(task: Task, grad: Buffer, grad_x: Buffer, columns: dict[str, int]) -> None:
    """Add the row that carries a convolution's output side back to its input side."""
    planner, name, g, weight = task
    places = {"x_group": g.group_outputs * grad.channel, "y_channel": grad_x.channel}
    weights = g.group_outputs * g.taps
    sizes: dict[str, int] = {"groups": g.groups, "channels": 1, "taps": weights}
    phases = _phases(planner, direct.transposed_sums(g, grad, grad_x))
    columns = {"bias": -1, "w": weight} | columns | places | sizes | phases
    planner.emit(name, row(L.K_DEPTHWISE, **grad.columns("x"), **grad_x.columns("y"), **columns))


def gradients(
    task: Task, x: Buffer, grad: Buffer, grad_x: Buffer | None, columns: dict[str, int]
) -> None:
    """Add the row of all gradients; ``columns`` address each block's share of the parameters'."""
    planner, name, g, weight = task
    h, w = grid(*g.output)
    if grad_x is not None:
        columns = columns | grad_x.columns("z") | {"z_channel": grad_x.channel, "w": weight}
        columns |= _phases(planner, direct.transposed_sums(g, grad, grad_x))
    planner.emit(
        f"{name}: gradients",
        row(
            L.K_DEPTHWISE_GRADIENT,
            **x.columns("x"),
            **grad.columns("y"),
            **columns,
            m=planner.allocate(SCRATCH * planner.workers),
            m_slot=SCRATCH,
            taps=g.taps,
            tap_table=planner.table(direct.input_taps(g, x), 1),
            positions=len(h),
            x_table=planner.table(x.at(*g.first_pixels(h, w))),
            y_table=planner.table(grad.at(h, w)),
            groups=g.groups,
            channels=g.group_outputs,
            x_group=x.channel,
            y_channel=grad.channel,
        ),
    )


def _phases(planner: Planner, phases: list[direct.Sums]) -> dict[str, int]:
    """Columns of the sums that a channel has; a table says which weight each tap has."""
    weights = [planner.table(sums.weights[0, 0]) for sums in phases]
    return direct.phase_columns(planner, phases, weights)
