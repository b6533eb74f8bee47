"""Networks that generate images, or discriminate them."""

from fastcnn import layers as nn
from fastcnn.models.draft import Draft, Value


def _twice(d: Draft, x: Value, width: int) -> Value:
    return d.conv_norm(d.conv_norm(x, width), width)


def unet(d: Draft) -> nn.Model:
    """U-Net of 16 to 128 channels with padded convolutions; three classes per pixel."""
    x = y = nn.Input((1, 64, 64))
    passed = []
    for width in (16, 32, 64):
        passed.append(_twice(d, y, width))
        y = nn.MaxPool2d(2)(passed[-1])
    y = _twice(d, y, 128)
    for width in (64, 32, 16):
        y = nn.Concat()(passed.pop(), d.up_conv(y, width, 2, stride=2))
        y = _twice(d, y, width)
    return nn.Model(x, d.conv(y, 3, 1))


def autoencoder(d: Draft) -> nn.Model:
    """Strided convolutions down to 32 values, and transposed ones back."""
    x = nn.Input((1, 28, 28))
    y = nn.ReLU()(d.conv(x, 16, 3, stride=2))
    y = nn.ReLU()(d.conv(y, 32, 3, stride=2))
    y = d.linear(nn.Flatten()(y), 32)
    y = nn.Unflatten(1, (32, 7, 7))(nn.ReLU()(d.linear(y, 32 * 7 * 7)))
    y = nn.ReLU()(d.up_conv(y, 16, 4, stride=2, padding=1))
    return nn.Model(x, nn.Sigmoid()(d.up_conv(y, 1, 4, stride=2, padding=1)))


#: Size of the latent vector of :func:`vae`.
LATENT = 20


def vae(d: Draft) -> nn.Model:
    """Outputs are mean, deviation and image, one after the other; the noise is an input."""
    x, noise = nn.Input((1, 28, 28), "image"), nn.Input((LATENT,), "noise")
    y = nn.ReLU()(d.conv(x, 32, 3, stride=2))
    y = nn.Flatten()(nn.ReLU()(d.conv(y, 64, 3, stride=2)))
    mean, deviation = nn.Chunk(2)(d.linear(y, 2 * LATENT))
    deviation = nn.Softplus()(deviation)
    y = nn.ReLU()(d.linear(mean + deviation * noise, 64 * 7 * 7))
    y = nn.ReLU()(d.up_conv(nn.Unflatten(1, (64, 7, 7))(y), 32, 4, stride=2, padding=1))
    picture = d.up_conv(y, 1, 4, stride=2, padding=1)
    return nn.Model((x, noise), nn.Concat()(mean, deviation, nn.Flatten()(picture)))


def _generator(d: Draft, x: Value) -> Value:
    y = nn.ReLU()(d.norm(d.up_conv(nn.Unflatten(1, (64, 1, 1))(x), 128, 4, bias=False)))
    for width in (64, 32):
        y = nn.ReLU()(d.norm(d.up_conv(y, width, 4, stride=2, padding=1, bias=False)))
    return nn.Tanh()(d.up_conv(y, 3, 4, stride=2, padding=1, bias=False))


def _discriminator(d: Draft, x: Value) -> Value:
    y = nn.LeakyReLU(0.2)(d.conv(x, 32, 4, stride=2, padding=1, bias=False))
    for width in (64, 128):
        y = d.norm(d.conv(y, width, 4, stride=2, padding=1, bias=False))
        y = nn.LeakyReLU(0.2)(y)
    return nn.Flatten()(d.conv(y, 1, 4, padding=0, bias=False))


def dcgan_discriminator(d: Draft) -> nn.Model:
    """32x32 images to one logit."""
    x = nn.Input((3, 32, 32))
    return nn.Model(x, _discriminator(d, x))


def dcgan_generator(d: Draft) -> nn.Model:
    """64 random values to a 32x32 image, which a frozen discriminator judges."""
    noise, picture = nn.Input((64,)), nn.Input((3, 32, 32))
    judge = nn.Model(picture, _discriminator(d, picture))
    judge.requires_grad = False
    generator = nn.Model(noise, _generator(d, noise))
    return nn.Sequential({"generator": generator, "discriminator": judge}, input_shape=(64,))


def dncnn(d: Draft) -> nn.Model:
    """DnCNN-S: 17 convolutions of 64 channels that predict the noise."""
    x = nn.Input((1, 40, 40))
    y = nn.ReLU()(d.conv(x, 64))
    for _ in range(15):
        y = d.conv_norm(y, 64)
    return nn.Model(x, d.conv(y, 1))


def espcn(d: Draft) -> nn.Model:
    """Three convolutions and a pixel shuffle: upscaling by three."""
    x = nn.Input((1, 17, 17))
    y = nn.Tanh()(d.conv(nn.Tanh()(d.conv(x, 64, 5)), 32))
    return nn.Model(x, nn.PixelShuffle(3)(d.conv(y, 9)))


def fsrcnn(d: Draft) -> nn.Model:
    """FSRCNN(56, 12, 4), upscaling by three with a transposed convolution."""
    x = nn.Input((1, 11, 11))
    y = nn.PReLU(56)(d.conv(x, 56, 5))
    y = nn.PReLU(12)(d.conv(y, 12, 1))
    for _ in range(4):
        y = d.conv(y, 12)
    y = nn.PReLU(56)(d.conv(nn.PReLU(12)(y), 56, 1))
    return nn.Model(x, d.up_conv(y, 1, 9, stride=3, padding=4, output_padding=2))
