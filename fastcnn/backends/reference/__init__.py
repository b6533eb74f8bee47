"""Nested loops, to be read next to the equations: the yardstick of every faster backend."""

from typing import Any

from fastcnn.backends.input_part import input_part, input_part_backward
from fastcnn.backends.joint import joint_functions
from fastcnn.backends.reference import elementwise
from fastcnn.backends.reference.adaptive_pool import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    adaptive_max_pool2d,
    adaptive_max_pool2d_backward,
)
from fastcnn.backends.reference.conv import conv2d, conv2d_backward
from fastcnn.backends.reference.conv_transpose import conv_transpose2d, conv_transpose2d_backward
from fastcnn.backends.reference.dropout import (
    dropout,
    dropout2d,
    dropout2d_backward,
    dropout_backward,
)
from fastcnn.backends.reference.join import (
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
from fastcnn.backends.reference.linear import flatten, flatten_backward, linear, linear_backward
from fastcnn.backends.reference.local_response import (
    local_response_norm,
    local_response_norm_backward,
)
from fastcnn.backends.reference.loss import (
    cross_entropy,
    cross_entropy_backward,
    focal,
    focal_backward,
    nll,
    nll_backward,
)
from fastcnn.backends.reference.norm import batch_norm, batch_norm_backward, batch_statistics
from fastcnn.backends.reference.pool import (
    avg_pool2d,
    avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
)
from fastcnn.backends.reference.sample_norm import (
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm2d,
    layer_norm2d_backward,
    layer_norm_backward,
    rms_norm,
    rms_norm_backward,
)
from fastcnn.backends.reference.sampling import (
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
from fastcnn.backends.reference.softmax import (
    log_softmax,
    log_softmax_backward,
    softmax,
    softmax_backward,
)

joint, joint_backward = joint_functions("reference")


def __getattr__(name: str) -> Any:
    """The functions of an element-wise operation, which its record makes."""
    return elementwise.function(name)
