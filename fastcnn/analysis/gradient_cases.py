"""Small layers of every kind, whose gradients :mod:`fastcnn.analysis.gradcheck` checks."""

from fastcnn.layers import (
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Dropout2d,
    Flatten,
    GlobalAvgPool2d,
    GroupNorm,
    InstanceNorm2d,
    Layer,
    LayerNorm,
    LayerNorm2d,
    Linear,
    LocalResponseNorm,
    LogSoftmax,
    MaxPool2d,
    Multiply,
    RMSNorm,
    Softmax,
    Subtract,
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
    (LayerNorm((2, 3, 2)), (2, 3, 2)),
    (LayerNorm((3, 2), eps=0.1, bias=False), (2, 3, 2)),
    (LayerNorm(4, elementwise_affine=False), (3, 2, 4)),
    (LayerNorm(6), (6,)),
    (LayerNorm2d(3), (3, 2, 3)),
    (LayerNorm2d(5, eps=0.1, affine=False), (5, 2, 2)),
    (GroupNorm(2, 4), (4, 2, 3)),
    (GroupNorm(2, 6, eps=0.1, affine=False), (6,)),
    (InstanceNorm2d(3, affine=True), (3, 2, 3)),
    (RMSNorm((3, 2, 3)), (3, 2, 3)),
    (RMSNorm(5, eps=0.1, elementwise_affine=False), (2, 2, 5)),
    (LocalResponseNorm(3, alpha=0.5, beta=0.6, k=1.5), (5, 2, 3)),
    (LocalResponseNorm(4, alpha=2.0), (3, 2, 2)),
    (Softmax(), (4, 2, 3)),
    (Softmax(-1), (2, 3, 4)),
    (LogSoftmax(), (5,)),
    (LogSoftmax(1), (3, 2, 2)),
)


def shapes_of(shape: CaseShape, inputs: int) -> tuple[tuple[int, ...], ...]:
    """The shape of a sample of each input."""
    several = tuple(one for one in shape if isinstance(one, tuple))
    return several or (tuple(one for one in shape if isinstance(one, int)),) * inputs
