"""Layers: what a network is. They own parameters and know shapes; a backend does the arithmetic."""

from fastcnn.layers import activation, init
from fastcnn.layers.activation import *
from fastcnn.layers.base import Layer
from fastcnn.layers.builder import GraphBuilder
from fastcnn.layers.container import Model
from fastcnn.layers.conv import Conv1d, Conv2d
from fastcnn.layers.conv_transpose import ConvTranspose1d, ConvTranspose2d
from fastcnn.layers.dropout import Dropout, Dropout2d
from fastcnn.layers.folding import Identity, fold_batch_norm
from fastcnn.layers.join import Add, Concat, Multiply, Subtract
from fastcnn.layers.linear import Flatten, Linear
from fastcnn.layers.norm import BatchNorm1d, BatchNorm2d, LocalResponseNorm
from fastcnn.layers.pool import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AvgPool1d,
    AvgPool2d,
    GlobalAvgPool1d,
    GlobalAvgPool2d,
    GlobalMaxPool1d,
    GlobalMaxPool2d,
    MaxPool1d,
    MaxPool2d,
)
from fastcnn.layers.residual import Residual
from fastcnn.layers.sample_norm import GroupNorm, InstanceNorm2d, LayerNorm, LayerNorm2d, RMSNorm
from fastcnn.layers.sampling import (
    ChannelShuffle,
    CircularPad1d,
    CircularPad2d,
    PixelShuffle,
    PixelUnshuffle,
    ReflectionPad1d,
    ReflectionPad2d,
    ReplicationPad1d,
    ReplicationPad2d,
    Unflatten,
    Upsample,
    ZeroPad1d,
    ZeroPad2d,
)
from fastcnn.layers.sequential import Sequential
from fastcnn.layers.softmax import LogSoftmax, Softmax
from fastcnn.layers.split import Chunk, Narrow, Split
from fastcnn.layers.squeeze_excite import SqueezeExcite
from fastcnn.layers.wiring import Input

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "Add",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "ChannelShuffle",
    "Chunk",
    "CircularPad1d",
    "CircularPad2d",
    "Concat",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "Dropout",
    "Dropout2d",
    "Flatten",
    "GlobalAvgPool1d",
    "GlobalAvgPool2d",
    "GlobalMaxPool1d",
    "GlobalMaxPool2d",
    "GraphBuilder",
    "GroupNorm",
    "Identity",
    "Input",
    "InstanceNorm2d",
    "Layer",
    "LayerNorm",
    "LayerNorm2d",
    "Linear",
    "LocalResponseNorm",
    "LogSoftmax",
    "MaxPool1d",
    "MaxPool2d",
    "Model",
    "Multiply",
    "Narrow",
    "PixelShuffle",
    "PixelUnshuffle",
    "RMSNorm",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "Residual",
    "Sequential",
    "Softmax",
    "Split",
    "SqueezeExcite",
    "Subtract",
    "Unflatten",
    "Upsample",
    "ZeroPad1d",
    "ZeroPad2d",
    "fold_batch_norm",
    "init",
]
__all__ += activation.__all__
