"""Networks whose output is a picture."""

from fastcnn.arguments import as_count, as_sample_shape
from fastcnn.errors import ConfigurationError
from fastcnn.layers import Concat, Flatten, Input, MaxPool2d, Model, ReLU, Unflatten
from fastcnn.models.draft import Draft, Value, draft


def unet(
    num_classes: int = 2,
    seed: int | None = None,
    *,
    input_shape: tuple[int, int, int] = (1, 64, 64),
    width: int = 16,
    levels: int = 3,
) -> Model:
    """U-Net: a class for each pixel, from pictures at several sizes.

    On the way down each level has twice the channels and half the size of the one before; on the
    way up its map adjoins what comes from below. Convolutions are padded and batch-normalised. It
    is trained with :class:`~fastcnn.losses.CrossEntropyLoss` on classes of shape (N, H, W).

    Parameters
    ----------
    num_classes : int
    seed : int, optional
        Source of the initial weights.
    input_shape : tuple of int
        ``(C, H, W)``, height and width divisible by ``2**levels``.
    width : int
        Channels of the first level.
    levels : int
        How often the size is halved.

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
    latent: int = 32,
    seed: int | None = None,
    *,
    input_shape: tuple[int, int, int] = (1, 28, 28),
) -> Model:
    """Convolutions with stride 2 down to a few numbers, and transposed ones back to the picture.

    It is trained to give its input: with :class:`~fastcnn.losses.MSELoss`, or
    :class:`~fastcnn.losses.BCEWithLogitsLoss` on pixels from 0 to 1. The output has no activation.

    Parameters
    ----------
    latent : int
        Numbers between the two halves.
    seed : int, optional
        Source of the initial weights.
    input_shape : tuple of int
        ``(C, H, W)``, height and width divisible by 4.

    Raises
    ------
    ConfigurationError
        If they are not.

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
