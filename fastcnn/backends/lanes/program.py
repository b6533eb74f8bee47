"""Lowers a network to a program: rows for the interpreter, tables of addresses, one arena."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastcnn.backends.graph import INPUT, Graph, Node
from fastcnn.backends.lanes import layout as L
from fastcnn.backends.lanes.layout import row
from fastcnn.backends.lanes.rows import element_columns

LANES = 16
Halo = tuple[int, int, int, int]
NO_HALO: Halo = (0, 0, 0, 0)


@dataclass
class Buffer:
    """One node's output (or its gradient) in lanes: [block][channel][row][column][16]."""

    channels: int
    height: int
    width: int
    halo: Halo
    offset: int = 0
    block: int = 0
    slot: int = 0

    @property
    def row(self) -> int:
        """Floats between rows."""
        return (self.width + self.halo[2] + self.halo[3]) * LANES

    @property
    def channel(self) -> int:
        """Floats between channels."""
        return (self.height + self.halo[0] + self.halo[1]) * self.row

    @property
    def size(self) -> int:
        """Floats of one block."""
        return self.channels * self.channel

    def at(self, h: Any, w: Any) -> Any:
        """Offset of a pixel within its channel; may lie in the halo."""
        return (np.asarray(h) + self.halo[0]) * self.row + (np.asarray(w) + self.halo[2]) * LANES

    def pixels(self) -> np.ndarray:
        """Offsets of all pixels within a channel, in row-major order."""
        h, w = np.mgrid[: self.height, : self.width]
        return self.at(h, w).ravel()

    def reshaped(self, channels: int, height: int, width: int) -> "Buffer":
        """The same memory under another shape of as many elements, where there is no halo."""
        if (channels, height, width) == (self.channels, self.height, self.width):
            return self
        if self.halo != NO_HALO or channels * height * width != self.size // LANES:
            raise ValueError(f"a buffer of {self} has no shape ({channels}, {height}, {width})")
        return replace(self, channels=channels, height=height, width=width)

    def columns(self, name: str) -> dict[str, int]:
        """The program columns that address this buffer as X, Y or M."""
        return {name: self.offset, f"{name}_block": self.block, f"{name}_slot": self.slot}


@dataclass
class Program:
    """What the interpreter runs, and where things are.

    Attributes
    ----------
    phases : ndarray of int64, shape (phases, 3)
        First and last row, and whether they take the whole batch at once.
    rows : ndarray of int64, shape (rows, WIDTH)
    names : list of str
        What each row does, for people.
    first_backward : int
        The first phase after the loss.
    constants : dict of int to ndarray
        What stands in the arena before the first run, by offset.
    """

    batch: int
    phases: np.ndarray
    rows: np.ndarray
    names: list[str]
    tables: np.ndarray
    arena_size: int
    constants: dict[int, np.ndarray]
    first_backward: int
    input: Buffer
    output: Buffer
    output_gradient: Buffer | None
    input_gradient: Buffer | None
    normalisation: int

    def backward_phases(self, skip_forward: bool) -> np.ndarray:
        """The phases of input and backward pass, with or without the forward pass between."""
        if not skip_forward:
            return self.phases
        needed = {L.K_PACK: 1, L.K_INPUT: 0, L.K_TRANSPOSE: 1}
        last = self.phases[self.first_backward][0]
        kernels = enumerate(self.rows[:last, L.KERNEL])
        before = [[index, index + 1, needed[k]] for index, k in kernels if k in needed]
        return np.array([*before, *self.phases[self.first_backward :]], np.int64)


@dataclass
class Group:
    """Nodes that run as one row: a convolution with what is fused behind it, or a single node."""

    operation: str
    node: Node
    source: int
    target: int
    relu: bool = False
    pooled: bool = False


#: Operations that may leave their input where it is.
RENAMES = ("flatten", "dropout")


class Unsupported(Exception):
    """The engine does not cover this network; another backend must run it."""


def fuse(graph: Graph) -> list[Group]:
    """Group a chain: convolution or linear + ReLU, convolution (+ ReLU) + 2x2 max-pooling."""
    groups: list[Group] = []
    for index, node in enumerate(graph.nodes):
        if node.inputs != (index - 1,):
            raise Unsupported("a network that is no chain")
        last = groups[-1] if groups else None
        if (
            last
            and not last.pooled
            and not last.relu
            and node.operation == "relu"
            and last.operation in ("conv2d", "linear")
        ):
            last.relu, last.target = True, index
        elif last and last.operation == "conv2d" and not last.pooled and _tiles_by_two(node):
            last.pooled, last.target = True, index
        else:
            groups.append(Group(node.operation, node, index - 1, index))
    return groups


def _tiles_by_two(node: Node) -> bool:
    arguments = node.arguments
    return node.operation == "max_pool2d" and (
        arguments["kernel_size"] == arguments["stride"] == (2, 2) and arguments["padding"] == (0, 0)
    )


class Planner:
    """Lowers one network for one batch size.

    Parameters
    ----------
    parameters : dict of str to (offset, shape)
        Where each parameter stands in the flat array.
    """

    def __init__(
        self,
        graph: Graph,
        batch: int,
        parameters: dict[str, tuple[int, tuple[int, ...]]],
        workers: int,
    ) -> None:
        self.graph = graph
        self.blocks = -(-batch // LANES)
        self.batch = batch
        self.parameters = parameters
        self.workers = workers
        self.groups = fuse(graph)
        self.size = 0
        self.rows: list[np.ndarray] = []
        self.names: list[str] = []
        self.phases: list[tuple[int, int, int]] = []
        self.tables: list[np.ndarray] = []
        self.table_size = 0
        self.constants: dict[int, np.ndarray] = {}
        self.packs: list[tuple[str, np.ndarray]] = []
        #: By node of a linear layer: width and place of its input with a row for each sample.
        self.transposed: dict[int, tuple[int, int]] = {}
        self.reductions: list[tuple[str, np.ndarray]] = []

    def allocate(self, floats: int) -> int:
        """Reserve floats of the arena, aligned to a vector."""
        offset = self.size
        self.size += -(-floats // LANES) * LANES
        return offset

    def constant(self, values: Any) -> int:
        """Put values into the arena for good."""
        values = np.asarray(values, np.float32).ravel()
        offset = self.allocate(values.size)
        self.constants[offset] = values
        return offset

    def table(self, values: Any, repeat: int = 0) -> int:
        """Append a table; its last ``repeat`` entries are repeated to fill a tile."""
        values = np.asarray(values).ravel().astype(np.int32)
        offset = self.table_size
        if repeat and values.size:
            values = np.concatenate([values, np.tile(values[-repeat:], L.POSITION_PAD // repeat)])
        self.tables.append(values)
        self.table_size += values.size
        return offset

    def buffer(self, shape: tuple[int, ...], halo: Halo = NO_HALO, passing: bool = False) -> Buffer:
        """A buffer with room for every block of the batch.

        With ``passing``, for the one block that each thread has in hand: its content does not
        outlive the block's way through the phase.
        """
        channels, height, width = shape if len(shape) == 3 else (int(np.prod(shape)), 1, 1)
        made = Buffer(channels, height, width, halo)
        if passing:
            made.slot = made.size
            made.offset = self.allocate(made.size * self.workers)
        else:
            made.block = made.size
            made.offset = self.allocate(made.size * self.blocks)
        return made

    def like(self, other: Buffer, passing: bool = False) -> Buffer:
        """Another buffer of the same layout."""
        shape = (other.channels, other.height, other.width)
        return self.buffer(shape, other.halo, passing)

    def feeds_a_batch(self, index: int) -> bool:
        """Whether a node's output is read by a phase over the whole batch, or from outside."""
        reader = next((group for group in self.groups if group.source == index), None)
        if reader is None or reader.operation == "linear":
            return True
        return reader.operation in RENAMES and self.feeds_a_batch(reader.target)

    def comes_from_a_batch(self, index: int) -> bool:
        """Whether a node's output was made by a phase over the whole batch, or outside."""
        maker = next((group for group in self.groups if group.target == index), None)
        if maker is None or maker.operation == "linear":
            return True
        return maker.operation in RENAMES and self.comes_from_a_batch(maker.source)

    def emit(self, name: str, values: np.ndarray, whole: bool = False, apart: bool = True) -> None:
        """Add a row to the current phase of block rows, or as a phase over the whole batch.

        With ``apart`` False a batch row joins the batch phase before it, on which it must not
        depend.
        """
        index = len(self.rows)
        self.rows.append(values)
        self.names.append(name)
        joins = self.phases and self.phases[-1][2] == int(whole) and not (whole and apart)
        if joins and len(self.phases) > self.sealed:
            self.phases[-1] = (self.phases[-1][0], index + 1, int(whole))
        else:
            self.phases.append((index, index + 1, int(whole)))

    sealed = 0

    def build(
        self,
        loss: tuple[str, float] | None = None,
        backward: bool = False,
        training: bool = False,
        input_gradient: bool = False,
        outputs: bool = False,
    ) -> Program:
        """Lower the network: forward, and if wanted the loss and all gradients.

        Parameters
        ----------
        loss : (str, float), optional
            Operation and label smoothing. Without it a backward pass starts from whatever stands
            in the output's gradient.
        training : bool
            Whether dropout is active.
        outputs : bool
            Whether the network's output is copied out of the arena.
        """
        backward = backward or loss is not None
        values: dict[int, Buffer] = {
            INPUT: self.buffer(
                self.graph.input_shape,
                self.halo(INPUT, backward),
                passing=not (backward or self.feeds_a_batch(INPUT)),
            )
        }
        winners: dict[int, Buffer] = {}
        normalisation = self.allocate(2 * values[INPUT].channels)
        forward = Forward(self, values, winners, backward, training)
        forward.input_row(normalisation)
        for group in self.groups:
            getattr(forward, group.operation)(group)
        output = values[len(self.graph.nodes) - 1]
        gradient, input_grad = None, None
        if outputs:
            forward.output_row(output)
        if backward:
            gradient = self.like(output)
            if loss is not None:
                self.loss_rows(loss, output, gradient)
        boundary = len(self.phases)
        self.sealed = boundary if loss is None else 0
        if backward:
            assert gradient is not None
            walk = Backward(self, values, winners, gradient, training, input_gradient)
            for group in reversed(self.groups):
                getattr(walk, group.operation)(group)
            input_grad = walk.gradients.get(INPUT)
            for index, (name, values_row) in enumerate(self.reductions):
                self.emit(name, values_row, whole=True, apart=index == 0)
        boundary += self._put_packs_first()
        return Program(
            self.batch,
            np.array(self.phases, np.int64).reshape(-1, 3),
            np.array(self.rows, np.int64).reshape(-1, L.WIDTH),
            self.names,
            np.concatenate([*self.tables, np.zeros(16, np.int32)]),
            self.size + 4096,
            self.constants,
            boundary,
            values[INPUT],
            output,
            gradient,
            input_grad,
            normalisation,
        )

    def loss_rows(self, loss: tuple[str, float], output: Buffer, gradient: Buffer) -> None:
        """The loss and its gradient; maps with a halo go through copies without."""
        kernel = L.K_CROSS_ENTROPY if loss[0] == "cross_entropy" else L.K_MSE
        shape = (output.channels, output.height, output.width)
        flat, flat_gradient = output, gradient
        if output.halo != NO_HALO:
            flat, flat_gradient = self.buffer(shape), self.buffer(shape)
            self.copy("output", output, flat)
        size: dict[str, int] = {"in": output.channels * output.height * output.width}
        columns = flat.columns("x") | flat_gradient.columns("y") | size
        self.emit(f"loss {loss[0]}", row(kernel, **columns, scale=self.constant([loss[1]])))
        if flat is not output:
            self.copy("output gradient", flat_gradient, gradient)

    def copy(self, name: str, x: Buffer, y: Buffer) -> None:
        """Add a row that copies between buffers of one shape and different halos."""
        columns = x.columns("x") | y.columns("y") | element_columns(self, x, y)
        self.emit(f"{name}: copy", row(L.K_ACTIVATION, **columns, mode=L.ACT_COPY))

    def _put_packs_first(self) -> int:
        """Prefix the phase that packs weights; returns the number of phases added."""
        count = len(self.packs)
        if not count:
            return 0
        self.phases = [
            (0, count, 1),
            *((first + count, last + count, whole) for first, last, whole in self.phases),
        ]
        self.names = [name for name, _ in self.packs] + self.names
        self.rows = [values for _, values in self.packs] + self.rows
        return 1

    def halo(self, index: int, backward: bool) -> Halo:
        """Zeros around a node's output that its neighbours read, it or its gradient."""
        halo = NO_HALO
        for group in self.groups:
            if group.operation != "conv2d":
                continue
            if group.source == index:
                halo = _union(halo, self.input_halo(group.node))
            if group.target == index and backward and not group.pooled:
                halo = _union(halo, self.gradient_halo(group.node))
        return halo

    def geometry(self, node: Node) -> "ConvGeometry":
        """Sizes of a convolution."""
        shape = self.parameters[node.parameters["weight"]][1]
        return ConvGeometry(node, shape)

    def input_halo(self, node: Node) -> Halo:
        """Zeros that a convolution's taps reach around its input."""
        g = self.geometry(node)
        sides: list[int] = []
        for axis in (0, 1):
            reach = (g.output[axis] - 1) * g.stride[axis] + (g.kernel[axis] - 1) * g.dilation[axis]
            sides += [max(0, g.padding[axis]), max(0, reach - g.padding[axis] - g.input[axis] + 1)]
        return (sides[0], sides[1], sides[2], sides[3])

    def gradient_halo(self, node: Node) -> Halo:
        """Zeros that the input gradient's taps reach around the output's gradient."""
        g = self.geometry(node)
        sides: list[int] = []
        for axis in (0, 1):
            low = (g.padding[axis] - (g.kernel[axis] - 1) * g.dilation[axis]) // g.stride[axis]
            high = (g.input[axis] - 1 + g.padding[axis]) // g.stride[axis]
            sides += [max(0, -low), max(0, high - g.output[axis] + 1)]
        return (sides[0], sides[1], sides[2], sides[3])


class ConvGeometry:
    """Sizes of a convolution, by axis."""

    def __init__(self, node: Node, weight_shape: tuple[int, ...]) -> None:
        self.out_channels, self.group_inputs, *kernel = weight_shape
        self.kernel = (kernel[0], kernel[1])
        self.stride = node.arguments["stride"]
        self.dilation = node.arguments["dilation"]
        self.padding = tuple(before for before, _ in node.arguments["padding"])
        self.groups = node.arguments["groups"]
        self.group_outputs = self.out_channels // self.groups
        self.input = node.input_shapes[0][1:]
        self.output = node.output_shape[1:]

    @property
    def taps(self) -> int:
        """Products in one sum."""
        return self.group_inputs * self.kernel[0] * self.kernel[1]


def tile_rows(channels: int) -> list[tuple[int, int]]:
    """First channel and height of the tiles that cover some channels: fours, a two, a one."""
    tiles = [(c, 4) for c in range(0, channels - 3, 4)]
    c = channels // 4 * 4
    for height in (2, 1):
        if channels - c >= height:
            tiles.append((c, height))
            c += height
    return tiles


def pack_order(groups: int, channels: int, source: np.ndarray) -> np.ndarray:
    """Indices of weights in the order of tiles.

    Parameters
    ----------
    source : ndarray, shape (groups, channels, taps)
        Index of each weight in the flat parameters.
    """
    parts = [
        source[group, first : first + height].T.ravel()
        for group in range(groups)
        for first, height in tile_rows(channels)
    ]
    return np.concatenate(parts)


def _union(a: Halo, b: Halo) -> Halo:
    return (max(a[0], b[0]), max(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))


from fastcnn.backends.lanes.backward import Backward  # noqa: E402
from fastcnn.backends.lanes.forward import Forward  # noqa: E402
