"""What several machines would gain: measured steps, and a model of the sum over a network.

The arithmetic stands in docs/scaling.md.
"""

import math
import time
from dataclasses import dataclass

import numpy as np

from fastcnn.errors import ConfigurationError
from fastcnn.execution import make_executor
from fastcnn.layers import Model
from fastcnn.losses import CrossEntropyLoss
from fastcnn.optim import SGD


@dataclass(frozen=True)
class Network:
    """What a message costs.

    Attributes
    ----------
    latency : float
        Seconds of a message without content.
    bandwidth : float
        Bytes a second.
    """

    latency: float
    bandwidth: float

    def allreduce(self, size: float, ranks: int) -> float:
        """Seconds of a sum of ``size`` bytes over all ranks: the better of two algorithms.

        Recursive doubling sends everything ``log2(n)`` times; a ring sends ``2 (n - 1)`` messages
        of an ``n``-th each (Thakur, Rabenseifner and Gropp, "Optimization of collective
        communication operations in MPICH", 2005).
        """
        if ranks == 1:
            return 0.0
        rounds = math.ceil(math.log2(ranks))
        doubling = rounds * (self.latency + size / self.bandwidth)
        ring = 2 * (ranks - 1) * (self.latency + size / ranks / self.bandwidth)
        return min(doubling, ring)


#: Usual figures of latency between two programs, and of what a link carries of its nominal rate.
NETWORKS = {
    "1gbit": Network(50e-6, 0.115e9),
    "10gbit": Network(25e-6, 1.15e9),
    "25gbit": Network(15e-6, 2.9e9),
    "100gbit": Network(3e-6, 11.5e9),
    "infiniband": Network(1.5e-6, 23e9),
}


@dataclass(frozen=True)
class StepCost:
    """Seconds of a step on one rank: ``fixed + each * samples``, and bytes of the gradient."""

    fixed: float
    each: float
    gradient_bytes: int

    def step(self, samples: float) -> float:
        """Seconds of a step on some samples, without communication."""
        return self.fixed + self.each * samples


def measure_step(model: Model, batch_size: int, threads: int, repeats: int = 40) -> StepCost:
    """Measure gradient and update of batches of one block and of ``batch_size``.

    Raises
    ------
    ConfigurationError
        If the batch size is not above 16.
    """
    if batch_size <= 16:
        raise ConfigurationError(f"batch_size must be above 16, got {batch_size}")
    assert model.input_shape is not None
    generator = np.random.default_rng(0)
    x = generator.standard_normal((batch_size, *model.input_shape)).astype(np.float32)
    y = np.zeros(batch_size, np.int64)
    optimizer = SGD(lr=1e-6, momentum=0.9)
    same = _Unchanged(model.input_shape[0])
    seconds = {}
    for size in (16, batch_size):
        executor = make_executor(
            model, loss=CrossEntropyLoss(), optimizer=optimizer, batch_size=size, threads=threads
        )
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            _, _, gradient = executor.gradient(x, y, np.arange(size), same)
            executor.update(gradient, 1e-6)
            times.append(time.perf_counter() - began)
        seconds[size] = float(np.median(times))
    each = max(seconds[batch_size] - seconds[16], 0.0) / (batch_size - 16)
    return StepCost(max(seconds[16] - 16 * each, 0.0), each, model.parameter_vector.nbytes)


class _Unchanged:
    """A normalisation that changes nothing."""

    def __init__(self, channels: int) -> None:
        self.mean, self.std = (0.0,) * channels, (1.0,) * channels

    def apply(self, images: np.ndarray, dtype: np.dtype | type = np.float32) -> np.ndarray:
        """The images in another type."""
        return np.asarray(images, dtype)


@dataclass(frozen=True)
class Prediction:
    """One line of a scaling table.

    Attributes
    ----------
    ranks : int
    step, communication : float
        Seconds of a rank's computation and of the sum.
    speedup : float
        Against one rank: of a step of the whole batch (strong scaling), or of samples a second
        with a batch for each rank (weak scaling).
    """

    ranks: int
    step: float
    communication: float
    speedup: float

    @property
    def efficiency(self) -> float:
        """Speed-up by rank."""
        return self.speedup / self.ranks


def predict(
    cost: StepCost, network: Network, batch_size: int, ranks: int, weak: bool, every: int = 1
) -> Prediction:
    """Predict scaling to some ranks.

    Parameters
    ----------
    batch_size : int
        Of all ranks together; with ``weak``, of each.
    every : int
        Steps between sums (local SGD, which sums parameters and momentum: twice the bytes).
    """
    samples = batch_size if weak else batch_size / ranks
    size = cost.gradient_bytes * (1 if every == 1 else 2)
    communication = network.allreduce(size, ranks) / every
    step = cost.step(samples)
    alone = cost.step(batch_size)
    speedup = alone / (step + communication) * (ranks if weak else 1)
    return Prediction(ranks, step, communication, speedup)
