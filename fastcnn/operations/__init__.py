"""What can be computed: one record an operation.

A model runner, a program builder, the exporter and the tests read what they need to know of an
operation from its record. Element-wise operations are their records: a formula and its gradient,
which numpy arrays, plain floats and the engine's vectors evaluate alike.
"""

from typing import Any

from fastcnn.operations import piecewise, smooth
from fastcnn.operations.record import Choice, Elementwise, Formula, Number, Operation

__all__ = ["OPERATIONS", "Choice", "Elementwise", "Formula", "Number", "Operation"]

#: What products with weights have in common.
PRODUCT: dict[str, Any] = {
    "fuses_relu": True,
    "any_layout": True,
    "gradient_needs": "input",
    "masks_gradient": True,
    "frees_input": True,
}
JOIN: dict[str, Any] = {
    "inputs": 2,
    "fuses_relu": True,
    "any_layout": True,
    "hands_gradient_on": True,
}
DROPOUT: dict[str, Any] = {
    "renames": True,
    "any_layout": True,
    "frees_input": True,
}
#: What copies or mixes pixels, by tables of their places.
SAMPLING: dict[str, Any] = {
    "gradient_needs": "nothing",
    "frees_input": True,
    "any_layout": True,
}
#: What normalisations within a sample have in common.
SAMPLE_NORM: dict[str, Any] = {"fuses_relu": True, "any_layout": True, "frees_input": True}
SOFTMAX: dict[str, Any] = {"any_layout": True, "frees_input": True, "needs_output": True}
OPERATIONS: dict[str, Operation] = {
    row.name: row
    for row in (
        Operation("conv2d", ("weight", "bias"), ("weight",), **PRODUCT, output_mask=True),
        Operation("conv_transpose2d", ("weight", "bias"), ("weight",), **PRODUCT),
        Operation("linear", ("weight", "bias"), ("weight",), **(PRODUCT | {"any_layout": False})),
        Operation("max_pool2d", masks_gradient=True, frees_input=True),
        Operation("avg_pool2d", gradient_needs="nothing", frees_input=True),
        Operation("adaptive_avg_pool2d", gradient_needs="nothing", frees_input=True),
        Operation("adaptive_max_pool2d", masks_gradient=True, frees_input=True),
        Operation("pad", **SAMPLING),
        Operation("interpolate", **SAMPLING),
        Operation("pixel_shuffle", **SAMPLING),
        Operation("pixel_unshuffle", **SAMPLING),
        Operation("channel_shuffle", **SAMPLING),
        Operation("unflatten", gradient_needs="nothing", renames=True),
        Operation("flatten", renames=True),
        Operation("input_part", gradient_needs="nothing", renames=True),
        Operation("add", **JOIN),
        Operation("subtract", **JOIN),
        Operation("multiply", **(JOIN | {"hands_gradient_on": False})),
        Operation("concat", inputs=None, any_layout=True, hands_gradient_on=True),
        Operation("narrow", gradient_needs="nothing", renames=True, any_layout=True),
        Operation("dropout", random=True, **DROPOUT),
        Operation("dropout2d", random=True, **DROPOUT),
        Operation(
            "batch_norm",
            ("weight", "bias"),
            ("weight",),
            normalises=True,
            fuses_relu=True,
            any_layout=True,
            frees_input=True,
        ),
        *(
            Operation(name, ("weight", "bias"), ("weight",), **SAMPLE_NORM)
            for name in ("layer_norm", "layer_norm2d", "group_norm")
        ),
        Operation("rms_norm", ("weight",), ("weight",), **SAMPLE_NORM),
        Operation("local_response_norm", any_layout=True, frees_input=True),
        Operation("softmax", **SOFTMAX),
        Operation("log_softmax", **SOFTMAX),
        *piecewise.RECORDS,
        *smooth.RECORDS,
    )
}


def elementwise_operations() -> list[Elementwise]:
    """The records of all element-wise operations."""
    return [row for row in OPERATIONS.values() if isinstance(row, Elementwise)]


def elementwise_function(name: str) -> tuple[Elementwise, bool]:
    """The record that a backend function's name belongs to, and whether it is the gradient.

    Raises
    ------
    AttributeError
        If there is no such element-wise operation.
    """
    record = OPERATIONS.get(name.removesuffix("_backward"))
    if not isinstance(record, Elementwise):
        raise AttributeError(f"no backend function is called {name!r}")
    return record, name.endswith("_backward")
