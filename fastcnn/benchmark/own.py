"""fastcnn's own backends as contestants."""

import numpy as np

from fastcnn.benchmark.work import LEARNING_RATE, MOMENTUM, Work
from fastcnn.data.dataset import ArrayDataset
from fastcnn.execution import make_executor
from fastcnn.execution.workers import workers
from fastcnn.losses import CrossEntropyLoss
from fastcnn.optim import SGD


class OwnTrainer:
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
        self.at = 0
        self.last = float("nan")

    def train(self, steps: int) -> None:
        """Take steps on consecutive batches, round and round, in one call."""
        batch, count = self.work.batch, len(self.work.x)
        order = (np.arange(self.at * batch, (self.at + steps) * batch)) % count
        with workers(self.threads):
            results = self.executor.train_steps(
                ArrayDataset(self.work.x, self.work.y), order, np.full(steps, LEARNING_RATE)
            )
        self.last = float(results.losses[-1])
        self.at += steps

    def loss(self) -> float:
        """Loss of the last step's batch."""
        return self.last

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of parameters and buffers."""
        return {key: value.copy() for key, value in self.model.state_dict().items()}
