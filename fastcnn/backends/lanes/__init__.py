"""Blocks of 16 samples, one a SIMD lane: register tiles, compiled once, run as flat programs.

``add``, ``batch_norm``, ``flatten``, ``dropout`` and the losses as functions of their own are
im2col's; inside a network the engine has its own.
"""

from typing import Any

from fastcnn.backends.im2col import (
    add,
    add_backward,
    batch_norm,
    batch_norm_backward,
    batch_statistics,
    cross_entropy,
    cross_entropy_backward,
    dropout,
    dropout2d,
    dropout2d_backward,
    dropout_backward,
    flatten,
    flatten_backward,
    mse,
    mse_backward,
)
from fastcnn.backends.lanes import elementwise
from fastcnn.backends.lanes.functions import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    conv2d,
    conv2d_backward,
    conv_transpose2d,
    conv_transpose2d_backward,
    linear,
    linear_backward,
    max_pool2d,
    max_pool2d_backward,
)

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "add",
    "add_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_statistics",
    "conv2d",
    "conv2d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "dropout",
    "dropout2d",
    "dropout2d_backward",
    "dropout_backward",
    "flatten",
    "flatten_backward",
    "linear",
    "linear_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "mse",
    "mse_backward",
]


def __getattr__(name: str) -> Any:
    """The functions of an element-wise operation, which its record makes."""
    return elementwise.function(name)
