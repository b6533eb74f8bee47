"""Operations as functions: check the arguments, pick the backend, compute.

Arrays are NCHW, float32 or float64, all of one type; results are new arrays of that type and
inputs are never changed. ``backend`` is one of :data:`fastcnn.backends.BACKENDS`.
"""

from fastcnn.functional.conv import conv1d, conv1d_backward, conv2d, conv2d_backward
from fastcnn.functional.conv_transpose import (
    conv_transpose1d,
    conv_transpose1d_backward,
    conv_transpose2d,
    conv_transpose2d_backward,
)
from fastcnn.functional.dropout import dropout, dropout2d, dropout2d_backward, dropout_backward
from fastcnn.functional.join import (
    add,
    add_backward,
    concat,
    concat_backward,
    multiply,
    multiply_backward,
    subtract,
    subtract_backward,
)
from fastcnn.functional.linear import flatten, flatten_backward, linear, linear_backward
from fastcnn.functional.loss import (
    cross_entropy,
    cross_entropy_backward,
    mse,
    mse_backward,
)
from fastcnn.functional.norm import batch_norm, batch_norm_backward, batch_statistics
from fastcnn.functional.pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool1d_backward,
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    adaptive_max_pool1d,
    adaptive_max_pool1d_backward,
    adaptive_max_pool2d,
    adaptive_max_pool2d_backward,
    avg_pool1d,
    avg_pool1d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    max_pool1d,
    max_pool1d_backward,
    max_pool2d,
    max_pool2d_backward,
)
from fastcnn.functional.sample_norm import (
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm2d,
    layer_norm2d_backward,
    layer_norm_backward,
    local_response_norm,
    local_response_norm_backward,
    rms_norm,
    rms_norm_backward,
)
from fastcnn.functional.sampling import (
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
from fastcnn.functional.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward
from fastcnn.operations import piecewise, smooth
from fastcnn.operations.piecewise import *
from fastcnn.operations.smooth import *

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool1d_backward",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_max_pool1d",
    "adaptive_max_pool1d_backward",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward",
    "add",
    "add_backward",
    "avg_pool1d",
    "avg_pool1d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_statistics",
    "channel_shuffle",
    "channel_shuffle_backward",
    "concat",
    "concat_backward",
    "conv1d",
    "conv1d_backward",
    "conv2d",
    "conv2d_backward",
    "conv_transpose1d",
    "conv_transpose1d_backward",
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
    "group_norm",
    "group_norm_backward",
    "interpolate",
    "interpolate_backward",
    "layer_norm",
    "layer_norm2d",
    "layer_norm2d_backward",
    "layer_norm_backward",
    "linear",
    "linear_backward",
    "local_response_norm",
    "local_response_norm_backward",
    "log_softmax",
    "log_softmax_backward",
    "max_pool1d",
    "max_pool1d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "mse",
    "mse_backward",
    "multiply",
    "multiply_backward",
    "pad",
    "pad_backward",
    "pixel_shuffle",
    "pixel_shuffle_backward",
    "pixel_unshuffle",
    "pixel_unshuffle_backward",
    "rms_norm",
    "rms_norm_backward",
    "softmax",
    "softmax_backward",
    "subtract",
    "subtract_backward",
    "unflatten",
    "unflatten_backward",
]
__all__ += piecewise.__all__
__all__ += smooth.__all__
