"""Networks of signals, sound and words."""

from bench.networks.draft import Draft
from fastcnn.layers import (
    ELU,
    AvgPool2d,
    Concat,
    Dropout,
    Flatten,
    GlobalAvgPool1d,
    GlobalMaxPool1d,
    Input,
    Linear,
    MaxPool1d,
    Model,
    ReLU,
    ZeroPad1d,
    ZeroPad2d,
)


def eegnet(d: Draft) -> Model:
    """EEGNet-8,2 on 64 electrodes and 128 points of time; four classes, weights of bounded norm."""
    x = Input((1, 64, 128))
    y = ZeroPad2d((31, 32, 0, 0))(x)
    y = d.norm(d.conv(y, 8, (1, 64), padding=0, bias=False))
    y = ELU()(d.norm(d.conv(y, 16, (64, 1), padding=0, groups=8, bias=False, max_norm=1.0)))
    y = ZeroPad2d((7, 8, 0, 0))(Dropout(0.5)(AvgPool2d((1, 4))(y)))
    y = d.conv(y, 16, (1, 16), padding=0, groups=16, bias=False)
    y = ELU()(d.norm(d.conv(y, 16, 1, bias=False)))
    y = Flatten()(Dropout(0.5)(AvgPool2d((1, 8))(y)))
    return Model(x, Linear(y.shape[0], 4, max_norm=0.25, seed=d.generator)(y))


def har_cnn(d: Draft) -> Model:
    """Nine sensors, 128 points of time, six activities."""
    x = Input((9, 128))
    y = ReLU()(d.conv(ReLU()(d.conv(x, 64, padding=0)), 64, padding=0))
    y = Flatten()(MaxPool1d(2)(Dropout(0.5)(y)))
    return Model(x, d.linear(ReLU()(d.linear(y, 100)), 6))


def kachuee_ecg(d: Draft) -> Model:
    """Five residual blocks on heartbeats of 187 points; five classes."""
    x = Input((1, 187))
    y = d.conv(x, 32, 5, padding=0)
    for _ in range(5):
        z = d.conv(ReLU()(d.conv(y, 32, 5)), 32, 5)
        y = MaxPool1d(5, stride=2)(ReLU()(z + y))
    y = ReLU()(d.linear(Flatten()(y), 32))
    return Model(x, d.linear(d.linear(y, 32), 5))


def m5(d: Draft) -> Model:
    """A second of sound at 8 kHz as its samples; 35 words."""
    x = Input((1, 8000))
    y = MaxPool1d(4)(d.conv_norm(x, 32, 80, stride=4, padding=38))
    for width in (32, 64, 64):
        y = MaxPool1d(4)(d.conv_norm(y, width, 3))
    return Model(x, d.linear(Flatten()(GlobalAvgPool1d()(y)), 35))


def tcn(d: Draft) -> Model:
    """Dilated causal convolutions: zeros before the sequence alone; an answer at each point."""
    x = y = Input((2, 128))
    for level in range(5):
        z, dilation = y, 2**level
        for _ in range(2):
            z = ZeroPad1d((2 * dilation, 0))(z)
            z = Dropout(0.2)(ReLU()(d.conv(z, 30, 3, padding=0, dilation=dilation)))
        y = ReLU()(z + (y if y.shape == z.shape else d.conv(y, 30, 1)))
    return Model(x, d.conv(y, 1, 1))


def text_cnn(d: Draft) -> Model:
    """Kim's network on 50 words, each a vector of 100 numbers; two classes."""
    x = Input((100, 50))
    found = [
        Flatten()(GlobalMaxPool1d()(ReLU()(d.conv(x, 100, size, padding=0)))) for size in (3, 4, 5)
    ]
    return Model(x, d.linear(Dropout(0.5)(Concat()(*found)), 2))
