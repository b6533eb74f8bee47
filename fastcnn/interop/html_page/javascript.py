"""A network's steps as JavaScript."""

import json
from math import prod
from typing import Any

import numpy as np

from fastcnn.interop.expression import JAVASCRIPT, Expression, text_of
from fastcnn.interop.inference_plan import (
    Plan,
    Step,
    factor_places,
    first_number,
    geometry,
    scale_and_shift,
)
from fastcnn.interop.sample_steps import (
    MOVING,
    NORMS,
    SOFTMAX,
    is_bilinear,
    places_of,
    sets_of,
    taps_of,
)
from fastcnn.operations import OPERATIONS, Elementwise

#: Constants of a network by name, one-dimensional float32, concatenated in the page.
Weights = dict[str, np.ndarray]


def _stored(weights: Weights, name: str, values: np.ndarray) -> str:
    """The JavaScript expression of an array, which is added to ``weights`` if missing."""
    weights.setdefault(name, np.ravel(values).astype("<f4"))
    return f"W[{as_json(name)}]"


def as_json(value: Any) -> str:
    """A value as JavaScript that is safe in a page: it cannot end a script."""
    return json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e")


def network_code(plan: Plan) -> tuple[str, Weights]:
    """The function ``makeNetwork(weights)``, and the weights that it expects.

    It returns an array of steps, each with its name, operation, shape, output (a Float32Array) and
    ``run(sample)``.

    Raises
    ------
    ConfigurationError
        If an operation has no JavaScript.
    """
    weights: Weights = {}
    lines = []
    for index, step in enumerate(plan.steps):
        facts = {
            "name": step.node.name,
            "operation": step.node.operation,
            "shape": list(step.node.output_shape),
        }
        inputs = ["sample" if source < 0 else f"y[{source}]" for source in step.inputs]
        body = _statements(plan, step, inputs, f"y[{index}]", weights)
        run = f"run(sample) {{\n        {body}\n      }}"
        lines.append(f"    {{ ...{as_json(facts)}, output: y[{index}],\n      {run} }},")
    sizes = [step.size for step in plan.steps]
    counts = [[name, len(values)] for name, values in weights.items()]
    steps = "\n".join(lines)
    code = f"""/* The network: each step writes an array of its own, which the page shows. */
function makeNetwork(weights) {{
  const y = {sizes}.map((size) => new Float32Array(size));
  const W = {{}};
  let at = 0;
  for (const [name, count] of {as_json(counts)}) {{
    W[name] = weights.subarray(at, (at += count));
  }}
  return [
{steps}
  ];
}}
"""
    return code, weights


def _statements(plan: Plan, step: Step, inputs: list[str], y: str, weights: Weights) -> str:
    """The body of the method ``run`` of one step."""
    node, kind = step.node, step.node.operation
    x = inputs[0]

    def parameter(which: str) -> str:
        key = node.parameters.get(which)
        return "null" if key is None else _stored(weights, key, plan.state[key])

    record = OPERATIONS[kind]
    if isinstance(record, Elementwise):
        values = [Expression("x[i]", JAVASCRIPT)]
        arrays = [("x", x)]
        for which in record.parameters:
            count = len(plan.state[node.parameters[which]])
            arrays.append((which, parameter(which)))
            at = f"{which}[Math.floor(i / {step.size // count})]"
            values.append(Expression(at, JAVASCRIPT))
        return _each(arrays, y, text_of(record, node, values))
    if kind == "add":
        arrays = [(f"x{index}", name) for index, name in enumerate(inputs)]
        return _each(arrays, y, " + ".join(f"{name}[i]" for name, _ in arrays))
    if kind == "subtract":
        return _each([("x", x), ("m", inputs[1])], y, "x[i] - m[i]")
    if kind == "multiply":
        first, second = factor_places(node)
        value = f"x[Math.floor({first})] * m[Math.floor({second})]"
        return _each([("x", x), ("m", inputs[1])], y, value)
    if kind == "concat":
        places = np.cumsum([0, *(prod(shape) for shape in node.input_shapes)])
        pairs = zip(inputs, places, strict=False)
        return " ".join(f"{y}.set({name}, {place});" for name, place in pairs)
    if kind == "narrow":
        begin = first_number(node)
        return f"{y}.set({x}.subarray({begin}, {begin + step.size}));"
    if kind == "batch_norm":
        scale, shift = scale_and_shift(plan, node)
        arrays = [
            ("x", x),
            ("scale", _stored(weights, f"{node.name}.scale", scale)),
            ("shift", _stored(weights, f"{node.name}.shift", shift)),
        ]
        channel = f"Math.floor(i / {step.size // len(scale)})"
        return _each(arrays, y, f"x[i] * scale[{channel}] + shift[{channel}]")
    if is_bilinear(node):
        taps = [
            _stored(weights, f"{node.name}.{axis}", values)
            for axis, values in zip(("rows", "columns"), taps_of(node), strict=True)
        ]
        around = [*node.input_shapes[0], *node.output_shape[1:]]
        return f"bilinear({x}, {y}, {', '.join(taps)}, {around});"
    if kind == "local_response_norm":
        a = node.arguments
        settings = f"{geometry(plan, node)}, {a['alpha'] / a['size']}, {a['beta']}, {a['k']}"
        return f"local_response_norm({x}, {y}, {settings});"
    if kind in MOVING:
        parts, places = places_of(node)
        table = _stored(weights, f"{node.name}.places", places)
        return f"move({x}, {y}, {parts}, {table});"
    if kind in NORMS:
        settings = f"{node.arguments['eps']}, {int(kind != 'rms_norm')}, {list(sets_of(node))}"
        read = f"{x}, {y}, {parameter('weight')}, {parameter('bias')}"
        return f"normalise({read}, {settings});"
    if kind in SOFTMAX:
        settings = f"{int(kind == 'log_softmax')}, {list(sets_of(node))}"
        return f"channelSoftmax({x}, {y}, {settings});"
    given = f"{parameter('weight')}, {parameter('bias')}, " if "weight" in node.parameters else ""
    sizes = "" if kind == "linear" else f", {geometry(plan, node)}"
    return f"{kind}({x}, {given}{y}{sizes});"


def _each(arrays: list[tuple[str, str]], y: str, value: str) -> str:
    """A loop over all elements, with short names for its input arrays."""
    names = ", ".join(f"{name} = {text}" for name, text in arrays)
    loop = f"for (let i = 0; i < y_.length; i++) y_[i] = {value};"
    return f"const {names}, y_ = {y};\n        {loop}"
