"""The work that contestants share: one network, one set of samples, one optimiser."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fastcnn import models
from fastcnn.benchmark import zoo
from fastcnn.errors import ConfigurationError
from fastcnn.layers import Model

LEARNING_RATE, MOMENTUM = 0.01, 0.9
#: Batches of samples that training goes round.
BATCHES = 8
#: Least step that a difference is relative to, as a share of the tensor: float32 keeps 6e-8.
ROUNDING = 1e-5
NETWORKS = ("report_cnn", "lenet5", "vgg_small", "resnet8")


@dataclass(frozen=True)
class Work:
    """A network with random normalised samples.

    Attributes
    ----------
    name : str
    batch : int
    x : ndarray of float32, shape (N, C, H, W)
    y : ndarray of int64, shape (N,)
    """

    name: str
    batch: int
    x: np.ndarray
    y: np.ndarray

    def model(self) -> Model:
        """The network with its initial weights, a new one at each call."""
        return make_model(self.name)

    @property
    def flops(self) -> int:
        """FLOPs of one forward pass of a batch."""
        model = self.model()
        assert model.input_shape is not None
        return self.batch * model.flops(model.input_shape)


def make_model(name: str) -> Model:
    """A network of :mod:`fastcnn.models`, or of the zoo, with weights of fixed seeds.

    Raises
    ------
    ConfigurationError
        If there is none of that name.
    """
    if name in zoo.ZOO:
        return zoo.make(name)
    make = getattr(models, name, None)
    if make is None or name.startswith("_"):
        raise ConfigurationError(
            f"no network {name!r}; there are {', '.join([*networks(), *zoo.ZOO])}"
        )
    return make(seed=0)


def networks() -> tuple[str, ...]:
    """The benchmark's networks that this version has."""
    return tuple(name for name in NETWORKS if hasattr(models, name))


def make_work(name: str, batch: int) -> Work:
    """A network's work at a batch size."""
    model = make_model(name)
    assert model.input_shape is not None
    generator = np.random.default_rng(0)
    x = generator.standard_normal((batch * BATCHES, *model.input_shape)).astype(np.float32)
    classes = model.output_shape(model.input_shape)[0]
    return Work(name, batch, x, generator.integers(0, classes, len(x)))


class Trainer(Protocol):
    """A contestant in training: SGD with momentum on cross-entropy."""

    def train(self, steps: int) -> object:
        """Take steps on consecutive batches, round and round."""

    def loss(self) -> float:
        """Loss of the last step's batch, before the step."""

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of parameters and buffers, by fastcnn's keys and layouts."""


def learned_keys(model: Model) -> set[str]:
    """Keys of the state that are trained; the others are buffers, such as running means."""
    return {key for node in model.graph().nodes for key in node.parameters.values()}


def largest_difference(
    ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], start: dict[str, np.ndarray]
) -> float:
    """Largest difference of two trainings from one start, each tensor's relative to its own step.

    After the first step of SGD that is the difference of the gradients. Each tensor counts by
    itself: running variances move a thousand times as far as weights, and would hide them.

    Raises
    ------
    KeyError
        If a parameter is missing.
    """
    largest = 0.0
    for key, value in ours.items():
        if value.dtype.kind != "f":  # counters
            continue
        moved = float(np.abs(value - start[key]).max())
        apart = float(np.abs(value - theirs[key]).max())
        # A step of the size of float32's rounding of the weights says nothing.
        rounding = float(np.abs(start[key]).max()) * ROUNDING
        largest = max(largest, apart / max(moved, rounding, 1e-30))
    return largest
