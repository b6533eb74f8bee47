"""Blocks of 16 samples, one a SIMD lane: register tiles in flat programs of compiled kernels.

This is the door of the room: nothing outside imports from within. A network is planned (``plan``,
``Program``, ``Unsupported`` where there are no kernels for it) and run (``Engine``); the functions
are those of every backend.

``add`` and the other joins, ``flatten``, ``dropout``, normalisations, the softmax, the losses, and
what moves pixels, as functions of their own, are im2col's; inside a network the engine has its own.
"""

from typing import Any

from fastcnn.backends import im2col
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
from fastcnn.backends.lanes.session.schedule import Between, Place
from fastcnn.backends.lanes.session.update import Update, UpdatePart, slot_stride

joint, joint_backward = joint_functions("im2col")


def __getattr__(name: str) -> Any:
    """Im2col's functions of what has no kernels for a call alone, and element-wise ones."""
    return vars(im2col)[name] if name in vars(im2col) else elementwise.function(name)
