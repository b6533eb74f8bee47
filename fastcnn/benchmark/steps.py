"""Whole training steps of every contestant, checked for equality before they are timed."""

import logging
from collections.abc import Callable, Iterator, Sequence

from fastcnn.benchmark.environment import installed
from fastcnn.benchmark.measure import measure
from fastcnn.benchmark.own import OwnTrainer
from fastcnn.benchmark.results import Result, result_of
from fastcnn.benchmark.work import Trainer, Work, largest_difference, make_work
from fastcnn.errors import ConfigurationError

log = logging.getLogger("fastcnn.bench")

#: Steps that contestants take from one start before their parameters are compared.
CHECKED_STEPS = 3
#: Largest difference of the parameters, relative to the largest step: float32's rounding.
TOLERANCE = 2e-3
BASELINE = "im2col"


def contestants(
    work: Work, threads: Sequence[int], peers: bool = True, reference: bool = False
) -> Iterator[tuple[str, int, Callable[[], Trainer]]]:
    """Name, threads and maker of each contestant that is installed."""
    most = max(threads)
    if reference:
        yield "reference", 1, lambda: OwnTrainer(work, "reference", 1)
    for count in threads:
        for backend in ("im2col", "lanes"):
            yield backend, count, lambda b=backend, t=count: OwnTrainer(work, b, t)  # type: ignore[misc]
    if peers and installed("torch"):
        from fastcnn.benchmark.peers.pytorch import VARIANTS, TorchTrainer

        for variant in VARIANTS:
            for count in threads:
                yield (
                    f"PyTorch {variant}", count,
                    lambda v=variant, t=count: TorchTrainer(work, v, t),  # type: ignore[misc]
                )  # fmt: skip
    if peers and installed("jax"):
        from fastcnn.benchmark.peers.jax import JaxTrainer

        yield "JAX jit", most, lambda: JaxTrainer(work)
    if peers and (installed("tensorflow") or installed("tensorflow-cpu")):
        from fastcnn.benchmark.peers import tensorflow

        for variant in tensorflow.VARIANTS:
            yield (
                f"TensorFlow {variant}", most,
                lambda v=variant: tensorflow.TensorFlowTrainer(work, v),  # type: ignore[misc]
            )  # fmt: skip
    if peers and installed("tinygrad"):
        from fastcnn.benchmark.peers.tinygrad import TinygradTrainer

        yield "tinygrad", most, lambda: TinygradTrainer(work)


def bench_steps(
    network: str,
    batch: int,
    *,
    threads: Sequence[int],
    peers: bool = True,
    reference: bool = False,
    rounds: int = 7,
    seconds: float = 0.15,
) -> list[Result]:
    """Time training steps (forward, loss, backward, SGD with momentum) of one network.

    A contestant whose parameters differ from im2col's after three steps is not timed; its record
    says so.

    Returns
    -------
    list of Result
        In microseconds a sample.
    """
    work = make_work(network, batch)
    start = {key: value.copy() for key, value in work.model().state_dict().items()}
    baseline = OwnTrainer(work, BASELINE, 1)
    baseline.train(CHECKED_STEPS)
    expected = baseline.parameters()
    names = {"suite": "step", "work": network, "batch": batch, "unit": "us/sample"}
    ready: dict[tuple[str, int], Trainer] = {}
    difference: dict[tuple[str, int], float] = {}
    refused: list[Result] = []
    for name, count, make in contestants(work, threads, peers, reference):
        key = (name, count)
        try:
            trainer = make()
            trainer.train(CHECKED_STEPS)
            difference[key] = largest_difference(expected, trainer.parameters(), start)
        except Exception as error:  # a peer's failure is a result, not the benchmark's end
            refused.append(_refused(names, name, count, f"failed: {str(error)[:80]}"))
            log.warning("%s: %s", name, error)
            continue
        if not difference[key] <= TOLERANCE:
            note = f"not timed: parameters differ by {difference[key]:.1e}"
            refused.append(_refused(names, name, count, note))
            continue
        ready[key] = trainer
    if not ready:
        raise ConfigurationError(f"{network}: no contestant")
    labels = {f"{name}/{count}": trainer for (name, count), trainer in ready.items()}
    timings = measure(
        {label: trainer.train for label, trainer in labels.items()},
        rounds=rounds, seconds=seconds,
    )  # fmt: skip
    peers_best = min(
        (timings[f"{n}/{c}"].median for n, c in ready if n.startswith("PyTorch")), default=None
    )
    base = peers_best or min(timings[f"{n}/{c}"].median for n, c in ready if n == BASELINE)
    return [
        result_of(
            timings[f"{name}/{count}"], 1e6 / batch, contestant=name, threads=count,
            ratio=base / timings[f"{name}/{count}"].median, difference=difference[name, count],
            **names,
        )
        for name, count in ready
    ] + refused  # fmt: skip


def _refused(names: dict[str, object], contestant: str, threads: int, note: str) -> Result:
    nothing = float("nan")
    return Result(
        contestant=contestant, threads=threads, median=nothing, low=nothing, high=nothing,
        rounds=0, note=note, **names,  # type: ignore[arg-type]
    )  # fmt: skip
