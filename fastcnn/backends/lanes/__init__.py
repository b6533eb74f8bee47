"""Blocks of 16 samples, one a SIMD lane: register tiles, compiled once, run as flat programs.

``add``, ``batch_norm``, ``flatten``, ``dropout`` and the losses as functions of their own are
im2col's; inside a network the engine has its own.
"""

from typing import Any

from fastcnn.backends import im2col
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
from fastcnn.backends.lanes.elementwise import (
    elu,
    elu_backward,
    gelu,
    gelu_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softplus,
    softplus_backward,
    tanh,
    tanh_backward,
)
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
    "elu",
    "elu_backward",
    "flatten",
    "flatten_backward",
    "gelu",
    "gelu_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "mse",
    "mse_backward",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softplus",
    "softplus_backward",
    "tanh",
    "tanh_backward",
]


def __getattr__(name: str) -> Any:
    """Element-wise operations that the engine has no kernel for are im2col's."""
    return getattr(im2col, name)
