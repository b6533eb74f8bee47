"""A network in 8-bit integers as one C99 file."""

from math import prod
from textwrap import fill, indent

import numpy as np

from fastcnn.backends.graph import INPUT
from fastcnn.interop.c.float_code import conversions
from fastcnn.interop.c.functions import called_functions, entry_functions
from fastcnn.interop.c.integer_sample_code import (
    bilinear_lines,
    joined_lines,
    normalise_lines,
    softmax_lines,
)
from fastcnn.interop.c.integer_steps import FACTOR_BITS, SHARE_BITS, UNIT_BITS
from fastcnn.interop.c.integers import ADD_BITS, HIGH, LOW, IntegerStep
from fastcnn.interop.c.names import identifier
from fastcnn.interop.c.quantise import IntegerNetwork, byte_tables
from fastcnn.interop.c.sample_code import moving_step
from fastcnn.interop.expression import c_number as number
from fastcnn.interop.inference_plan import (
    WEIGHTED,
    factor_places,
    first_number,
    geometry,
    in_comment,
)
from fastcnn.interop.sample_steps import MOVING, NORMS


class _Writer:
    """Collects constants."""

    def __init__(self, network: IntegerNetwork, name: str) -> None:
        self.network = network
        self.name = name
        self.constants: list[str] = []
        self.arrays: dict[str, tuple[str, str]] = {}

    def array(self, label: str, kind: str, values: np.ndarray) -> str:
        """Add a constant array; returns its name."""
        text = ", ".join(
            number(value) if kind == "float" else str(int(value)) for value in values.reshape(-1)
        )
        lines = fill(text, 96, break_long_words=False, break_on_hyphens=False)
        tail = f"[{values.size}] = {{\n{indent(lines, '    ')}\n}};"
        full = f"{self.name}_{identifier(label)}"
        # Other labels may look alike in C: "a.b" and "a_b".
        while self.arrays.setdefault(full, (label, tail)) != (label, tail):
            full += "_"
        if (text := f"static const {kind} {full}{tail}") not in self.constants:
            self.constants.append(text)
        return full


def integer_code(network: IntegerNetwork, name: str, is_classifier: bool) -> str:
    """The constants and functions of a network in integers.

    Parameters
    ----------
    network : IntegerNetwork
    name : str
        A C identifier, with which all others begin.
    is_classifier : bool
        Whether the outputs are logits, of which the softmax is given.
    """
    writer = _Writer(network, name)
    calls = [
        _call(writer, index, step) for index, step in enumerate(network.steps) if step is not None
    ]
    body = "\n".join((*calls, *_real_outputs(network)))
    converted = _conversions(writer)
    entries = entry_functions(network.plan, name, is_classifier, "int8_t", body, converted)
    bits = {"UNIT_BITS": UNIT_BITS, "FACTOR_BITS": FACTOR_BITS, "SHARE_BITS": SHARE_BITS}
    functions = [
        *called_functions("integers.c", name, entries, **bits),
        *called_functions("classes.c", name, entries),
    ]
    includes = "#include <math.h>\n#include <stdint.h>\n"
    return "\n".join((includes, *writer.constants, *functions, entries))


def _place(network: IntegerNetwork, source: int) -> str:
    offset = network.plan.input_offset if source == INPUT else network.plan.offsets[source]
    return f"memory + {offset}"


def _zero(network: IntegerNetwork, source: int) -> int:
    if source == INPUT:
        return network.input_scale.zero
    step = network.steps[source]
    if step is None:
        return _zero(network, source - 1)
    return step.scale.zero


def _call(writer: _Writer, index: int, step: IntegerStep) -> str:
    network, name, node, kind = writer.network, writer.name, step.node, step.node.operation
    shape = " x ".join(map(str, node.output_shape))
    title = f"    /* {in_comment(node.name)}: {kind} to {shape} */"
    x, *others = (_place(network, source) for source in step.inputs)
    zero, *other_zeros = (_zero(network, source) for source in step.inputs)
    y = f"memory + {network.plan.offsets[index]}"
    size, arrays = prod(node.output_shape), step.arrays
    lines = [f"const int8_t *x = {x};"]
    if not step.gives_floats:
        lines.append(f"int8_t *y = {y};")
    if "places" in arrays:
        return moving_step(title, node, x, y, "int8_t", str(zero))
    if kind in WEIGHTED:
        lines += _weighted(writer, step, zero)
    elif kind in MOVING:
        lines += bilinear_lines(name, step, zero)
    elif kind in NORMS:
        weight, *bias = (
            writer.array(f"{node.name}.{which}", "int32_t", arrays[which])
            for which in ("weight", "bias")
            if which in arrays
        )
        lines += normalise_lines(name, step, zero, weight, bias[0] if bias else None)
    elif kind == "softmax":
        table = writer.array(f"{node.name}.exponentials", "int32_t", arrays["exponentials"])
        lines += softmax_lines(name, step, table)
    elif kind == "concat":
        lines = [f"int8_t *y = {y};"]
        lines += joined_lines(name, step, [x, *others], [zero, *other_zeros])
    elif kind == "narrow":
        lines.append(f"for (int i = 0; i < {size}; i++) y[i] = x[{first_number(node)} + i];")
    elif kind == "multiply":
        first, second = factor_places(node)
        total = f"(x[{first}] - {zero}) * (({others[0]})[{second}] - {other_zeros[0]})"
        scaled = f"{int(arrays['multiplier'][0])} * (int64_t)({total})"
        lines.append(
            f"for (int i = 0; i < {size}; i++) y[i] = {name}_clamp("
            f"{name}_shifted({scaled}, {int(arrays['shift'][0])}) + {step.scale.zero}, "
            f"{LOW}, {HIGH});"
        )
    elif kind in ("add", "subtract"):
        total = " + ".join(
            f"({int(factor)} * (int64_t)({place}[i] - {z}))"
            for place, z, factor in zip(
                ["x", *(f"({other})" for other in others)],
                [zero, *other_zeros],
                arrays["factor"],
                strict=True,
            )
        )
        scaled = f"{name}_shifted({total}, {ADD_BITS}) + {step.scale.zero}"
        lines.append(
            f"for (int i = 0; i < {size}; i++) "
            f"y[i] = {name}_clamp({scaled}, {step.low}, {step.high});"
        )
    elif "table" in arrays:
        rows = len(arrays["table"])
        table = writer.array(f"{node.name}.table", "int8_t", arrays["table"])
        row = f"i / {size // rows} * 256 + " if rows > 1 else ""
        lines.append(f"for (int i = 0; i < {size}; i++) y[i] = {table}[{row}x[i] + 128];")
    else:
        sizes = ", ".join(map(str, geometry(network.plan, node)))
        lines.append(f"static const int g[] = {{{sizes}}};")
        tail = "" if "max" in kind else f", {zero}"
        lines.append(f"{name}_{kind}(x, y, g{tail});")
    return f"{title}\n    {{\n{indent(chr(10).join(lines), ' ' * 8)}\n    }}"


def _weighted(writer: _Writer, step: IntegerStep, zero: int) -> list[str]:
    """Loops over the outputs of a layer with weights."""
    name, node, arrays = writer.name, step.node, step.arrays
    weight = writer.array(f"{node.name}.weight", "int8_t", arrays["weight"])
    bias = writer.array(f"{node.name}.bias", "int32_t", arrays["bias"])
    if step.gives_floats:
        unit = writer.array(f"{node.name}.unit", "float", arrays["unit"])
        store = f"outputs[at] = (float)(sum + {bias}[o]) * {unit}[o];"
    else:
        multiplier = writer.array(f"{node.name}.multiplier", "int32_t", arrays["multiplier"])
        shift = writer.array(f"{node.name}.shift", "uint8_t", arrays["shift"])
        scaled = (
            f"{name}_shifted((int64_t)(sum + {bias}[o]) * {multiplier}[o], {shift}[o])"
            f" + {step.scale.zero}"
        )
        store = f"y[at] = {name}_clamp({scaled}, {step.low}, {step.high});"
    kind = "pointwise" if _is_pointwise(writer, step) else node.operation
    if kind == "linear":
        outputs, inputs = arrays["weight"].shape
        return [
            f"for (int o = 0; o < {outputs}; o++) {{",
            f"    const int32_t sum = {name}_linear_sum(x, {weight}, {inputs}, {zero}, o);",
            "    const int at = o;",
            f"    {store}",
            "}",
        ]
    numbers = geometry(writer.network.plan, node)
    outputs, rows, columns = numbers[3:6]
    if kind == "pointwise":
        inputs, tiles = numbers[0], -(-columns // 16)
        return [
            f"for (int tile = 0; tile < {outputs * tiles}; tile++) {{",
            f"    const int o = tile / {tiles}, first = tile % {tiles} * 16;",
            f"    const int count = {columns} - first < 16 ? {columns} - first : 16;",
            "    int32_t sums[16];",
            f"    {name}_pointwise_sums(x + first, {weight} + o * {inputs},",
            f"        {inputs}, {columns}, {zero}, count, sums);",
            "    for (int t = 0; t < count; t++) {",
            "        const int32_t sum = sums[t];",
            f"        const int at = o * {columns} + first + t;",
            f"        {store}",
            "    }",
            "}",
        ]
    return [
        f"static const int g[] = {{{', '.join(map(str, numbers))}}};",
        f"for (int at = 0; at < {outputs * rows * columns}; at++) {{",
        f"    const int o = at / {rows * columns}, i = at / {columns} % {rows};",
        f"    const int32_t sum = {name}_{node.operation}_sum(",
        f"        x, {weight}, g, {zero}, o, i, at % {columns});",
        f"    {store}",
        "}",
    ]


def _is_pointwise(writer: _Writer, step: IntegerStep) -> bool:
    """Whether a convolution sees one pixel of all channels, and every pixel."""
    if step.node.operation != "conv2d":
        return False
    _, height, _, _, rows, _, *kernel_and_steps, groups = geometry(writer.network.plan, step.node)
    return (height, rows, *kernel_and_steps[:6], groups) == (1, 1, 1, 1, 1, 1, 0, 0, 1)


def _real_outputs(network: IntegerNetwork) -> list[str]:
    """What makes floats of the last step's integers, if it gives such."""
    final = next(step for step in reversed(network.steps) if step is not None)
    if final.gives_floats:
        return []
    place, scale = f"(memory + {network.plan.offsets[-1]})[i]", number(final.scale.scale)
    return [
        f"    for (int i = 0; i < {network.plan.steps[-1].size}; i++) "
        f"outputs[i] = {scale} * (float)({place} - {final.scale.zero});"
    ]


def _conversions(writer: _Writer) -> list[str]:
    """What converts a sample of floats into the memory and, if the network takes them, bytes."""
    network, name = writer.network, writer.name
    plan, scale = network.plan, network.input_scale
    preprocessing = network.model.preprocessing
    at = f"memory[{plan.input_offset} + i]"
    lines = []
    for first, last, factor, summand in conversions(plan, preprocessing, is_bytes=False):
        value = f"(sample[i] * {number(factor)} + {number(summand)})"
        value = f"rintf({value} * {number(1.0 / scale.scale)})"
        # Numbers outside of the range of an integer are bounded before they become one.
        bounded = f"fmaxf(fminf({value}, 1e4f), -1e4f)"
        stored = f"{name}_clamp((int64_t){bounded} + {scale.zero}, {LOW}, {HIGH})"
        lines.append(f"    for (int i = {first}; i < {last}; i++) {at} = {stored};\n")
    if not preprocessing.takes_bytes:
        return ["".join(lines)]
    tables = byte_tables(network)
    tables = tables[:1] if (tables == tables[0]).all() else tables
    table = writer.array("bytes", "int8_t", tables)
    row = f"i / {plan.input_size // len(tables)} * 256 + " if len(tables) > 1 else ""
    of_bytes = f"    for (int i = 0; i < {plan.input_size}; i++) {at} = {table}[{row}sample[i]];\n"
    return ["".join(lines), of_bytes]
