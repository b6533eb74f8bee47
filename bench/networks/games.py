"""Networks for games, and for pairs of images."""

from fastcnn.layers import Flatten, Input, MaxPool2d, Model, ReLU, Tanh
from fastcnn.models.draft import Draft, Value


def alphazero(d: Draft) -> Model:
    """Four residual blocks of 64 channels on a 6x7 board; outputs are moves and the outcome."""
    x = Input((3, 6, 7), "board")
    y = d.conv_norm(x, 64)
    for _ in range(4):
        z = d.conv_norm(d.conv_norm(y, 64), 64, activation=None)
        y = ReLU()(z + y)
    policy = d.linear(Flatten()(d.conv_norm(y, 2, 1)), 7)
    value = ReLU()(d.linear(Flatten()(d.conv_norm(y, 1, 1)), 64))
    return Model(x, {"policy": policy, "value": Tanh()(d.linear(value, 1))})


def dqn_atari(d: Draft) -> Model:
    """Four frames of 84x84 pixels; outputs are the values of six actions."""
    x = Input((4, 84, 84))
    y = ReLU()(d.conv(x, 32, 8, stride=4, padding=0))
    y = ReLU()(d.conv(y, 64, 4, stride=2, padding=0))
    y = Flatten()(ReLU()(d.conv(y, 64, 3, padding=0)))
    return Model(x, d.linear(ReLU()(d.linear(y, 512)), 6))


def siamese(d: Draft) -> Model:
    """One trunk for two images; the squared difference of features decides if they are alike."""
    left, right = Input((1, 28, 28), "left"), Input((1, 28, 28), "right")
    picture = Input((1, 28, 28))
    trunk = Model(picture, _features(d, picture))
    apart = trunk(left) - trunk(right)
    return Model((left, right), d.linear(apart * apart, 1))


def _features(d: Draft, x: Value) -> Value:
    y = MaxPool2d(2)(ReLU()(d.conv(x, 16, 5)))
    y = MaxPool2d(2)(ReLU()(d.conv(y, 32, 3)))
    return d.linear(Flatten()(y), 64)
