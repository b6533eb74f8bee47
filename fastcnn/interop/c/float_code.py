"""A network in single precision as one C99 file."""

from collections.abc import Mapping, Sequence
from math import prod
from textwrap import fill
from typing import Any

import numpy as np

from fastcnn.backends.graph import Node
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.interop.c.functions import (
    INCLUDES,
    Constants,
    called_functions,
    entry_functions,
    place_of,
    title_of,
)
from fastcnn.interop.expression import C, Expression
from fastcnn.interop.expression import c_number as number
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


def float_code(plan: Plan, name: str, preprocessing: Preprocessing, is_classifier: bool) -> str:
    """The constants and functions of a network in single precision.

    Parameters
    ----------
    name : str
        A C identifier, the prefix of all others.
    is_classifier : bool
        Whether the outputs are logits, of which the softmax is returned.

    Raises
    ------
    ConfigurationError
        If an operation has no C code.
    """
    constants = Constants(name)
    calls = [_call(plan, index, step, constants) for index, step in enumerate(plan.steps)]
    outputs, last = plan.steps[-1].size, f"memory + {plan.offsets[-1]}"
    calls.append(f"    for (int i = 0; i < {outputs}; i++) outputs[i] = ({last})[i];")
    converted = [_convert(plan, preprocessing, is_bytes=False)]
    if preprocessing.takes_bytes and plan.input_offset is not None:
        converted.append(_convert(plan, preprocessing, is_bytes=True))
    entries = entry_functions(plan, name, is_classifier, "float", "\n".join(calls), converted)
    functions = [
        *called_functions("floats.c", name, entries),
        *called_functions("classes.c", name, entries),
    ]
    return "\n".join((INCLUDES, *constants.texts(), *functions, entries))


def _call(plan: Plan, index: int, step: Step, constants: Constants) -> str:
    """The code of one step; its arrays are added to ``constants``."""
    node, kind, name = step.node, step.node.operation, constants.name

    def parameter(which: str) -> str:
        key = node.parameters.get(which)
        return "0" if key is None else constants.array(key, plan.state[key])

    x, *others = (place_of(plan, source) for source in step.inputs)
    y = f"memory + {plan.offsets[index]}"
    title = title_of(node)
    record = OPERATIONS[kind]
    if isinstance(record, Elementwise):
        formula, numbers = record.formula_of(node.arguments)
        values = [Expression("x[i]", C)]
        for which in record.parameters:
            channels = len(plan.state[node.parameters[which]])
            values.append(Expression(f"{parameter(which)}[i / {step.size // channels}]", C))
        text = formula.value(*values, *numbers).text.replace("PREFIX", name)
        return _each(title, step.size, x, y, f"y[i] = {text};")
    if kind == "add":
        text = " + ".join(["x[i]", *(f"({other})[i]" for other in others)])
        return _each(title, step.size, x, y, f"y[i] = {text};")
    if kind == "subtract":
        return _each(title, step.size, x, y, f"y[i] = x[i] - ({others[0]})[i];")
    if kind == "multiply":
        first, second = factor_places(node)
        return _each(title, step.size, x, y, f"y[i] = x[{first}] * ({others[0]})[{second}];")
    if kind == "concat":
        return _concat(title, [x, *others], node.input_shapes, y)
    if kind == "narrow":
        return _each(title, step.size, f"{x} + {first_number(node)}", y, "y[i] = x[i];")
    if kind == "batch_norm":
        scale, shift = scale_and_shift(plan, node)
        each = step.size // len(scale)
        first = constants.array(f"{node.name}.scale", scale)
        second = constants.array(f"{node.name}.shift", shift)
        text = f"y[i] = x[i] * {first}[i / {each}] + {second}[i / {each}];"
        return _each(title, step.size, x, y, text)
    if kind == "linear":
        outputs, inputs = plan.state[node.parameters["weight"]].shape
        arguments = f"{x}, {parameter('weight')}, {parameter('bias')}, {y}, {inputs}, {outputs}"
        return f"{title}\n    {name}_linear({arguments});"
    if is_bilinear(node):
        return _bilinear_step(title, node, name, x, y)
    if kind == "local_response_norm":
        return _response_step(title, name, x, y, geometry(plan, node), node.arguments)
    if kind in MOVING:
        return moving_step(title, node, x, y)
    if kind in (*NORMS, *SOFTMAX):
        parameters = (parameter("weight"), parameter("bias")) if kind in NORMS else ()
        return _set_step(title, node, name, (x, y, *parameters))
    sizes = ", ".join(map(str, geometry(plan, node)))
    weights = f"{parameter('weight')}, {parameter('bias')}, " if "conv" in kind else ""
    return (
        f"{title}\n    {{\n        static const int g[] = {{{sizes}}};\n"
        f"        {name}_{kind}({x}, {weights}{y}, g);\n    }}"
    )


def _concat(title: str, inputs: list[str], shapes: Sequence[tuple[int, ...]], y: str) -> str:
    """Copies of the inputs, one after the other."""
    lines, first = [title, "    {", f"        float *y = {y};"], 0
    for x, shape in zip(inputs, shapes, strict=True):
        lines.append(f"        for (int i = 0; i < {prod(shape)}; i++) y[{first} + i] = ({x})[i];")
        first += prod(shape)
    return "\n".join([*lines, "    }"])


def _each(title: str, size: int, x: str, y: str, statement: str) -> str:
    """A loop over all elements."""
    return (
        f"{title}\n    {{\n        const float *x = {x};\n        float *y = {y};\n"
        f"        for (int i = 0; i < {size}; i++) {statement}\n    }}"
    )


def _convert(plan: Plan, preprocessing: Preprocessing, *, is_bytes: bool) -> str:
    """The conversion of a sample into the working memory."""
    if plan.input_offset is None:
        return ""
    at = f"memory[{plan.input_offset} + i]" if plan.input_offset else "memory[i]"
    lines = []
    for first, last, factor, summand in conversions(plan, preprocessing, is_bytes=is_bytes):
        value = "(float)sample[i]" if is_bytes else "sample[i]"
        value = value if factor == 1.0 else f"{value} * {number(factor)}"
        value = value if summand == 0.0 else f"{value} + {number(summand)}"
        lines.append(f"    for (int i = {first}; i < {last}; i++) {at} = {value};\n")
    return "".join(lines)


def conversions(
    plan: Plan, preprocessing: Preprocessing, *, is_bytes: bool
) -> list[tuple[int, int, float, float]]:
    """Start, end, scale and shift of the parts of a sample that are converted alike."""
    each = plan.input_size // plan.channels
    factors = list(zip(*preprocessing.factors(is_bytes, plan.channels), strict=True))
    if len(set(factors)) == 1:
        each, factors = plan.input_size, factors[:1]
    return [
        (channel * each, (channel + 1) * each, factor, summand)
        for channel, (factor, summand) in enumerate(factors)
    ]


def _bilinear_step(title: str, node: Node, name: str, x: str, y: str) -> str:
    """A bilinear interpolation."""
    taps = taps_of(node)
    places = ", ".join(str(int(place)) for axis in taps for place in axis[:2].reshape(-1))
    shares = np.concatenate([axis[2] for axis in taps])
    sizes = ", ".join(map(str, (*node.input_shapes[0], *node.output_shape[1:])))
    return f"""{title}
    {{
        static const int at[] = {{{wrapped(places)}}};
        static const float share[] = {{{wrapped(", ".join(map(number, shares)))}}};
        static const int g[] = {{{sizes}}};
        {name}_bilinear({x}, {y}, at, share, g);
    }}"""


def _response_step(
    title: str, name: str, x: str, y: str, sizes: Sequence[int], a: Mapping[str, Any]
) -> str:
    """A local response normalisation."""
    numbers = ", ".join(map(number, (a["alpha"] / a["size"], a["beta"], a["k"])))
    return f"""{title}
    {{
        static const int g[] = {{{", ".join(map(str, sizes))}}};
        {name}_local_response_norm({x}, {y}, g, {numbers});
    }}"""


def wrapped(text: str) -> str:
    """The values of a table, wrapped to lines."""
    lines = fill(text, 88, break_on_hyphens=False, break_long_words=False)
    return "\n            " + lines.replace("\n", "\n            ")


def moving_step(
    title: str, node: Node, x: str, y: str, kind: str = "float", zero: str = "0.0f"
) -> str:
    """A step that copies values by an index table."""
    parts, places = places_of(node)
    inputs = prod(node.input_shapes[0]) // parts
    table = wrapped(", ".join(map(str, places)))
    place_type = "int16_t" if inputs < 2**15 else "int32_t"
    return f"""{title}
    {{
        static const {place_type} places[] = {{{table}}};
        const {kind} *x = {x};
        {kind} *y = {y};
        for (int c = 0; c < {parts}; c++) {{
            for (int i = 0; i < {len(places)}; i++) {{
                const int place = places[i];
                y[c * {len(places)} + i] = place < 0 ? {zero} : x[c * {inputs} + place];
            }}
        }}
    }}"""


def _set_step(title: str, node: Node, name: str, arrays: tuple[str, ...]) -> str:
    """A normalisation or softmax; ``arrays`` are input, output and parameters."""
    sizes = ", ".join(map(str, sets_of(node).numbers))
    if node.operation in NORMS:
        kind, centred = "normalise", int(node.operation != "rms_norm")
        tail = f"{number(node.arguments['eps'])}, {centred}"
    else:
        kind, tail = "channel_softmax", str(int(node.operation == "log_softmax"))
    return f"""{title}
    {{
        static const int g[] = {{{sizes}}};
        {name}_{kind}({", ".join(arrays)}, {tail}, g);
    }}"""
