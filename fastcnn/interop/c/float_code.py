"""A network in single precision as one C99 file."""

from collections.abc import Sequence
from math import prod
from textwrap import fill, indent

import numpy as np

from fastcnn.backends.graph import INPUT
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.interop.c.functions import called_functions, entry_functions
from fastcnn.interop.c.names import label
from fastcnn.interop.c.sample_code import bilinear_step, moving_step, response_step, set_step
from fastcnn.interop.expression import C, Expression
from fastcnn.interop.expression import c_number as number
from fastcnn.interop.inference_plan import (
    Plan,
    Step,
    factor_places,
    first_number,
    geometry,
    in_comment,
    scale_and_shift,
)
from fastcnn.interop.sample_steps import MOVING, NORMS, SOFTMAX, is_bilinear
from fastcnn.operations import OPERATIONS, Elementwise


def float_code(plan: Plan, name: str, preprocessing: Preprocessing, is_classifier: bool) -> str:
    """The constants and functions of a network in single precision.

    Parameters
    ----------
    plan : Plan
    name : str
        A C identifier, with which all others begin.
    preprocessing : Preprocessing
    is_classifier : bool
        Whether the outputs are logits, of which the softmax is given.

    Raises
    ------
    ConfigurationError
        If an operation has no C code.
    """
    constants: dict[str, np.ndarray] = {}
    calls = [_call(plan, index, step, name, constants) for index, step in enumerate(plan.steps)]
    outputs, last = plan.steps[-1].size, f"memory + {plan.offsets[-1]}"
    calls.append(f"    for (int i = 0; i < {outputs}; i++) outputs[i] = ({last})[i];")
    converted = [_convert(plan, preprocessing, is_bytes=False)]
    if preprocessing.takes_bytes and plan.input_offset is not None:
        converted.append(_convert(plan, preprocessing, is_bytes=True))
    entries = entry_functions(plan, name, is_classifier, "float", "\n".join(calls), converted)
    arrays = [
        _array(f"{name}_{label(key, constants)}", values) for key, values in constants.items()
    ]
    functions = [
        *called_functions("floats.c", name, entries),
        *called_functions("classes.c", name, entries),
    ]
    includes = "#include <math.h>\n#include <stdint.h>\n"
    return "\n".join((includes, *arrays, *functions, entries))


def _array(name: str, values: np.ndarray) -> str:
    """A constant array, in lines of at most 100 columns."""
    text = ", ".join(number(value) for value in values.reshape(-1))
    lines = fill(text, 96, break_long_words=False, break_on_hyphens=False)
    return f"static const float {name}[{values.size}] = {{\n{indent(lines, '    ')}\n}};"


def _call(plan: Plan, index: int, step: Step, name: str, constants: dict[str, np.ndarray]) -> str:
    """The code of one step; arrays that it needs are added to ``constants``."""
    node, kind = step.node, step.node.operation

    def constant(key: str, values: np.ndarray | None = None) -> str:
        constants[key] = plan.state[key] if values is None else values
        return f"{name}_{label(key, constants)}"

    def parameter(which: str) -> str:
        key = node.parameters.get(which)
        return "0" if key is None else constant(key)

    x, *others = (place_of(plan, source) for source in step.inputs)
    y = f"memory + {plan.offsets[index]}"
    shape = " x ".join(map(str, node.output_shape))
    title = f"    /* {in_comment(node.name)}: {kind} to {shape} */"
    record = OPERATIONS[kind]
    if isinstance(record, Elementwise):
        formula, numbers = record.formula_of(node.arguments)
        values = [Expression("x[i]", C)]
        channels = 1
        for which in record.parameters:
            key = node.parameters[which]
            channels = len(plan.state[key])
            values.append(Expression(f"{constant(key)}[i / {step.size // channels}]", C))
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
        first = constant(f"{node.name}.scale", scale)
        second = constant(f"{node.name}.shift", shift)
        text = f"y[i] = x[i] * {first}[i / {each}] + {second}[i / {each}];"
        return _each(title, step.size, x, y, text)
    if kind == "linear":
        outputs, inputs = plan.state[node.parameters["weight"]].shape
        arguments = f"{x}, {parameter('weight')}, {parameter('bias')}, {y}, {inputs}, {outputs}"
        return f"{title}\n    {name}_linear({arguments});"
    if is_bilinear(node):
        return bilinear_step(title, node, name, x, y)
    if kind == "local_response_norm":
        return response_step(title, name, x, y, geometry(plan, node), node.arguments)
    if kind in MOVING:
        return moving_step(title, node, x, y)
    if kind in (*NORMS, *SOFTMAX):
        parameters = (parameter("weight"), parameter("bias")) if kind in NORMS else ()
        return set_step(title, node, name, (x, y, *parameters))
    sizes = ", ".join(map(str, geometry(plan, node)))
    weights = f"{parameter('weight')}, {parameter('bias')}, " if "conv" in kind else ""
    return (
        f"{title}\n    {{\n        static const int g[] = {{{sizes}}};\n"
        f"        {name}_{kind}({x}, {weights}{y}, g);\n    }}"
    )


def _concat(title: str, inputs: list[str], shapes: Sequence[tuple[int, ...]], y: str) -> str:
    """Copies, one after the other."""
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


def place_of(plan: Plan, source: int) -> str:
    """Where a step's input lies, as a C expression."""
    if source != INPUT:
        return f"memory + {plan.offsets[source]}"
    return "sample" if plan.input_offset is None else f"memory + {plan.input_offset}"


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
    """First place, end, factor and summand of the parts of a sample that are converted alike."""
    each = plan.input_size // plan.channels
    factors = list(zip(*preprocessing.factors(is_bytes, plan.channels), strict=True))
    if len(set(factors)) == 1:
        each, factors = plan.input_size, factors[:1]
    return [
        (channel * each, (channel + 1) * each, factor, summand)
        for channel, (factor, summand) in enumerate(factors)
    ]
