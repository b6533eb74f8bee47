"""Converts losses, optimisers, samples and weights to the form in which the engine reads them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import ConfigurationError, DataError
from fastcnn.execution.step import Step
from fastcnn.losses import Loss
from fastcnn.operations.record import OWN_UPDATES
from fastcnn.optim import Optimizer, Part
from fastcnn.scalars import is_integer

if TYPE_CHECKING:
    from fastcnn.backends.lanes import Batches, Moment, Update, UpdatePart


def loss_key(loss: Loss) -> tuple[Any, ...]:
    """The planner's description of a loss."""
    from fastcnn.backends.lanes import Unsupported, check_own_loss

    try:
        check_own_loss(loss.operation)
        return loss.engine_key
    except NotImplementedError:
        raise Unsupported(f"the loss {loss!r}") from None


#: Settings of each optimiser's formula, in the order in which its kernel reads them.
NUMBERS: dict[str, Callable[[Any], tuple[float, ...]]] = {
    "sgd": lambda o: (o.momentum, float(o.nesterov)),
    "adam": lambda o: (*o.betas, o.eps),
    "adamw": lambda o: (*o.betas, o.eps),
    "nadam": lambda o: (*o.betas, o.eps, o.momentum_decay),
    "rmsprop": lambda o: (o.alpha, o.momentum, o.eps),
    "lion": lambda o: o.betas,
    "adagrad": lambda o: (o.lr_decay, o.initial_accumulator_value, o.eps),
    "adadelta": lambda o: (o.rho, o.eps),
    "muon": lambda o: (
        o.momentum, float(o.nesterov), o.ns_steps, o.eps, *o.ns_coefficients,
        float(o.normalize_weight),
    ),
}  # fmt: skip
#: Names of the kernels of optimisers with several forms, and of those that share one.
KERNELS: dict[str, Callable[[Any], str]] = {
    "sgd": lambda o: "momentum" if o.momentum else "sgd",
    "adamw": lambda o: "adam",
    "rmsprop": lambda o: {
        (False, False): "rmsprop", (True, False): "rmsprop_momentum",
        (False, True): "rmsprop_centered", (True, True): "rmsprop_both",
    }[o.momentum != 0.0, o.centered],
}  # fmt: skip


def check_optimizer(optimizer: Optimizer) -> None:
    """Compile the update of a user's optimiser.

    Raises
    ------
    Unsupported
        If that fails.
    """
    from fastcnn.backends.lanes import check_own_update

    kind = getattr(optimizer, "kind", None)
    if kind in OWN_UPDATES:
        check_own_update(kind)


def is_python_update(optimizer: Optimizer) -> bool:
    """Whether an optimiser's update runs in Python."""
    kind = getattr(optimizer, "kind", None)
    return kind not in NUMBERS and kind not in OWN_UPDATES


def engine_update(
    parts: Sequence[Part],
    state: np.ndarray,
    clip_norm: float | None = None,
    only_clips: bool = False,
) -> "Update":
    """The engine's update of a model's parameters; for an update in Python it only clips."""
    from fastcnn.backends.lanes import Update, UpdatePart

    if only_clips:
        made = [UpdatePart(part.first, part.end, "clip") for part in parts]
    else:
        made = list(map(_update_part, parts))
    return Update(made, state, clip_norm or 0.0)


def _update_part(part: Part) -> "UpdatePart":
    from fastcnn.backends.lanes import UpdatePart

    o: Any = part.optimizer
    if o.kind in OWN_UPDATES:
        numbers = tuple(getattr(o, number.name) for number in OWN_UPDATES[o.kind].arguments)
        return UpdatePart(part.first, part.end, o.kind, numbers, part.factor, began=part.began)
    numbers, shape = NUMBERS[o.kind](o), None
    if part.shape is not None:
        shape = part.shape[0], (part.end - part.first) // part.shape[0]
        numbers = (*numbers, *shape, o.ratio(*shape))
    kernel = KERNELS[o.kind](o) if o.kind in KERNELS else o.kind
    return UpdatePart(
        part.first,
        part.end,
        kernel,
        numbers,
        part.factor,
        decay=0.0 if o.decoupled_weight_decay else o.weight_decay,
        decoupled=o.weight_decay if o.decoupled_weight_decay else 0.0,
        began=part.began,
        shape=shape,
    )


def engine_weights(
    loss: Loss, target: np.ndarray, sample_weight: np.ndarray | None
) -> dict[str, Any]:
    """Weights of samples or targets, in the form that losses read.

    Raises
    ------
    DataError
        If their number does not match the samples or targets.
    """
    arrays: dict[str, Any] = {}
    if sample_weight is not None:
        weight = np.require(sample_weight, np.float64, ["C", "W"])
        shapes = [(len(target),), (len(target), *loss.weight_shape(target))]
        if weight.shape not in shapes:
            raise DataError(
                f"expected a weight for each sample, {len(target)} in all, got {weight.shape}"
            )
        arrays["weights"] = weight.reshape(-1)
    return arrays


def engine_targets(
    loss: Loss, target: np.ndarray, labels: np.ndarray | None = None
) -> dict[str, Any]:
    """Classes, of which -1 is ignored, or rows of targets, and then classes to count hits."""
    if loss.classes and target.dtype.kind != "f":
        ignored = getattr(loss, "ignore_index", None)
        if ignored is not None:
            target = np.where(target == ignored, -1, target)
        return {"labels": np.require(target, np.int64, ["C", "W"]).reshape(-1)}
    arrays = {"targets": np.require(target, np.float32, ["C", "W"]).reshape(-1)}
    if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu":
        arrays["labels"] = np.require(labels, np.int64, ["C", "W"])
    return arrays


def stored_samples(preprocessing: Preprocessing, samples: np.ndarray) -> np.ndarray:
    """The samples as the engine reads them: bytes or float32, contiguous.

    Read-only ones, such as memory-mapped files, are not copied. If a channel's scale and offset
    would lose precision in float32, samples are preprocessed here.
    """
    if not preprocessing.is_exact_in_float32(samples):
        samples = preprocessing.apply(samples)
    kind = np.uint8 if samples.dtype == np.uint8 else np.float32
    samples = np.require(samples, kind, ["C"])
    return samples if samples.flags.writeable else np.asarray(_Unlocked(samples))


class _Unlocked:
    """Presents a read-only array's memory as writable, the type that compiled code expects.

    numba distinguishes writable arrays from read-only ones. The engine only reads samples.
    """

    def __init__(self, array: np.ndarray) -> None:
        self.kept = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def input_factors(preprocessing: Preprocessing, samples: np.ndarray) -> tuple[Any, Any]:
    """Scale and offset of each channel with which the engine preprocesses stored samples.

    For samples that are neither maps nor sequences, each element is a channel.
    """
    channels = samples.shape[1]
    if not preprocessing.is_exact_in_float32(samples):
        preprocessing = Preprocessing()
    scale, shift = preprocessing.factors(samples.dtype == np.uint8, channels)
    if samples.ndim in (3, 4):
        return scale, shift
    times = int(np.prod(samples.shape[2:]))
    return np.repeat(scale, times), np.repeat(shift, times)


def signed_seed(seed: int) -> int:
    """The seed's low 64 bits as int64."""
    if not is_integer(seed):
        raise ConfigurationError(f"seed must be an integer, got {seed!r}")
    return int(np.uint64(int(seed) & 0xFFFF_FFFF_FFFF_FFFF).astype(np.int64))


def batches_of(images: np.ndarray, order: np.ndarray, **arrays: np.ndarray) -> "Batches":
    """Samples with their targets and weights, in the form that the engine reads."""
    from fastcnn.backends.lanes import Batches

    return Batches(images, order, **arrays)


def moment_of(step: Step) -> "Moment":
    """The position in training that determines dropout's masks."""
    from fastcnn.backends.lanes import Moment

    return Moment(signed_seed(step.seed), step.number, step.first_sample)
