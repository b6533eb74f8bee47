"""Small layers and losses for the gradient checks of :mod:`fastcnn.analysis.gradcheck`."""

from collections.abc import Iterator

import numpy as np

from fastcnn import layers, losses
from fastcnn.layers import Layer
from fastcnn.layers.activation import LAYERS
from fastcnn.operations import OPERATIONS, elementwise_function
from fastcnn.operations.record import CASE_CHANNELS, CaseShape

#: Layers, and the shapes of their input samples.
CASES: tuple[tuple[Layer, CaseShape], ...] = (
    *(
        (layer(**case), (CASE_CHANNELS, 2, 3))
        for name, layer in LAYERS.items()
        for case in elementwise_function(name)[0].cases
    ),
    *(
        (getattr(layers, kind)(*given, **named), shape)
        for record in OPERATIONS.values()
        for kind, shape, given, named in record.layers
    ),
)

#: Losses by the kind of their targets.
OF_CLASSES: tuple[losses.Loss, ...] = (
    losses.CrossEntropyLoss(),
    losses.CrossEntropyLoss(label_smoothing=0.1),
    losses.CrossEntropyLoss(label_smoothing=0.1, weight=(1.0, 0.5, 2.0), ignore_index=255),
    losses.CrossEntropyLoss(reduction="sum"),
    losses.NLLLoss(weight=(1.0, 0.5, 2.0), ignore_index=255),
    losses.FocalLoss(),
    losses.FocalLoss(gamma=0.5, weight=(1.0, 0.5, 2.0), ignore_index=255, reduction="sum"),
)
OF_PROBABILITIES: tuple[losses.Loss, ...] = (
    losses.CrossEntropyLoss(label_smoothing=0.1),
    losses.CrossEntropyLoss(weight=(1.0, 0.5, 2.0)),
)
OF_VALUES: tuple[losses.Loss, ...] = (
    losses.MSELoss(),
    losses.MSELoss(reduction="sum"),
    losses.L1Loss(),
    losses.HuberLoss(delta=0.5),
    losses.SmoothL1Loss(beta=0.5),
)
OF_LABELS: tuple[losses.Loss, ...] = (
    losses.BCEWithLogitsLoss(),
    losses.BCEWithLogitsLoss(pos_weight=(1.0, 3.0, 0.5)),
    losses.SigmoidFocalLoss(),
)

Case = tuple[losses.Loss, np.ndarray, np.ndarray, np.ndarray | None]


def loss_cases() -> Iterator[Case]:
    """Every loss with outputs, targets and weights: per sample, per map, per target."""
    generator = np.random.default_rng(1)
    for maps in ((), (2, 2)):
        output = generator.standard_normal((4, 3, *maps)) * 2
        places = (4, *maps)
        classes = generator.integers(0, 3, places)
        classes[generator.random(places) < 0.3] = 255
        known = np.where(classes == 255, 1, classes)
        values, labels = generator.standard_normal(output.shape), generator.random(output.shape)
        soft = np.moveaxis(generator.dirichlet(np.ones(3), places), -1, 1)
        for group, target in (
            (OF_CLASSES, classes),
            (OF_PROBABILITIES, soft),
            (OF_VALUES, values),
            (OF_LABELS, labels.round()),
        ):
            for loss in group:
                own = known if getattr(loss, "ignore_index", 255) is None else target
                each = generator.uniform(0.1, 2.0, (4, *loss.weight_shape(target)))
                each[0, ...] = 0.0
                for weight in (None, generator.uniform(0.1, 2.0, 4), each):
                    if weight is None or weight is not each or loss is group[-1]:
                        yield loss, output, own if group is OF_CLASSES else target, weight


def shapes_of(shape: CaseShape, inputs: int) -> tuple[tuple[int, ...], ...]:
    """The shape of a sample of each input."""
    several = tuple(one for one in shape if isinstance(one, tuple))
    return several or (tuple(one for one in shape if isinstance(one, int)),) * inputs
