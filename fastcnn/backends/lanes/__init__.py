"""Blocks of 16 samples, one a SIMD lane: register tiles, compiled once, run as flat programs.

``flatten``, ``dropout`` and the losses as functions of their own are im2col's; inside a network
the engine has its own.
"""

from fastcnn.backends.im2col import (
    cross_entropy,
    cross_entropy_backward,
    dropout,
    dropout_backward,
    flatten,
    flatten_backward,
    mse,
    mse_backward,
)
from fastcnn.backends.lanes.functions import (
    avg_pool2d,
    avg_pool2d_backward,
    conv2d,
    conv2d_backward,
    linear,
    linear_backward,
    max_pool2d,
    max_pool2d_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    tanh,
    tanh_backward,
)

__all__ = [
    "avg_pool2d",
    "avg_pool2d_backward",
    "conv2d",
    "conv2d_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "dropout",
    "dropout_backward",
    "flatten",
    "flatten_backward",
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
    "tanh",
    "tanh_backward",
]
