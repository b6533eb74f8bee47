"""Networks for pictures of some ten pixels a side, in which branches meet."""

from fastcnn.arguments import as_count
from fastcnn.layers import (
    AvgPool2d,
    Concat,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Input,
    MaxPool2d,
    Model,
    ReLU,
    ReLU6,
)
from fastcnn.models.draft import Draft, Value, draft

CIFAR = (3, 32, 32)


def densenet_bc_40(
    num_classes: int = 10,
    seed: int | None = None,
    *,
    input_shape: tuple[int, int, int] = CIFAR,
    growth: int = 12,
) -> Model:
    """DenseNet-BC of depth 40: each layer reads the outputs of all before it.

    Three stages of six layers, each of which adds ``growth`` channels; between stages the channels
    and the size are halved.

    Parameters
    ----------
    num_classes : int
    seed : int, optional
        Source of the initial weights.
    input_shape : tuple of int
        ``(C, H, W)``.
    growth : int
        Channels that a layer adds.

    References
    ----------
    Huang, Liu, van der Maaten and Weinberger, "Densely connected convolutional networks",
    arXiv:1608.06993.
    """
    growth = as_count("densenet_bc_40", "growth", growth)
    d, x = draft(seed), Input(input_shape)
    y = d.conv(x, 2 * growth, bias=False)
    for stage in range(3):
        if stage:
            y = AvgPool2d(2)(d.conv(ReLU()(d.norm(y)), y.shape[0] // 2, 1, bias=False))
        for _ in range(6):
            z = d.conv(ReLU()(d.norm(y)), 4 * growth, 1, bias=False)
            y = Concat()(y, d.conv(ReLU()(d.norm(z)), growth, bias=False))
    return Model(x, d.mean_head(ReLU()(d.norm(y)), num_classes))


def squeezenet(
    num_classes: int = 10,
    seed: int | None = None,
    *,
    input_shape: tuple[int, int, int] = CIFAR,
) -> Model:
    """SqueezeNet 1.1's modules for small pictures: its first convolution has no stride.

    A module squeezes the channels by a 1x1 convolution, and expands them by a 1x1 and a 3x3 one,
    whose outputs adjoin.

    Parameters
    ----------
    num_classes : int
    seed : int, optional
        Source of the initial weights.
    input_shape : tuple of int
        ``(C, H, W)``.

    References
    ----------
    Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters",
    arXiv:1602.07360.
    """
    d, x = draft(seed), Input(input_shape)
    y = MaxPool2d(2)(ReLU()(d.conv(x, 64)))
    y = MaxPool2d(2)(_fire(d, _fire(d, y, 16, 64), 16, 64))
    y = MaxPool2d(2)(_fire(d, _fire(d, y, 32, 128), 32, 128))
    for squeeze in (48, 48, 64, 64):
        y = _fire(d, y, squeeze, 4 * squeeze)
    y = ReLU()(d.conv(Dropout(0.5)(y), num_classes, 1))
    return Model(x, Flatten()(GlobalAvgPool2d()(y)))


def _fire(d: Draft, x: Value, squeeze: int, expand: int) -> Value:
    y = ReLU()(d.conv(x, squeeze, 1))
    return Concat()(ReLU()(d.conv(y, expand, 1)), ReLU()(d.conv(y, expand, 3)))


#: Of each stage of MobileNetV2: expansion, channels, blocks, and the stride of the first.
MOBILENET_V2 = (
    *((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)


def mobilenet_v2(
    num_classes: int = 10,
    seed: int | None = None,
    *,
    input_shape: tuple[int, int, int] = CIFAR,
) -> Model:
    """MobileNetV2 for small pictures: the first two of its strides are 1.

    Parameters
    ----------
    num_classes : int
    seed : int, optional
        Source of the initial weights.
    input_shape : tuple of int
        ``(C, H, W)``.

    References
    ----------
    Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: inverted residuals and linear
    bottlenecks", arXiv:1801.04381, table 2.
    """
    d, x = draft(seed), Input(input_shape)
    y = d.conv_norm(x, 32, activation=ReLU6)
    for expansion, width, blocks, stride in MOBILENET_V2:
        for block in range(blocks):
            hidden, step = expansion * y.shape[0], 1 if block else stride
            y = d.inverted_residual(y, width, hidden, stride=step, activation=ReLU6)
    return Model(x, d.mean_head(d.conv_norm(y, 1280, 1, activation=ReLU6), num_classes))
