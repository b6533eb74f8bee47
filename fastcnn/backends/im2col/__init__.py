"""Gather and multiply: im2col, col2im and GEMM in numpy and numba; covers every geometry."""

from typing import Any

from fastcnn.backends.im2col import elementwise
from fastcnn.backends.im2col.loss import (
    cross_entropy,
    cross_entropy_backward,
    focal,
    focal_backward,
    nll,
    nll_backward,
)
from fastcnn.backends.im2col.norm import (
    batch_statistics,
    gradient_sums,
    joint_means,
    joint_statistics,
    moments,
)
from fastcnn.backends.input_part import input_part, input_part_backward
from fastcnn.backends.joint import joint_functions
from fastcnn.backends.operation_functions import functions_in
from fastcnn.operations import OPERATIONS

joint, joint_backward = joint_functions("im2col")
globals().update(
    functions_in("fastcnn.backends.plain", OPERATIONS) | functions_in(__name__, OPERATIONS)
)


def __getattr__(name: str) -> Any:
    """The functions of an element-wise operation, which its record makes."""
    return elementwise.function(name)
