"""Steps that move numbers or normalise within a sample, in C."""

from collections.abc import Mapping, Sequence
from math import prod
from textwrap import fill
from typing import Any

import numpy as np

from fastcnn.backends.graph import Node
from fastcnn.interop.expression import c_number as number
from fastcnn.interop.sample_steps import NORMS, places_of, sets_of, taps_of


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
