"""Small layers and losses, whose gradients :mod:`fastcnn.analysis.gradcheck` checks."""

from collections.abc import Iterator

import numpy as np

from fastcnn import layers
from fastcnn.layers import Layer
from fastcnn.layers.activation import LAYERS
from fastcnn.losses import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    FocalLoss,
    HuberLoss,
    L1Loss,
    Loss,
    MSELoss,
    NLLLoss,
    SigmoidFocalLoss,
    SmoothL1Loss,
)
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
    (layers.Conv2d(2, 3, 3, padding=1, seed=0), (2, 5, 4)),
    (
        layers.Conv2d(
            2, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, seed=1
        ),
        (2, 6, 5),
    ),
    (layers.Conv2d(3, 3, 3, stride=2, padding="valid", groups=3, bias=False, seed=2), (3, 5, 6)),
    (layers.Conv2d(1, 2, (2, 4), padding="same", seed=3), (1, 4, 5)),
    (layers.ConvTranspose2d(2, 3, 3, seed=5), (2, 3, 4)),
    (
        layers.ConvTranspose2d(
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
    (layers.MaxPool2d(2), (2, 4, 6)),
    (layers.MaxPool2d(3, stride=2, padding=1), (2, 5, 6)),
    (layers.AvgPool2d(2), (2, 4, 6)),
    (layers.AvgPool2d((3, 2), stride=(2, 1), padding=1), (2, 5, 4)),
    (layers.AvgPool2d(3, stride=2, padding=1, count_include_pad=False), (1, 5, 5)),
    (layers.AdaptiveAvgPool2d((2, 3)), (2, 5, 4)),
    (layers.GlobalAvgPool2d(), (3, 2, 3)),
    (layers.MaxPool2d(2, stride=2, dilation=2, ceil_mode=True), (2, 5, 6)),
    (layers.AvgPool2d(3, stride=2, padding=1, ceil_mode=True), (2, 4, 5)),
    (layers.AvgPool2d(2, divisor_override=3), (2, 4, 4)),
    (layers.AdaptiveMaxPool2d((2, 3)), (2, 5, 4)),
    (layers.GlobalMaxPool2d(), (3, 2, 3)),
    (layers.Conv1d(2, 4, 3, stride=2, padding=1, dilation=2, groups=2, seed=7), (2, 9)),
    (layers.ConvTranspose1d(2, 3, 3, stride=2, output_padding=1, seed=8), (2, 4)),
    (layers.MaxPool1d(3, stride=2, ceil_mode=True), (2, 8)),
    (layers.AvgPool1d(2), (2, 6)),
    (layers.AdaptiveAvgPool1d(3), (2, 7)),
    (layers.AdaptiveMaxPool1d(3), (2, 7)),
    (layers.BatchNorm1d(3), (3, 4)),
    (layers.ZeroPad2d((1, 2, -1, 0)), (2, 4, 3)),
    (layers.ZeroPad1d((2, 1)), (2, 4)),
    (layers.ReflectionPad2d((1, 2, 0, 3)), (2, 4, 3)),
    (layers.ReflectionPad1d(2), (2, 4)),
    (layers.ReplicationPad2d((1, 0, 2, 1)), (2, 3, 3)),
    (layers.CircularPad2d((1, 0, 2, 1)), (2, 3, 3)),
    (layers.Upsample(scale_factor=(2, 3)), (2, 2, 3)),
    (layers.Upsample(size=(5, 4), mode="bilinear"), (2, 3, 6)),
    (layers.Upsample(scale_factor=2, mode="bilinear", align_corners=True), (2, 3, 2)),
    (layers.Upsample(scale_factor=2, mode="linear"), (2, 5)),
    (layers.PixelShuffle(2), (8, 2, 3)),
    (layers.PixelUnshuffle(2), (2, 4, 2)),
    (layers.ChannelShuffle(3), (6, 2, 2)),
    (layers.Unflatten(1, (2, 3, 2)), (12,)),
    (layers.Flatten(), (2, 3, 3)),
    (layers.Add(), (2, 3, 3)),
    (layers.Subtract(), (2, 3, 3)),
    (layers.Multiply(), (2, 3, 3)),
    (layers.Multiply(), ((3, 2, 4), (3, 1, 1))),
    (layers.Multiply(), ((1, 2, 4), (3, 2, 4))),
    (layers.Concat(), ((2, 3, 2), (1, 3, 2), (3, 3, 2))),
    (layers.Concat(), ((4,), (3,))),
    (layers.Narrow(1, 2), (4, 2, 3)),
    (layers.Narrow(0, 3), (5, 4)),
    (layers.Narrow(2, 3), (5,)),
    (layers.Linear(6, 4, seed=4), (6,)),
    (layers.Dropout(0.4), (3, 4)),
    (layers.Dropout2d(0.4), (3, 2, 2)),
    (layers.BatchNorm2d(2), (2, 3, 3)),
    (layers.BatchNorm2d(3, eps=0.1, affine=False), (3, 2, 2)),
    (layers.BatchNorm1d(4, eps=0.5, track_running_stats=False), (4,)),
    (layers.LayerNorm((2, 3, 2)), (2, 3, 2)),
    (layers.LayerNorm((3, 2), eps=0.1, bias=False), (2, 3, 2)),
    (layers.LayerNorm(4, elementwise_affine=False), (3, 2, 4)),
    (layers.LayerNorm(6), (6,)),
    (layers.LayerNorm2d(3), (3, 2, 3)),
    (layers.LayerNorm2d(5, eps=0.1, affine=False), (5, 2, 2)),
    (layers.GroupNorm(2, 4), (4, 2, 3)),
    (layers.GroupNorm(2, 6, eps=0.1, affine=False), (6,)),
    (layers.InstanceNorm2d(3, affine=True), (3, 2, 3)),
    (layers.RMSNorm((3, 2, 3)), (3, 2, 3)),
    (layers.RMSNorm(5, eps=0.1, elementwise_affine=False), (2, 2, 5)),
    (layers.LocalResponseNorm(3, alpha=0.5, beta=0.6, k=1.5), (5, 2, 3)),
    (layers.LocalResponseNorm(4, alpha=2.0), (3, 2, 2)),
    (layers.Softmax(), (4, 2, 3)),
    (layers.Softmax(-1), (2, 3, 4)),
    (layers.LogSoftmax(), (5,)),
    (layers.LogSoftmax(1), (3, 2, 2)),
)

#: Losses by what their targets are.
OF_CLASSES: tuple[Loss, ...] = (
    CrossEntropyLoss(),
    CrossEntropyLoss(label_smoothing=0.1),
    CrossEntropyLoss(label_smoothing=0.1, weight=(1.0, 0.5, 2.0), ignore_index=255),
    CrossEntropyLoss(reduction="sum"),
    NLLLoss(weight=(1.0, 0.5, 2.0), ignore_index=255),
    FocalLoss(),
    FocalLoss(gamma=0.5, weight=(1.0, 0.5, 2.0), ignore_index=255, reduction="sum"),
)
OF_PROBABILITIES: tuple[Loss, ...] = (
    CrossEntropyLoss(label_smoothing=0.1),
    CrossEntropyLoss(weight=(1.0, 0.5, 2.0)),
)
OF_VALUES: tuple[Loss, ...] = (
    MSELoss(),
    MSELoss(reduction="sum"),
    L1Loss(),
    HuberLoss(delta=0.5),
    SmoothL1Loss(beta=0.5),
)
OF_LABELS: tuple[Loss, ...] = (
    BCEWithLogitsLoss(),
    BCEWithLogitsLoss(pos_weight=(1.0, 3.0, 0.5)),
    SigmoidFocalLoss(),
)

Case = tuple[Loss, np.ndarray, np.ndarray, np.ndarray | None]


def loss_cases() -> Iterator[Case]:
    """Every loss with outputs, targets and weights: of samples, of maps, of single targets."""
    generator = np.random.default_rng(1)
    for maps in ((), (2, 2)):
        output = generator.standard_normal((4, 3, *maps)) * 2
        places = (4, *maps)
        classes = generator.integers(0, 3, places)
        classes[generator.random(places) < 0.3] = 255
        known = np.where(classes == 255, 1, classes)
        values, labels = generator.standard_normal(output.shape), generator.random(output.shape)
        soft = np.moveaxis(generator.dirichlet(np.ones(3), places), -1, 1)
        for losses, target in (
            (OF_CLASSES, classes),
            (OF_PROBABILITIES, soft),
            (OF_VALUES, values),
            (OF_LABELS, labels.round()),
        ):
            for loss in losses:
                own = known if getattr(loss, "ignore_index", 255) is None else target
                each = generator.uniform(0.1, 2.0, (4, *loss.weight_shape(target)))
                each[0, ...] = 0.0
                for weight in (None, generator.uniform(0.1, 2.0, 4), each):
                    if weight is None or weight is not each or loss is losses[-1]:
                        yield loss, output, own if losses is OF_CLASSES else target, weight


def shapes_of(shape: CaseShape, inputs: int) -> tuple[tuple[int, ...], ...]:
    """The shape of a sample of each input."""
    several = tuple(one for one in shape if isinstance(one, tuple))
    return several or (tuple(one for one in shape if isinstance(one, int)),) * inputs
