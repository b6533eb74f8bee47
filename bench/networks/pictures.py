"""Networks whose output is a picture, or that judge one."""

from fastcnn.layers import (
    Chunk,
    Concat,
    Flatten,
    Input,
    LeakyReLU,
    MaxPool2d,
    Model,
    PixelShuffle,
    PReLU,
    ReLU,
    Sequential,
    Sigmoid,
    Softplus,
    Tanh,
    Unflatten,
)
from fastcnn.models.draft import Draft, Value


def _twice(d: Draft, x: Value, width: int) -> Value:
    return d.conv_norm(d.conv_norm(x, width), width)


def unet(d: Draft) -> Model:
    """U-Net of 16 to 128 channels with padded convolutions; three classes for each pixel."""
    x = y = Input((1, 64, 64))
    passed = []
    for width in (16, 32, 64):
        passed.append(_twice(d, y, width))
        y = MaxPool2d(2)(passed[-1])
    y = _twice(d, y, 128)
    for width in (64, 32, 16):
        y = Concat()(passed.pop(), d.up_conv(y, width, 2, stride=2))
        y = _twice(d, y, width)
    return Model(x, d.conv(y, 3, 1))


def autoencoder(d: Draft) -> Model:
    """Convolutions with stride 2 down to 32 numbers, and transposed ones back."""
    x = Input((1, 28, 28))
    y = ReLU()(d.conv(x, 16, 3, stride=2))
    y = ReLU()(d.conv(y, 32, 3, stride=2))
    y = d.linear(Flatten()(y), 32)
    y = Unflatten(1, (32, 7, 7))(ReLU()(d.linear(y, 32 * 7 * 7)))
    y = ReLU()(d.up_conv(y, 16, 4, stride=2, padding=1))
    return Model(x, Sigmoid()(d.up_conv(y, 1, 4, stride=2, padding=1)))


#: Numbers between the two halves of :func:`vae`.
LATENT = 20


def vae(d: Draft) -> Model:
    """Mean, deviation and picture, one after the other; the random numbers are an input."""
    x, noise = Input((1, 28, 28), "image"), Input((LATENT,), "noise")
    y = ReLU()(d.conv(x, 32, 3, stride=2))
    y = Flatten()(ReLU()(d.conv(y, 64, 3, stride=2)))
    mean, deviation = Chunk(2)(d.linear(y, 2 * LATENT))
    deviation = Softplus()(deviation)
    y = ReLU()(d.linear(mean + deviation * noise, 64 * 7 * 7))
    y = ReLU()(d.up_conv(Unflatten(1, (64, 7, 7))(y), 32, 4, stride=2, padding=1))
    picture = d.up_conv(y, 1, 4, stride=2, padding=1)
    return Model((x, noise), Concat()(mean, deviation, Flatten()(picture)))


def _generator(d: Draft, x: Value) -> Value:
    y = ReLU()(d.norm(d.up_conv(Unflatten(1, (64, 1, 1))(x), 128, 4, bias=False)))
    for width in (64, 32):
        y = ReLU()(d.norm(d.up_conv(y, width, 4, stride=2, padding=1, bias=False)))
    return Tanh()(d.up_conv(y, 3, 4, stride=2, padding=1, bias=False))


def _discriminator(d: Draft, x: Value) -> Value:
    y = LeakyReLU(0.2)(d.conv(x, 32, 4, stride=2, padding=1, bias=False))
    for width in (64, 128):
        y = d.norm(d.conv(y, width, 4, stride=2, padding=1, bias=False))
        y = LeakyReLU(0.2)(y)
    return Flatten()(d.conv(y, 1, 4, padding=0, bias=False))


def dcgan_discriminator(d: Draft) -> Model:
    """32x32 pictures to one logit."""
    x = Input((3, 32, 32))
    return Model(x, _discriminator(d, x))


def dcgan_generator(d: Draft) -> Model:
    """64 random numbers to a 32x32 picture, which a frozen discriminator judges."""
    noise, picture = Input((64,)), Input((3, 32, 32))
    judge = Model(picture, _discriminator(d, picture))
    judge.requires_grad = False
    generator = Model(noise, _generator(d, noise))
    return Sequential({"generator": generator, "discriminator": judge}, input_shape=(64,))


def dncnn(d: Draft) -> Model:
    """DnCNN-S: 17 convolutions of 64 channels that predict the noise."""
    x = Input((1, 40, 40))
    y = ReLU()(d.conv(x, 64))
    for _ in range(15):
        y = d.conv_norm(y, 64)
    return Model(x, d.conv(y, 1))


def espcn(d: Draft) -> Model:
    """Three convolutions, and channels that become pixels: three times as large."""
    x = Input((1, 17, 17))
    y = Tanh()(d.conv(Tanh()(d.conv(x, 64, 5)), 32))
    return Model(x, PixelShuffle(3)(d.conv(y, 9)))


def fsrcnn(d: Draft) -> Model:
    """FSRCNN(56, 12, 4), three times as large by a transposed convolution."""
    x = Input((1, 11, 11))
    y = PReLU(56)(d.conv(x, 56, 5))
    y = PReLU(12)(d.conv(y, 12, 1))
    for _ in range(4):
        y = d.conv(y, 12)
    y = PReLU(56)(d.conv(PReLU(12)(y), 56, 1))
    return Model(x, d.up_conv(y, 1, 9, stride=3, padding=4, output_padding=2))
