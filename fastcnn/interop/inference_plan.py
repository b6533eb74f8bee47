"""A network's inference steps for one sample, and the memory layout of its arrays."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from fastcnn.backends.graph import INPUT, Graph, Node
from fastcnn.backends.one_row import on_maps
from fastcnn.errors import ConfigurationError, counted
from fastcnn.layers import Model
from fastcnn.layers.answers import KEEPING
from fastcnn.layers.connections import as_model
from fastcnn.operations import OPERATIONS, Elementwise
from fastcnn.weights import check_values

WEIGHTED = ("conv2d", "conv_transpose2d", "linear")
POOLING = ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d")


@dataclass(frozen=True)
class Step:
    """One operation on one sample.

    Attributes
    ----------
    inputs : tuple of int
        Indices of the steps that it reads; :data:`INPUT` is the sample.
    in_place : bool
        Whether it writes its output over its first input.
    """

    node: Node
    inputs: tuple[int, ...]
    in_place: bool

    @property
    def size(self) -> int:
        """Elements of the output."""
        return prod(self.node.output_shape)


@dataclass(frozen=True)
class Plan:
    """A network's steps and the placement of their outputs.

    Attributes
    ----------
    input_shape : tuple of int
        Shape of a sample.
    offsets : tuple of int
        Offset of each step's output in the working memory, in elements.
    input_offset : int or None
        Offset of the converted sample, if it is stored there.
    memory : int
        Elements of the working memory.
    state : dict of str to ndarray
        Parameters by key.
    """

    input_shape: tuple[int, ...]
    steps: tuple[Step, ...]
    offsets: tuple[int, ...]
    input_offset: int | None
    memory: int
    state: dict[str, np.ndarray]

    @property
    def input_size(self) -> int:
        """Elements of the sample."""
        return prod(self.input_shape)

    @property
    def channels(self) -> int:
        """Channels of the sample."""
        return self.input_shape[0]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one output."""
        return self.steps[-1].node.output_shape

    @property
    def gives_probabilities(self) -> bool:
        """Whether the network ends in a softmax, so that its outputs need none."""
        return self.steps[-1].node.operation == "softmax"


def make_plan(model: Model, *, input_in_memory: bool) -> Plan:
    """The steps of a model's inference, with batch normalisation folded where possible.

    Parameters
    ----------
    model : Model
        With a known input shape. Not changed.
    input_in_memory : bool
        Whether the working memory holds a converted copy of the sample.

    Raises
    ------
    ConfigurationError
        If a layer cannot be computed one sample at a time.
    ShapeError
        If the model's input shape is unknown.
    NonFiniteError
        If a weight is NaN or infinite, before or after folding.
    """
    check_values("a network is not exported", as_model(model).state_dict())
    folded = model.fold_batch_norm()
    check_values("a network is not exported: batch normalisation", folded.state_dict())
    graph = folded.graph()
    if graph.inputs or graph.outputs:
        raise ConfigurationError(
            "a network of several inputs or outputs can be exported as an ONNX file only"
        )
    input_shape, graph = graph.input_shape, on_maps(graph)
    for node in graph.nodes:
        divisor = node.arguments.get("divisor_override")
        if divisor is not None:
            raise ConfigurationError(
                f"layer {node.name!r}: files for export have no {node.operation} with "
                f"divisor_override={divisor}"
            )
        if OPERATIONS[node.operation].normalises and not node.buffers:
            raise ConfigurationError(
                f"layer {node.name!r} needs the statistics of a batch: a single sample has none "
                "(track_running_stats=False)"
            )
    steps = _steps(graph)
    if not steps:
        raise ConfigurationError(
            "the network leaves all values unchanged: there is nothing to export"
        )
    input_size = prod(graph.input_shape)
    sizes, lives = _lives(steps, input_size if input_in_memory else 0)
    places = _place(sizes, lives)
    offsets: list[int] = []
    for index, step in enumerate(steps):
        offsets.append(offsets[step.inputs[0]] if step.in_place else places[index])
    memory = max(places[key] + sizes[key] for key in sizes)
    state = {key: np.asarray(value, np.float64) for key, value in folded.state_dict().items()}
    for step in steps:
        if step.node.operation in ("conv2d", "conv_transpose2d"):
            key = step.node.parameters["weight"]
            if state[key].ndim == 3:
                state[key] = state[key][:, :, None]
    return Plan(
        input_shape,
        tuple(steps),
        tuple(offsets),
        places[INPUT] if input_in_memory else None,
        memory,
        state,
    )


def _steps(graph: Graph) -> list[Step]:
    """The nodes that change values, each reading the steps before it."""
    step_of: dict[int, int] = {INPUT: INPUT}
    readers = graph.consumers()

    def read_once(node: int) -> bool:
        """Whether a node's values have only one reader, including through identity nodes."""
        following = readers[node]
        if len(following) != 1:
            return False
        before = graph.nodes[node].inputs[0] if node != INPUT else None
        if before is None or graph.nodes[node].operation not in KEEPING:
            return True
        return read_once(before)

    steps: list[Step] = []
    for index, node in enumerate(graph.nodes):
        inputs = tuple(step_of[source] for source in node.inputs)
        if node.operation in KEEPING:
            step_of[index] = inputs[0]
            continue
        keeps_places = (
            node.operation == "batch_norm"
            or isinstance(OPERATIONS[node.operation], Elementwise)
            or (node.operation in ("add", "subtract") and inputs[0] != inputs[1])
        )
        # The caller's sample must not be modified.
        in_place = keeps_places and inputs[0] != INPUT and read_once(node.inputs[0])
        step_of[index] = len(steps)
        steps.append(Step(node, inputs, in_place))
    return steps


def _lives(steps: list[Step], input_size: int) -> tuple[dict[int, int], dict[int, tuple[int, int]]]:
    """Sizes of the arrays, and the first and the last step during which each is needed."""
    owner = {INPUT: INPUT}
    sizes: dict[int, int] = {}
    lives: dict[int, tuple[int, int]] = {}
    if input_size:
        sizes[INPUT], lives[INPUT] = input_size, (-1, -1)
    for index, step in enumerate(steps):
        for source in step.inputs:
            key = owner[source]
            if key in lives:
                lives[key] = (lives[key][0], index)
        if step.in_place:
            owner[index] = owner[step.inputs[0]]
            lives[owner[index]] = (lives[owner[index]][0], index)
        else:
            owner[index] = index
            sizes[index], lives[index] = step.size, (index, index)
    last = owner[len(steps) - 1]
    lives[last] = (lives[last][0], len(steps))
    return sizes, lives


def _place(sizes: dict[int, int], lives: dict[int, tuple[int, int]]) -> dict[int, int]:
    """An offset for each array, such that arrays with overlapping lifetimes do not overlap.

    The largest first, each in the lowest gap that fits: Pisarchyk and Lee, "Efficient Memory
    Management for Deep Neural Net Inference", arXiv:2001.03288.
    """
    places: dict[int, int] = {}
    for key in sorted(sizes, key=lambda key: (-sizes[key], key)):
        taken = sorted(
            (places[other], places[other] + sizes[other])
            for other in places
            if lives[other][0] <= lives[key][1] and lives[key][0] <= lives[other][1]
        )
        offset = 0
        for begin, end in taken:
            if offset + sizes[key] <= begin:
                break
            offset = max(offset, end)
        places[key] = offset
    return places


def in_comment(name: str) -> str:
    """A layer's name, without anything that would end a comment in C, JavaScript or Python."""
    plain = "".join(char if char.isprintable() else "?" for char in name)
    return plain.replace("*/", "* /").replace("/*", "/ *").replace("</", "< /")


def factor_places(node: Node) -> list[str]:
    """Index of element ``i`` of a product in each factor, in C and JavaScript syntax."""
    pixels = prod(node.output_shape[1:])
    places = []
    for shape in node.input_shapes:
        if shape == node.output_shape:
            places.append("i")
        elif shape[0] == node.output_shape[0]:
            places.append(f"i / {pixels}")
        else:
            places.append(f"i % {pixels}")
    return places


def first_number(node: Node) -> int:
    """Offset of the channels of a ``narrow`` in its input."""
    return int(node.arguments["start"] * prod(node.output_shape[1:]))


def scale_and_shift(plan: Plan, node: Node) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of each channel of a batch normalisation."""
    mean = plan.state[node.buffers["running_mean"]]
    scale = 1.0 / np.sqrt(plan.state[node.buffers["running_var"]] + node.arguments["eps"])
    shift = np.zeros_like(mean)
    if "weight" in node.parameters:
        scale = scale * plan.state[node.parameters["weight"]]
    if "bias" in node.parameters:
        shift = plan.state[node.parameters["bias"]]
    return scale, shift - mean * scale


def geometry(plan: Plan, node: Node) -> list[int]:
    """Sizes of maps, kernel and steps, in the order in which the loops read them."""
    a, (channels, *size) = node.arguments, node.input_shapes[0]
    outputs, *output_size = node.output_shape
    match node.operation:
        case "conv2d" | "conv_transpose2d":
            (top, _), (left, _) = a["padding"]
            kernel = plan.state[node.parameters["weight"]].shape[2:]
            steps = [*a["stride"], top, left, *a["dilation"], a["groups"]]
            if (*kernel, *steps[:4]) == (1, 1, 1, 1, 0, 0) and output_size == size:
                # A 1x1 kernel ignores rows: treating the map as one long row is faster.
                size = output_size = [1, prod(size)]
            return [channels, *size, outputs, *output_size, *kernel, *steps]
        case "max_pool2d" | "avg_pool2d":
            windows = [*a["kernel_size"], *a["stride"], *a["padding"]]
            if node.operation == "avg_pool2d":
                more = a["padding"] if a["count_include_pad"] else (0, 0)
            else:
                more = a.get("dilation", (1, 1))
            return [channels, *size, *output_size, *windows, *more]
        case "adaptive_avg_pool2d" | "adaptive_max_pool2d":
            return [channels, *size, *output_size]
        case "local_response_norm":
            return [channels, prod(size), a["size"]]
    raise ConfigurationError(f"layer {node.name!r}: files for export have no {node.operation}")


def names_of_classes(classes: Any, outputs: int) -> tuple[str, ...]:
    """Names of classes as text, one for each output.

    Raises
    ------
    ConfigurationError
        If their number differs, or they are not a list.
    """
    if isinstance(classes, (str, bytes)) or not isinstance(classes, Iterable):
        raise ConfigurationError(f"classes must be a list of names, got {classes!r}")
    names = tuple(map(str, classes))
    if len(names) != outputs:
        raise ConfigurationError(
            f"classes: the network has {counted(outputs, 'output')}, got "
            f"{counted(len(names), 'name')}"
        )
    return names


def gives_classes(model: Model) -> bool:
    """Whether a model's outputs are logits, of which an exported file returns the softmax."""
    shape = model.graph().output_shape
    return model.predicts in (None, "classes") and len(shape) == 1 and shape[0] > 1
