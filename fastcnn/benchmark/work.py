"""The work that all contestants share: one network, one set of samples, one optimiser."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn import models
from fastcnn.benchmark import zoo
from fastcnn.data.dataset import ArrayDataset
from fastcnn.errors import ConfigurationError
from fastcnn.execution import make_executor
from fastcnn.execution.workers import workers
from fastcnn.layers import Model
from fastcnn.losses import CrossEntropyLoss
from fastcnn.optim import SGD

LEARNING_RATE, MOMENTUM = 0.01, 0.9
#: Batches of samples that training cycles through.
BATCHES = 8
#: Minimum step that a difference is relative to, as a share of the tensor: float32 keeps 6e-8.
ROUNDING = 1e-5
NETWORKS = ("report_cnn", "lenet5", "vgg_small", "resnet8")


@dataclass(frozen=True)
class Work:
    """A network with random normalised samples.

    Attributes
    ----------
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

    def batches(self, convert: Callable[[np.ndarray], Any]) -> list[tuple[Any, Any]]:
        """All batches of samples and labels, in a library's form."""
        starts = range(0, len(self.x), self.batch)
        parts = (slice(start, start + self.batch) for start in starts)
        return [(convert(self.x[part]), convert(self.y[part])) for part in parts]

    @property
    def flops(self) -> int:
        """FLOPs of one forward pass of a batch."""
        model = self.model()
        assert model.input_shape is not None
        return self.batch * model.flops(model.input_shape)


def make_model(name: str) -> Model:
    """A network of :mod:`fastcnn.models`, or of the zoo, with weights from fixed seeds.

    Raises
    ------
    ConfigurationError
        If there is no network of that name.
    """
    if name in zoo.ZOO:
        return zoo.make(name)
    make = getattr(models, name, None)
    if make is None or name.startswith("_"):
        raise ConfigurationError(
            f"no network {name!r}; there are {', '.join([*NETWORKS, *zoo.ZOO])}"
        )
    return make(seed=0)


def make_work(name: str, batch: int) -> Work:
    """A network's work at a batch size."""
    model = make_model(name)
    assert model.input_shape is not None
    generator = np.random.default_rng(0)
    x = generator.standard_normal((batch * BATCHES, *model.input_shape)).astype(np.float32)
    classes = model.output_shape(model.input_shape)[0]
    return Work(name, batch, x, generator.integers(0, classes, len(x)))


class Trainer:
    """A contestant's training: SGD with momentum on cross-entropy.

    Attributes
    ----------
    batches : list of (samples, labels)
        In the library's form, in memory; training cycles through them.
    take : function of samples and labels
        Runs one step; returns the loss of its batch before the update.
    """

    batches: list[tuple[Any, Any]]
    take: Callable[[Any, Any], Any]
    at = 0
    last: Any

    def train(self, steps: int) -> None:
        """Run steps on consecutive batches, and wait for the last."""
        for _ in range(steps):
            self.last = self.take(*self.batches[self.at % len(self.batches)])
            self.at += 1
        self.wait()

    def wait(self) -> None:
        """Wait until the last step is done."""

    def loss(self) -> float:
        """Loss of the last step's batch, before the step."""
        return float(self.last)

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of parameters and buffers, by fastcnn's keys and layouts."""
        raise NotImplementedError


class OwnTrainer(Trainer):
    """Training on one backend; batches are gathered by index, as in :func:`fastcnn.fit`."""

    def __init__(self, work: Work, backend: str, threads: int) -> None:
        self.work = work
        self.model = work.model()
        self.threads = threads
        self.executor = make_executor(
            self.model,
            loss=CrossEntropyLoss(),
            optimizer=SGD(LEARNING_RATE, momentum=MOMENTUM),
            backend=backend,
            batch_size=work.batch,
            threads=threads,
        )

    def train(self, steps: int) -> None:
        """Run all steps in one call."""
        batch, samples = self.work.batch, ArrayDataset(self.work.x, self.work.y)
        order = np.arange(self.at * batch, (self.at + steps) * batch) % len(samples)
        with workers(self.threads):
            results = self.executor.train_steps(samples, order, np.full(steps, LEARNING_RATE))
        self.last = results.losses[-1]
        self.at += steps

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of parameters and buffers."""
        return {key: value.copy() for key, value in self.model.state_dict().items()}


def learned_keys(model: Model) -> set[str]:
    """Keys of the state that are trained; the others are buffers, such as running means."""
    return {key for node in model.graph().nodes for key in node.parameters.values()}


def largest_difference(
    ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], start: dict[str, np.ndarray]
) -> float:
    """Largest difference of two runs from one start, relative to each tensor's own step.

    After the first step of SGD that is the difference of the gradients. Tensors are compared
    separately: running variances move a thousand times as far as weights, and would mask their
    differences.

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
        # A step as small as the weights' float32 rounding is meaningless.
        rounding = float(np.abs(start[key]).max()) * ROUNDING
        largest = max(largest, apart / max(moved, rounding, 1e-30))
    return largest
