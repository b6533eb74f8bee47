"""Networks of images whose layers add to what came before, or adjoin it."""

from bench.networks.draft import Draft, Value
from fastcnn.layers import (
    GELU,
    AvgPool2d,
    Concat,
    Flatten,
    GlobalAvgPool2d,
    Input,
    LayerNorm,
    LayerNorm2d,
    Model,
    ReLU,
    Scale,
)


def _basic(d: Draft, x: Value, width: int, stride: int) -> Value:
    y = d.conv_norm(d.conv_norm(x, width, stride=stride), width, activation=None)
    if x.shape != y.shape:
        x = d.conv_norm(x, width, 1, stride=stride, activation=None)
    return ReLU()(y + x)


def _resnet(d: Draft, blocks: int) -> Model:
    x = Input((3, 32, 32))
    y = d.conv_norm(x, 16)
    for stage, width in enumerate((16, 32, 64)):
        for block in range(blocks):
            y = _basic(d, y, width, 2 if stage and not block else 1)
    return Model(x, d.head(y, 10))


def resnet20(d: Draft) -> Model:
    """Three stages of three blocks, with 1x1 convolutions where the shape changes."""
    return _resnet(d, 3)


def resnet56(d: Draft) -> Model:
    """Three stages of nine blocks."""
    return _resnet(d, 9)


def _pre_activated(d: Draft, x: Value, width: int, stride: int) -> Value:
    first = ReLU()(d.norm(x))
    y = d.conv(first, width, stride=stride, bias=False)
    y = d.conv(ReLU()(d.norm(y)), width, bias=False)
    if x.shape != y.shape:
        x = d.conv(first, width, 1, stride=stride, bias=False)
    return y + x


def _pre_activated_net(d: Draft, widths: tuple[int, ...], blocks: int) -> Model:
    x = Input((3, 32, 32))
    y = d.conv(x, 16, bias=False)
    for stage, width in enumerate(widths):
        for block in range(blocks):
            y = _pre_activated(d, y, width, 2 if stage and not block else 1)
    return Model(x, d.head(ReLU()(d.norm(y)), 10))


def wrn_16_4(d: Draft) -> Model:
    """Wide ResNet of depth 16, four times as wide."""
    return _pre_activated_net(d, (64, 128, 256), 2)


def preact_resnet20(d: Draft) -> Model:
    """ResNet-20 with normalisation and activation before each convolution."""
    return _pre_activated_net(d, (16, 32, 64), 3)


def densenet_bc_40(d: Draft) -> Model:
    """DenseNet-BC of depth 40 that grows by 12."""
    growth, layers = 12, 6
    x = Input((3, 32, 32))
    y = d.conv(x, 2 * growth, bias=False)
    for stage in range(3):
        if stage:
            y = AvgPool2d(2)(d.conv(ReLU()(d.norm(y)), y.shape[0] // 2, 1, bias=False))
        for _ in range(layers):
            z = d.conv(ReLU()(d.norm(y)), 4 * growth, 1, bias=False)
            y = Concat()(y, d.conv(ReLU()(d.norm(z)), growth, bias=False))
    return Model(x, d.head(ReLU()(d.norm(y)), 10))


def _convnext_block(d: Draft, x: Value) -> Value:
    width = x.shape[0]
    y = LayerNorm2d(width, eps=1e-6)(d.conv(x, width, 7, groups=width))
    y = d.conv(GELU()(d.conv(y, 4 * width, 1)), width, 1)
    return x + Scale(width, init=0.1)(y)


def convnext_femto(d: Draft) -> Model:
    """ConvNeXt-femto for 32x32 pictures: its stem has patches of two pixels in place of four.

    The factors of the blocks begin at 0.1, not 1e-6: all gradients are then of one size.
    """
    x = Input((3, 32, 32))
    y = LayerNorm2d(48, eps=1e-6)(d.conv(x, 48, 2, stride=2, padding=0))
    for stage, (width, blocks) in enumerate(((48, 2), (96, 2), (192, 6), (384, 2))):
        if stage:
            y = d.conv(LayerNorm2d(y.shape[0], eps=1e-6)(y), width, 2, stride=2, padding=0)
        for _ in range(blocks):
            y = _convnext_block(d, y)
    return Model(x, d.linear(LayerNorm(384, eps=1e-6)(Flatten()(GlobalAvgPool2d()(y))), 10))


def _rep_block(d: Draft, x: Value, width: int, stride: int) -> Value:
    y = d.conv_norm(x, width, 3, stride=stride, activation=None) + d.conv_norm(
        x, width, 1, stride=stride, activation=None
    )
    return ReLU()(y if x.shape != y.shape else y + d.norm(x))


def repvgg(d: Draft) -> Model:
    """RepVGG-A0's blocks in three stages for CIFAR, each with three branches in training."""
    x = y = Input((3, 32, 32))
    for width, blocks, stride in ((48, 1, 1), (48, 2, 1), (96, 4, 2), (192, 6, 2)):
        for block in range(blocks):
            y = _rep_block(d, y, width, 1 if block else stride)
    return Model(x, d.head(y, 10))
