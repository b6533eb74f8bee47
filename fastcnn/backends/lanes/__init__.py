"""Blocks of 16 samples, one a SIMD lane: register tiles in flat programs of compiled kernels.

This is the door of the room: nothing outside imports from within. A network is planned (``plan``,
``Program``, ``Unsupported`` where there are no kernels for it) and run (``Engine``); the functions
are those of every backend.

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
from fastcnn.backends.lanes.kernel_table import all_sources
from fastcnn.backends.lanes.kernels.cost import Cost
from fastcnn.backends.lanes.lowering.plan import plan
from fastcnn.backends.lanes.lowering.program import Program
from fastcnn.backends.lanes.planning.grouping import Unsupported
from fastcnn.backends.lanes.session import elementwise
from fastcnn.backends.lanes.session.engine import (
    NO_WEIGHTS,
    OPTIMIZERS,
    THREADS_VARIABLE,
    Engine,
    default_threads,
)
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
from fastcnn.backends.lanes.session.loading import check_own_update

__all__ = [
    "NO_WEIGHTS",
    "OPTIMIZERS",
    "THREADS_VARIABLE",
    "Cost",
    "Engine",
    "Inference",
    "Program",
    "Unsupported",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "add",
    "add_backward",
    "all_sources",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_statistics",
    "check_own_update",
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
    "linear",
    "linear_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "mse",
    "mse_backward",
    "plan",
]


def __getattr__(name: str) -> Any:
    """The functions of an element-wise operation, which its record makes."""
    return elementwise.function(name)
