"""Losses, optimisers, samples and their weights in the form in which the engine reads them."""

from typing import Any

import numpy as np

from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import DataError
from fastcnn.losses import Loss
from fastcnn.operations import own
from fastcnn.optim import Optimizer

#: Arrays of RMSprop as its kernel wants them, whichever of them a form has.
RMSPROP_SLOTS = ("square_avg", "momentum_buffer", "grad_avg")


def loss_key(loss: Loss) -> tuple[Any, ...]:
    """What the planner needs of a loss."""
    from fastcnn.backends.lanes import Unsupported, check_own_loss

    try:
        check_own_loss(loss.operation)
        return loss.engine_key
    except NotImplementedError:
        raise Unsupported(f"the loss {loss!r}") from None


def optimizer_settings(optimizer: Optimizer, clip_norm: float | None) -> np.ndarray:
    """The numbers that the interpreter's update reads."""
    from fastcnn.backends.lanes import OPTIMIZERS, Unsupported, check_own_update

    o: Any = optimizer
    kind = getattr(optimizer, "kind", None)
    clip = 0.0 if clip_norm is None else clip_norm
    if kind in own.UPDATES:
        check_own_update(kind)
        numbers = [getattr(o, number.name) for number in own.UPDATES[kind].arguments]
        return np.array([*numbers, *[0.0] * (5 - len(numbers)), clip])
    if kind not in OPTIMIZERS:
        raise Unsupported(f"the optimiser {type(optimizer).__name__}")
    if kind == "sgd":
        return np.array([o.momentum, 0.0, 0.0, o.weight_decay, float(o.nesterov), clip])
    if kind == "rmsprop":
        return np.array([o.alpha, o.momentum, o.eps, o.weight_decay, float(o.centered), clip])
    return np.array([*o.betas, o.eps, o.weight_decay, 0.0, clip])


def engine_slots(
    optimizer: Optimizer, parameters: np.ndarray
) -> tuple[dict[str, np.ndarray], tuple[np.ndarray, ...]]:
    """The optimiser's arrays by name, and the same memory as the update's two arrays."""
    rmsprop = getattr(optimizer, "kind", None) == "rmsprop"
    names = RMSPROP_SLOTS if rmsprop else tuple(optimizer.slots)
    state = np.zeros((len(names), parameters.size), parameters.dtype)
    slots = {name: state[names.index(name)] for name in optimizer.slots}
    return slots, (state[0], state[1:].reshape(-1)) if names else ()


def engine_weights(
    loss: Loss, target: np.ndarray, sample_weight: np.ndarray | None
) -> dict[str, Any]:
    """Weights of samples or targets as the losses read them, and what a sample's weigh in all.

    Raises
    ------
    DataError
        If there are not as many as samples or targets.
    """
    arrays: dict[str, Any] = {}
    if sample_weight is not None:
        weight = np.require(sample_weight, np.float64, ["C", "W"])
        shapes = [(len(target),), (len(target), *loss.weight_shape(target))]
        if weight.shape not in shapes:
            raise DataError(f"{len(target)} samples need as many weights, got {weight.shape}")
        arrays["weights"] = weight.reshape(-1)
    totals = loss.target_weight(target, sample_weight)
    if totals is not None:
        arrays["totals"] = np.require(totals, np.float64, ["C", "W"])
    return arrays


def engine_targets(
    loss: Loss, target: np.ndarray, labels: np.ndarray | None = None
) -> dict[str, Any]:
    """Classes, of which -1 is ignored, or rows of targets; then also classes to count hits by."""
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

    Read-only ones, such as memory maps of files, are not copied. Where a channel's factor and
    summand in float32 would lose digits, they are preprocessed here.
    """
    if not preprocessing.is_exact_in_float32(samples):
        samples = preprocessing.apply(samples)
    kind = np.uint8 if samples.dtype == np.uint8 else np.float32
    samples = np.require(samples, kind, ["C"])
    return samples if samples.flags.writeable else np.asarray(_Unlocked(samples))


class _Unlocked:
    """The memory of a read-only array as one of the type that compiled code was made for.

    numba tells arrays that may be written from those that may not. The engine only reads samples.
    """

    def __init__(self, array: np.ndarray) -> None:
        self.kept = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def input_factors(preprocessing: Preprocessing, samples: np.ndarray) -> tuple[Any, Any]:
    """Factor and summand of each channel by which the engine preprocesses what is stored.

    Samples that are not maps have a channel an element.
    """
    channels = samples.shape[1]
    if not preprocessing.is_exact_in_float32(samples):
        preprocessing = Preprocessing()
    scale, shift = preprocessing.factors(samples.dtype == np.uint8, channels)
    if samples.ndim == 4:
        return scale, shift
    times = int(np.prod(samples.shape[2:]))
    return np.repeat(scale, times), np.repeat(shift, times)


def signed_seed(seed: int) -> int:
    """The seed's low 64 bits as int64."""
    return int(np.uint64(int(seed) & 0xFFFF_FFFF_FFFF_FFFF).astype(np.int64))
