"""A network in single precision as one C99 file."""

from collections.abc import Sequence
from math import prod
from textwrap import fill, indent

import numpy as np

from fastcnn.backends.graph import INPUT
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.interop.c.names import label
from fastcnn.interop.c.sample_code import (
    LAST_LOOPS,
    SAMPLE_LOOPS,
    bilinear_step,
    last_loop,
    loops_of,
    moving_step,
    response_step,
    set_step,
)
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

#: What formulas may call, as C functions of floats.
FUNCTIONS = {
    "sigmoid": """static inline float {name}_sigmoid(float x) {{
    const float e = expf(-fabsf(x));
    return (x >= 0.0f ? 1.0f : e) / (1.0f + e);
}}""",
    "log1p_exp": """static inline float {name}_log1p_exp(float x) {{
    return (x <= 0.0f ? 0.0f : x) + log1pf(expf(-fabsf(x)));
}}""",
    "normal_cdf": """static inline float {name}_normal_cdf(float x) {{
    return 0.5f * erfcf(-0.70710678f * x);
}}""",
}
#: The loops of each operation, for one sample. Rows of an output are summed up together, so that a
#: compiler can use vectors.
LOOPS = {
    "conv2d": """
static inline void {name}_conv2d(
    const float *restrict x, const float *restrict w, const float *b, float *restrict y,
    const int *g
) {{
    /* g: channels, height, width, outputs, height, width, kernel 2, stride 2, padding 2,
       dilation 2, groups */
    const int C = g[0], H = g[1], W = g[2], O = g[3], OH = g[4], OW = g[5], KH = g[6], KW = g[7];
    const int SH = g[8], SW = g[9], PH = g[10], PW = g[11], DH = g[12], DW = g[13];
    const int inputs = C / g[14], outputs = O / g[14];
    for (int o = 0; o < O; o++) {{
        const float *group = x + o / outputs * inputs * H * W;
        for (int i = 0; i < OH; i++) {{
            float *row = y + (o * OH + i) * OW;
            for (int j = 0; j < OW; j++) row[j] = b ? b[o] : 0.0f;
            for (int c = 0; c < inputs; c++) {{
                for (int k = 0; k < KH; k++) {{
                    const int h = i * SH - PH + k * DH;
                    if (h < 0 || h >= H) continue;
                    for (int l = 0; l < KW; l++) {{
                        const float weight = w[((o * inputs + c) * KH + k) * KW + l];
                        const int shift = l * DW - PW, end = (W - shift + SW - 1) / SW;
                        const int first = shift < 0 ? (-shift + SW - 1) / SW : 0;
                        const int last = end < OW ? end : OW;
                        const int from = (c * H + h) * W + shift;
                        /* A stride of 1 has a loop of its own, which compilers turn to vectors. */
                        for (int j = first; SW == 1 && j < last; j++) {{
                            row[j] += weight * group[from + j];
                        }}
                        for (int j = first; SW != 1 && j < last; j++) {{
                            row[j] += weight * group[from + j * SW];
                        }}
                    }}
                }}
            }}
        }}
    }}
}}""",
    "conv_transpose2d": """
static inline void {name}_conv_transpose2d(
    const float *restrict x, const float *restrict w, const float *b, float *restrict y,
    const int *g
) {{
    /* g: as for conv2d; w has the shape (channels, outputs / groups, kernel 2) */
    const int C = g[0], H = g[1], W = g[2], O = g[3], OH = g[4], OW = g[5], KH = g[6], KW = g[7];
    const int SH = g[8], SW = g[9], PH = g[10], PW = g[11], DH = g[12], DW = g[13];
    const int inputs = C / g[14], outputs = O / g[14];
    for (int o = 0; o < O; o++) {{
        for (int i = 0; i < OH * OW; i++) y[o * OH * OW + i] = b ? b[o] : 0.0f;
        for (int c = o / outputs * inputs; c < (o / outputs + 1) * inputs; c++) {{
            for (int i = 0; i < H; i++) {{
                for (int k = 0; k < KH; k++) {{
                    const int h = i * SH - PH + k * DH;
                    if (h < 0 || h >= OH) continue;
                    for (int l = 0; l < KW; l++) {{
                        const float weight = w[((c * outputs + o % outputs) * KH + k) * KW + l];
                        for (int j = 0; j < W; j++) {{
                            const int at = j * SW - PW + l * DW;
                            if (at < 0 || at >= OW) continue;
                            y[(o * OH + h) * OW + at] += weight * x[(c * H + i) * W + j];
                        }}
                    }}
                }}
            }}
        }}
    }}
}}""",
    "linear": """
static inline void {name}_linear(
    const float *restrict x, const float *restrict w, const float *b, float *restrict y, int inputs,
    int outputs
) {{
    for (int o = 0; o < outputs; o++) {{
        float sum = b ? b[o] : 0.0f;
        for (int i = 0; i < inputs; i++) sum += w[o * inputs + i] * x[i];
        y[o] = sum;
    }}
}}""",
    "max_pool2d": """
static inline void {name}_max_pool2d(const float *x, float *y, const int *g) {{
    /* g: channels, height, width, output height, output width, kernel 2, stride 2, padding 2,
       dilation 2 */
    for (int c = 0; c < g[0]; c++) {{
        for (int i = 0; i < g[3]; i++) {{
            for (int j = 0; j < g[4]; j++) {{
                float best = -INFINITY;
                for (int k = 0; k < g[5]; k++) {{
                    for (int l = 0; l < g[6]; l++) {{
                        const int h = i * g[7] - g[9] + k * g[11];
                        const int w = j * g[8] - g[10] + l * g[12];
                        if (h < 0 || h >= g[1] || w < 0 || w >= g[2]) continue;
                        const float value = x[(c * g[1] + h) * g[2] + w];
                        if (value > best || value != value) best = value;
                    }}
                }}
                y[(c * g[3] + i) * g[4] + j] = best;
            }}
        }}
    }}
}}""",
    "avg_pool2d": """
static inline void {name}_avg_pool2d(const float *x, float *y, const int *g) {{
    /* g: as for max_pool2d up to the padding, and the padding that counts 2 */
    const int end = g[1] + g[11], side = g[2] + g[12];
    for (int c = 0; c < g[0]; c++) {{
        for (int i = 0; i < g[3]; i++) {{
            for (int j = 0; j < g[4]; j++) {{
                float sum = 0.0f;
                int count = 0;
                for (int k = 0; k < g[5]; k++) {{
                    for (int l = 0; l < g[6]; l++) {{
                        const int h = i * g[7] - g[9] + k, w = j * g[8] - g[10] + l;
                        if (h >= -g[11] && h < end && w >= -g[12] && w < side) count++;
                        if (h < 0 || h >= g[1] || w < 0 || w >= g[2]) continue;
                        sum += x[(c * g[1] + h) * g[2] + w];
                    }}
                }}
                y[(c * g[3] + i) * g[4] + j] = sum / (float)count;
            }}
        }}
    }}
}}""",
    "adaptive_avg_pool2d": """
static inline void {name}_adaptive_avg_pool2d(const float *x, float *y, const int *g) {{
    /* g: channels, height, width, output height, output width */
    for (int c = 0; c < g[0]; c++) {{
        for (int i = 0; i < g[3]; i++) {{
            const int top = i * g[1] / g[3], bottom = ((i + 1) * g[1] + g[3] - 1) / g[3];
            for (int j = 0; j < g[4]; j++) {{
                const int left = j * g[2] / g[4], right = ((j + 1) * g[2] + g[4] - 1) / g[4];
                float sum = 0.0f;
                for (int h = top; h < bottom; h++) {{
                    for (int w = left; w < right; w++) sum += x[(c * g[1] + h) * g[2] + w];
                }}
                y[(c * g[3] + i) * g[4] + j] = sum / (float)((bottom - top) * (right - left));
            }}
        }}
    }}
}}""",
    "adaptive_max_pool2d": """
static inline void {name}_adaptive_max_pool2d(const float *x, float *y, const int *g) {{
    /* g: channels, height, width, output height, output width */
    for (int c = 0; c < g[0]; c++) {{
        for (int i = 0; i < g[3]; i++) {{
            const int top = i * g[1] / g[3], bottom = ((i + 1) * g[1] + g[3] - 1) / g[3];
            for (int j = 0; j < g[4]; j++) {{
                const int left = j * g[2] / g[4], right = ((j + 1) * g[2] + g[4] - 1) / g[4];
                float best = -INFINITY;
                for (int h = top; h < bottom; h++) {{
                    for (int w = left; w < right; w++) {{
                        const float value = x[(c * g[1] + h) * g[2] + w];
                        if (value > best || value != value) best = value;
                    }}
                }}
                y[(c * g[3] + i) * g[4] + j] = best;
            }}
        }}
    }}
}}""",
}


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
    kinds: dict[str, None] = {}
    calls = []
    for index, step in enumerate(plan.steps):
        kinds[loops_of(step.node)] = None
        calls.append(_call(plan, index, step, name, constants))
    if is_classifier:
        kinds[last_loop(plan)] = None
    body = "\n".join(calls)
    known = LOOPS | SAMPLE_LOOPS | LAST_LOOPS
    loops = [known[kind].format(name=name) for kind in kinds if kind in known]
    helpers = [
        text.format(name=name) for key, text in FUNCTIONS.items() if f"{name}_{key}(" in body
    ]
    return "\n".join(
        (
            "#include <math.h>\n#include <stdint.h>\n",
            *(
                _array(f"{name}_{label(key, constants)}", values)
                for key, values in constants.items()
            ),
            *helpers,
            *loops,
            _entries(plan, name, preprocessing, is_classifier, body),
        )
    )


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


def _entries(
    plan: Plan, name: str, preprocessing: Preprocessing, is_classifier: bool, body: str
) -> str:
    """The functions that a program calls."""
    outputs = plan.steps[-1].size
    last = f"memory + {plan.offsets[-1]}"
    loop = last_loop(plan)
    finish = f"return {name}_{loop}(outputs, {outputs});" if is_classifier else "return 0;"
    result = "probabilities" if is_classifier else "outputs"
    upper = name.upper()
    run = f"""
/* Everything after the conversion of the sample. */
static inline int {name}_run({_sample(plan)}float *outputs, float *memory) {{
{body}
    for (int i = 0; i < {outputs}; i++) outputs[i] = ({last})[i];
    {finish}
}}"""
    given = "sample, " if plan.input_offset is None else ""
    functions = [run, _memory(name)]
    convert = _convert(plan, preprocessing, is_bytes=False)
    functions.append(f"""
/* sample: {upper}_INPUT_SIZE numbers, channel by channel, row by row; {result}:
   {upper}_OUTPUT_SIZE numbers. Returns the most probable class, or 0 for other networks. */
static inline int {name}_predict(const float *sample, float *{result}) {{
    float *memory = {name}_memory();
{convert}    return {name}_run({given}{result}, memory);
}}""")
    if preprocessing.takes_bytes and plan.input_offset is not None:
        convert = _convert(plan, preprocessing, is_bytes=True)
        functions.append(f"""
/* The same for bytes, such as grey values of 0 to 255. */
static inline int {name}_predict_bytes(const uint8_t *sample, float *{result}) {{
    float *memory = {name}_memory();
{convert}    return {name}_run({result}, memory);
}}""")
    return "\n".join(functions)


def _sample(plan: Plan) -> str:
    return "const float *sample, " if plan.input_offset is None else ""


def _memory(name: str) -> str:
    return f"""
/* The working memory: one for all calls, so that only one thread at a time may predict. */
static inline float *{name}_memory(void) {{
    static float memory[{name.upper()}_MEMORY_SIZE];
    return memory;
}}"""


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
