"""The engine: blocks of 16 samples, one per SIMD lane, and a flat program of compiled kernels.

This module is the engine's only entry point: nothing outside imports its submodules. A network is
planned (``plan`` returns a ``Program``, or raises ``Unsupported`` if a kernel is missing) and run
(``Engine``); the functions are those of every backend.

Called alone, ``add`` and the other joins, ``flatten``, ``dropout``, normalisations, the softmax,
the losses and functions that move pixels are im2col's; in a network the engine has its own kernels.
"""

from typing import Any

from fastcnn.backends import im2col
from fastcnn.backends.joint import joint_functions
from fastcnn.backends.lanes.convolution.algorithms import conv_algorithm, forced_algorithm
from fastcnn.backends.lanes.convolution.direct.gradient_tiles import TilePart
from fastcnn.backends.lanes.kernel_table import all_sources
from fastcnn.backends.lanes.kernels.cost import Cost
from fastcnn.backends.lanes.lowering.plan import Purpose, plan
from fastcnn.backends.lanes.lowering.program import Program
from fastcnn.backends.lanes.planning.grouping import Unsupported
from fastcnn.backends.lanes.session import elementwise
from fastcnn.backends.lanes.session.batches import NO_BATCHES, Batches, Moment
from fastcnn.backends.lanes.session.clocks import Clocks
from fastcnn.backends.lanes.session.engine import THREADS_VARIABLE, Engine, default_threads
from fastcnn.backends.lanes.session.fallback import run_or_fall_back
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
from fastcnn.backends.lanes.session.meetings import Meeting, norm_meetings
from fastcnn.backends.lanes.session.schedule import Between, Place
from fastcnn.backends.lanes.session.update import Update, UpdatePart, slot_stride

joint, joint_backward = joint_functions("im2col")


def __getattr__(name: str) -> Any:
    """im2col's functions where there are no kernels for a single call, and element-wise ones."""
    return vars(im2col)[name] if name in vars(im2col) else elementwise.function(name)
