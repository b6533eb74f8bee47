"""Networks for small devices: depthwise convolutions, and MLPerf Tiny's four."""

from bench.networks.draft import Draft, Value
from fastcnn.layers import (
    AvgPool2d,
    Flatten,
    GlobalAvgPool2d,
    Hardsigmoid,
    Hardswish,
    Input,
    Layer,
    Model,
    ReLU,
    ReLU6,
    SqueezeExcite,
)
from fastcnn.models import resnet8


def _separable(d: Draft, x: Value, width: int, stride: int) -> Value:
    y = d.conv_norm(x, x.shape[0], 3, stride=stride, groups=x.shape[0])
    return d.conv_norm(y, width, 1)


def mobilenet_v1(d: Draft) -> Model:
    """MobileNetV1 for 32x32 pictures: the first two strides are 1."""
    x = Input((3, 32, 32))
    y = d.conv_norm(x, 32)
    for width, stride in (
        *((64, 1), (128, 1), (128, 1), (256, 2), (256, 1), (512, 2)),
        *((512, 1),) * 5,
        *((1024, 2), (1024, 1)),
    ):
        y = _separable(d, y, width, stride)
    return Model(x, d.head(y, 10))


def _inverted(
    d: Draft,
    x: Value,
    width: int,
    hidden: int,
    *,
    kernel_size: int = 3,
    stride: int = 1,
    activation: type[Layer] = ReLU6,
    squeeze: bool = False,
) -> Value:
    y = x
    if hidden != x.shape[0]:
        y = d.conv_norm(y, hidden, 1, activation=activation)
    y = d.conv_norm(y, hidden, kernel_size, stride=stride, groups=hidden, activation=activation)
    if squeeze:
        squeezed = max(8, (hidden // 4 + 4) // 8 * 8)
        y = SqueezeExcite(hidden, squeezed, ReLU(), Hardsigmoid(), seed=d.generator)(y)
    y = d.conv_norm(y, width, 1, activation=None)
    return y + x if y.shape == x.shape else y


def _inverted_stages(
    d: Draft, y: Value, stages: tuple[tuple[int, int, int, int, int], ...]
) -> Value:
    for expand, width, blocks, stride, size in stages:
        for block in range(blocks):
            hidden = expand * y.shape[0]
            step = 1 if block else stride
            y = _inverted(d, y, width, hidden, kernel_size=size, stride=step)
    return y


def mobilenet_v2(d: Draft) -> Model:
    """MobileNetV2 for 32x32 pictures: the first two strides are 1."""
    x = Input((3, 32, 32))
    y = _inverted_stages(
        d,
        d.conv_norm(x, 32, activation=ReLU6),
        (
            (1, 16, 1, 1, 3),
            (6, 24, 2, 1, 3),
            (6, 32, 3, 2, 3),
            (6, 64, 4, 2, 3),
            (6, 96, 3, 1, 3),
            (6, 160, 3, 2, 3),
            (6, 320, 1, 1, 3),
        ),
    )
    return Model(x, d.head(d.conv_norm(y, 1280, 1, activation=ReLU6), 10))


def mobilenet_v3_small(d: Draft) -> Model:
    """MobileNetV3-small for 32x32 pictures: the first two strides are 1."""
    x = Input((3, 32, 32))
    y = d.conv_norm(x, 16, activation=Hardswish)
    for size, hidden, width, squeeze, activation, stride in (
        (3, 16, 16, True, ReLU, 1),
        (3, 72, 24, False, ReLU, 2),
        (3, 88, 24, False, ReLU, 1),
        (5, 96, 40, True, Hardswish, 2),
        (5, 240, 40, True, Hardswish, 1),
        (5, 240, 40, True, Hardswish, 1),
        (5, 120, 48, True, Hardswish, 1),
        (5, 144, 48, True, Hardswish, 1),
        (5, 288, 96, True, Hardswish, 2),
        (5, 576, 96, True, Hardswish, 1),
        (5, 576, 96, True, Hardswish, 1),
    ):
        y = _inverted(
            d,
            y,
            width,
            hidden,
            kernel_size=size,
            stride=stride,
            activation=activation,
            squeeze=squeeze,
        )
    y = d.conv_norm(y, 576, 1, activation=Hardswish)
    y = Hardswish()(d.linear(Flatten()(GlobalAvgPool2d()(y)), 1024))
    return Model(x, d.linear(y, 10))


def efficientnet_lite0(d: Draft) -> Model:
    """EfficientNet-lite0 for 32x32 pictures: the first two strides are 1."""
    x = Input((3, 32, 32))
    y = _inverted_stages(
        d,
        d.conv_norm(x, 32, activation=ReLU6),
        (
            (1, 16, 1, 1, 3),
            (6, 24, 2, 1, 3),
            (6, 40, 2, 2, 5),
            (6, 80, 3, 2, 3),
            (6, 112, 3, 1, 5),
            (6, 192, 4, 2, 5),
            (6, 320, 1, 1, 3),
        ),
    )
    return Model(x, d.head(d.conv_norm(y, 1280, 1, activation=ReLU6), 10))


def keyword_spotting(d: Draft) -> Model:
    """DS-CNN on 49 points of time with 10 cepstral coefficients; 12 words."""
    x = Input((1, 49, 10))
    y = d.conv_norm(x, 64, (10, 4), stride=2, padding=(4, 1))
    for _ in range(4):
        y = _separable(d, y, 64, 1)
    return Model(x, d.head(y, 12))


def visual_wake_words(d: Draft) -> Model:
    """MobileNetV1 of a quarter's width on 96x96 pictures: a person, or none."""
    x = Input((3, 96, 96))
    y = d.conv_norm(x, 8, stride=2)
    for width, stride in (
        *((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)),
        *((128, 1),) * 5,
        *((256, 2), (256, 1)),
    ):
        y = _separable(d, y, width, stride)
    return Model(x, d.linear(Flatten()(AvgPool2d(3)(y)), 2))


def image_classification(d: Draft) -> Model:
    """ResNet-8."""
    return resnet8(seed=int(d.generator.integers(1 << 31)))


def anomaly_detection(d: Draft) -> Model:
    """An autoencoder of five spectra with 128 bands: 128-128-128-128-8-128-128-128-128-640."""
    x = y = Input((640,))
    for width in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        y = ReLU()(d.norm(d.linear(y, width)))
    return Model(x, d.linear(y, 640))
