"""Nested loops, to be read next to the equations: the specification of every faster backend."""

from typing import Any

from fastcnn.backends.joint import joint_functions
from fastcnn.backends.operation_functions import CLASS_LOSSES, functions_in
from fastcnn.backends.reference import elementwise
from fastcnn.backends.reference.norm import batch_statistics
from fastcnn.operations import OPERATIONS

joint, joint_backward = joint_functions("reference")
globals().update(functions_in("fastcnn.backends.plain", OPERATIONS, "_loops"))
globals().update(functions_in(__name__, (*OPERATIONS, *CLASS_LOSSES)))


def __getattr__(name: str) -> Any:
    """The functions of an element-wise operation, generated from its record."""
    return elementwise.function(name)
