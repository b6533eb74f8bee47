"""A network in 8-bit integers as one C99 file."""

from math import prod

import numpy as np

from fastcnn.backends.graph import INPUT
from fastcnn.interop.c.float_code import conversions
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
from fastcnn.interop.c.integers import (
    ADD_BITS,
    FACTOR_BITS,
    HIGH,
    LOW,
    SHARE_BITS,
    UNIT_BITS,
    IntegerStep,
)
from fastcnn.interop.c.quantise import IntegerNetwork, byte_tables
from fastcnn.interop.expression import c_number as number
from fastcnn.interop.inference_plan import WEIGHTED, factor_places, first_number, geometry
from fastcnn.interop.sample_steps import MOVING, NORMS, sets_of


def integer_code(network: IntegerNetwork, name: str, is_classifier: bool) -> str:
    """As :func:`fastcnn.interop.c.float_code.float_code`, for a network in integers."""
    constants = Constants(name)
    calls = [
        block(step.node, _statements(network, constants, index, step))
        for index, step in enumerate(network.steps)
        if step is not None
    ]
    body = "\n".join((*calls, *_real_outputs(network)))
    converted = _conversions(network, constants)
    entries = entry_functions(network.plan, name, is_classifier, "int8_t", body, converted)
    bits = {"UNIT_BITS": UNIT_BITS, "FACTOR_BITS": FACTOR_BITS, "SHARE_BITS": SHARE_BITS}
    functions = [
        *called_functions("integers.c", name, entries, **bits),
        *called_functions("classes.c", name, entries),
    ]
    return "\n".join((INCLUDES, *constants.texts(), *functions, entries))


def _zero(network: IntegerNetwork, source: int) -> int:
    if source == INPUT:
        return network.input_scale.zero
    step = network.steps[source]
    if step is None:
        return _zero(network, source - 1)
    return step.scale.zero


def _statements(
    network: IntegerNetwork, constants: Constants, index: int, step: IntegerStep
) -> list[str]:
    """The code of one step; its arrays are added to ``constants``."""
    name, node, kind = constants.name, step.node, step.node.operation
    x, *others = (place_of(network.plan, source) for source in step.inputs)
    zero, *other_zeros = (_zero(network, source) for source in step.inputs)
    y = f"memory + {network.plan.offsets[index]}"
    size, arrays = prod(node.output_shape), step.arrays
    lines = [f"const int8_t *x = {x};"]
    if not step.gives_floats:
        lines.append(f"int8_t *y = {y};")
    if "places" in arrays:
        return moving_lines(node, x, y, "int8_t", str(zero))
    if kind in WEIGHTED:
        lines += _weighted(network, constants, step, zero)
    elif kind in MOVING:
        taps = np.concatenate([arrays[axis].reshape(-1) for axis in ("rows", "columns")])
        lines += [
            table("int16_t", "at", taps),
            sizes((*node.input_shapes[0], *node.output_shape[1:])),
            f"{name}_bilinear(x, y, at, {zero}, g);",
        ]
    elif kind in NORMS:
        weight, *bias = (
            constants.array(f"{node.name}.{which}", arrays[which], "int32_t")
            for which in ("weight", "bias")
            if which in arrays
        )
        settings = f"{float(arrays['summand'])!r}, {int(kind != 'rms_norm')}"
        lines += [
            sizes((*sets_of(node), len(arrays["weight"]))),
            f"{name}_normalise(",
            f"    x, y, {weight}, {bias[0] if bias else 0}, {settings}, {zero}, "
            f"{step.scale.zero}, g);",
        ]
    elif kind == "softmax":
        powers = constants.array(f"{node.name}.exponentials", arrays["exponentials"], "int32_t")
        lines += [
            sizes(sets_of(node)),
            f"{name}_channel_softmax(x, y, {powers}, g);",
        ]
    elif kind == "concat":
        lines = [f"int8_t *y = {y};"]
        lines += _joined_lines(name, step, [x, *others], [zero, *other_zeros])
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
        outputs = constants.array(f"{node.name}.table", arrays["table"], "int8_t")
        row = f"i / {size // rows} * 256 + " if rows > 1 else ""
        lines.append(f"for (int i = 0; i < {size}; i++) y[i] = {outputs}[{row}x[i] + 128];")
    else:
        tail = "" if "max" in kind else f", {zero}"
        lines += [sizes(geometry(network.plan, node)), f"{name}_{kind}(x, y, g{tail});"]
    return lines


def _weighted(
    network: IntegerNetwork, constants: Constants, step: IntegerStep, zero: int
) -> list[str]:
    """Loops over the outputs of a layer with weights."""
    name, node, arrays = constants.name, step.node, step.arrays
    weight = constants.array(f"{node.name}.weight", arrays["weight"], "int8_t")
    bias = constants.array(f"{node.name}.bias", arrays["bias"], "int32_t")
    if step.gives_floats:
        unit = constants.array(f"{node.name}.unit", arrays["unit"], "float")
        store = f"outputs[at] = (float)(sum + {bias}[o]) * {unit}[o];"
    else:
        multiplier = constants.array(f"{node.name}.multiplier", arrays["multiplier"], "int32_t")
        shift = constants.array(f"{node.name}.shift", arrays["shift"], "uint8_t")
        scaled = (
            f"{name}_shifted((int64_t)(sum + {bias}[o]) * {multiplier}[o], {shift}[o])"
            f" + {step.scale.zero}"
        )
        store = f"y[at] = {name}_clamp({scaled}, {step.low}, {step.high});"
    kind = "pointwise" if _is_pointwise(network, step) else node.operation
    if kind == "linear":
        outputs, inputs = arrays["weight"].shape
        return [
            f"for (int o = 0; o < {outputs}; o++) {{",
            f"    const int32_t sum = {name}_linear_sum(x, {weight}, {inputs}, {zero}, o);",
            "    const int at = o;",
            f"    {store}",
            "}",
        ]
    numbers = geometry(network.plan, node)
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
        sizes(numbers),
        f"for (int at = 0; at < {outputs * rows * columns}; at++) {{",
        f"    const int o = at / {rows * columns}, i = at / {columns} % {rows};",
        f"    const int32_t sum = {name}_{node.operation}_sum(",
        f"        x, {weight}, g, {zero}, o, i, at % {columns});",
        f"    {store}",
        "}",
    ]


def _is_pointwise(network: IntegerNetwork, step: IntegerStep) -> bool:
    """Whether a convolution is 1x1 with stride 1, over all channels."""
    if step.node.operation != "conv2d":
        return False
    _, height, _, _, rows, _, *kernel_and_steps, groups = geometry(network.plan, step.node)
    return (height, rows, *kernel_and_steps[:6], groups) == (1, 1, 1, 1, 1, 1, 0, 0, 1)


def _real_outputs(network: IntegerNetwork) -> list[str]:
    """Code that converts the last step's integers to floats, if its outputs are integers."""
    final = next(step for step in reversed(network.steps) if step is not None)
    if final.gives_floats:
        return []
    place, scale = f"(memory + {network.plan.offsets[-1]})[i]", number(final.scale.scale)
    return [
        f"    for (int i = 0; i < {network.plan.steps[-1].size}; i++) "
        f"outputs[i] = {scale} * (float)({place} - {final.scale.zero});"
    ]


def _conversions(network: IntegerNetwork, constants: Constants) -> list[str]:
    """Code that converts a sample of floats and, if supported, of bytes into the working memory."""
    plan, scale = network.plan, network.input_scale
    preprocessing = network.model.preprocessing
    at = f"memory[{plan.input_offset} + i]"
    lines = []
    for first, last, factor, summand in conversions(plan, preprocessing, is_bytes=False):
        value = f"(sample[i] * {number(factor)} + {number(summand)})"
        value = f"rintf({value} * {number(1.0 / scale.scale)})"
        # Values are clamped to the range of an integer before conversion.
        bounded = f"fmaxf(fminf({value}, 1e4f), -1e4f)"
        stored = f"{constants.name}_clamp((int64_t){bounded} + {scale.zero}, {LOW}, {HIGH})"
        lines.append(f"    for (int i = {first}; i < {last}; i++) {at} = {stored};\n")
    if not preprocessing.takes_bytes:
        return ["".join(lines)]
    tables = byte_tables(network)
    tables = tables[:1] if (tables == tables[0]).all() else tables
    table = constants.array("bytes", tables, "int8_t")
    row = f"i / {plan.input_size // len(tables)} * 256 + " if len(tables) > 1 else ""
    of_bytes = f"    for (int i = 0; i < {plan.input_size}; i++) {at} = {table}[{row}sample[i]];\n"
    return ["".join(lines), of_bytes]


def _joined_lines(name: str, step: IntegerStep, places: list[str], zeros: list[int]) -> list[str]:
    """Channels of several maps, each rescaled to the output's scale."""
    lines, first = [], 0
    for place, zero, factor, shape in zip(
        places, zeros, step.arrays["factor"], step.node.input_shapes, strict=True
    ):
        scaled = f"{int(factor)} * (int64_t)(({place})[i] - {zero})"
        lines += [
            f"for (int i = 0; i < {prod(shape)}; i++) y[{first} + i] = {name}_clamp(",
            f"    {name}_shifted({scaled}, {ADD_BITS}) + {step.scale.zero}, -128, 127);",
        ]
        first += prod(shape)
    return lines
