"""A network in single precision as one C99 file."""

from math import prod

import numpy as np

from fastcnn.data.preprocessing import Preprocessing
from fastcnn.interop.c.functions import (
    INCLUDES,
    Constants,
    block,
    called_functions,
    entry_functions,
    moving_lines,
    place_of,
    sizes,
    table,
)
from fastcnn.interop.expression import C, Expression, text_of
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
    sets_of,
    taps_of,
)
from fastcnn.operations import OPERATIONS, Elementwise


def float_code(plan: Plan, name: str, preprocessing: Preprocessing, is_classifier: bool) -> str:
    """The constants and functions of a network in single precision, prefixed by its name.

    A classifier's outputs are logits, of which the softmax is returned. Raises ConfigurationError
    if an operation has no C code.
    """
    constants = Constants(name)
    calls = [
        block(step.node, _statements(plan, index, step, constants))
        for index, step in enumerate(plan.steps)
    ]
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


def _statements(plan: Plan, index: int, step: Step, constants: Constants) -> list[str]:
    """The code of one step; its arrays are added to ``constants``."""
    node, kind, name = step.node, step.node.operation, constants.name
    x, *others = (place_of(plan, source) for source in step.inputs)
    y = f"memory + {plan.offsets[index]}"

    def parameter(which: str) -> str:
        key = node.parameters.get(which)
        return "0" if key is None else constants.array(key, plan.state[key])

    def each(value: str, source: str = x) -> list[str]:
        """A loop over all elements."""
        loop = f"for (int i = 0; i < {step.size}; i++) y[i] = {value};"
        return [f"const float *x = {source};", f"float *y = {y};", loop]

    record = OPERATIONS[kind]
    if isinstance(record, Elementwise):
        values = [Expression("x[i]", C)]
        for which in record.parameters:
            channels = len(plan.state[node.parameters[which]])
            values.append(Expression(f"{parameter(which)}[i / {step.size // channels}]", C))
        return each(text_of(record, node, values).replace("PREFIX", name))
    if kind == "add":
        return each(" + ".join(["x[i]", *(f"({other})[i]" for other in others)]))
    if kind == "subtract":
        return each(f"x[i] - ({others[0]})[i]")
    if kind == "multiply":
        first, second = factor_places(node)
        return each(f"x[{first}] * ({others[0]})[{second}]")
    if kind == "concat":
        lines, start = [f"float *y = {y};"], 0
        for source, size in zip([x, *others], map(prod, node.input_shapes), strict=True):
            lines.append(f"for (int i = 0; i < {size}; i++) y[{start} + i] = ({source})[i];")
            start += size
        return lines
    if kind == "narrow":
        return each("x[i]", f"{x} + {first_number(node)}")
    if kind == "batch_norm":
        scale, shift = scale_and_shift(plan, node)
        count = step.size // len(scale)
        first = constants.array(f"{node.name}.scale", scale)
        second = constants.array(f"{node.name}.shift", shift)
        return each(f"x[i] * {first}[i / {count}] + {second}[i / {count}]")
    if kind == "linear":
        outputs, inputs = plan.state[node.parameters["weight"]].shape
        arguments = f"{x}, {parameter('weight')}, {parameter('bias')}, {y}, {inputs}, {outputs}"
        return [f"{name}_linear({arguments});"]
    if is_bilinear(node):
        taps = taps_of(node)
        places = np.concatenate([axis[:2].reshape(-1) for axis in taps]).astype(int)
        shares = np.concatenate([axis[2] for axis in taps])
        return [
            table("int", "at", places),
            table("float", "share", map(number, shares)),
            sizes((*node.input_shapes[0], *node.output_shape[1:])),
            f"{name}_bilinear({x}, {y}, at, share, g);",
        ]
    if kind == "local_response_norm":
        a = node.arguments
        factors = ", ".join(map(number, (a["alpha"] / a["size"], a["beta"], a["k"])))
        return [
            sizes(geometry(plan, node)),
            f"{name}_local_response_norm({x}, {y}, g, {factors});",
        ]
    if kind in MOVING:
        return moving_lines(node, x, y)
    if kind in NORMS:
        parameters = f"{parameter('weight')}, {parameter('bias')}"
        tail = f"{number(node.arguments['eps'])}, {int(kind != 'rms_norm')}, g"
        call = f"{name}_normalise({x}, {y}, {parameters}, {tail});"
        return [sizes(sets_of(node)), call]
    if kind in SOFTMAX:
        call = f"{name}_channel_softmax({x}, {y}, {int(kind == 'log_softmax')}, g);"
        return [sizes(sets_of(node)), call]
    weights = f"{parameter('weight')}, {parameter('bias')}, " if "conv" in kind else ""
    return [sizes(geometry(plan, node)), f"{name}_{kind}({x}, {weights}{y}, g);"]


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
