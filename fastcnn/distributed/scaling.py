"""Predicts the speed-up on several machines from measured steps and a model of the allreduce.

docs/scaling.md explains the arithmetic.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fastcnn.data.dataset import ArrayDataset
from fastcnn.distributed.executor import DistributedExecutor
from fastcnn.distributed.sharding import BLOCK
from fastcnn.distributed.world import World
from fastcnn.errors import ConfigurationError
from fastcnn.execution import make_executor
from fastcnn.layers import Model
from fastcnn.losses import CrossEntropyLoss
from fastcnn.optim import SGD
from fastcnn.timing import measure, repeated


@dataclass(frozen=True)
class Network:
    """The cost of a message.

    Attributes
    ----------
    latency : float
        Seconds of an empty message.
    bandwidth : float
        Bytes per second.
    """

    latency: float
    bandwidth: float

    def allreduce(self, size: float, ranks: int) -> float:
        """Seconds of an allreduce of ``size`` bytes over all ranks: the best of three algorithms.

        Recursive doubling sends everything ``log2(n)`` times; recursive halving and doubling sends
        ``2 log2(n)`` messages with twice the data in total; a ring sends as much in ``2 (n - 1)``
        messages. The first two need a power of two: excess ranks send their data to others first,
        and receive the result.

        References
        ----------
        Thakur, Rabenseifner and Gropp, "Optimization of collective communication operations in
        MPICH", 2005.
        """
        if ranks == 1:
            return 0.0
        whole = self.latency + size / self.bandwidth
        rounds = int(math.log2(ranks))
        pairs = 2**rounds
        handed_over = 0.0 if pairs == ranks else 2 * whole
        doubling = rounds * whole + handed_over
        halving = (
            2 * rounds * self.latency + 2 * (pairs - 1) / pairs * size / self.bandwidth
        ) + handed_over
        ring = 2 * (ranks - 1) * (self.latency + size / ranks / self.bandwidth)
        return min(doubling, halving, ring)


#: Seconds after which a measurement of steps ends, if steps are long.
LONGEST = 1.0
#: Typical latencies between two programs, and usable shares of a link's nominal rate.
NETWORKS = {
    "1gbit": Network(50e-6, 0.115e9),
    "10gbit": Network(25e-6, 1.15e9),
    "25gbit": Network(15e-6, 2.9e9),
    "100gbit": Network(3e-6, 11.5e9),
    "infiniband": Network(1.5e-6, 23e9),
}


@dataclass(frozen=True)
class StepCost:
    """The cost of a step on one rank.

    Attributes
    ----------
    fixed, each : float
        Seconds of a gradient and an update: ``fixed + each * samples``, in whole blocks of 16.
    alone : float
        Seconds of a step of the whole batch on a single process, for which the engine runs many
        steps in one call.
    """

    fixed: float
    each: float
    alone: float
    gradient_bytes: int

    def step(self, samples: float) -> float:
        """Seconds of a step on some samples, without communication."""
        return self.fixed + self.each * BLOCK * math.ceil(samples / BLOCK)


class _Steps:
    """Steps to be timed: a model, and a batch of noise."""

    def __init__(self, model: Model, batch_size: int) -> None:
        assert model.input_shape is not None
        generator = np.random.default_rng(0)
        self.model = model
        images = generator.standard_normal((batch_size, *model.input_shape), np.float32)
        self.samples = ArrayDataset(images, np.zeros(batch_size, np.int64))
        self.settings = {"loss": CrossEntropyLoss(), "optimizer": SGD(lr=1e-6, momentum=0.9)}

    def parted(self, size: int, threads: int) -> Callable[[], None]:
        """Gradient and update as two calls, as with an allreduce between them."""
        executor = make_executor(self.model, **self.settings, batch_size=size, threads=threads)  # type: ignore[arg-type]
        chosen = np.arange(size)

        def step() -> None:
            _, _, gradient = executor.gradient(self.samples, chosen)
            executor.update(gradient, 1e-6)

        return step

    def together(self, world: World, threads: int, repeats: int, every: int = 1) -> float:
        """Seconds of a step of the whole batch, with many steps per call, as in training."""
        size, count = len(self.samples), every * math.ceil(10 / every)
        settings = self.settings | {"batch_size": size, "threads": threads}
        if world.size == 1:
            executor = make_executor(self.model, **settings)  # type: ignore[arg-type]
        else:
            executor = DistributedExecutor(
                self.model,
                world=world,
                average_every=every,
                **settings,  # type: ignore[arg-type]
            )
        order, rates = np.tile(np.arange(size), count), np.full(count, 1e-6)

        def steps() -> None:
            executor.train_steps(self.samples, order, rates)

        # All processes run the same number of steps, so that none waits for one that has finished.
        longest = LONGEST if world.size == 1 else math.inf
        return _seconds([steps], max(repeats // count, 3), longest)[0] / count


def measure_step(model: Model, batch_size: int, threads: int, repeats: int = 60) -> StepCost:
    """Measure steps of one block and of ``batch_size`` samples.

    Raises
    ------
    ConfigurationError
        If the batch size is not above 16.
    """
    if batch_size <= BLOCK:
        raise ConfigurationError(f"batch_size must be above {BLOCK}, got {batch_size}")
    steps = _Steps(model, batch_size)
    blocks = -(-batch_size // BLOCK)
    works = [steps.parted(size, threads) for size in (BLOCK, batch_size)]
    one, many = _seconds(works, repeats, LONGEST)
    each = max(many - one, 0.0) / (BLOCK * (blocks - 1))
    return StepCost(
        max(one - BLOCK * each, 0.0),
        each,
        steps.together(World(), threads, repeats),
        model.parameter_vector.nbytes,
    )


def measure_together(
    model: Model, world: World, batch_size: int, threads: int, repeats: int = 60, every: int = 1
) -> float:
    """Seconds of a step of all processes together, of the slowest; all must call this.

    ``batch_size`` is that of all processes together, ``every`` the number of steps between sums.
    """
    return world.largest(_Steps(model, batch_size).together(world, threads, repeats, every))


def measure_network(world: World, size: int, repeats: int = 100) -> tuple[Network, float]:
    """Latency and bandwidth, from allreduces of a few bytes and of ``size`` bytes.

    All processes must call this.

    Returns
    -------
    Network
    seconds : float
        Seconds of an allreduce of ``size`` bytes.

    Raises
    ------
    ConfigurationError
        If there is only one process.
    """
    if world.size == 1:
        raise ConfigurationError("a network is measured between processes: start some by mpiexec")
    small, large = (
        world.largest(_seconds([lambda a=array: world.add(a)], repeats)[0])  # type: ignore[misc]
        for array in (np.zeros(2, np.float32), np.zeros(size // 4, np.float32))
    )
    unit = Network(1.0, math.inf).allreduce(1, world.size)
    latency = small / unit
    # Find the bandwidth for which the model gives the measured time, which falls with bandwidth.
    low, high = 1e3, 1e13
    for _ in range(100):
        middle = math.sqrt(low * high)
        slower = Network(latency, middle).allreduce(size, world.size) > large
        low, high = (middle, high) if slower else (low, middle)
    return Network(latency, high), large


def _seconds(
    works: Sequence[Callable[[], None]], repeats: int, longest: float = math.inf
) -> list[float]:
    """The median time of each work, in turns; ``longest`` are the seconds of each.

    Without them, all processes run each work equally often.
    """
    runs = dict(enumerate(map(repeated, works)))
    limit = longest * len(works)
    timings = measure(runs, rounds=repeats, most=1, longest=limit, pause=0.0)
    return [timing.median for timing in timings.values()]


@dataclass(frozen=True)
class Prediction:
    """One line of a scaling table.

    Attributes
    ----------
    step, communication : float
        Seconds of a rank's computation and of the allreduce.
    speedup : float
        Relative to one rank: of a step of the whole batch (strong scaling), or of samples per
        second with a batch for each rank (weak scaling).
    """

    ranks: int
    step: float
    communication: float
    speedup: float

    @property
    def efficiency(self) -> float:
        """Speed-up divided by the number of ranks."""
        return self.speedup / self.ranks


def predict_scaling(
    cost: StepCost, network: Network, batch_size: int, ranks: int, weak: bool, every: int = 1
) -> Prediction:
    """Predict the scaling to a number of ranks.

    Parameters
    ----------
    batch_size : int
        Samples of all ranks together; with ``weak``, of each rank.
    every : int
        Steps between allreduces (local SGD, which sums parameters and momentum: twice the bytes,
        and runs the steps in between in one call).
    """
    if ranks == 1:
        return Prediction(1, cost.alone, 0.0, 1.0)
    size = cost.gradient_bytes * (1 if every == 1 else 2)
    communication = network.allreduce(size, ranks) / every
    calls = max(cost.step(batch_size) - cost.alone, 0.0)
    step = cost.step(batch_size if weak else batch_size / ranks)
    step = max(step - calls * (1 - 1 / every), 0.0)
    speedup = cost.alone / (step + communication) * (ranks if weak else 1)
    return Prediction(ranks, step, communication, speedup)
