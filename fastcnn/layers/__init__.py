"""Layers: what a network is. They own parameters and know shapes; a backend does the arithmetic."""

from fastcnn.layers import init
from fastcnn.layers.activation import ReLU, Sigmoid, Tanh
from fastcnn.layers.base import GraphBuilder, Layer
from fastcnn.layers.container import Model, Sequential
from fastcnn.layers.conv import Conv2d
from fastcnn.layers.dropout import Dropout
from fastcnn.layers.linear import Flatten, Linear
from fastcnn.layers.pool import AvgPool2d, MaxPool2d

__all__ = [
    "AvgPool2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GraphBuilder",
    "Layer",
    "Linear",
    "MaxPool2d",
    "Model",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "init",
]
