"""Steps that move numbers or normalise within a sample, in C."""

from math import prod
from textwrap import fill

from fastcnn.backends.graph import Node
from fastcnn.interop.expression import c_number as number
from fastcnn.interop.sample_steps import NORMS, SOFTMAX, places_of, sets_of

#: Loops over sets of numbers: g has sets, their size, the step in a set, and where factors are.
SET_LOOPS = {
    "normalise": """
static inline void {name}_normalise(
    const float *x, float *y, const float *w, const float *b, float eps, int centred, const int *g
) {{
    for (int a = 0; a < g[0]; a++) {{
        for (int j = 0; j < g[2]; j++) {{
            const int first = a * g[1] * g[2] + j;
            float mean = 0.0f, square = 0.0f;
            for (int k = 0; centred && k < g[1]; k++) mean += x[first + k * g[2]];
            mean /= (float)g[1];
            for (int k = 0; k < g[1]; k++) {{
                const float apart = x[first + k * g[2]] - mean;
                square += apart * apart;
            }}
            const float scale = 1.0f / sqrtf(square / (float)g[1] + eps);
            for (int k = 0; k < g[1]; k++) {{
                const int i = first + k * g[2], place = i / g[3] % g[4];
                y[i] = (x[i] - mean) * scale * (w ? w[place] : 1.0f) + (b ? b[place] : 0.0f);
            }}
        }}
    }}
}}""",
    "channel_softmax": """
static inline void {name}_channel_softmax(
    const float *x, float *y, int logarithm, const int *g
) {{
    for (int j = 0; j < g[2]; j++) {{
        float largest = x[j], sum = 0.0f;
        for (int k = 1; k < g[1]; k++) {{
            if (x[j + k * g[2]] > largest) largest = x[j + k * g[2]];
        }}
        for (int k = 0; k < g[1]; k++) sum += expf(x[j + k * g[2]] - largest);
        for (int k = 0; k < g[1]; k++) {{
            const float value = x[j + k * g[2]] - largest;
            y[j + k * g[2]] = logarithm ? value - logf(sum) : expf(value) / sum;
        }}
    }}
}}""",
}


def loops_of(operation: str) -> str:
    """The name of the loops that an operation needs."""
    if operation in NORMS:
        return "normalise"
    return "channel_softmax" if operation in SOFTMAX else operation


def moving_step(title: str, node: Node, x: str, y: str) -> str:
    """A step that copies numbers from their places."""
    parts, places = places_of(node)
    inputs = prod(node.input_shapes[0]) // parts
    kind = "int16_t" if inputs < 2**15 else "int32_t"
    table = fill(", ".join(map(str, places)), 88, break_on_hyphens=False)
    table = table.replace("\n", "\n            ")
    return f"""{title}
    {{
        static const {kind} places[] = {{
            {table}}};
        const float *x = {x};
        float *y = {y};
        for (int c = 0; c < {parts}; c++) {{
            for (int i = 0; i < {len(places)}; i++) {{
                const int place = places[i];
                y[c * {len(places)} + i] = place < 0 ? 0.0f : x[c * {inputs} + place];
            }}
        }}
    }}"""


def set_step(title: str, node: Node, name: str, arrays: tuple[str, ...]) -> str:
    """A normalisation or a softmax; the arrays are input, output and parameters."""
    sizes = ", ".join(map(str, sets_of(node).numbers))
    kind = loops_of(node.operation)
    if kind == "normalise":
        centred = int(node.operation != "rms_norm")
        tail = f"{number(node.arguments['eps'])}, {centred}"
    else:
        tail = str(int(node.operation == "log_softmax"))
    return f"""{title}
    {{
        static const int g[] = {{{sizes}}};
        {name}_{kind}({", ".join(arrays)}, {tail}, g);
    }}"""
