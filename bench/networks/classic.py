"""Networks of images before residual connections."""

from bench.networks.draft import Draft, Value
from fastcnn.layers import (
    AvgPool2d,
    Concat,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Input,
    LocalResponseNorm,
    MaxPool2d,
    Model,
    ReLU,
    Tanh,
)


def lenet5_1998(d: Draft) -> Model:
    """Tanh and means of four pixels, on 32x32 pictures."""
    x = Input((1, 32, 32))
    y = AvgPool2d(2)(Tanh()(d.conv(x, 6, 5, padding=0)))
    y = AvgPool2d(2)(Tanh()(d.conv(y, 16, 5, padding=0)))
    y = Flatten()(Tanh()(d.conv(y, 120, 5, padding=0)))
    return Model(x, d.linear(Tanh()(d.linear(y, 84)), 10))


def alexnet_cifar(d: Draft) -> Model:
    """cuda-convnet's layers for CIFAR, with local response normalisation."""
    x = Input((3, 32, 32))
    y = LocalResponseNorm(3, alpha=5e-5)(ReLU()(MaxPool2d(3, stride=2)(d.conv(x, 32, 5))))
    y = ReLU()(d.conv(y, 32, 5))
    y = LocalResponseNorm(3, alpha=5e-5)(AvgPool2d(3, stride=2)(y))
    y = AvgPool2d(3, stride=2)(ReLU()(d.conv(y, 64, 5)))
    return Model(x, d.linear(Flatten()(y), 10))


def nin(d: Draft) -> Model:
    """Network in network: 1x1 convolutions after larger ones, and a mean in place of a head."""
    x = y = Input((3, 32, 32))
    stages = ((192, 160, 96, 5), (192, 192, 192, 5), (192, 192, 10, 3))
    for stage, (first, second, third, size) in enumerate(stages):
        y = ReLU()(d.conv(y, first, size))
        y = ReLU()(d.conv(y, second, 1))
        y = ReLU()(d.conv(y, third, 1))
        if stage == 0:
            y = Dropout(0.5)(MaxPool2d(3, stride=2, padding=1)(y))
        elif stage == 1:
            y = Dropout(0.5)(AvgPool2d(3, stride=2, padding=1)(y))
    return Model(x, Flatten()(GlobalAvgPool2d()(y)))


def all_cnn(d: Draft) -> Model:
    """All-CNN-C: strides in place of pooling."""
    x = Input((3, 32, 32))
    y = Dropout(0.2)(x)
    for width in (96, 192):
        y = ReLU()(d.conv(y, width))
        y = ReLU()(d.conv(y, width))
        y = Dropout(0.5)(ReLU()(d.conv(y, width, stride=2)))
    y = ReLU()(d.conv(y, 192, padding=0))
    y = ReLU()(d.conv(y, 192, 1))
    y = ReLU()(d.conv(y, 10, 1))
    return Model(x, Flatten()(GlobalAvgPool2d()(y)))


def vgg16_bn(d: Draft) -> Model:
    """VGG16 with batch normalisation and one linear layer, for CIFAR."""
    x = y = Input((3, 32, 32))
    for stage in ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3):
        for width in stage:
            y = d.conv_norm(y, width)
        y = MaxPool2d(2)(y)
    return Model(x, d.linear(Flatten()(y), 10))


def _fire(d: Draft, x: Value, squeeze: int, expand: int) -> Value:
    y = ReLU()(d.conv(x, squeeze, 1))
    return Concat()(ReLU()(d.conv(y, expand, 1)), ReLU()(d.conv(y, expand, 3)))


def squeezenet(d: Draft) -> Model:
    """SqueezeNet 1.1's modules; the first convolution has no stride."""
    x = Input((3, 32, 32))
    y = MaxPool2d(2)(ReLU()(d.conv(x, 64)))
    y = MaxPool2d(2)(_fire(d, _fire(d, y, 16, 64), 16, 64))
    y = MaxPool2d(2)(_fire(d, _fire(d, y, 32, 128), 32, 128))
    for squeeze in (48, 48, 64, 64):
        y = _fire(d, y, squeeze, 4 * squeeze)
    y = ReLU()(d.conv(Dropout(0.5)(y), 10, 1))
    return Model(x, Flatten()(GlobalAvgPool2d()(y)))


def _inception(d: Draft, x: Value, widths: tuple[int, int, int, int, int, int]) -> Value:
    one, three_in, three, five_in, five, pooled = widths
    return Concat()(
        d.conv_norm(x, one, 1),
        d.conv_norm(d.conv_norm(x, three_in, 1), three, 3),
        d.conv_norm(d.conv_norm(x, five_in, 1), five, 5),
        d.conv_norm(MaxPool2d(3, stride=1, padding=1)(x), pooled, 1),
    )


def inception(d: Draft) -> Model:
    """GoogLeNet's modules at half their width and with batch normalisation, for CIFAR."""
    x = Input((3, 32, 32))
    y = d.conv_norm(x, 96)
    y = _inception(d, y, (32, 48, 64, 8, 16, 16))
    y = _inception(d, y, (64, 64, 96, 16, 48, 32))
    y = MaxPool2d(3, stride=2, padding=1)(y)
    y = _inception(d, y, (96, 48, 104, 8, 24, 32))
    y = _inception(d, y, (80, 56, 112, 12, 32, 32))
    y = MaxPool2d(3, stride=2, padding=1)(y)
    y = _inception(d, y, (128, 80, 160, 16, 64, 64))
    return Model(x, d.head(y, 10))
