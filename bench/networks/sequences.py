"""Networks for signals, sound and text."""

from fastcnn import layers as nn
from fastcnn.models.draft import Draft


def eegnet(d: Draft) -> nn.Model:
    """EEGNet-8,2 on 64 electrodes and 128 time steps; four classes, weights with bounded norm."""
    x = nn.Input((1, 64, 128))
    y = nn.ZeroPad2d((31, 32, 0, 0))(x)
    y = d.norm(d.conv(y, 8, (1, 64), padding=0, bias=False))
    y = nn.ELU()(d.norm(d.conv(y, 16, (64, 1), padding=0, groups=8, bias=False, max_norm=1.0)))
    y = nn.ZeroPad2d((7, 8, 0, 0))(nn.Dropout(0.5)(nn.AvgPool2d((1, 4))(y)))
    y = d.conv(y, 16, (1, 16), padding=0, groups=16, bias=False)
    y = nn.ELU()(d.norm(d.conv(y, 16, 1, bias=False)))
    y = nn.Flatten()(nn.Dropout(0.5)(nn.AvgPool2d((1, 8))(y)))
    return nn.Model(x, nn.Linear(y.shape[0], 4, max_norm=0.25, seed=d.generator)(y))


def har_cnn(d: Draft) -> nn.Model:
    """Nine sensors, 128 time steps, six activities."""
    x = nn.Input((9, 128))
    y = nn.ReLU()(d.conv(nn.ReLU()(d.conv(x, 64, padding=0)), 64, padding=0))
    y = nn.Flatten()(nn.MaxPool1d(2)(nn.Dropout(0.5)(y)))
    return nn.Model(x, d.linear(nn.ReLU()(d.linear(y, 100)), 6))


def kachuee_ecg(d: Draft) -> nn.Model:
    """Five residual blocks on heartbeats of 187 time steps; five classes."""
    x = nn.Input((1, 187))
    y = d.conv(x, 32, 5, padding=0)
    for _ in range(5):
        z = d.conv(nn.ReLU()(d.conv(y, 32, 5)), 32, 5)
        y = nn.MaxPool1d(5, stride=2)(nn.ReLU()(z + y))
    y = nn.ReLU()(d.linear(nn.Flatten()(y), 32))
    return nn.Model(x, d.linear(d.linear(y, 32), 5))


def m5(d: Draft) -> nn.Model:
    """A second of raw audio at 8 kHz; 35 words."""
    x = nn.Input((1, 8000))
    y = nn.MaxPool1d(4)(d.conv_norm(x, 32, 80, stride=4, padding=38))
    for width in (32, 64, 64):
        y = nn.MaxPool1d(4)(d.conv_norm(y, width, 3))
    return nn.Model(x, d.linear(nn.Flatten()(nn.GlobalAvgPool1d()(y)), 35))


def tcn(d: Draft) -> nn.Model:
    """Dilated causal convolutions, padded only before the sequence; an output at each step."""
    x = y = nn.Input((2, 128))
    for level in range(5):
        z, dilation = y, 2**level
        for _ in range(2):
            z = nn.ZeroPad1d((2 * dilation, 0))(z)
            z = nn.Dropout(0.2)(nn.ReLU()(d.conv(z, 30, 3, padding=0, dilation=dilation)))
        y = nn.ReLU()(z + (y if y.shape == z.shape else d.conv(y, 30, 1)))
    return nn.Model(x, d.conv(y, 1, 1))


def text_cnn(d: Draft) -> nn.Model:
    """Kim's network on 50 words, each embedded in 100 dimensions; two classes."""
    x = nn.Input((100, 50))
    found = [
        nn.Flatten()(nn.GlobalMaxPool1d()(nn.ReLU()(d.conv(x, 100, size, padding=0))))
        for size in (3, 4, 5)
    ]
    return nn.Model(x, d.linear(nn.Dropout(0.5)(nn.Concat()(*found)), 2))
