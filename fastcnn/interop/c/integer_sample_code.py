"""Steps in 8-bit integers that join, move or normalise, in C."""

from math import prod

from fastcnn.interop.c.integers import ADD_BITS, IntegerStep
from fastcnn.interop.c.sample_code import wrapped
from fastcnn.interop.sample_steps import sets_of


def bilinear_lines(name: str, step: IntegerStep, zero: int) -> list[str]:
    """The call of a bilinear interpolation, whose taps lie next to it."""
    values = [int(value) for axis in ("rows", "columns") for value in step.arrays[axis].reshape(-1)]
    sizes = ", ".join(map(str, (*step.node.input_shapes[0], *step.node.output_shape[1:])))
    return [
        f"static const int16_t at[] = {{{wrapped(', '.join(map(str, values)))}}};",
        f"static const int g[] = {{{sizes}}};",
        f"{name}_bilinear(x, y, at, {zero}, g);",
    ]


def normalise_lines(
    name: str, step: IntegerStep, zero: int, weight: str, bias: str | None
) -> list[str]:
    """The call of a normalisation."""
    node, arrays = step.node, step.arrays
    sizes = ", ".join(map(str, (*sets_of(node).numbers, len(arrays["weight"]))))
    summand = repr(float(arrays["summand"]))
    centred = int(node.operation != "rms_norm")
    return [
        f"static const int g[] = {{{sizes}}};",
        f"{name}_normalise(",
        f"    x, y, {weight}, {bias or '0'}, {summand}, {centred}, {zero}, {step.scale.zero}, g);",
    ]


def softmax_lines(name: str, step: IntegerStep, exponentials: str) -> list[str]:
    """The call of a softmax over the channels."""
    sizes = ", ".join(map(str, sets_of(step.node).numbers))
    return [
        f"static const int g[] = {{{sizes}}};",
        f"{name}_channel_softmax(x, y, {exponentials}, g);",
    ]


def joined_lines(name: str, step: IntegerStep, places: list[str], zeros: list[int]) -> list[str]:
    """Channels of several maps, each brought to the output's scale."""
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
