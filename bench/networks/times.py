"""Training steps of a network on the engine and in PyTorch, in turns, within a time limit."""

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.networks.tasks import Task
from fastcnn.benchmark.pytorch import make_module, sgd
from fastcnn.benchmark.work import MOMENTUM
from fastcnn.data.dataset import ArrayDataset
from fastcnn.execution import make_executor
from fastcnn.execution.checks import bound_loss
from fastcnn.execution.workers import workers
from fastcnn.optim import SGD
from fastcnn.timing import measure

VARIANTS = ("eager", "channels_last")
#: Batches that training cycles through; maximum rounds of each contestant.
BATCHES, MOST = 2, 9
#: Minimum seconds of a round, and maximum seconds of rest before it.
ROUND, REST = 0.1, 0.1
#: A negligible learning rate, so that random targets do not make weights overflow.
RATE = 1e-12

Run = Callable[[int], object]


def own_steps(task: Task, threads: int) -> Run:
    """Steps of SGD with momentum, as :func:`fastcnn.fit` takes them."""
    model = task.model()
    loss = bound_loss(model, task.goal.loss())
    samples = ArrayDataset(*task.samples(model, loss, BATCHES * task.batch))
    executor = make_executor(
        model,
        loss=loss,
        optimizer=SGD(RATE, momentum=MOMENTUM),
        backend="lanes",
        batch_size=task.batch,
        threads=threads,
    )

    def run(steps: int) -> None:
        order = np.arange(steps * task.batch) % len(samples)
        with workers(threads):
            executor.train_steps(samples, order, np.full(steps, RATE))

    return run


def torch_steps(task: Task, variant: str, threads: int) -> Run:
    """The same in PyTorch, with tensors in memory."""
    import torch

    model = task.model()
    x, y, weight = task.samples(model, bound_loss(model, task.goal.loss()), BATCHES * task.batch)
    module = make_module(model.graph(), dict(model.state_dict()), set(model.named_parameters()))
    frozen = zip(model.named_parameters(), model.parameter_users(), strict=True)
    for key, users in frozen:
        getattr(module, module.names[key]).requires_grad_(users[0][0].requires_grad)
    layout: Any = torch.contiguous_format
    if variant == "channels_last":
        layout = torch.channels_last
        module = module.to(memory_format=layout)

    def batches(array: np.ndarray | None) -> list[Any]:
        if array is None:
            return [None] * BATCHES
        parts = torch.from_numpy(array).split(task.batch)
        return [p.contiguous(memory_format=layout) if p.ndim == 4 else p for p in parts]

    given = list(zip(batches(x), batches(y), batches(weight), strict=True))
    optimizer = sgd(module, RATE, MOMENTUM)

    def run(steps: int) -> None:
        torch.set_num_threads(threads)
        for step in range(steps):
            samples, targets, weights = given[step % BATCHES]
            optimizer.zero_grad(set_to_none=True)
            task.goal.torch_loss(module(samples), targets, weights).backward()
            optimizer.step()

    return run


def time_steps(task: Task, threads: int, seconds: float) -> dict[str, Any]:
    """A record of one network: medians and deciles in microseconds per sample.

    Parameters
    ----------
    seconds : float
        Approximate time of all contestants together, without compilation; at least three rounds.
    """
    contestants = {"engine": own_steps(task, threads)}
    contestants |= {f"PyTorch {name}": torch_steps(task, name, threads) for name in VARIANTS}
    found = measure(contestants, rounds=MOST, seconds=ROUND, pause=REST, longest=seconds)
    scale = 1e6 / task.batch
    return {
        "network": task.name,
        "batch": task.batch,
        "threads": threads,
        "rounds": found["engine"].rounds,
        "unit": "us/sample",
        "times": {
            name: {
                "median": scale * timing.median,
                "low": scale * timing.low,
                "high": scale * timing.high,
            }
            for name, timing in found.items()
        },
    }
