"""A trained network as one C99 header: constants, loops and two functions to call."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastcnn
from fastcnn.arguments import plain_array
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.files import atomic_write, expanded
from fastcnn.interop.c.float_code import float_code
from fastcnn.interop.c.integer_code import integer_code
from fastcnn.interop.c.quantise import IntegerNetwork, quantise
from fastcnn.interop.inference_plan import (
    Plan,
    gives_classes,
    in_comment,
    make_plan,
    names_of_classes,
)
from fastcnn.layers import Model
from fastcnn.layers.connections import as_model

#: C keywords, which cannot be identifiers.
RESERVED = """
auto break case char const continue default do double else enum extern float for goto if inline int
long main register restrict return short signed sizeof static struct switch typedef union unsigned
void volatile while
"""
FLOAT_BYTES = 4
#: Arrays of constants in the C code: type and values.
CONSTANTS = re.compile(r"static const (\w+) \w+\[\d*\] = \{([^}]*)\}")
CONSTANT_BYTES = {"int8_t": 1, "uint8_t": 1, "int16_t": 2, "int32_t": 4, "int": 4, "float": 4}


@dataclass(frozen=True)
class CExport:
    """Description of an exported file.

    Attributes
    ----------
    path : Path
    name : str
        Prefix of the file's identifiers.
    flash : int
        Bytes of constants: weights, tables and sizes.
    ram : int
        Bytes of working memory.
    integers : IntegerNetwork or None
        The network in 8-bit integers: its ``outputs`` are bitwise those of the file.
    """

    path: Path
    name: str
    flash: int
    ram: int
    integers: IntegerNetwork | None = None


def export_c(
    model: Model,
    path: str | Path,
    *,
    name: str | None = None,
    classes: Sequence[str] | None = None,
    is_classifier: bool | None = None,
    calibration: np.ndarray | None = None,
) -> CExport:
    """Write a network as one C99 file that includes only the standard library.

    The file has ``int NAME_predict(const float *sample, float *probabilities)`` and, if the model's
    preprocessing defines the meaning of bytes, ``NAME_predict_bytes``. Both apply the preprocessing
    and return the most probable class. Batch normalisation is folded into the layers before it;
    memory is planned at export, and nothing is allocated at run time.

    Parameters
    ----------
    model : Model
        With a known input shape. Not changed.
    path : path
        File to write, such as ``net.h``.
    name : str, optional
        A C identifier; by default the file's name.
    classes : sequence of str, optional
        Names of the classes, for a table in the file.
    is_classifier : bool, optional
        Whether the outputs are logits, of which the file returns the softmax; otherwise they are
        returned unchanged. By default according to ``model.predicts``.
    calibration : ndarray, shape (N, ...), optional
        A few hundred training samples. If given, the network uses 8-bit integer arithmetic, with
        scales calibrated on these samples.

    Returns
    -------
    CExport
        Sizes of constants and working memory, and the integer network.

    Raises
    ------
    ConfigurationError
        If ``name`` is not an identifier, or a layer cannot be computed one sample at a time.
    ShapeError
        If the model's input shape is unknown, or ``calibration`` has another.
    DataError
        If ``calibration`` is in other units than the samples of training.
    OSError
        If the file cannot be written.
    """
    path = expanded(path)
    name = _checked_name(path.stem if name is None else name, given=name is not None)
    preprocessing = as_model(model).preprocessing
    in_memory = preprocessing.takes_bytes or not preprocessing.is_identity
    plan = make_plan(model, input_in_memory=in_memory or calibration is not None)
    if classes is not None:
        classes = names_of_classes(classes, plan.steps[-1].size)
    if is_classifier is None:
        is_classifier = gives_classes(model)
    if calibration is None:
        integers, ram = None, FLOAT_BYTES * plan.memory
        code = float_code(plan, name, preprocessing, is_classifier)
    else:
        samples = _samples(plan, preprocessing, calibration)
        integers, ram = quantise(model, plan, samples), plan.memory
        code = integer_code(integers, name, is_classifier)
    flash = sum(
        CONSTANT_BYTES[kind] * (values.count(",") + 1) for kind, values in CONSTANTS.findall(code)
    )
    kind = "single precision" if integers is None else "8-bit integers"
    facts = (
        f"In {kind}. Constants: {flash:,} bytes. Working memory: {ram:,} bytes.",
        f"Conversion of a sample: {preprocessing.describe()}.",
    )
    atomic_write(path, _file(plan, name, code, classes, facts).encode())
    return CExport(path, name, flash, ram, integers)


def _samples(plan: Plan, preprocessing: Preprocessing, given: Any) -> np.ndarray:
    """Checked calibration samples: numbers in the network's input shape, in units of training."""
    samples = plain_array("calibration", given)
    if samples.dtype.kind not in "fiub" or samples.shape[1:] != plan.input_shape:
        raise ShapeError(
            f"calibration: the network takes samples of shape {plan.input_shape}, got "
            f"{samples.dtype} of shape {samples.shape}"
        )
    preprocessing.check(samples, "calibration")
    return samples


def _checked_name(name: str, *, given: bool) -> str:
    if not isinstance(name, str):
        raise ConfigurationError(f"name must be a C identifier, got {name!r}")
    if not given:
        name = re.sub(r"\W", "_", name, flags=re.ASCII)
        is_word = re.match("[A-Za-z]", name) and name not in RESERVED.split()
        name = name if is_word else f"net_{name}"
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) or name in RESERVED.split():
        raise ConfigurationError(f"name must be a C identifier, got {name!r}")
    return name


def _file(
    plan: Plan, name: str, code: str, classes: Sequence[str] | None, facts: Sequence[str]
) -> str:
    upper, outputs = name.upper(), plan.steps[-1].size
    shape = " x ".join(map(str, plan.input_shape))
    comments = "\n".join(f" * {fact}" for fact in facts)
    rows = "\n".join(
        f" *   {in_comment(step.node.name):<24} {step.node.operation:<20} {step.node.output_shape}"
        for step in plan.steps
    )
    names = "" if classes is None else _class_names(name, classes)
    return f"""/*
 * A network of fastcnn {fastcnn.__version__}, for samples of shape {shape}.
{comments}
 *
 *   #include "{name}.h"
 *   float outputs[{upper}_OUTPUT_SIZE];
 *   int best = {name}_predict(sample, outputs);
 *
{rows}
 */
#ifndef {upper}_H
#define {upper}_H

#define {upper}_INPUT_SIZE {plan.input_size}
#define {upper}_OUTPUT_SIZE {outputs}
#define {upper}_MEMORY_SIZE {plan.memory}

{code}
{names}
#endif
"""


def _class_names(name: str, classes: Sequence[str]) -> str:
    quoted = ",\n        ".join(map(_quoted, classes))
    return f"""
/* The name of a class. */
static inline const char *{name}_class(int index) {{
    static const char *const names[{len(classes)}] = {{
        {quoted}
    }};
    return names[index];
}}
"""


def _quoted(text: str) -> str:
    """A C string literal, with non-ASCII characters as octal UTF-8 bytes."""
    letters = [
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '\\"?' else f"\\{byte:03o}"
        for byte in text.encode()
    ]
    return '"' + "".join(letters) + '"'
