"""A trained network as one readable Python file that only needs numpy."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

import fastcnn
from fastcnn.backends.graph import INPUT, Node
from fastcnn.errors import ConfigurationError
from fastcnn.files import atomic_write, expanded
from fastcnn.interop.expression import NUMPY, Expression, text_of
from fastcnn.interop.inference_plan import (
    Plan,
    Step,
    gives_classes,
    in_comment,
    make_plan,
    names_of_classes,
    scale_and_shift,
)
from fastcnn.interop.sample_steps import MOVING, is_bilinear, places_of, sets_of, taps_of
from fastcnn.layers import Model
from fastcnn.operations import OPERATIONS, Elementwise

#: What the forward pass may call, in the order in which the file has them.
FUNCTIONS = {
    "windows": '''
def windows(x, kernel, stride, padding, dilation=(1, 1), fill=0.0):
    """All windows of x (N, C, H, W): a view of shape (N, C, OH, OW, KH, KW)."""
    (top, bottom), (left, right) = padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
    view = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
''',
    "conv2d": '''
def conv2d(x, weight, bias, stride, padding, dilation, groups):
    """Cross-correlation: weight has the shape (O, C / groups, KH, KW)."""
    parts = []
    for x, w in zip(np.split(x, groups, axis=1), np.split(weight, groups)):
        view = windows(x, w.shape[2:], stride, padding, dilation)
        parts.append(np.einsum("nchwkl,ockl->nohw", view, w, optimize=True))
    return np.concatenate(parts, axis=1) + bias.reshape(1, -1, 1, 1)
''',
    "conv_transpose2d": '''
def conv_transpose2d(x, weight, bias, size, stride, padding, dilation, groups):
    """Each input pixel spreads a kernel; weight has the shape (C, O / groups, KH, KW)."""
    (top, _), (left, _) = padding
    N, C, H, W = x.shape
    outputs, KH, KW = weight.shape[1:]
    reach_h = (H - 1) * stride[0] + (KH - 1) * dilation[0] + 1
    reach_w = (W - 1) * stride[1] + (KW - 1) * dilation[1] + 1
    rows, columns = max(reach_h, top + size[0]), max(reach_w, left + size[1])
    y = np.zeros((N, groups, outputs, rows, columns), x.dtype)
    x = x.reshape(N, groups, C // groups, H, W)
    weight = weight.reshape(groups, C // groups, outputs, KH, KW)
    for k in range(KH):
        for l in range(KW):
            h, w = k * dilation[0], l * dilation[1]
            here = np.s_[h : h + (H - 1) * stride[0] + 1 : stride[0]]
            there = np.s_[w : w + (W - 1) * stride[1] + 1 : stride[1]]
            y[..., here, there] += np.einsum("ngchw,gco->ngohw", x, weight[..., k, l])
    y = y.reshape(N, groups * outputs, rows, columns)
    y = y[:, :, top : top + size[0], left : left + size[1]]
    return y + bias.reshape(1, -1, 1, 1)
''',
    "linear": '''
def linear(x, weight, bias):
    """x W^T + b."""
    return x @ weight.T + bias
''',
    "max_pool2d": '''
def max_pool2d(x, kernel, stride, padding, dilation):
    """Largest of each window; padding is never the largest."""
    return windows(x, kernel, stride, padding, dilation, fill=-np.inf).max(axis=(4, 5))
''',
    "avg_pool2d": '''
def avg_pool2d(x, kernel, stride, padding, counted):
    """Mean of each window, in which counted of the padding counts as zeros."""
    total = windows(x, kernel, stride, padding).sum(axis=(4, 5))
    rest = [(p[0] - c[0], p[1] - c[1]) for p, c in zip(padding, counted)]
    ones = np.pad(np.ones(x.shape[2:], x.dtype), counted, constant_values=1)
    return total / windows(ones[None, None], kernel, stride, rest).sum(axis=(4, 5))
''',
    "adaptive_pool2d": '''
def adaptive_pool2d(x, size, value):
    """The value, such as np.max, of each of size[0] by size[1] parts of the map."""
    (H, W), (rows, columns) = x.shape[2:], size
    y = np.empty((*x.shape[:2], rows, columns), x.dtype)
    for h in range(rows):
        part = x[:, :, h * H // rows : -(-(h + 1) * H // rows)]
        for w in range(columns):
            first, end = w * W // columns, -(-(w + 1) * W // columns)
            y[:, :, h, w] = value(part[..., first:end], axis=(2, 3))
    return y
''',
    "sigmoid": '''
def sigmoid(x):
    """1 / (1 + exp(-x)), with the exponential of a number that is never positive."""
    exponential = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, exponential) / (1 + exponential)
''',
    "normal_cdf": '''
def normal_cdf(x):
    """Distribution function of the standard normal; numpy has no error function."""
    area = [0.5 * math.erfc(-value * math.sqrt(0.5)) for value in np.ravel(x)]
    return np.array(area, x.dtype).reshape(x.shape)
''',
    "normalise": '''
def normalise(x, sets, eps, centred=True):
    """Each set of numbers, along the middle of three axes, without its mean and scale."""
    parts = x.reshape(len(x), *sets)
    if centred:
        parts = parts - parts.mean(axis=2, keepdims=True)
    return (parts / np.sqrt((parts * parts).mean(axis=2, keepdims=True) + eps)).reshape(x.shape)
''',
    "move": '''
def move(x, parts, places):
    """Numbers of each part at their places, counted from 1; place 0 is a zero."""
    x = x.reshape(len(x), parts, -1)
    return np.pad(x, ((0, 0), (0, 0), (1, 0)))[:, :, places.astype(int)]
''',
    "bilinear": '''
def bilinear(x, rows, columns):
    """Pixels between pixels: the first and the second on an axis, and the second's share."""
    for axis, (first, second, share) in ((2, rows), (3, columns)):
        share = share.reshape(-1, *(1,) * (3 - axis))
        here, there = (np.take(x, places.astype(int), axis) for places in (first, second))
        x = here + share * (there - here)
    return x
''',
    "local_response_norm": '''
def local_response_norm(x, size, alpha, beta, k):
    """Each number by the squares of its channel and of those next to it."""
    before = size // 2
    square = np.pad(x * x, ((0, 0), (before, size - 1 - before), *((0, 0),) * (x.ndim - 2)))
    total = sum(square[:, shift : shift + x.shape[1]] for shift in range(size))
    return x * (k + np.float32(alpha / size) * total) ** np.float32(-beta)
''',
    "log_softmax": '''
def log_softmax(x):
    """Logarithms of the probabilities of each row."""
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))
''',
    "softmax": '''
def softmax(x):
    """Probabilities of each row."""
    exponential = np.exp(x - x.max(axis=1, keepdims=True))
    return exponential / exponential.sum(axis=1, keepdims=True)
''',
}


def export_numpy(model: Model, path: str | Path, classes: tuple[str, ...] | None = None) -> Path:
    """Write a network's forward pass as one Python file that imports only numpy.

    The file has ``predict(images)``, which applies the model's preprocessing and returns the
    probabilities of classes, or the outputs of a model that predicts labels, values or maps. Each
    layer is one line; the functions are plain numpy. Weights are at the end of the file.

    Parameters
    ----------
    model : Model
        With a known input shape. Not changed.
    path : path
        File to write, such as ``net.py``.
    classes : tuple of str, optional
        Names of the classes; not written for a model that predicts something else.

    Returns
    -------
    Path

    Raises
    ------
    ConfigurationError
        If a layer needs the statistics of a batch.
    ShapeError
        If the model's input shape is unknown.
    OSError
        If the file cannot be written.
    """
    path = expanded(path)
    plan = make_plan(model, input_in_memory=False)
    lines, constants = _lines(plan)
    shape = model.graph().output_shape
    result = "x" if plan.output_shape == shape else f"x.reshape(len(x), {_sizes(shape)})"
    is_classifier = plan.gives_probabilities or gives_classes(model)
    if classes is not None and is_classifier:
        classes = names_of_classes(classes, shape[0])
    if is_classifier and not plan.gives_probabilities:
        result = f"softmax({result})"
    lines.append(f"    return {result}")
    outputs = "Probabilities of the classes" if is_classifier else "Outputs"
    atomic_write(path, _file(model, plan, lines, constants, classes, outputs).encode())
    return path


def _lines(plan: Plan) -> tuple[list[str], dict[str, np.ndarray]]:
    """The forward pass, one line per step, and the arrays that it reads."""
    constants: dict[str, np.ndarray] = {}
    last_reader = {source: index for index, step in enumerate(plan.steps) for source in step.inputs}
    names = {INPUT: "x"}
    lines = []
    for index, step in enumerate(plan.steps):
        # The latest array is called x; arrays needed again later have their own names.
        needed_later = any(
            source != index and last_reader.get(source, -1) > index for source in names
        )
        inputs = [_in_shape(plan, step, source, names[source]) for source in step.inputs]
        value = _value(plan, step, inputs, constants)
        taken = {names[source] for source in names if last_reader.get(source, -1) > index}
        name = "x" if not needed_later or "x" not in taken else f"x{index}"
        names[index] = name
        lines.append(f"    {name} = {value}  # {in_comment(step.node.name)}")
    if names[len(plan.steps) - 1] != "x":
        lines.append(f"    x = {names[len(plan.steps) - 1]}")
    return lines, constants


def _in_shape(plan: Plan, step: Step, source: int, name: str) -> str:
    """A step's input; a map is flattened for a layer of vectors."""
    shape = plan.input_shape if source == INPUT else plan.steps[source].node.output_shape
    wanted = step.node.input_shapes[step.inputs.index(source)]
    return name if shape == wanted else f"{name}.reshape(len({name}), {_sizes(wanted)})"


def _sizes(shape: tuple[int, ...]) -> str:
    return "-1" if len(shape) == 1 else ", ".join(map(str, shape))


def _value(plan: Plan, step: Step, inputs: list[str], constants: dict[str, np.ndarray]) -> str:
    """The right-hand side of a step."""
    node, kind, a = step.node, step.node.operation, step.node.arguments
    x = inputs[0]

    def constant(key: str, values: np.ndarray | None = None) -> str:
        constants[key] = plan.state[key] if values is None else values
        return f"W[{json.dumps(key, ensure_ascii=False)}]"

    def weights() -> str:
        key = node.parameters["weight"]
        outputs = len(plan.state[key]) if kind != "conv_transpose2d" else node.output_shape[0]
        bias = node.parameters.get("bias")
        kept = constant(f"{node.name}.bias", np.zeros(outputs)) if bias is None else constant(bias)
        return f"{constant(key)}, {kept}"

    record = OPERATIONS[kind]
    if isinstance(record, Elementwise):
        values = [Expression(x, NUMPY)]
        for name in record.parameters:
            key = node.parameters[name]
            shaped = _by_channel(plan.state[key], node)
            values.append(Expression(constant(key, shaped), NUMPY))
        return text_of(record, node, values)
    match kind:
        case "add" | "subtract" | "multiply":
            return {"add": " + ", "subtract": " - ", "multiply": " * "}[kind].join(inputs)
        case "concat":
            return f"np.concatenate([{', '.join(inputs)}], axis=1)"
        case "narrow":
            return f"{x}[:, {a['start']} : {a['start'] + a['length']}]"
        case "batch_norm":
            scale, shift = scale_and_shift(plan, node)
            first = constant(f"{node.name}.scale", _by_channel(scale, node))
            second = constant(f"{node.name}.shift", _by_channel(shift, node))
            return f"{x} * {first} + {second}"
        case "layer_norm" | "layer_norm2d" | "group_norm" | "rms_norm":
            sets = sets_of(node)
            places = np.arange(step.size) // sets.divisor % sets.factors
            tail = ""
            for which, sign in (("weight", " * "), ("bias", " + ")):
                if which in node.parameters:
                    key = node.parameters[which]
                    spread = plan.state[key].reshape(-1)[places].reshape(1, *node.output_shape)
                    tail += sign + constant(f"{node.name}.{which}", spread)
            rms = ", centred=False" if kind == "rms_norm" else ""
            return f"normalise({x}, {(sets.outer, sets.size, sets.inner)}, {a['eps']}{rms}){tail}"
        case "softmax" | "log_softmax":
            sets_of(node)
            return f"{kind}({x})"
        case "interpolate" if is_bilinear(node):
            rows, columns = taps_of(node)
            taps = constant(f"{node.name}.rows", rows), constant(f"{node.name}.columns", columns)
            return f"bilinear({x}, {', '.join(taps)})"
        case _ if kind in MOVING:
            parts, places = places_of(node)
            here = constant(f"{node.name}.places", places + 1)
            return f"move({x}, {parts}, {here}).reshape(len({x}), {_sizes(node.output_shape)})"
        case "linear":
            return f"linear({x}, {weights()})"
        case "conv2d":
            return (
                f"conv2d({x}, {weights()}, {a['stride']}, {a['padding']}, {a['dilation']}, "
                f"{a['groups']})"
            )
        case "conv_transpose2d":
            return (
                f"conv_transpose2d({x}, {weights()}, {tuple(node.output_shape[1:])}, "
                f"{a['stride']}, {a['padding']}, {a['dilation']}, {a['groups']})"
            )
        case "max_pool2d" | "avg_pool2d":
            padding = _reached(node)
            last = a.get("dilation", (1, 1))
            if kind == "avg_pool2d":
                most = a["padding"] if a["count_include_pad"] else (0, 0)
                last = tuple(
                    (min(before, own), min(after, own))
                    for (before, after), own in zip(padding, most, strict=True)
                )
            return f"{kind}({x}, {a['kernel_size']}, {a['stride']}, {padding}, {last})"
        case "adaptive_avg_pool2d" | "adaptive_max_pool2d":
            value = "np.mean" if kind == "adaptive_avg_pool2d" else "np.max"
            return f"adaptive_pool2d({x}, {tuple(node.output_shape[1:])}, {value})"
        case "local_response_norm":
            return f"local_response_norm({x}, {a['size']}, {a['alpha']}, {a['beta']}, {a['k']})"
    raise ConfigurationError(f"layer {node.name!r}: the numpy file has no {kind}")


def _reached(node: Node) -> tuple[tuple[int, int], ...]:
    """How far the windows of a pooling extend beyond the map, before and after."""
    a = node.arguments
    gaps, sides = a.get("dilation", (1, 1)), []
    for axis, (size, count) in enumerate(
        zip(node.input_shapes[0][1:], node.output_shape[1:], strict=True)
    ):
        before = a["padding"][axis]
        last = (count - 1) * a["stride"][axis] + gaps[axis] * (a["kernel_size"][axis] - 1) + 1
        sides.append((before, max(last - before - size, 0)))
    return tuple(sides)


def _by_channel(values: np.ndarray, node: Node) -> np.ndarray:
    return values.reshape(1, -1, *(1,) * (len(node.output_shape) - 1))


def _file(
    model: Model,
    plan: Plan,
    lines: list[str],
    constants: dict[str, np.ndarray],
    classes: tuple[str, ...] | None,
    outputs: str,
) -> str:
    body = "\n".join(lines)
    needed: list[str] = []
    for name in reversed(FUNCTIONS):
        text = body + "".join(FUNCTIONS[other] for other in needed)
        if re.search(rf"\b{name}\(", text):
            needed.insert(0, name)
    functions = "\n".join(FUNCTIONS[name] for name in needed)
    stream = io.BytesIO()
    arrays: dict[str, Any] = {key: value.astype(np.float32) for key, value in constants.items()}
    np.savez_compressed(stream, **arrays)
    weights = "\n".join(base64.encodebytes(stream.getvalue()).decode().split())
    shape = ", ".join(map(str, plan.input_shape))
    scale, shift = model.preprocessing.factors(False, plan.channels)
    each = (1, -1, *(1,) * (len(plan.input_shape) - 1))
    names = "" if classes is None else f"\nCLASSES = {list(classes)!r}\n"
    return f'''"""A network of fastcnn {fastcnn.__version__} in plain numpy: predict(images)."""

import base64
import io
import math

import numpy as np

SCALE = np.array({scale.tolist()!r}).reshape{each!r}
SHIFT = np.array({shift.tolist()!r}).reshape{each!r}
{names}{functions}

def predict(images):
    """{outputs} of images (N, {shape}).

    Conversion of images: {model.preprocessing.describe()}.
    """
    images = np.asarray(images)
    if images.shape[1:] != {tuple(plan.input_shape)!r}:
        raise ValueError(f"images must have the shape (N, {shape}), got {{images.shape}}")
    x = images / 255.0 if images.dtype == np.uint8 else images
    x = (x * SCALE + SHIFT).astype(np.float32)
{body}


# {sum(v.size for v in constants.values()):,} weights, as a compressed .npz file.
WEIGHTS = """
{weights}
"""
W = dict(np.load(io.BytesIO(base64.b64decode(WEIGHTS)), allow_pickle=False))

if __name__ == "__main__":
    import sys

    if len(sys.argv) != 2:
        sys.exit("usage: python {{}} IMAGES.npy".format(sys.argv[0]))
    for row in predict(np.load(sys.argv[1], allow_pickle=False)):
        print(*(f"{{value:.4f}}" for value in np.ravel(row)))
'''
