"""Trainings probed at fixed steps: losses, scores, and gradients and activations of layers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from fastcnn.backends import get_backend
from fastcnn.data.augment import Augment
from fastcnn.data.dataset import Dataset
from fastcnn.execution import make_executor
from fastcnn.execution.executor import Executor
from fastcnn.execution.parts import run_forward
from fastcnn.execution.passes import gradients
from fastcnn.execution.workers import one_blas_thread
from fastcnn.layers import Model, Sequential
from fastcnn.losses import CrossEntropyLoss
from fastcnn.operations import OPERATIONS, Elementwise
from fastcnn.optim import SGD
from fastcnn.study.networks import Network
from fastcnn.training.feed import Feed
from fastcnn.training.options import TrainingOptions

#: Number of images on which gradients and activations are measured, always the same ones.
PROBE_IMAGES = 128
#: Most training images of an evaluation.
EVALUATED_IMAGES = 2048
#: Fraction of its largest slope below which an activation counts as blocking the gradient.
BLOCKED_SLOPE = 0.05


@dataclass(frozen=True)
class Training:
    """One training with plain steps on full batches.

    Attributes
    ----------
    images : int, optional
        Training images, drawn by ``seed``; by default all.
    batch_size : int
        At most the number of images. An epoch's last batch is dropped if it is not full.
    augment : Augment, optional
    seed : int
        Seed of the choice and order of images, the initial weights and dropout.
    evaluated_at, probed_at : tuple of int
        Steps after which loss and accuracy, or gradients and activations, are measured; the last
        step is always evaluated.
    """

    network: Network
    lr: float
    steps: int
    images: int | None = None
    batch_size: int = 64
    momentum: float = 0.0
    weight_decay: float = 0.0
    augment: Augment | None = None
    seed: int = 0
    evaluated_at: tuple[int, ...] = ()
    probed_at: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scores:
    """Loss in nats and accuracy as a fraction, without dropout and augmentation."""

    step: int
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float


@dataclass(frozen=True)
class Probe:
    """Gradients and activations of some images in the network.

    Attributes
    ----------
    gradient, weight : dict of str to float
        Euclidean norm of each layer's weight gradient, and of its weight.
    zeros : dict of str to float
        Share of zeros after each activation.
    blocked : dict of str to float
        Share of values after each activation where its slope is below a twentieth of its
        largest: zeros of ReLU, saturated ones of sigmoid and tanh.
    """

    step: int
    gradient: dict[str, float]
    weight: dict[str, float]
    zeros: dict[str, float]
    blocked: dict[str, float]


@dataclass
class Trajectory:
    """Measurements of a training.

    Attributes
    ----------
    losses : ndarray of float64, shape (steps taken,)
        Mean loss of each batch, before its update.
    scores : list of Scores
        The last is from the end; empty if the training diverged before the first.
    diverged : bool
        Whether the loss became NaN or infinite; measurements end there.
    """

    training: Training
    losses: np.ndarray
    scores: list[Scores] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    diverged: bool = False

    def final(self, name: str) -> float:
        """One of the last :class:`Scores`; NaN if the training diverged."""
        return np.nan if self.diverged else getattr(self.scores[-1], name)


def log_steps(last: int, count: int) -> tuple[int, ...]:
    """About ``count`` steps from 0 to ``last``, evenly spaced on a logarithmic scale from 1 on."""
    return (0, *np.unique(np.geomspace(1, last, count).round().astype(int)).tolist())


def running_mean(losses: np.ndarray, window: int) -> np.ndarray:
    """Means of ``window`` consecutive losses; of all, if there are fewer."""
    window = min(window, len(losses))
    return np.convolve(losses, np.full(window, 1.0 / window), mode="valid")


def follow(training: Training, train: Dataset, test: Dataset) -> Trajectory:
    """Run a training on one thread, and measure it."""
    generator = np.random.default_rng(training.seed)
    data = train.subset(generator.permutation(len(train))[: training.images])
    model = training.network.build(len(train.classes), training.seed)
    model.preprocessing = train.preprocessing
    batch = min(training.batch_size, len(data))
    executor = make_executor(
        model,
        loss=CrossEntropyLoss(),
        optimizer=SGD(training.lr, training.momentum, training.weight_decay),
        batch_size=batch,
        seed=training.seed,
        threads=1,
    )
    options = TrainingOptions(augment=training.augment, seed=training.seed, batch_size=batch)
    feed = Feed(data, options, threads=1, classes=len(train.classes))
    trajectory = Trajectory(training, np.empty(0))
    with one_blas_thread(), np.errstate(all="ignore"):
        # Diverging runs overflow, which their losses show.
        _measure(trajectory, 0, model, executor, data, test)
        parts: list[np.ndarray] = []
        for first, last, epoch, samples in _pieces(training, len(data), batch, generator):
            chunk = feed.pick(samples, epoch)
            rates = np.full(last - first, training.lr)
            losses = executor.train_steps(chunk.samples, chunk.order, rates).losses
            parts.append(losses)
            if not np.isfinite(losses).all():
                trajectory.diverged = True
                break
            _measure(trajectory, last, model, executor, data, test)
    trajectory.losses = np.concatenate(parts)
    return trajectory


def _pieces(
    training: Training, count: int, batch: int, generator: np.random.Generator
) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """First and last step, epoch and samples of the parts between measurements.

    Without augmentation, which needs its epoch, a part may span several epochs.
    """
    per_epoch = count // batch
    epochs = -(-training.steps // per_epoch)
    order = np.concatenate(
        [generator.permutation(count)[: per_epoch * batch] for _ in range(epochs)]
    )
    ends = {*training.evaluated_at, *training.probed_at, training.steps}
    if training.augment is not None:
        ends |= set(range(per_epoch, training.steps, per_epoch))
    first = 0
    for last in sorted(end for end in ends if 0 < end <= training.steps):
        yield first, last, 1 + first // per_epoch, order[first * batch : last * batch]
        first = last


def _measure(
    trajectory: Trajectory,
    step: int,
    model: Sequential,
    executor: Executor,
    data: Dataset,
    test: Dataset,
) -> None:
    """Evaluate and probe, if due."""
    training = trajectory.training
    if step in training.evaluated_at or step == training.steps:
        some = data.subset(slice(0, EVALUATED_IMAGES))
        seen = executor.evaluate(some)
        unseen = executor.evaluate(test)
        trajectory.scores.append(Scores(step, *seen[:2], *unseen[:2]))
    if step in training.probed_at:
        trajectory.probes.append(probe(model, data.subset(slice(0, PROBE_IMAGES)), step))


def probe(model: Model, data: Dataset, step: int = 0) -> Probe:
    """Measure gradients and activations of a model on some images."""
    x = model.preprocessing.apply(data.images, model.dtype)
    _, slopes = gradients(model, data.images, data.labels, backend="im2col")
    values = {
        name: value for name, value in model.named_parameters().items() if name.endswith("weight")
    }
    zeros, blocked = {}, {}
    graph, operations = model.graph(), get_backend("im2col")
    outputs = run_forward(graph, model.state_dict(), x, operations)
    for node, output in zip(graph.nodes, outputs, strict=True):
        if isinstance(OPERATIONS[node.operation], Elementwise):
            slope = _SLOPES.get(node.operation, _leaky)
            zeros[node.name] = float(np.mean(output == 0.0))
            blocked[node.name] = float(np.mean(slope(output) < BLOCKED_SLOPE))
    return Probe(
        step,
        {name.removesuffix(".weight"): _norm(slopes[name]) for name in values},
        {name.removesuffix(".weight"): _norm(value) for name, value in values.items()},
        zeros,
        blocked,
    )


def _leaky(y: np.ndarray) -> np.ndarray:
    return np.where(y > 0.0, 1.0, 0.1)


#: Slope of an activation relative to its largest, from its output; for leaky ReLU see _leaky.
_SLOPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda y: (y > 0.0).astype(y.dtype),
    "tanh": lambda y: 1.0 - y * y,
    "sigmoid": lambda y: 4.0 * y * (1.0 - y),
}


def _norm(values: np.ndarray) -> float:
    # In double precision: the square of 1e-25 underflows in single.
    return float(np.linalg.norm(values.astype(np.float64)))
