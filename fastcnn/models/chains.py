"""Networks that are chains: the report's, LeNet-5, a small VGG, ResNets, airbench's, auto_cnn."""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Any

from fastcnn.arguments import as_count, as_flag, as_sample_shape
from fastcnn.errors import ConfigurationError
from fastcnn.layers import (
    GELU,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Scale,
    Sequential,
    Sigmoid,
    Tanh,
    init,
)
from fastcnn.layers.init import generator_of

#: Number of images below which :func:`auto_cnn` is small and uses dropout.
FEW_SAMPLES = 2_000

ACTIVATIONS: dict[str, Callable[[], Layer]] = {"relu": ReLU, "sigmoid": Sigmoid, "tanh": Tanh}


def report_cnn(
    activation: str = "relu", seed: int | None = None, *, num_classes: int = 3
) -> Sequential:
    """The report's network for 28x28 digits: two convolutions and three fully connected layers.

    conv 3x3 1 to 4 - ReLU - max-pool - conv 3x3 4 to 8 - ReLU - max-pool - 392 to 128 - activation
    - 128 to 128 - activation - 128 to ``num_classes``.

    Parameters
    ----------
    activation : {"relu", "sigmoid", "tanh"}
        Activation after the fully connected layers; the convolutions always use ReLU.
    seed : int, optional
        Source of the initial weights: Kaiming before a ReLU, Xavier elsewhere; biases are zero.
    num_classes : int

    Raises
    ------
    ConfigurationError
        If ``activation`` is not one of the three.
    """
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ConfigurationError(
            f"report_cnn: activation must be one of {sorted(ACTIVATIONS)}, got {activation!r}"
        )
    dense = init.Kaiming() if activation == "relu" else init.Xavier()
    activate = ACTIVATIONS[activation]
    conv, linear = makers(seed)
    return Sequential(
        {
            "conv1": conv(1, 4, 3, padding=1),
            "relu1": ReLU(),
            "pool1": MaxPool2d(2),
            "conv2": conv(4, 8, 3, padding=1),
            "relu2": ReLU(),
            "pool2": MaxPool2d(2),
            "flatten": Flatten(),
            "fc1": linear(8 * 7 * 7, 128, dense),
            f"{activation}3": activate(),
            "fc2": linear(128, 128, dense),
            f"{activation}4": activate(),
            "fc3": linear(128, num_classes, init.Xavier()),
        },
        input_shape=(1, 28, 28),
    )


def lenet5(num_classes: int = 10, seed: int | None = None) -> Sequential:
    """LeNet-5 with ReLU and max-pooling for 28x28 digits.

    Parameters
    ----------
    num_classes : int
        Outputs of the last layer.
    seed : int, optional
        Seed of the initial weights.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
    Proc. IEEE 86 (1998), section II-B.
    """
    conv, linear = makers(seed)
    return Sequential(
        {
            "conv1": conv(1, 6, 5, padding=2),
            "relu1": ReLU(),
            "pool1": MaxPool2d(2),
            "conv2": conv(6, 16, 5),
            "relu2": ReLU(),
            "pool2": MaxPool2d(2),
            "flatten": Flatten(),
            "fc1": linear(16 * 5 * 5, 120, init.Kaiming()),
            "relu3": ReLU(),
            "fc2": linear(120, 84, init.Kaiming()),
            "relu4": ReLU(),
            "fc3": linear(84, num_classes, init.Xavier()),
        },
        input_shape=(1, 28, 28),
    )


def vgg_small(num_classes: int = 10, seed: int | None = None) -> Sequential:
    """A VGG-style network for 3x32x32 images: 32-32-pool-64-64-pool-128-pool-256-classes.

    Parameters
    ----------
    num_classes : int
        Outputs of the last layer.
    seed : int, optional
        Seed of the initial weights.

    References
    ----------
    Simonyan and Zisserman, arXiv:1409.1556, for stacks of 3x3 convolutions.
    """
    conv, linear = makers(seed)
    return Sequential(
        {
            "conv1": conv(3, 32, 3, padding=1),
            "relu1": ReLU(),
            "conv2": conv(32, 32, 3, padding=1),
            "relu2": ReLU(),
            "pool1": MaxPool2d(2),
            "conv3": conv(32, 64, 3, padding=1),
            "relu3": ReLU(),
            "conv4": conv(64, 64, 3, padding=1),
            "relu4": ReLU(),
            "pool2": MaxPool2d(2),
            "conv5": conv(64, 128, 3, padding=1),
            "relu5": ReLU(),
            "pool3": MaxPool2d(2),
            "flatten": Flatten(),
            "fc1": linear(128 * 4 * 4, 256, init.Kaiming()),
            "relu6": ReLU(),
            "fc2": linear(256, num_classes, init.Xavier()),
        },
        input_shape=(3, 32, 32),
    )


def resnet8(num_classes: int = 10, seed: int | None = None, *, in_channels: int = 3) -> Sequential:
    """ResNet-8 for 32x32 images: three residual blocks of 16, 32 and 64 channels, batch-normalised.

    conv 3x3 to 16 - block - block of 32 at half the size - block of 64 at a quarter - mean over
    pixels - linear. A block is conv - batch norm - ReLU - conv - batch norm, added to its input
    (after a 1x1 convolution where the shape changes), then ReLU.

    Parameters
    ----------
    num_classes : int
        Outputs of the last layer.
    seed : int, optional
        Seed of the initial weights.
    in_channels : int
        Channels of the images.

    References
    ----------
    Banbury et al., "MLPerf Tiny benchmark", arXiv:2106.07597, image classification; He, Zhang, Ren
    and Sun, arXiv:1512.03385, section 4.2. The padding is PyTorch's.
    """
    return _residual_network(1, num_classes, seed, in_channels)


def resnet20(num_classes: int = 10, seed: int | None = None, *, in_channels: int = 3) -> Sequential:
    """ResNet-20 for 32x32 images: as :func:`resnet8`, with three blocks of each width.

    Parameters
    ----------
    num_classes : int
        Outputs of the last layer.
    seed : int, optional
        Seed of the initial weights.
    in_channels : int
        Channels of the images.

    References
    ----------
    He, Zhang, Ren and Sun, arXiv:1512.03385, section 4.2. Where the width changes there is a 1x1
    convolution instead of zeros for the new channels.
    """
    return _residual_network(3, num_classes, seed, in_channels)


def _residual_network(
    blocks: int, num_classes: int, seed: int | None, in_channels: int
) -> Sequential:
    """A network of three stages of residual blocks with 16, 32 and 64 channels."""
    conv, linear = makers(seed)

    def block(inputs: int, outputs: int, stride: int) -> Residual:
        main = Sequential(
            {
                "conv1": conv(inputs, outputs, 3, padding=1, stride=stride, bias=False),
                "bn1": BatchNorm2d(outputs),
                "relu1": ReLU(),
                "conv2": conv(outputs, outputs, 3, padding=1, bias=False),
                "bn2": BatchNorm2d(outputs),
            }
        )
        changes = stride != 1 or inputs != outputs
        return Residual(main, conv(inputs, outputs, 1, stride=stride) if changes else None)

    layers: dict[str, Layer] = {
        "conv1": conv(in_channels, 16, 3, padding=1, bias=False),
        "bn1": BatchNorm2d(16),
        "relu1": ReLU(),
    }
    widths = [16, *(width for width in (16, 32, 64) for _ in range(blocks))]
    for index, (inputs, outputs) in enumerate(pairwise(widths), 1):
        layers[f"block{index}"] = block(inputs, outputs, 1 if inputs == outputs else 2)
        layers[f"relu{index + 1}"] = ReLU()
    layers |= {
        "pool": AvgPool2d(8),
        "flatten": Flatten(),
        "fc": linear(64, num_classes, init.Xavier()),
    }
    return Sequential(layers, input_shape=(in_channels, 32, 32))


def airbench(
    num_classes: int = 10,
    seed: int | None = None,
    *,
    widths: tuple[int, int, int] = (64, 256, 256),
    scale: float = 1 / 9,
    unit_head: bool = False,
    input_shape: tuple[int, int, int] = (3, 32, 32),
) -> Sequential:
    """The network of the CIFAR-10 speed record airbench94.

    A 2x2 convolution to 24 channels (8 per image channel), whose weight is set before training by
    :func:`fastcnn.layers.init.whitening_filters`, and GELU; three groups of conv 3x3 - max-pool 2 -
    batch norm - GELU - conv 3x3 - batch norm - GELU; max-pool 3, a linear layer without bias, and a
    constant factor. Filters of the 3x3 convolutions are initialised to the identity; batch norms
    have no weight and a momentum of 0.4.

    Parameters
    ----------
    num_classes : int
        Outputs of the last layer.
    seed : int, optional
        Seed of the initial weights.
    widths : tuple of int
        Channels of the groups.
    scale : float
        Factor of the outputs.
    unit_head : bool
        Whether the last layer's initial weight has a standard deviation of 1, as in the record's
        variant with Muon.
    input_shape : tuple of int
        (C, H, W) of the images, from 25 to 48 pixels high and wide.

    Raises
    ------
    ShapeError
        If the images are smaller or larger.

    References
    ----------
    Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv:2404.00498.
    """
    shape = as_sample_shape(input_shape)
    if not isinstance(widths, Iterable):
        raise ConfigurationError(f"airbench: widths must be numbers of channels, got {widths!r}")
    generator, channels = generator_of(seed), 8 * shape[0]
    layers: dict[str, Layer] = {
        "whiten": Conv2d(shape[0], channels, 2, bias_init=init.Constant(0.0), seed=generator),
        "gelu0": GELU(),
    }
    index = 0
    for width in widths:
        for place in range(2):
            index += 1
            layers[f"conv{index}"] = Conv2d(
                channels, width, 3, padding=1, bias=False, weight_init=init.Dirac(), seed=generator
            )
            if place == 0:
                layers[f"pool{index}"] = MaxPool2d(2)
            layers[f"norm{index}"] = BatchNorm2d(width, eps=1e-12, momentum=0.4, weight=False)
            layers[f"gelu{index}"] = GELU()
            channels = width
    head = Linear(channels, num_classes, bias=False, seed=generator)
    if as_flag("airbench", "unit_head", unit_head):
        head.weight[...] /= head.weight.std(ddof=1)
    layers |= {
        "pool": MaxPool2d(3),
        "flatten": Flatten(),
        "head": head,
        "scale": Scale(init=scale, trainable=False),
    }
    return Sequential(layers, input_shape=shape)


def auto_cnn(
    input_shape: tuple[int, int, int], num_classes: int, samples: int, seed: int | None = None
) -> Sequential:
    """A network with its depth chosen by the size of images, and its width by their number.

    Stages of 3x3 convolutions with batch normalisation, each at half the size of the one before,
    until 5 to 9 pixels remain of the shorter side (smaller images get two stages, those below 4
    pixels one); then the mean over pixels and a linear layer. With fewer than 2,000 samples, stages
    are narrow, with one convolution and dropout; otherwise they have two convolutions and twice the
    width.

    Parameters
    ----------
    input_shape : tuple of int
        ``(C, H, W)``.
    num_classes : int
    samples : int
        Number of training images.
    seed : int, optional
        Seed of the initial weights.

    Raises
    ------
    ConfigurationError
        If the images have no pixels, or there are no classes.

    Examples
    --------
    >>> import fastcnn
    >>> fastcnn.models.auto_cnn((3, 64, 64), 5, samples=400, seed=0).num_parameters
    98325
    """
    shape = as_sample_shape(input_shape)
    for name, number in (("num_classes", num_classes), ("samples", samples)):
        as_count("auto_cnn", name, number)
    if len(shape) != 3:
        raise ConfigurationError(f"auto_cnn needs images (C, H, W), got {shape}")
    conv, linear = makers(seed)
    few = samples < FEW_SAMPLES
    channels, side = shape[0], min(shape[1:])
    width = 16 if few else 32
    layers: dict[str, Layer] = {}
    stage = 0
    while True:
        stage += 1
        for place in ("",) if few else ("a", "b"):
            layers |= {
                f"conv{stage}{place}": conv(channels, width, 3, padding=1, bias=False),
                f"bn{stage}{place}": BatchNorm2d(width),
                f"relu{stage}{place}": ReLU(),
            }
            channels = width
        if side < 10 and (stage > 1 or side < 4):
            break
        layers[f"pool{stage}"] = MaxPool2d(2)
        side, width = side // 2, min(128, 2 * width)
    layers |= {"mean": GlobalAvgPool2d(), "flatten": Flatten()}
    if few:
        layers["dropout"] = Dropout(0.2)
    layers["fc"] = linear(channels, num_classes, init.Xavier())
    return Sequential(layers, input_shape=shape)


def makers(seed: Any) -> tuple[Callable[..., Conv2d], Callable[..., Linear]]:
    """Factories of convolutions and linear layers that draw weights from a common generator."""
    given: dict[str, Any] = {"bias_init": init.Constant(0.0), "seed": generator_of(seed)}

    def linear(in_features: int, out_features: int, weight_init: init.Initializer) -> Linear:
        return Linear(in_features, out_features, weight_init=weight_init, **given)

    return partial(Conv2d, weight_init=init.Kaiming(), **given), linear
