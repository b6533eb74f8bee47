"""Steps that move numbers or normalise within a sample, in C."""

from collections.abc import Mapping, Sequence
from math import prod
from textwrap import fill
from typing import Any

import numpy as np

from fastcnn.backends.graph import Node
from fastcnn.interop.expression import c_number as number
from fastcnn.interop.inference_plan import Plan
from fastcnn.interop.sample_steps import NORMS, SOFTMAX, is_bilinear, places_of, sets_of, taps_of

#: In loops over sets of numbers g has sets, their size, the step in a set, and where factors are.
SAMPLE_LOOPS = {
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
    "bilinear": """
/* at: for each row of the output the two that it lies between, the same of columns; share: of the
   second ones. */
static inline void {name}_bilinear(
    const float *x, float *y, const int *at, const float *share, const int *g
) {{
    const int *first = at + 2 * g[3], *second = first + g[4];
    for (int c = 0; c < g[0]; c++) {{
        for (int i = 0; i < g[3]; i++) {{
            const float *a = x + (c * g[1] + at[i]) * g[2];
            const float *b = x + (c * g[1] + at[g[3] + i]) * g[2];
            for (int j = 0; j < g[4]; j++) {{
                const int l = first[j], r = second[j];
                const float left = a[l] + share[i] * (b[l] - a[l]);
                const float right = a[r] + share[i] * (b[r] - a[r]);
                y[(c * g[3] + i) * g[4] + j] = left + share[g[3] + j] * (right - left);
            }}
        }}
    }}
}}""",
    "local_response_norm": """
static inline void {name}_local_response_norm(
    const float *x, float *y, const int *g, float alpha, float beta, float k
) {{
    /* g: channels, pixels, channels that are summed up */
    for (int c = 0; c < g[0]; c++) {{
        for (int i = 0; i < g[1]; i++) {{
            float sum = 0.0f;
            for (int d = c - g[2] / 2; d < c - g[2] / 2 + g[2]; d++) {{
                if (d >= 0 && d < g[0]) sum += x[d * g[1] + i] * x[d * g[1] + i];
            }}
            y[c * g[1] + i] = x[c * g[1] + i] * powf(k + alpha * sum, -beta);
        }}
    }}
}}""",
}


def loops_of(node: Node) -> str:
    """The name of the loops that a step needs."""
    if node.operation in NORMS:
        return "normalise"
    if is_bilinear(node):
        return "bilinear"
    return "channel_softmax" if node.operation in SOFTMAX else node.operation


def bilinear_tables(node: Node) -> tuple[str, np.ndarray, str]:
    """The places between which rows and columns lie, the second ones' shares, and the sizes."""
    taps = taps_of(node)
    places = ", ".join(str(int(place)) for axis in taps for place in axis[:2].reshape(-1))
    shares = np.concatenate([axis[2] for axis in taps])
    sizes = ", ".join(map(str, (*node.input_shapes[0], *node.output_shape[1:])))
    return places, shares, sizes


def bilinear_step(title: str, node: Node, name: str, x: str, y: str) -> str:
    """A bilinear interpolation."""
    places, shares, sizes = bilinear_tables(node)
    return f"""{title}
    {{
        static const int at[] = {{{wrapped(places)}}};
        static const float share[] = {{{wrapped(", ".join(map(number, shares)))}}};
        static const int g[] = {{{sizes}}};
        {name}_bilinear({x}, {y}, at, share, g);
    }}"""


def response_step(
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
    """The values of a table, in lines."""
    lines = fill(text, 88, break_on_hyphens=False, break_long_words=False)
    return "\n            " + lines.replace("\n", "\n            ")


def moving_step(
    title: str, node: Node, x: str, y: str, kind: str = "float", zero: str = "0.0f"
) -> str:
    """A step that copies numbers from their places."""
    parts, places = places_of(node)
    inputs = prod(node.input_shapes[0]) // parts
    table = wrapped(", ".join(map(str, places)))
    return f"""{title}
    {{
        static const {place_type(node)} places[] = {{{table}}};
        const {kind} *x = {x};
        {kind} *y = {y};
        for (int c = 0; c < {parts}; c++) {{
            for (int i = 0; i < {len(places)}; i++) {{
                const int place = places[i];
                y[c * {len(places)} + i] = place < 0 ? {zero} : x[c * {inputs} + place];
            }}
        }}
    }}"""


def place_type(node: Node) -> str:
    """The C type of a place in a part of the input."""
    parts, _ = places_of(node)
    return "int16_t" if prod(node.input_shapes[0]) // parts < 2**15 else "int32_t"


def set_step(title: str, node: Node, name: str, arrays: tuple[str, ...]) -> str:
    """A normalisation or a softmax; the arrays are input, output and parameters."""
    sizes = ", ".join(map(str, sets_of(node).numbers))
    kind = loops_of(node)
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


#: What a classifier does with its outputs: its class, and the probabilities of logits.
LAST_LOOPS = {
    "softmax": """
static inline int {name}_softmax(float *x, int count) {{
    int best = 0;
    float sum = 0.0f;
    for (int i = 1; i < count; i++) {{
        if (x[i] > x[best]) best = i;
    }}
    const float largest = x[best];
    for (int i = 0; i < count; i++) {{
        x[i] = expf(x[i] - largest);
        sum += x[i];
    }}
    for (int i = 0; i < count; i++) x[i] /= sum;
    return best;
}}""",
    "largest": """
static inline int {name}_largest(const float *x, int count) {{
    int best = 0;
    for (int i = 1; i < count; i++) {{
        if (x[i] > x[best]) best = i;
    }}
    return best;
}}""",
}


def last_loop(plan: Plan) -> str:
    """What finds the class of a classifier's outputs, and makes logits probabilities."""
    return "largest" if plan.gives_probabilities else "softmax"
