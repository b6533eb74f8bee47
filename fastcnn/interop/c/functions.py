"""Common parts of float and integer C files: constants, functions and entry points."""

import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from math import prod
from textwrap import fill, indent

import numpy as np

from fastcnn.backends.graph import INPUT, Node
from fastcnn.interop.expression import c_number
from fastcnn.interop.inference_plan import Plan, in_comment
from fastcnn.interop.sample_steps import places_of

INCLUDES = "#include <math.h>\n#include <stdint.h>\n"


class Constants:
    """The constant arrays of a C file, with names prefixed by the network's."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._arrays: dict[str, tuple[str, str, str]] = {}

    def array(self, label: str, values: np.ndarray, kind: str = "float") -> str:
        """Add an array; returns its name."""
        write = c_number if kind == "float" else lambda value: str(int(value))
        text = ", ".join(map(write, values.reshape(-1)))
        # In lines of at most 100 columns.
        lines = fill(text, 96, break_long_words=False, break_on_hyphens=False)
        made = label, kind, f"[{values.size}] = {{\n{indent(lines, '    ')}\n}};"
        letters = (each if each.isalnum() and each.isascii() else "_" for each in label)
        name = f"{self.name}_{''.join(letters)}"
        # Different labels may become equal in C: "a.b" and "a_b".
        while self._arrays.setdefault(name, made) != made:
            name += "_"
        return name

    def texts(self) -> list[str]:
        """Their definitions."""
        return [
            f"static const {kind} {name}{tail}" for name, (_, kind, tail) in self._arrays.items()
        ]


def block(node: Node, lines: Sequence[str]) -> str:
    """A step: its comment and its statements, in braces if there are several."""
    shape = " x ".join(map(str, node.output_shape))
    title = f"/* {in_comment(node.name)}: {node.operation} to {shape} */"
    if len(lines) > 1:
        lines = ["{", *(indent(line, "    ") for line in lines), "}"]
    return indent("\n".join([title, *lines]), "    ")


def sizes(numbers: Iterable[int]) -> str:
    """The sizes that a function reads, as a statement of a step."""
    return f"static const int g[] = {{{', '.join(map(str, numbers))}}};"


def table(kind: str, name: str, values: Iterable[object]) -> str:
    """A long array of constants, as a statement of a step."""
    text = ", ".join(map(str, values))
    lines = fill(text, 88, break_on_hyphens=False, break_long_words=False)
    return f"static const {kind} {name}[] = {{\n{indent(lines, '    ')}}};"


def moving_lines(node: Node, x: str, y: str, kind: str = "float", zero: str = "0.0f") -> list[str]:
    """The statements of a step that copies values by an index table."""
    parts, places = places_of(node)
    inputs, outputs = prod(node.input_shapes[0]) // parts, len(places)
    return [
        table("int16_t" if inputs < 2**15 else "int32_t", "places", places),
        f"const {kind} *x = {x};",
        f"{kind} *y = {y};",
        f"for (int c = 0; c < {parts}; c++) {{",
        f"    for (int i = 0; i < {outputs}; i++) {{",
        "        const int place = places[i];",
        f"        y[c * {outputs} + i] = place < 0 ? {zero} : x[c * {inputs} + place];",
        "    }",
        "}",
    ]


def place_of(plan: Plan, source: int) -> str:
    """The address of a step's input, as a C expression."""
    if source != INPUT:
        return f"memory + {plan.offsets[source]}"
    return "sample" if plan.input_offset is None else f"memory + {plan.input_offset}"


def called_functions(file: str, name: str, code: str, **numbers: int) -> list[str]:
    """The functions of a file that ``code`` calls, directly or indirectly, in file order.

    Parameters
    ----------
    file : str
        A file in this package's folder ``code``, with empty lines between functions.
    name : str
        Replacement of ``NAME`` in it.
    **numbers
        Words of the file, such as ``UNIT_BITS``, and their values.
    """
    text = (files("fastcnn.interop.c") / "code" / file).read_text(encoding="utf-8")
    for word, value in {**numbers, "NAME": name}.items():
        text = text.replace(word, str(value))
    found: list[str] = []
    for function in reversed(text.strip().split("\n\n")):
        called = re.search(rf"{name}_\w+\(", function)
        if called and called[0] in code:
            found.insert(0, f"\n{function}")
            code += function
    return found


def entry_functions(
    plan: Plan, name: str, is_classifier: bool, kind: str, body: str, conversions: list[str]
) -> str:
    """The entry points of the C file.

    Parameters
    ----------
    is_classifier : bool
        Whether the outputs are logits, of which the softmax is returned.
    kind : str
        The type of the working memory.
    body : str
        The steps, up to the outputs.
    conversions : list of str
        Code that converts a sample of floats and, if supported, of bytes into the working memory.
    """
    in_place = plan.input_offset is None
    outputs, upper = plan.steps[-1].size, name.upper()
    result, finish = "outputs", "return 0;"
    if is_classifier:
        last = "largest" if plan.gives_probabilities else "softmax"
        result, finish = "probabilities", f"return {name}_{last}(outputs, {outputs});"
    text = f"""
/* Everything after the conversion of the sample. */
static inline int {name}_run({"const float *sample, " * in_place}float *outputs, {kind} *memory) {{
{body}
    {finish}
}}

/* The working memory: one for all calls, so that only one thread at a time may predict. */
static inline {kind} *{name}_memory(void) {{
    static {kind} memory[{upper}_MEMORY_SIZE];
    return memory;
}}
"""
    floats = f"""sample: {upper}_INPUT_SIZE numbers, channel by channel, row by row; {result}:
   {upper}_OUTPUT_SIZE numbers. Returns the most probable class, or 0 for other networks."""
    kinds = (
        ("predict", "float", floats),
        ("predict_bytes", "uint8_t", "The same for bytes, such as grey values of 0 to 255."),
    )
    for (function, taken, comment), conversion in zip(kinds, conversions, strict=False):
        text += f"""
/* {comment} */
static inline int {name}_{function}(const {taken} *sample, float *{result}) {{
    {kind} *memory = {name}_memory();
{conversion}    return {name}_run({"sample, " * in_place}{result}, memory);
}}
"""
    return text.rstrip()
