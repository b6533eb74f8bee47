"""Benchmark of whole training steps of every contestant, verified before they are timed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from fastcnn.benchmark.contest import BASELINE, Compared, compete
from fastcnn.benchmark.peer import Peer
from fastcnn.benchmark.pytorch import PEERS
from fastcnn.benchmark.results import Result
from fastcnn.benchmark.work import OwnTrainer, Trainer, Work, largest_difference, make_work
from fastcnn.errors import ConfigurationError
from fastcnn.timing import Timing, timed

#: Steps from a common start that are compared before timing.
CHECKED_STEPS = 3
#: Largest difference of a gradient, relative to its tensor's largest element, and of a loss.
TOLERANCE = 2e-3
#: Largest difference of the parameters after all compared steps. Rounding flips a few ReLUs and
#: maxima, more at each step: 5e-3 was seen, a wrong momentum gives 0.3.
DRIFT = 5e-2
#: In deep networks with batch normalisation, rounding changes more than that. By how much samples
#: are perturbed, which equals the rounding of Winograd's products; the maximum ratio of a
#: contestant's difference to the effect of this perturbation on the baseline; and the number of
#: draws. Nearly equal pixels of a pooling window swap order in half of the draws: few draws would
#: miss it.
SHAKEN, TIMES, DRAWS = 2.0**-20, 5.0, 12
#: FLOPs of a forward pass up to which the nested loops are included: a few seconds per step.
REFERENCE_FLOPS = 6_000_000


def contestants(
    work: Work,
    threads: Sequence[int],
    peers: Sequence[Peer] = PEERS,
    backends: Sequence[str] = (BASELINE, "lanes"),
) -> Iterator[tuple[str, int, Callable[[], Trainer]]]:
    """Name, threads and maker of each contestant that works on this machine."""
    for count in threads:
        for backend in backends:
            yield backend, count, partial(OwnTrainer, work, backend, count)
    for peer in peers:
        if peer.takes_network(work) and peer.can_run:
            for count in threads if peer.on_each else (max(threads),):
                yield peer.name, count, partial(peer.train, work, count)


def bench_steps(
    network: str,
    batch: int,
    *,
    threads: Sequence[int],
    peers: Sequence[Peer] = PEERS,
    backends: Sequence[str] = (BASELINE, "lanes"),
    rounds: int = 7,
    seconds: float = 0.15,
    suite: str = "step",
) -> list[Result]:
    """Time training steps (forward, loss, backward, SGD with momentum) of one network.

    A contestant whose losses, gradients or parameters after three steps differ from im2col's is not
    timed; its record says so. The nested loops are included if a step takes at most a few seconds;
    their time is that of the compared steps.

    Returns
    -------
    list of Result
        In microseconds per sample; ``difference`` is the largest of the first step's gradients.
    """
    work = make_work(network, batch)
    expected = _Expected(work)

    def compared(make: Callable[[], Trainer]) -> Compared:
        trainer = make()
        difference, why = expected.compare(trainer)
        timing = Timing(trainer.times) if isinstance(trainer, _Stopwatch) else None
        return Compared(difference, trainer.train, why, timing)

    makers = list(contestants(work, threads, peers, backends))
    if not makers:
        raise ConfigurationError(f"{network}: no contestant")
    if work.flops <= REFERENCE_FLOPS and BASELINE in backends:
        makers.append(("reference", 1, partial(_Stopwatch, work)))
    return compete(
        [(name, count, partial(compared, make)) for name, count, make in makers],
        bases=("PyTorch", (BASELINE, backends[0])),
        scale=1e6 / batch,
        flops=3 * work.flops,  # a backward pass has twice the products of the forward pass
        rounds=rounds,
        seconds=seconds,
        suite=suite,
        work=network,
        batch=batch,
        unit="us/sample",
    )


class _Expected:
    """The baseline's losses and states, with which contestants are compared."""

    def __init__(self, work: Work) -> None:
        self.start = {key: value.copy() for key, value in work.model().state_dict().items()}
        self.first, self.last, self.losses = _take_steps(OwnTrainer(work, BASELINE, 1))
        generator = np.random.default_rng(0)
        found = []
        for _ in range(DRAWS):
            noise = np.float32(SHAKEN) * generator.standard_normal(work.x.shape, dtype=np.float32)
            shaken = replace(work, x=work.x * (1 + noise))
            found.append(self._differences(OwnTrainer(shaken, BASELINE, 1)))
        least = (TOLERANCE, TOLERANCE, DRIFT)
        self.limits = np.maximum(least, TIMES * np.max(found, axis=0))

    def compare(self, trainer: Trainer) -> tuple[float, str]:
        """Largest difference of the gradients; why the contestant is refused, or an empty text."""
        found = self._differences(trainer)
        after = f"parameters differ after {CHECKED_STEPS} steps"
        words = ("gradients differ", "loss differs", after)
        for what, difference, limit in zip(words, found, self.limits, strict=True):
            if not difference <= limit:
                return found[0], f"not timed: {what} by {difference:.1e}"
        return found[0], ""

    def _differences(self, trainer: Trainer) -> tuple[float, float, float]:
        """Differences of the first gradients, the losses and the last parameters."""
        first, last, losses = _take_steps(trainer)
        loss = max(
            abs(theirs - ours) / abs(ours) for ours, theirs in zip(self.losses, losses, strict=True)
        )
        gradients = largest_difference(self.first, first, self.start)
        return gradients, loss, largest_difference(self.last, last, self.start)


def _take_steps(
    trainer: Trainer,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[float]]:
    """States after the first and the last of the compared steps, and all losses."""
    losses = []
    for step in range(CHECKED_STEPS):
        trainer.train(1)
        losses.append(trainer.loss())
        if step == 0:
            first = trainer.parameters()
    return first, trainer.parameters(), losses


class _Stopwatch(OwnTrainer):
    """The nested loops; times the compared steps, as they are too slow for more."""

    def __init__(self, work: Work) -> None:
        super().__init__(work, "reference", 1)
        self.times: list[float] = []

    def train(self, steps: int) -> None:
        _, seconds = timed(lambda: super(_Stopwatch, self).train(steps))
        self.times.append(seconds / steps)
