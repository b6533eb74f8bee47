"""Blocks of 16 samples, one a SIMD lane: register tiles in flat programs of compiled kernels.

This is the door of the room: nothing outside imports from within. A network is planned (``plan``,
``Program``, ``Unsupported`` where there are no kernels for it) and run (``Engine``); the functions
are those of every backend.

``add`` and the other joins, ``flatten``, ``dropout``, normalisations, the softmax, the losses, and
what moves pixels, as functions of their own, are im2col's; inside a network the engine has its own.
"""

from typing import Any

from fastcnn.backends.im2col import (
    adaptive_max_pool2d,
    adaptive_max_pool2d_backward,
    add,
    add_backward,
    batch_norm,
    batch_norm_backward,
    batch_statistics,
    channel_shuffle,
    channel_shuffle_backward,
    concat,
    concat_backward,
    cross_entropy,
    cross_entropy_backward,
    dropout,
    dropout2d,
    dropout2d_backward,
    dropout_backward,
    flatten,
    flatten_backward,
    focal,
    focal_backward,
    group_norm,
    group_norm_backward,
    input_part,
    input_part_backward,
    interpolate,
    interpolate_backward,
    layer_norm,
    layer_norm2d,
    layer_norm2d_backward,
    layer_norm_backward,
    local_response_norm,
    local_response_norm_backward,
    log_softmax,
    log_softmax_backward,
    multiply,
    multiply_backward,
    narrow,
    narrow_backward,
    nll,
    nll_backward,
    pad,
    pad_backward,
    pixel_shuffle,
    pixel_shuffle_backward,
    pixel_unshuffle,
    pixel_unshuffle_backward,
    rms_norm,
    rms_norm_backward,
    softmax,
    softmax_backward,
    subtract,
    subtract_backward,
    unflatten,
    unflatten_backward,
)
from fastcnn.backends.joint import joint_functions
from fastcnn.backends.lanes.kernel_table import all_sources
from fastcnn.backends.lanes.kernels.cost import Cost
from fastcnn.backends.lanes.lowering.plan import Purpose, plan
from fastcnn.backends.lanes.lowering.program import Program
from fastcnn.backends.lanes.planning.grouping import Unsupported
from fastcnn.backends.lanes.session import elementwise
from fastcnn.backends.lanes.session.batches import NO_BATCHES, Batches, Moment
from fastcnn.backends.lanes.session.engine import THREADS_VARIABLE, Engine, default_threads
from fastcnn.backends.lanes.session.functions import (
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
from fastcnn.backends.lanes.session.inference import Inference
from fastcnn.backends.lanes.session.loading import check_own_loss, check_own_update
from fastcnn.backends.lanes.session.meetings import norm_meetings
from fastcnn.backends.lanes.session.probabilities import probabilities
from fastcnn.backends.lanes.session.schedule import Between, Place
from fastcnn.backends.lanes.session.update import Update, UpdatePart, slot_stride

joint, joint_backward = joint_functions("im2col")

__all__ = [
    "NO_BATCHES",
    "THREADS_VARIABLE",
    "Batches",
    "Between",
    "Cost",
    "Engine",
    "Inference",
    "Moment",
    "Place",
    "Program",
    "Purpose",
    "Unsupported",
    "Update",
    "UpdatePart",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward",
    "add",
    "add_backward",
    "all_sources",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_statistics",
    "channel_shuffle",
    "channel_shuffle_backward",
    "check_own_loss",
    "check_own_update",
    "concat",
    "concat_backward",
    "conv2d",
    "conv2d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "default_threads",
    "dropout",
    "dropout2d",
    "dropout2d_backward",
    "dropout_backward",
    "flatten",
    "flatten_backward",
    "focal",
    "focal_backward",
    "group_norm",
    "group_norm_backward",
    "input_part",
    "input_part_backward",
    "interpolate",
    "interpolate_backward",
    "joint",
    "joint_backward",
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
    "max_pool2d",
    "max_pool2d_backward",
    "multiply",
    "multiply_backward",
    "narrow",
    "narrow_backward",
    "nll",
    "nll_backward",
    "norm_meetings",
    "pad",
    "pad_backward",
    "pixel_shuffle",
    "pixel_shuffle_backward",
    "pixel_unshuffle",
    "pixel_unshuffle_backward",
    "plan",
    "probabilities",
    "rms_norm",
    "rms_norm_backward",
    "slot_stride",
    "softmax",
    "softmax_backward",
    "subtract",
    "subtract_backward",
    "unflatten",
    "unflatten_backward",
]


def __getattr__(name: str) -> Any:
    """The functions of an element-wise operation, which its record makes."""
    return elementwise.function(name)
