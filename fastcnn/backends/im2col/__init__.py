"""Gather and multiply: im2col, col2im and GEMM in numpy and numba; covers every geometry."""

from typing import Any

from fastcnn.backends.im2col import elementwise
from fastcnn.backends.im2col.adaptive_pool import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
)
from fastcnn.backends.im2col.conv import conv2d, conv2d_backward
from fastcnn.backends.im2col.conv_transpose import conv_transpose2d, conv_transpose2d_backward
from fastcnn.backends.im2col.dropout import dropout, dropout2d, dropout2d_backward, dropout_backward
from fastcnn.backends.im2col.join import (
    add,
    add_backward,
    concat,
    concat_backward,
    multiply,
    multiply_backward,
    narrow,
    narrow_backward,
    subtract,
    subtract_backward,
)
from fastcnn.backends.im2col.linear import flatten, flatten_backward, linear, linear_backward
from fastcnn.backends.im2col.local_response import local_response_norm, local_response_norm_backward
from fastcnn.backends.im2col.loss import (
    cross_entropy,
    cross_entropy_backward,
    focal,
    focal_backward,
    nll,
    nll_backward,
)
from fastcnn.backends.im2col.norm import (
    batch_norm,
    batch_norm_backward,
    batch_statistics,
    gradient_sums,
    joint_means,
    joint_statistics,
    moments,
)
from fastcnn.backends.im2col.pool import (
    adaptive_max_pool2d,
    adaptive_max_pool2d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
)
from fastcnn.backends.im2col.relu import relu, relu_backward
from fastcnn.backends.im2col.sample_norm import (
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm2d,
    layer_norm2d_backward,
    layer_norm_backward,
    rms_norm,
    rms_norm_backward,
)
from fastcnn.backends.im2col.sampling import (
    channel_shuffle,
    channel_shuffle_backward,
    interpolate,
    interpolate_backward,
    pad,
    pad_backward,
    pixel_shuffle,
    pixel_shuffle_backward,
    pixel_unshuffle,
    pixel_unshuffle_backward,
    unflatten,
    unflatten_backward,
)
from fastcnn.backends.im2col.softmax import (
    log_softmax,
    log_softmax_backward,
    softmax,
    softmax_backward,
)
from fastcnn.backends.input_part import input_part, input_part_backward
from fastcnn.backends.joint import joint_functions

joint, joint_backward = joint_functions("im2col")


def __getattr__(name: str) -> Any:
    """The functions of an element-wise operation, which its record makes."""
    return elementwise.function(name)
