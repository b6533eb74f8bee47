"""Networks of the kinds that people train on a processor, for ``fastcnn bench zoo``.

They are the shapes of well-known networks, without dropout, whose masks other libraries draw
otherwise. Each has the batch size with which it is measured.
"""

from collections.abc import Callable

import numpy as np

from fastcnn.layers import (
    GELU,
    AvgPool2d,
    Flatten,
    Input,
    Layer,
    MaxPool2d,
    Model,
    ReLU,
    Tanh,
)
from fastcnn.models.draft import Draft, Value

DIGITS, CIFAR = (1, 28, 28), (3, 32, 32)


def keras_mnist(d: Draft) -> Model:
    """Keras's simple convnet."""
    x = Input(DIGITS)
    y = MaxPool2d(2)(ReLU()(d.conv(x, 32, padding=0)))
    y = MaxPool2d(2)(ReLU()(d.conv(y, 64, padding=0)))
    return Model(x, d.linear(Flatten()(y), 10))


def pytorch_mnist(d: Draft) -> Model:
    """PyTorch's MNIST example."""
    x = Input(DIGITS)
    y = ReLU()(d.conv(x, 32, padding=0))
    y = MaxPool2d(2)(ReLU()(d.conv(y, 64, padding=0)))
    return Model(x, _dense(d, y, (128, 10)))


def lenet_tanh(d: Draft) -> Model:
    """LeNet-5 as in 1998: tanh and average pooling."""
    x = Input(DIGITS)
    y = AvgPool2d(2)(Tanh()(d.conv(x, 6, 5)))
    y = AvgPool2d(2)(Tanh()(d.conv(y, 16, 5, padding=0)))
    return Model(x, _dense(d, y, (120, 84, 10), Tanh))


def mlp(d: Draft) -> Model:
    """784-512-256-10."""
    x = Input(DIGITS)
    return Model(x, _dense(d, x, (512, 256, 10)))


def _dense(d: Draft, x: Value, sizes: tuple[int, ...], activation: type[Layer] = ReLU) -> Value:
    """Linear layers with an activation between them."""
    y = d.linear(Flatten()(x), sizes[0])
    for size in sizes[1:]:
        y = d.linear(activation()(y), size)
    return y


def time_series(d: Draft) -> Model:
    """Nine sensors over 128 points of time, kernels of nine, as for UCI-HAR."""
    x = y = Input((9, 1, 128))
    for width in (32, 64):
        y = MaxPool2d((1, 2))(ReLU()(d.conv(y, width, (1, 9))))
    return Model(x, d.mean_head(ReLU()(d.conv(y, 64, (1, 9))), 6))


def strided(d: Draft) -> Model:
    """Convolutions of stride 2 in place of pooling."""
    x = Input((3, 64, 64))
    y = ReLU()(d.conv(x, 32, 5, stride=2))
    for width in (64, 128, 128):
        y = ReLU()(d.conv(y, width, stride=2))
    return Model(x, d.mean_head(y, 10))


def depthwise(d: Draft) -> Model:
    """Depthwise-separable convolutions, as in MobileNet."""
    x = Input(CIFAR)
    y = ReLU()(d.conv(x, 32))
    for width, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
        y = ReLU()(d.conv(y, y.shape[0], stride=stride, groups=y.shape[0]))
        y = ReLU()(d.conv(y, width, 1))
    return Model(x, d.mean_head(y, 10))


def vgg16_bn(d: Draft) -> Model:
    """VGG16 with batch normalisation, for CIFAR."""
    x = y = Input(CIFAR)
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            y = d.conv_norm(y, width)
        y = MaxPool2d(2)(y)
    return Model(x, d.linear(Flatten()(y), 10))


def resnet18(d: Draft) -> Model:
    """ResNet-18 for CIFAR: the first convolution is 3x3."""
    return _resnet(d, (64, 128, 256, 512), 2)


def resnet20(d: Draft) -> Model:
    """ResNet-20, with convolutions where the shape changes."""
    return _resnet(d, (16, 32, 64), 3)


def _resnet(d: Draft, widths: tuple[int, ...], blocks: int) -> Model:
    x = Input(CIFAR)
    y = d.conv_norm(x, widths[0])
    for stage, width in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            main = d.conv_norm(d.conv_norm(y, width, stride=stride), width, activation=None)
            if main.shape != y.shape:
                y = d.conv_norm(y, width, 1, stride=stride, activation=None)
            y = ReLU()(main + y)
    return Model(x, d.mean_head(y, 10))


def airbench(d: Draft) -> Model:
    """The shape of airbench94: 24, 64, 256 and 256 channels, GELU."""
    x = Input(CIFAR)
    y = GELU()(d.conv(x, 24, 2, padding=0))
    for width in (64, 256, 256):
        y = GELU()(d.norm(MaxPool2d(2)(d.conv(y, width, bias=False))))
        y = d.conv_norm(y, width, activation=GELU)
    return Model(x, d.linear(Flatten()(MaxPool2d(3)(y)), 10, bias=False))


def stem224(d: Draft) -> Model:
    """The beginning of networks for ImageNet: 7x7 with stride 2 on 224x224."""
    x = Input((3, 224, 224))
    y = MaxPool2d(3, stride=2, padding=1)(ReLU()(d.conv(x, 32, 7, stride=2)))
    y = ReLU()(d.conv(ReLU()(d.conv(y, 32)), 64, stride=2))
    return Model(x, d.mean_head(y, 10))


#: Makers by name, each with the batch size that is measured.
ZOO: dict[str, tuple[Callable[[Draft], Model], int]] = {
    "keras_mnist": (keras_mnist, 128),
    "pytorch_mnist": (pytorch_mnist, 64),
    "lenet_tanh": (lenet_tanh, 24),
    "mlp": (mlp, 128),
    "time_series": (time_series, 64),
    "strided": (strided, 64),
    "depthwise": (depthwise, 64),
    "vgg16_bn": (vgg16_bn, 32),
    "resnet18": (resnet18, 32),
    "resnet20": (resnet20, 128),
    "airbench": (airbench, 64),
    "stem224": (stem224, 16),
}


def make(name: str) -> Model:
    """A network of the zoo with weights of a fixed seed."""
    return ZOO[name][0](Draft(np.random.default_rng(0), of_layers=True))
