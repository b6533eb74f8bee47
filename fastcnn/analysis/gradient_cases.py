"""Small layers of every kind, whose gradients :mod:`fastcnn.analysis.gradcheck` checks."""

from fastcnn.layers import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    Add,
    AvgPool1d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    ChannelShuffle,
    Concat,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    ConvTranspose2d,
    Dropout,
    Dropout2d,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Layer,
    Linear,
    MaxPool1d,
    MaxPool2d,
    Multiply,
    PixelShuffle,
    PixelUnshuffle,
    ReflectionPad1d,
    ReflectionPad2d,
    ReplicationPad2d,
    Subtract,
    Unflatten,
    Upsample,
    ZeroPad1d,
    ZeroPad2d,
)
from fastcnn.layers.activation import LAYERS
from fastcnn.operations import elementwise_function
from fastcnn.operations.record import CASE_CHANNELS

#: Shape of a sample, or of a sample of each input.
CaseShape = tuple[int, ...] | tuple[tuple[int, ...], ...]
#: Layers, and the shapes of samples that enter them.
CASES: tuple[tuple[Layer, CaseShape], ...] = (
    *(
        (layer(**case), (CASE_CHANNELS, 2, 3))
        for name, layer in LAYERS.items()
        for case in elementwise_function(name)[0].cases
    ),
    (Conv2d(2, 3, 3, padding=1, seed=0), (2, 5, 4)),
    (
        Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, seed=1),
        (2, 6, 5),
    ),
    (Conv2d(3, 3, 3, stride=2, padding="valid", groups=3, bias=False, seed=2), (3, 5, 6)),
    (Conv2d(1, 2, (2, 4), padding="same", seed=3), (1, 4, 5)),
    (ConvTranspose2d(2, 3, 3, seed=5), (2, 3, 4)),
    (
        ConvTranspose2d(
            4,
            2,
            (3, 2),
            stride=(2, 3),
            padding=(1, 0),
            output_padding=(1, 2),
            groups=2,
            dilation=(1, 2),
            seed=6,
        ),
        (4, 3, 2),
    ),
    (MaxPool2d(2), (2, 4, 6)),
    (MaxPool2d(3, stride=2, padding=1), (2, 5, 6)),
    (AvgPool2d(2), (2, 4, 6)),
    (AvgPool2d((3, 2), stride=(2, 1), padding=1), (2, 5, 4)),
    (AvgPool2d(3, stride=2, padding=1, count_include_pad=False), (1, 5, 5)),
    (AdaptiveAvgPool2d((2, 3)), (2, 5, 4)),
    (GlobalAvgPool2d(), (3, 2, 3)),
    (MaxPool2d(2, stride=2, dilation=2, ceil_mode=True), (2, 5, 6)),
    (AvgPool2d(3, stride=2, padding=1, ceil_mode=True), (2, 4, 5)),
    (AvgPool2d(2, divisor_override=3), (2, 4, 4)),
    (AdaptiveMaxPool2d((2, 3)), (2, 5, 4)),
    (GlobalMaxPool2d(), (3, 2, 3)),
    (Conv1d(2, 4, 3, stride=2, padding=1, dilation=2, groups=2, seed=7), (2, 9)),
    (ConvTranspose1d(2, 3, 3, stride=2, output_padding=1, seed=8), (2, 4)),
    (MaxPool1d(3, stride=2, ceil_mode=True), (2, 8)),
    (AvgPool1d(2), (2, 6)),
    (AdaptiveAvgPool1d(3), (2, 7)),
    (AdaptiveMaxPool1d(3), (2, 7)),
    (BatchNorm1d(3), (3, 4)),
    (ZeroPad2d((1, 2, -1, 0)), (2, 4, 3)),
    (ZeroPad1d((2, 1)), (2, 4)),
    (ReflectionPad2d((1, 2, 0, 3)), (2, 4, 3)),
    (ReflectionPad1d(2), (2, 4)),
    (ReplicationPad2d((1, 0, 2, 1)), (2, 3, 3)),
    (Upsample(scale_factor=(2, 3)), (2, 2, 3)),
    (Upsample(size=(5, 4), mode="bilinear"), (2, 3, 6)),
    (Upsample(scale_factor=2, mode="bilinear", align_corners=True), (2, 3, 2)),
    (Upsample(scale_factor=2, mode="linear"), (2, 5)),
    (PixelShuffle(2), (8, 2, 3)),
    (PixelUnshuffle(2), (2, 4, 2)),
    (ChannelShuffle(3), (6, 2, 2)),
    (Unflatten(1, (2, 3, 2)), (12,)),
    (Flatten(), (2, 3, 3)),
    (Add(), (2, 3, 3)),
    (Subtract(), (2, 3, 3)),
    (Multiply(), (2, 3, 3)),
    (Multiply(), ((3, 2, 4), (3, 1, 1))),
    (Multiply(), ((1, 2, 4), (3, 2, 4))),
    (Concat(), ((2, 3, 2), (1, 3, 2), (3, 3, 2))),
    (Concat(), ((4,), (3,))),
    (Linear(6, 4, seed=4), (6,)),
    (Dropout(0.4), (3, 4)),
    (Dropout2d(0.4), (3, 2, 2)),
    (BatchNorm2d(2), (2, 3, 3)),
    (BatchNorm2d(3, eps=0.1, affine=False), (3, 2, 2)),
    (BatchNorm1d(4, eps=0.5, track_running_stats=False), (4,)),
)


def shapes_of(shape: CaseShape, inputs: int) -> tuple[tuple[int, ...], ...]:
    """The shape of a sample of each input."""
    several = tuple(one for one in shape if isinstance(one, tuple))
    return several or (tuple(one for one in shape if isinstance(one, int)),) * inputs
