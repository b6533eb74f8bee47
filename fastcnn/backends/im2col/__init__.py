"""Gather and multiply: im2col, col2im and GEMM in numpy and numba; supports every geometry.

The fallback of networks that ``lanes`` does not support.
"""

from typing import Any

from fastcnn.backends.im2col import elementwise
from fastcnn.backends.im2col.norm import (
    batch_statistics,
    gradient_sums,
    joint_means,
    joint_statistics,
    moments,
)
from fastcnn.backends.joint import joint_functions
from fastcnn.backends.operation_functions import CLASS_LOSSES, functions_in
from fastcnn.operations import OPERATIONS

joint, joint_backward = joint_functions("im2col")
globals().update(functions_in("fastcnn.backends.plain", OPERATIONS))
globals().update(functions_in(__name__, (*OPERATIONS, *CLASS_LOSSES)))


def __getattr__(name: str) -> Any:
    """The functions of an element-wise operation, generated from its record."""
    return elementwise.function(name)
