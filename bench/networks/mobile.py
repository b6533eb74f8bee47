"""Networks for small devices: depthwise convolutions, and MLPerf Tiny's four."""

from fastcnn import layers as nn
from fastcnn.models import resnet8
from fastcnn.models.draft import Draft, Value


def mobilenet_v1(d: Draft) -> nn.Model:
    """MobileNetV1 for 32x32 images: the first two strides are 1."""
    x = nn.Input((3, 32, 32))
    y = d.conv_norm(x, 32)
    for width, stride in (
        *((64, 1), (128, 1), (128, 1), (256, 2), (256, 1), (512, 2)),
        *((512, 1),) * 5,
        *((1024, 2), (1024, 1)),
    ):
        y = d.separable(y, width, stride)
    return nn.Model(x, d.mean_head(y, 10))


def _inverted(d: Draft, stages: tuple[tuple[int, int, int, int, int], ...]) -> nn.Model:
    """Inverted residuals: expansion, channels, blocks, stride and kernel of each stage."""
    x = nn.Input((3, 32, 32))
    y = d.conv_norm(x, 32, activation=nn.ReLU6)
    for expand, width, blocks, stride, size in stages:
        for block in range(blocks):
            hidden = expand * y.shape[0]
            step = 1 if block else stride
            y = d.inverted_residual(
                y, width, hidden, kernel_size=size, stride=step, activation=nn.ReLU6
            )
    return nn.Model(x, d.mean_head(d.conv_norm(y, 1280, 1, activation=nn.ReLU6), 10))


def mobilenet_v2(d: Draft) -> nn.Model:
    """MobileNetV2 for 32x32 images: the first two strides are 1."""
    stages = (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 1, 3),
        (6, 32, 3, 2, 3),
        (6, 64, 4, 2, 3),
        (6, 96, 3, 1, 3),
        (6, 160, 3, 2, 3),
        (6, 320, 1, 1, 3),
    )
    return _inverted(d, stages)


def mobilenet_v3_small(d: Draft) -> nn.Model:
    """MobileNetV3-small for 32x32 images: the first two strides are 1."""
    x = nn.Input((3, 32, 32))
    y = d.conv_norm(x, 16, activation=nn.Hardswish)
    for size, hidden, width, squeeze, activation, stride in (
        (3, 16, 16, True, nn.ReLU, 1),
        (3, 72, 24, False, nn.ReLU, 2),
        (3, 88, 24, False, nn.ReLU, 1),
        (5, 96, 40, True, nn.Hardswish, 2),
        (5, 240, 40, True, nn.Hardswish, 1),
        (5, 240, 40, True, nn.Hardswish, 1),
        (5, 120, 48, True, nn.Hardswish, 1),
        (5, 144, 48, True, nn.Hardswish, 1),
        (5, 288, 96, True, nn.Hardswish, 2),
        (5, 576, 96, True, nn.Hardswish, 1),
        (5, 576, 96, True, nn.Hardswish, 1),
    ):
        squeezed = max(8, (hidden // 4 + 4) // 8 * 8)
        y = d.inverted_residual(
            y,
            width,
            hidden,
            kernel_size=size,
            stride=stride,
            activation=activation,
            squeeze=nn.SqueezeExcite(
                hidden, squeezed, nn.ReLU(), nn.Hardsigmoid(), seed=d.generator
            )
            if squeeze
            else None,
        )
    y = d.conv_norm(y, 576, 1, activation=nn.Hardswish)
    y = nn.Hardswish()(d.linear(nn.Flatten()(nn.GlobalAvgPool2d()(y)), 1024))
    return nn.Model(x, d.linear(y, 10))


def efficientnet_lite0(d: Draft) -> nn.Model:
    """EfficientNet-lite0 for 32x32 images: the first two strides are 1."""
    stages = (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 1, 3),
        (6, 40, 2, 2, 5),
        (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    )
    return _inverted(d, stages)


def _shuffle_unit(d: Draft, x: Value, width: int, stride: int) -> Value:
    """Half of the channels skip the unit; with a stride, both branches read all of them."""
    half = width // 2
    if stride == 1:
        kept, y = nn.Chunk(2)(x)
    else:
        kept = d.conv_norm(x, x.shape[0], stride=stride, groups=x.shape[0], activation=None)
        kept, y = d.conv_norm(kept, half, 1), x
    y = d.conv_norm(y, half, 1)
    y = d.conv_norm(y, half, stride=stride, groups=half, activation=None)
    return nn.ChannelShuffle(2)(nn.Concat()(kept, d.conv_norm(y, half, 1)))


def shufflenet_v2(d: Draft) -> nn.Model:
    """ShuffleNetV2 1.0 for 32x32 images: the first convolution has stride 1, and no pooling."""
    x = nn.Input((3, 32, 32))
    y = d.conv_norm(x, 24)
    for width, units in ((116, 4), (232, 8), (464, 4)):
        for unit in range(units):
            y = _shuffle_unit(d, y, width, 1 if unit else 2)
    return nn.Model(x, d.mean_head(d.conv_norm(y, 1024, 1), 10))


def keyword_spotting(d: Draft) -> nn.Model:
    """DS-CNN on 49 time steps with 10 cepstral coefficients; 12 words."""
    x = nn.Input((1, 49, 10))
    y = d.conv_norm(x, 64, (10, 4), stride=2, padding=(4, 1))
    for _ in range(4):
        y = d.separable(y, 64, 1)
    return nn.Model(x, d.mean_head(y, 12))


def visual_wake_words(d: Draft) -> nn.Model:
    """MobileNetV1 of a quarter's width on 96x96 images: person or no person."""
    x = nn.Input((3, 96, 96))
    y = d.conv_norm(x, 8, stride=2)
    for width, stride in (
        *((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)),
        *((128, 1),) * 5,
        *((256, 2), (256, 1)),
    ):
        y = d.separable(y, width, stride)
    return nn.Model(x, d.linear(nn.Flatten()(nn.AvgPool2d(3)(y)), 2))


def image_classification(d: Draft) -> nn.Model:
    """ResNet-8."""
    return resnet8(seed=int(d.generator.integers(1 << 31)))


def anomaly_detection(d: Draft) -> nn.Model:
    """An autoencoder of five spectra with 128 bands: 128-128-128-128-8-128-128-128-128-640."""
    x = y = nn.Input((640,))
    for width in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        y = nn.ReLU()(d.norm(d.linear(y, width)))
    return nn.Model(x, d.linear(y, 640))
