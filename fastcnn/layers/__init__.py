"""Layers: they own a network's parameters and know its shapes; a backend does the arithmetic."""

from fastcnn.layers import (
    activation,
    branches,
    conv,
    dropout,
    init,
    linear,
    norm,
    pool,
    sample_norm,
    sampling,
    softmax,
)
from fastcnn.layers.activation import *
from fastcnn.layers.activation import Activation
from fastcnn.layers.base import Layer
from fastcnn.layers.blocks import Residual, Sequential, SqueezeExcite
from fastcnn.layers.branches import *
from fastcnn.layers.builder import GraphBuilder
from fastcnn.layers.container import Model
from fastcnn.layers.conv import *
from fastcnn.layers.drawing import Drawing
from fastcnn.layers.dropout import *
from fastcnn.layers.folding import Identity, fold_batch_norm
from fastcnn.layers.linear import *
from fastcnn.layers.norm import *
from fastcnn.layers.pool import *
from fastcnn.layers.sample_norm import *
from fastcnn.layers.sampling import *
from fastcnn.layers.softmax import *
from fastcnn.layers.state import LoadReport
from fastcnn.layers.wiring import Input, Value

__all__ = [
    "Activation",
    "Drawing",
    "GraphBuilder",
    "Identity",
    "Input",
    "Layer",
    "LoadReport",
    "Model",
    "Residual",
    "Sequential",
    "SqueezeExcite",
    "Value",
    "fold_batch_norm",
    "init",
]
__all__ += activation.__all__
__all__ += branches.__all__
__all__ += conv.__all__
__all__ += dropout.__all__
__all__ += linear.__all__
__all__ += norm.__all__
__all__ += pool.__all__
__all__ += sample_norm.__all__
__all__ += sampling.__all__
__all__ += softmax.__all__
