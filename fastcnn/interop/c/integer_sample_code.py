"""Steps in 8-bit integers that join, move or normalise, in C."""

from math import prod

from fastcnn.interop.c.integer_steps import FACTOR_BITS, SHARE_BITS, UNIT_BITS
from fastcnn.interop.c.integers import ADD_BITS, IntegerStep
from fastcnn.interop.c.sample_code import wrapped
from fastcnn.interop.sample_steps import sets_of

#: g: as in the float code.
SAMPLE_LOOPS = {
    "normalise": f"""
static inline void {{name}}_normalise(
    const int8_t *x, int8_t *y, const int32_t *w, const int32_t *b, double summand, int centred,
    int zero, int output_zero, const int *g
) {{{{
    for (int a = 0; a < g[0]; a++) {{{{
        for (int j = 0; j < g[2]; j++) {{{{
            const int first = a * g[1] * g[2] + j;
            int64_t sum = 0, squares = 0;
            for (int k = 0; k < g[1]; k++) {{{{
                const int value = x[first + k * g[2]] - zero;
                sum += centred ? value : 0;
                squares += value * value;
            }}}}
            /* 1 / (size * standard deviation), {UNIT_BITS} bits up: multiplier / 2**shift */
            const double variance = (double)(g[1] * squares - sum * sum) + summand;
            const double inverse = variance > 0.0 ? {float(2**UNIT_BITS)} / sqrt(variance) : 0.0;
            int exponent = 0;
            const double mantissa = frexp(inverse, &exponent);
            const int64_t multiplier = (int64_t)(mantissa * 2147483648.0 + 0.5);
            const int wanted = 31 - exponent;
            const int shift = wanted < 1 ? 1 : wanted > 62 ? 62 : wanted;
            for (int k = 0; k < g[1]; k++) {{{{
                const int i = first + k * g[2], place = i / g[3];
                const int64_t apart = (int64_t)g[1] * (x[i] - zero) - sum;
                const int64_t unit = {{name}}_shifted(apart * multiplier, shift);
                const int64_t bias = b ? (int64_t)b[place % g[4]] * {2**UNIT_BITS} : 0;
                const int64_t total = unit * w[place % g[5]] + bias;
                y[i] = {{name}}_clamp(
                    {{name}}_shifted(total, {UNIT_BITS + FACTOR_BITS}) + output_zero, -128, 127);
            }}}}
        }}}}
    }}}}
}}}}""",
    "channel_softmax": """
/* e: exponentials of how far a number is below the largest; the result is in shares of 256. */
static inline void {name}_channel_softmax(
    const int8_t *x, int8_t *y, const int32_t *e, const int *g
) {{
    for (int j = 0; j < g[2]; j++) {{
        int largest = x[j];
        int64_t sum = 0;
        for (int k = 1; k < g[1]; k++) {{
            if (x[j + k * g[2]] > largest) largest = x[j + k * g[2]];
        }}
        for (int k = 0; k < g[1]; k++) sum += e[largest - x[j + k * g[2]]];
        for (int k = 0; k < g[1]; k++) {{
            const int64_t power = e[largest - x[j + k * g[2]]];
            y[j + k * g[2]] = {name}_clamp((512 * power + sum) / (2 * sum) - 128, -128, 127);
        }}
    }}
}}""",
    "bilinear": f"""
/* at: for each row of the output the two that it lies between and the second's share of
   {2**SHARE_BITS}, then the same of columns. */
static inline void {{name}}_bilinear(
    const int8_t *x, int8_t *y, const int16_t *at, int zero, const int *g
) {{{{
    const int16_t *columns = at + 3 * g[3];
    for (int c = 0; c < g[0]; c++) {{{{
        for (int i = 0; i < g[3]; i++) {{{{
            const int8_t *a = x + (c * g[1] + at[i]) * g[2];
            const int8_t *b = x + (c * g[1] + at[g[3] + i]) * g[2];
            const int32_t p = at[2 * g[3] + i], other = {2**SHARE_BITS} - p;
            for (int j = 0; j < g[4]; j++) {{{{
                const int l = columns[j], r = columns[g[4] + j];
                const int32_t q = columns[2 * g[4] + j];
                const int32_t left = other * (a[l] - zero) + p * (b[l] - zero);
                const int32_t right = other * (a[r] - zero) + p * (b[r] - zero);
                const int32_t total = ({2**SHARE_BITS} - q) * left + q * right;
                y[(c * g[3] + i) * g[4] + j] =
                    (int8_t)(zero + {{name}}_shifted(total, {2 * SHARE_BITS}));
            }}}}
        }}}}
    }}}}
}}}}""",
}


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
