"""Networks for images and sounds that are written as graphs, most with branches."""

from fastcnn.arguments import as_count, as_sample_shape
from fastcnn.errors import ConfigurationError
from fastcnn.layers import (
    AvgPool2d,
    Concat,
    Dropout,
    Flatten,
    GlobalAvgPool1d,
    GlobalAvgPool2d,
    Input,
    MaxPool1d,
    MaxPool2d,
    Model,
    ReLU,
    ReLU6,
    Unflatten,
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

    Three stages of six layers, each of which adds ``growth`` channels; between stages, channels and
    size are halved.

    Parameters
    ----------
    num_classes : int
        Outputs of the last layer.
    seed : int, optional
        Seed of the initial weights.
    input_shape : tuple of int
        ``(C, H, W)`` of a sample.
    growth : int
        Channels added per layer.

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
    num_classes: int = 10, seed: int | None = None, *, input_shape: tuple[int, int, int] = CIFAR
) -> Model:
    """SqueezeNet with 1.1's modules, for small pictures: the first convolution has no stride.

    A fire module squeezes the channels with a 1x1 convolution, and expands them with a 1x1 and a
    3x3 convolution, whose outputs are concatenated.

    Parameters
    ----------
    num_classes : int
        Outputs of the last layer.
    seed : int, optional
        Seed of the initial weights.
    input_shape : tuple of int
        ``(C, H, W)`` of a sample.

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


#: Stages of MobileNetV2: expansion, channels, blocks, and the stride of the first.
MOBILENET_V2 = (
    *((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)


def mobilenet_v2(
    num_classes: int = 10, seed: int | None = None, *, input_shape: tuple[int, int, int] = CIFAR
) -> Model:
    """MobileNetV2 for small pictures: its first two strides are 1.

    Parameters
    ----------
    num_classes : int
        Outputs of the last layer.
    seed : int, optional
        Seed of the initial weights.
    input_shape : tuple of int
        ``(C, H, W)`` of a sample.

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


def unet(
    num_classes: int = 2,
    seed: int | None = None,
    *,
    input_shape: tuple[int, int, int] = (1, 64, 64),
    width: int = 16,
    levels: int = 3,
) -> Model:
    """U-Net: segmentation, with a class for each pixel.

    In the encoder, each level has twice the channels and half the size of the one before; in the
    decoder, its map is concatenated with the upsampled one from below. Convolutions are padded and
    batch-normalised. It is trained with :class:`~fastcnn.losses.CrossEntropyLoss` on classes of
    shape (N, H, W).

    Parameters
    ----------
    num_classes : int
        Classes of a pixel.
    seed : int, optional
        Seed of the initial weights.
    input_shape : tuple of int
        ``(C, H, W)``, height and width divisible by ``2**levels``.
    width : int
        Channels of the first level.
    levels : int
        Number of times the size is halved.

    Raises
    ------
    ConfigurationError
        If the size cannot be halved that often.

    References
    ----------
    Ronneberger, Fischer and Brox, "U-Net: convolutional networks for biomedical image
    segmentation", arXiv:1505.04597.

    Examples
    --------
    >>> import fastcnn
    >>> model = fastcnn.models.unet(3, seed=0, input_shape=(1, 48, 32))
    >>> model.output_shape((1, 48, 32))
    (3, 48, 32)
    """
    shape = as_sample_shape(input_shape)
    width, levels = as_count("unet", "width", width), as_count("unet", "levels", levels, least=0)
    if len(shape) != 3 or any(size % 2**levels for size in shape[1:]):
        raise ConfigurationError(
            f"unet: height and width of input_shape must be divisible by {2**levels}, got {shape}"
        )
    d, passed = draft(seed), []
    x = y = Input(shape)
    for level in range(levels):
        passed.append(_twice(d, y, width << level))
        y = MaxPool2d(2)(passed[-1])
    y = _twice(d, y, width << levels)
    for level in reversed(range(levels)):
        up = d.up_conv(y, width << level, 2, stride=2)
        y = _twice(d, Concat()(passed[level], up), width << level)
    return Model(x, d.conv(y, num_classes, 1))


def _twice(d: Draft, x: Value, width: int) -> Value:
    return d.conv_norm(d.conv_norm(x, width), width)


def autoencoder(
    latent: int = 32, seed: int | None = None, *, input_shape: tuple[int, int, int] = (1, 28, 28)
) -> Model:
    """An autoencoder: strided convolutions down to a few values, transposed ones back up.

    It is trained to reproduce its input: with :class:`~fastcnn.losses.MSELoss`, or
    :class:`~fastcnn.losses.BCEWithLogitsLoss` on pixels from 0 to 1. The output has no activation.

    Parameters
    ----------
    latent : int
        Size of the latent vector.
    seed : int, optional
        Seed of the initial weights.
    input_shape : tuple of int
        ``(C, H, W)``, height and width divisible by 4.

    Raises
    ------
    ConfigurationError
        If they are not divisible by 4.

    References
    ----------
    Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science
    313 (2006), with convolutions.
    """
    shape = as_sample_shape(input_shape)
    if len(shape) != 3 or any(size % 4 for size in shape[1:]):
        raise ConfigurationError(
            f"autoencoder: height and width of input_shape must be divisible by 4, got {shape}"
        )
    d, x = draft(seed), Input(shape)
    y = ReLU()(d.conv(x, 16, 3, stride=2))
    y = ReLU()(d.conv(y, 32, 3, stride=2))
    small, flat = y.shape, Flatten()(y)
    y = d.linear(flat, latent)
    y = Unflatten(1, small)(ReLU()(d.linear(y, flat.shape[0])))
    y = ReLU()(d.up_conv(y, 16, 4, stride=2, padding=1))
    return Model(x, d.up_conv(y, shape[0], 4, stride=2, padding=1))


def ds_cnn(
    num_classes: int = 12,
    seed: int | None = None,
    *,
    input_shape: tuple[int, int, int] = (1, 49, 10),
) -> Model:
    """DS-CNN for keyword spotting: a convolution and four depthwise-separable ones, 64 channels.

    Parameters
    ----------
    num_classes : int
        Outputs of the last layer.
    seed : int, optional
        Seed of the initial weights.
    input_shape : tuple of int
        ``(1, times, coefficients)``: by default 49 spectra of ten cepstral coefficients.

    References
    ----------
    Zhang, Suda, Lai and Chandra, "Hello Edge: keyword spotting on microcontrollers",
    arXiv:1711.07128; Banbury et al., "MLPerf Tiny benchmark", arXiv:2106.07597. Padding is
    PyTorch's.
    """
    d, x = draft(seed), Input(input_shape)
    y = d.conv_norm(x, 64, (10, 4), stride=2, padding=(4, 1))
    for _ in range(4):
        y = d.separable(y, 64)
    return Model(x, d.mean_head(y, num_classes))


def m5(num_classes: int = 35, seed: int | None = None, *, samples: int = 8000) -> Model:
    """M5: four one-dimensional convolutions on a raw waveform.

    Parameters
    ----------
    num_classes : int
        Outputs of the last layer.
    seed : int, optional
        Seed of the initial weights.
    samples : int
        Shape of one sound, ``(1, samples)``: by default a second at 8 kHz.

    References
    ----------
    Dai, Dai, Qu, Li and Das, "Very deep convolutional neural networks for raw waveforms",
    arXiv:1610.00087.
    """
    d, x = draft(seed), Input((1, samples))
    y = MaxPool1d(4)(d.conv_norm(x, 32, 80, stride=4, padding=38))
    for width in (32, 64, 64):
        y = MaxPool1d(4)(d.conv_norm(y, width))
    return Model(x, d.linear(Flatten()(GlobalAvgPool1d()(y)), num_classes))
