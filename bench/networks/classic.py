"""Image networks without residual connections."""

from fastcnn import layers as nn
from fastcnn.models.draft import Draft, Value


def lenet5_1998(d: Draft) -> nn.Model:
    """Tanh and 2x2 means, on 32x32 images."""
    x = nn.Input((1, 32, 32))
    y = nn.AvgPool2d(2)(nn.Tanh()(d.conv(x, 6, 5, padding=0)))
    y = nn.AvgPool2d(2)(nn.Tanh()(d.conv(y, 16, 5, padding=0)))
    y = nn.Flatten()(nn.Tanh()(d.conv(y, 120, 5, padding=0)))
    return nn.Model(x, d.linear(nn.Tanh()(d.linear(y, 84)), 10))


def alexnet_cifar(d: Draft) -> nn.Model:
    """cuda-convnet's layers for CIFAR, with local response normalisation."""
    x = nn.Input((3, 32, 32))
    y = nn.LocalResponseNorm(3, alpha=5e-5)(nn.ReLU()(nn.MaxPool2d(3, stride=2)(d.conv(x, 32, 5))))
    y = nn.ReLU()(d.conv(y, 32, 5))
    y = nn.LocalResponseNorm(3, alpha=5e-5)(nn.AvgPool2d(3, stride=2)(y))
    y = nn.AvgPool2d(3, stride=2)(nn.ReLU()(d.conv(y, 64, 5)))
    return nn.Model(x, d.linear(nn.Flatten()(y), 10))


def nin(d: Draft) -> nn.Model:
    """Network in network: 1x1 convolutions after larger ones, and a global mean as the head."""
    x = y = nn.Input((3, 32, 32))
    stages = ((192, 160, 96, 5), (192, 192, 192, 5), (192, 192, 10, 3))
    for stage, (first, second, third, size) in enumerate(stages):
        y = nn.ReLU()(d.conv(y, first, size))
        y = nn.ReLU()(d.conv(y, second, 1))
        y = nn.ReLU()(d.conv(y, third, 1))
        if stage == 0:
            y = nn.Dropout(0.5)(nn.MaxPool2d(3, stride=2, padding=1)(y))
        elif stage == 1:
            y = nn.Dropout(0.5)(nn.AvgPool2d(3, stride=2, padding=1)(y))
    return nn.Model(x, nn.Flatten()(nn.GlobalAvgPool2d()(y)))


def all_cnn(d: Draft) -> nn.Model:
    """All-CNN-C: strides instead of pooling."""
    x = nn.Input((3, 32, 32))
    y = nn.Dropout(0.2)(x)
    for width in (96, 192):
        y = nn.ReLU()(d.conv(y, width))
        y = nn.ReLU()(d.conv(y, width))
        y = nn.Dropout(0.5)(nn.ReLU()(d.conv(y, width, stride=2)))
    y = nn.ReLU()(d.conv(y, 192, padding=0))
    y = nn.ReLU()(d.conv(y, 192, 1))
    y = nn.ReLU()(d.conv(y, 10, 1))
    return nn.Model(x, nn.Flatten()(nn.GlobalAvgPool2d()(y)))


def _fire(d: Draft, x: Value, squeeze: int, expand: int) -> Value:
    y = nn.ReLU()(d.conv(x, squeeze, 1))
    return nn.Concat()(nn.ReLU()(d.conv(y, expand, 1)), nn.ReLU()(d.conv(y, expand, 3)))


def squeezenet(d: Draft) -> nn.Model:
    """SqueezeNet 1.1's modules; the first convolution has no stride."""
    x = nn.Input((3, 32, 32))
    y = nn.MaxPool2d(2)(nn.ReLU()(d.conv(x, 64)))
    y = nn.MaxPool2d(2)(_fire(d, _fire(d, y, 16, 64), 16, 64))
    y = nn.MaxPool2d(2)(_fire(d, _fire(d, y, 32, 128), 32, 128))
    for squeeze in (48, 48, 64, 64):
        y = _fire(d, y, squeeze, 4 * squeeze)
    y = nn.ReLU()(d.conv(nn.Dropout(0.5)(y), 10, 1))
    return nn.Model(x, nn.Flatten()(nn.GlobalAvgPool2d()(y)))


def _inception(d: Draft, x: Value, widths: tuple[int, int, int, int, int, int]) -> Value:
    one, three_in, three, five_in, five, pooled = widths
    return nn.Concat()(
        d.conv_norm(x, one, 1),
        d.conv_norm(d.conv_norm(x, three_in, 1), three, 3),
        d.conv_norm(d.conv_norm(x, five_in, 1), five, 5),
        d.conv_norm(nn.MaxPool2d(3, stride=1, padding=1)(x), pooled, 1),
    )


def inception(d: Draft) -> nn.Model:
    """GoogLeNet's modules at half their width and with batch normalisation, for CIFAR."""
    x = nn.Input((3, 32, 32))
    y = d.conv_norm(x, 96)
    y = _inception(d, y, (32, 48, 64, 8, 16, 16))
    y = _inception(d, y, (64, 64, 96, 16, 48, 32))
    y = nn.MaxPool2d(3, stride=2, padding=1)(y)
    y = _inception(d, y, (96, 48, 104, 8, 24, 32))
    y = _inception(d, y, (80, 56, 112, 12, 32, 32))
    y = nn.MaxPool2d(3, stride=2, padding=1)(y)
    y = _inception(d, y, (128, 80, 160, 16, 64, 64))
    return nn.Model(x, d.mean_head(y, 10))
