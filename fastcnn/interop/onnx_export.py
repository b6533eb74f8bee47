"""Export of models as ONNX files."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastcnn
from fastcnn.backends.graph import Graph, Node, Shape
from fastcnn.errors import ConfigurationError
from fastcnn.files import atomic_write
from fastcnn.interop import onnx_elementwise, onnx_norms
from fastcnn.interop.onnx_file import LAYERS
from fastcnn.interop.onnx_map_writers import MAP_WRITERS
from fastcnn.interop.onnx_writer import INPUT, OnnxWriter
from fastcnn.layers import Model
from fastcnn.layers.connections import as_model
from fastcnn.operations import OPERATIONS, Elementwise, elementwise_operations
from fastcnn.operations.record import OnnxNode
from fastcnn.weights import check_values

#: Old enough for runtimes several years old, new enough for every operation here.
OPSET, IR_VERSION = 17, 8
OUTPUT = "logits"
#: Largest file size of the format.
MOST_BYTES = 2**31 - 2**20
DEFAULT_THRESHOLD = 20.0
Part = OnnxNode | str | float


def _batch_norm(w: OnnxWriter, node: Node, x: list[str]) -> str:
    if not node.buffers:
        raise ConfigurationError(
            f"layer {node.name!r}: ONNX needs running statistics (track_running_stats)"
        )
    momentum = node.arguments["momentum"]
    notes: dict[str, Any] = {} if momentum is not None else {"momentum": None}
    if batches := int(w.state[node.buffers["num_batches_tracked"]]):
        notes["num_batches_tracked"] = batches
    shape = node.input_shapes[0]
    kind = "BatchNorm2d" if len(shape) == 3 else "BatchNorm1d"
    affine = onnx_norms.factors(w, node, kind, shape[:1], **notes)
    running = [
        w.constant(node.buffers[name], w.state[node.buffers[name]])
        for name in ("running_mean", "running_var")
    ]
    return w.add(
        "BatchNormalization",
        x + affine + running,
        node.name,
        epsilon=node.arguments["eps"],
        # ONNX's momentum is the weight of the old statistics.
        momentum=0.9 if momentum is None else 1.0 - momentum,
    )


def _dropout(w: OnnxWriter, node: Node, x: list[str]) -> str:
    p = node.arguments["p"]
    if p == 1.0:  # which ONNX Runtime refuses
        return w.add("Identity", x, node.name)
    if node.operation == "dropout2d":
        w.note(node, "Dropout2d")
    return w.add("Dropout", [*x, w.constant(f"{node.name}/ratio", p)], node.name)


def _gelu(w: OnnxWriter, node: Node, x: list[str]) -> str:
    """``x * Phi(x)``, in operations of opset 17."""
    if node.arguments.get("approximate", "none") == "tanh":
        slope = _of("Add", _of("Mul", _of("Mul", "x", "x"), 0.044715), 1.0)
        bent = _of("Tanh", _of("Mul", _of("Mul", "x", slope), math.sqrt(2.0 / math.pi)))
    else:
        bent = _of("Erf", _of("Div", "x", math.sqrt(2.0)))
    area = _of("Mul", _of("Add", bent, 1.0), 0.5)
    return onnx_elementwise.write(w, node, x, _of("Mul", "x", area))


def _softplus(w: OnnxWriter, node: Node, x: list[str]) -> str:
    if node.arguments["beta"] == 1.0:
        scaled: Part = "x"
        form = _of("Softplus", "x")
    else:
        scaled = _of("Mul", "x", "beta")
        form = _of("Div", _of("Softplus", scaled), "beta")
    # Above the default threshold the formula equals x in float32.
    if node.arguments["threshold"] != DEFAULT_THRESHOLD:
        form = _of("Where", _of("Greater", scaled, "threshold"), "x", form)
    return onnx_elementwise.write(w, node, x, form)


def _of(kind: str, *inputs: Part) -> OnnxNode:
    return OnnxNode(kind, inputs)


def _elementwise(w: OnnxWriter, node: Node, x: list[str]) -> str:
    record = OPERATIONS[node.operation]
    assert isinstance(record, Elementwise)
    return onnx_elementwise.write(w, node, x, record.onnx[0])


#: How each operation is written.
WRITERS: dict[str, Callable[[OnnxWriter, Node, list[str]], str]] = {
    "linear": lambda w, node, x: w.add(
        "Gemm", x + w.parameters(node, "weight", "bias"), node.name, transB=1
    ),
    **MAP_WRITERS,
    "batch_norm": _batch_norm,
    "flatten": lambda w, node, x: w.add("Flatten", x, node.name, axis=1),
    "add": lambda w, node, x: w.add("Add", x, node.name),
    "subtract": lambda w, node, x: w.add("Sub", x, node.name),
    "multiply": lambda w, node, x: w.add("Mul", x, node.name),
    "concat": lambda w, node, x: w.add("Concat", x, node.name, axis=1),
    "dropout": _dropout,
    "dropout2d": _dropout,
    **{record.name: _elementwise for record in elementwise_operations() if record.onnx},
    "gelu": _gelu,
    "softplus": _softplus,
    **onnx_norms.WRITERS,
}


def _split(w: OnnxWriter, graph: Graph, index: int, source: str) -> str:
    """One Split for all parts of a value if they are its channels in order, or else a Slice."""
    node = graph.nodes[index]
    if node.name in w.parts:
        return w.parts[node.name]
    parts = [
        part for part in graph.nodes if part.operation == "narrow" and part.inputs == node.inputs
    ]
    ends = np.cumsum([0, *(part.arguments["length"] for part in parts)])
    starts = [part.arguments["start"] for part in parts]
    if len(parts) > 1 and [*starts, node.input_shapes[0][0]] == ends.tolist():
        w.parts = w.parts | {part.name: w.free(f"{part.name}/out") for part in parts}
        outputs = [w.parts[part.name] for part in parts]
        sizes = w.whole_numbers(f"{node.name}/sizes", np.diff(ends).tolist())
        # The layer's own name, without the number of the part.
        name = node.name.rpartition(".")[0] or node.name
        made = w.onnx.helper.make_node("Split", [source, sizes], outputs, name=name, axis=1)
        w.nodes.append(made)
        return w.parts[node.name]
    start = node.arguments["start"]
    bounds = {"starts": start, "ends": start + node.arguments["length"], "axes": 1}
    given = [w.whole_numbers(f"{node.name}/{name}", [value]) for name, value in bounds.items()]
    return w.add("Slice", [source, *given], node.name)


def results(graph: Graph) -> dict[str, tuple[int, Shape]]:
    """For each output name, the producing node, -1 for the input, and the shape."""
    if not graph.outputs:
        return {OUTPUT: (len(graph.nodes) - 1, graph.output_shape)}
    found = {}
    for port, source in zip(graph.outputs, graph.nodes[-1].inputs, strict=True):
        made = graph.nodes[source].output_shape if source >= 0 else graph.input_shape
        if made != port.shape:
            # Skip the flattening that packs it with the other outputs.
            (source,) = graph.nodes[source].inputs
        found[port.name] = source, port.shape
    return found


def export_onnx(model: Model, path: str | Path, input_shape: tuple[int, ...] | None = None) -> None:
    """Write a model as an ONNX file (opset 17): images to logits, any batch size, float32.

    Several inputs and outputs keep their names in the model.

    The file expects the floating-point samples of ``model.logits``: bytes divided by 255, for a
    model trained on bytes. Its first nodes subtract the mean and divide by the deviation of the
    model's preprocessing, if there is one. The full preprocessing, and what ONNX cannot express
    (such as Dropout2d), is stored in the file's metadata, from which :func:`import_onnx` restores
    it.

    Parameters
    ----------
    model : Model
    path : path
    input_shape : tuple of int, optional
        Shape of one sample, if the model does not know it.

    Raises
    ------
    ConfigurationError
        If ONNX cannot express a layer.
    NonFiniteError
        If a weight or a running statistic is NaN or infinite.
    MissingExtraError
        If the package onnx is not installed (extra ``onnx``).
    OSError
        If the file cannot be written.
    """
    check_values(f"{path} was not written", as_model(model).state_dict())
    graph = model.graph(input_shape)
    inputs = {port.name: port.shape for port in graph.inputs} or {INPUT: graph.input_shape}
    ends = results(graph)
    if both := sorted(inputs.keys() & ends.keys()):
        raise ConfigurationError(
            f"{both[0]!r} is an input and an output: an ONNX file has one value of a name"
        )
    w = OnnxWriter(model, {*inputs, *ends})
    helper = w.onnx.helper
    values: list[str] = []
    given = w.inputs(graph)
    for index, node in enumerate(graph.nodes[: max(source for source, _ in ends.values()) + 1]):
        if node.operation == "input_part":
            values.append(given[node.name])
            continue
        read = [values[source] if source >= 0 else given[INPUT] for source in node.inputs]
        if node.operation == "narrow":
            values.append(_split(w, graph, index, read[0]))
            continue
        if node.operation not in WRITERS:
            raise ConfigurationError(f"layer {node.name!r}: ONNX export has no {node.operation}")
        values.append(WRITERS[node.operation](w, node, read))
    for name, (source, _) in ends.items():
        value = values[source] if source >= 0 else given[INPUT]
        w.nodes.append(helper.make_node("Identity", [value], [name]))
    if sum(tensor.ByteSize() for tensor in w.constants.values()) > MOST_BYTES:
        raise ConfigurationError("an ONNX file holds at most 2 GB of weights")

    def port(name: str, shape: Shape) -> Any:
        return helper.make_tensor_value_info(name, w.onnx.TensorProto.FLOAT, ["batch", *shape])

    taken = [port(name, shape) for name, shape in inputs.items()]
    given_back = [port(name, shape) for name, (_, shape) in ends.items()]
    constants = list(w.constants.values())
    made = helper.make_model(
        helper.make_graph(w.nodes, "fastcnn", taken, given_back, constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="fastcnn",
        producer_version=fastcnn.__version__,
        ir_version=IR_VERSION,
    )
    metadata = model.metadata()
    if w.notes:
        metadata[LAYERS] = json.dumps(w.notes)
    helper.set_model_props(made, metadata)
    w.onnx.checker.check_model(made, full_check=True)
    atomic_write(path, made.SerializeToString())
