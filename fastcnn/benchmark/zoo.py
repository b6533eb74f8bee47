"""Networks of the kinds that people train on a processor, for ``fastcnn bench zoo``.

They are the shapes of well-known networks, without dropout, whose masks other libraries draw
otherwise. Each has the batch size with which it is measured.
"""

from collections.abc import Callable, Iterator

from fastcnn.layers import (
    GELU,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Tanh,
)


def keras_mnist(seeds: Iterator[int]) -> Sequential:
    """Keras's simple convnet."""
    return Sequential(
        Conv2d(1, 32, 3, seed=next(seeds)),
        ReLU(),
        MaxPool2d(2),
        Conv2d(32, 64, 3, seed=next(seeds)),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(1600, 10, seed=next(seeds)),
        input_shape=(1, 28, 28),
    )


def pytorch_mnist(seeds: Iterator[int]) -> Sequential:
    """PyTorch's MNIST example."""
    return Sequential(
        Conv2d(1, 32, 3, seed=next(seeds)),
        ReLU(),
        Conv2d(32, 64, 3, seed=next(seeds)),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(9216, 128, seed=next(seeds)),
        ReLU(),
        Linear(128, 10, seed=next(seeds)),
        input_shape=(1, 28, 28),
    )


def lenet_tanh(seeds: Iterator[int]) -> Sequential:
    """LeNet-5 as in 1998: tanh and average pooling."""
    return Sequential(
        Conv2d(1, 6, 5, padding=2, seed=next(seeds)),
        Tanh(),
        AvgPool2d(2),
        Conv2d(6, 16, 5, seed=next(seeds)),
        Tanh(),
        AvgPool2d(2),
        Flatten(),
        Linear(400, 120, seed=next(seeds)),
        Tanh(),
        Linear(120, 84, seed=next(seeds)),
        Tanh(),
        Linear(84, 10, seed=next(seeds)),
        input_shape=(1, 28, 28),
    )


def mlp(seeds: Iterator[int]) -> Sequential:
    """784-512-256-10."""
    return Sequential(
        Flatten(),
        Linear(784, 512, seed=next(seeds)),
        ReLU(),
        Linear(512, 256, seed=next(seeds)),
        ReLU(),
        Linear(256, 10, seed=next(seeds)),
        input_shape=(1, 28, 28),
    )


def time_series(seeds: Iterator[int]) -> Sequential:
    """Nine sensors over 128 points of time, kernels of nine, as for UCI-HAR."""
    return Sequential(
        Conv2d(9, 32, (1, 9), padding=(0, 4), seed=next(seeds)),
        ReLU(),
        MaxPool2d((1, 2)),
        Conv2d(32, 64, (1, 9), padding=(0, 4), seed=next(seeds)),
        ReLU(),
        MaxPool2d((1, 2)),
        Conv2d(64, 64, (1, 9), padding=(0, 4), seed=next(seeds)),
        ReLU(),
        GlobalAvgPool2d(),
        Flatten(),
        Linear(64, 6, seed=next(seeds)),
        input_shape=(9, 1, 128),
    )


def strided(seeds: Iterator[int]) -> Sequential:
    """Convolutions of stride 2 in place of pooling."""
    return Sequential(
        Conv2d(3, 32, 5, stride=2, padding=2, seed=next(seeds)),
        ReLU(),
        Conv2d(32, 64, 3, stride=2, padding=1, seed=next(seeds)),
        ReLU(),
        Conv2d(64, 128, 3, stride=2, padding=1, seed=next(seeds)),
        ReLU(),
        Conv2d(128, 128, 3, stride=2, padding=1, seed=next(seeds)),
        ReLU(),
        GlobalAvgPool2d(),
        Flatten(),
        Linear(128, 10, seed=next(seeds)),
        input_shape=(3, 64, 64),
    )


def depthwise(seeds: Iterator[int]) -> Sequential:
    """Depthwise-separable convolutions, as in MobileNet."""
    layers: list[Layer] = [Conv2d(3, 32, 3, padding=1, seed=next(seeds)), ReLU()]
    for inputs, outputs, stride in (
        (32, 64, 1),
        (64, 128, 2),
        (128, 128, 1),
        (128, 256, 2),
        (256, 256, 1),
    ):
        layers += [
            Conv2d(inputs, inputs, 3, stride=stride, padding=1, groups=inputs, seed=next(seeds)),
            ReLU(),
            Conv2d(inputs, outputs, 1, seed=next(seeds)),
            ReLU(),
        ]
    layers += [GlobalAvgPool2d(), Flatten(), Linear(256, 10, seed=next(seeds))]
    return Sequential(*layers, input_shape=(3, 32, 32))


def _normalised(inputs: int, outputs: int, seeds: Iterator[int], stride: int = 1) -> list[Layer]:
    conv = Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False, seed=next(seeds))
    return [conv, BatchNorm2d(outputs)]


def vgg16_bn(seeds: Iterator[int]) -> Sequential:
    """VGG16 with batch normalisation, for CIFAR."""
    layers: list[Layer] = []
    channels = 3
    for stage in ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3):
        for width in stage:
            layers += [*_normalised(channels, width, seeds), ReLU()]
            channels = width
        layers.append(MaxPool2d(2))
    layers += [Flatten(), Linear(512, 10, seed=next(seeds))]
    return Sequential(*layers, input_shape=(3, 32, 32))


def _residual(inputs: int, outputs: int, seeds: Iterator[int], stride: int) -> list[Layer]:
    main = Sequential(
        *_normalised(inputs, outputs, seeds, stride),
        ReLU(),
        *_normalised(outputs, outputs, seeds),
    )
    if stride == 1 and inputs == outputs:
        return [Residual(main), ReLU()]
    conv = Conv2d(inputs, outputs, 1, stride=stride, bias=False, seed=next(seeds))
    return [Residual(main, Sequential(conv, BatchNorm2d(outputs))), ReLU()]


def _resnet(seeds: Iterator[int], widths: tuple[int, ...], blocks: int) -> Sequential:
    layers: list[Layer] = [*_normalised(3, widths[0], seeds), ReLU()]
    channels = widths[0]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            layers += _residual(channels, width, seeds, 2 if stage and not block else 1)
            channels = width
    layers += [GlobalAvgPool2d(), Flatten(), Linear(channels, 10, seed=next(seeds))]
    return Sequential(*layers, input_shape=(3, 32, 32))


def resnet18(seeds: Iterator[int]) -> Sequential:
    """ResNet-18 for CIFAR: the first convolution is 3x3."""
    return _resnet(seeds, (64, 128, 256, 512), 2)


def resnet20(seeds: Iterator[int]) -> Sequential:
    """ResNet-20, with convolutions where the shape changes."""
    return _resnet(seeds, (16, 32, 64), 3)


def airbench(seeds: Iterator[int]) -> Sequential:
    """The shape of airbench94: 24, 64, 256 and 256 channels, GELU."""
    layers: list[Layer] = [Conv2d(3, 24, 2, seed=next(seeds)), GELU()]
    channels = 24
    for width in (64, 256, 256):
        layers += [
            Conv2d(channels, width, 3, padding=1, bias=False, seed=next(seeds)),
            MaxPool2d(2),
            BatchNorm2d(width),
            GELU(),
            Conv2d(width, width, 3, padding=1, bias=False, seed=next(seeds)),
            BatchNorm2d(width),
            GELU(),
        ]
        channels = width
    layers += [MaxPool2d(3), Flatten(), Linear(256, 10, bias=False, seed=next(seeds))]
    return Sequential(*layers, input_shape=(3, 32, 32))


def stem224(seeds: Iterator[int]) -> Sequential:
    """The beginning of networks for ImageNet: 7x7 with stride 2 on 224x224."""
    return Sequential(
        Conv2d(3, 32, 7, stride=2, padding=3, seed=next(seeds)),
        ReLU(),
        MaxPool2d(3, stride=2, padding=1),
        Conv2d(32, 32, 3, padding=1, seed=next(seeds)),
        ReLU(),
        Conv2d(32, 64, 3, stride=2, padding=1, seed=next(seeds)),
        ReLU(),
        GlobalAvgPool2d(),
        Flatten(),
        Linear(64, 10, seed=next(seeds)),
        input_shape=(3, 224, 224),
    )


#: Makers by name, each with the batch size that is measured.
ZOO: dict[str, tuple[Callable[[Iterator[int]], Sequential], int]] = {
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
