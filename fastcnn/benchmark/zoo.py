"""Common kinds of networks trained on CPUs, for ``fastcnn bench zoo``.

They have the shapes of well-known networks, without dropout, whose masks differ between libraries.
Each has a batch size for the measurement.
"""

from collections.abc import Callable

import numpy as np

from fastcnn import layers as nn
from fastcnn.models.draft import Draft, Value

DIGITS, CIFAR = (1, 28, 28), (3, 32, 32)


def keras_mnist(d: Draft) -> nn.Model:
    """Keras's simple convnet."""
    x = nn.Input(DIGITS)
    y = nn.MaxPool2d(2)(nn.ReLU()(d.conv(x, 32, padding=0)))
    y = nn.MaxPool2d(2)(nn.ReLU()(d.conv(y, 64, padding=0)))
    return nn.Model(x, d.linear(nn.Flatten()(y), 10))


def pytorch_mnist(d: Draft) -> nn.Model:
    """PyTorch's MNIST example."""
    x = nn.Input(DIGITS)
    y = nn.ReLU()(d.conv(x, 32, padding=0))
    y = nn.MaxPool2d(2)(nn.ReLU()(d.conv(y, 64, padding=0)))
    return nn.Model(x, _dense(d, y, (128, 10)))


def lenet_tanh(d: Draft) -> nn.Model:
    """LeNet-5 as in 1998: tanh and average pooling."""
    x = nn.Input(DIGITS)
    y = nn.AvgPool2d(2)(nn.Tanh()(d.conv(x, 6, 5)))
    y = nn.AvgPool2d(2)(nn.Tanh()(d.conv(y, 16, 5, padding=0)))
    return nn.Model(x, _dense(d, y, (120, 84, 10), nn.Tanh))


def mlp(d: Draft) -> nn.Model:
    """784-512-256-10."""
    x = nn.Input(DIGITS)
    return nn.Model(x, _dense(d, x, (512, 256, 10)))


def _dense(
    d: Draft, x: Value, sizes: tuple[int, ...], activation: type[nn.Layer] = nn.ReLU
) -> Value:
    """Linear layers with an activation between them."""
    y = d.linear(nn.Flatten()(x), sizes[0])
    for size in sizes[1:]:
        y = d.linear(activation()(y), size)
    return y


def time_series(d: Draft) -> nn.Model:
    """Nine sensors over 128 time steps, with kernels of nine, as for UCI-HAR."""
    x = y = nn.Input((9, 1, 128))
    for width in (32, 64):
        y = nn.MaxPool2d((1, 2))(nn.ReLU()(d.conv(y, width, (1, 9))))
    return nn.Model(x, d.mean_head(nn.ReLU()(d.conv(y, 64, (1, 9))), 6))


def strided(d: Draft) -> nn.Model:
    """Strided convolutions instead of pooling."""
    x = nn.Input((3, 64, 64))
    y = nn.ReLU()(d.conv(x, 32, 5, stride=2))
    for width in (64, 128, 128):
        y = nn.ReLU()(d.conv(y, width, stride=2))
    return nn.Model(x, d.mean_head(y, 10))


def depthwise(d: Draft) -> nn.Model:
    """Depthwise-separable convolutions, as in MobileNet."""
    x = nn.Input(CIFAR)
    y = nn.ReLU()(d.conv(x, 32))
    for width, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
        y = nn.ReLU()(d.conv(y, y.shape[0], stride=stride, groups=y.shape[0]))
        y = nn.ReLU()(d.conv(y, width, 1))
    return nn.Model(x, d.mean_head(y, 10))


def vgg16_bn(d: Draft) -> nn.Model:
    """VGG16 with batch normalisation, for CIFAR."""
    x = y = nn.Input(CIFAR)
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            y = d.conv_norm(y, width)
        y = nn.MaxPool2d(2)(y)
    return nn.Model(x, d.linear(nn.Flatten()(y), 10))


def resnet18(d: Draft) -> nn.Model:
    """ResNet-18 for CIFAR: the first convolution is 3x3."""
    return resnet(d, (64, 128, 256, 512), 2)


def resnet20(d: Draft) -> nn.Model:
    """ResNet-20, with convolutions where the shape changes."""
    return resnet(d, (16, 32, 64), 3)


def resnet(d: Draft, widths: tuple[int, ...], blocks: int) -> nn.Model:
    """Stages of some blocks, with 1x1 convolutions where the shape changes."""
    x = nn.Input(CIFAR)
    y = d.conv_norm(x, widths[0])
    for stage, width in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            main = d.conv_norm(d.conv_norm(y, width, stride=stride), width, activation=None)
            if main.shape != y.shape:
                y = d.conv_norm(y, width, 1, stride=stride, activation=None)
            y = nn.ReLU()(main + y)
    return nn.Model(x, d.mean_head(y, 10))


def airbench(d: Draft) -> nn.Model:
    """The shape of airbench94: 24, 64, 256 and 256 channels, GELU."""
    x = nn.Input(CIFAR)
    y = nn.GELU()(d.conv(x, 24, 2, padding=0))
    for width in (64, 256, 256):
        y = nn.GELU()(d.norm(nn.MaxPool2d(2)(d.conv(y, width, bias=False))))
        y = d.conv_norm(y, width, activation=nn.GELU)
    return nn.Model(x, d.linear(nn.Flatten()(nn.MaxPool2d(3)(y)), 10, bias=False))


def stem224(d: Draft) -> nn.Model:
    """The stem of networks for ImageNet: 7x7 with stride 2 on 224x224."""
    x = nn.Input((3, 224, 224))
    y = nn.MaxPool2d(3, stride=2, padding=1)(nn.ReLU()(d.conv(x, 32, 7, stride=2)))
    y = nn.ReLU()(d.conv(nn.ReLU()(d.conv(y, 32)), 64, stride=2))
    return nn.Model(x, d.mean_head(y, 10))


#: Makers by name, each with its batch size.
ZOO: dict[str, tuple[Callable[[Draft], nn.Model], int]] = {
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


def make(name: str) -> nn.Model:
    """A network of the zoo with weights from a fixed seed."""
    return ZOO[name][0](Draft(np.random.default_rng(0), of_layers=True))
