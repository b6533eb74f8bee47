"""Training steps on the engine whose loss, or optimiser, or both, are Python's."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.data.dataset import Samples
from fastcnn.execution.assigned import Assigned, clear_outside
from fastcnn.execution.checks import as_target, check_statistics
from fastcnn.execution.constraints import constrain
from fastcnn.execution.engine_arguments import NUMBERS, batches_of, moment_of, stored_samples
from fastcnn.execution.executor import StepResults, count_correct
from fastcnn.execution.lanes import HALVES, NOTHING, WORTH_A_THREAD, LanesExecutor, in_halves
from fastcnn.losses import Loss, PythonLoss
from fastcnn.operations import own
from fastcnn.optim import Assignment, Optimizer, Part, clip_gradient_norm

if TYPE_CHECKING:
    from fastcnn.backends.lanes import Engine, Update
    from fastcnn.layers import Model


def has_python_update(assigned: Assigned) -> bool:
    """Whether the engine has no update of one of the optimisers."""
    kinds = [getattr(each, "kind", None) for each in assigned.optimizers]
    return any(kind not in NUMBERS and kind not in own.UPDATES for kind in kinds)


class PythonExecutor(LanesExecutor):
    """Runs a program in two halves, of which the second begins with the gradient of the outputs.

    The first gives the outputs to Python's loss as an array, the second reads the gradient where
    Python left it, and ends with the update if that is the engine's. A built-in loss with an update
    in Python is one call.
    """

    def __init__(
        self,
        model: "Model",
        loss: Loss,
        optimizer: Optimizer | Assignment,
        batch_size: int,
        seed: int,
        clip_norm: float | None,
        threads: int | None,
    ) -> None:
        # Each call starts its threads: a small batch takes less time than that.
        work = 3 * model.flops(model.graph().input_shape) * batch_size
        threads = 1 if threads is None and work < WORTH_A_THREAD else threads
        self._target: np.ndarray = NOTHING
        self._weight: np.ndarray | None = None
        super().__init__(model, loss, optimizer, batch_size, seed, clip_norm, threads)

    def _program_options(self) -> dict[str, Any]:
        if not isinstance(self.loss, PythonLoss):
            return super()._program_options()
        return HALVES | {"training": True}

    def _made_update(self, parts: tuple[Part, ...] | None) -> "Update | None":
        return None if has_python_update(self.assigned) else super()._made_update(parts)

    def train_steps(
        self, samples: Samples, order: np.ndarray, learning_rates: np.ndarray
    ) -> StepResults:
        """Take one step for each learning rate, on consecutive batches of ``order``."""
        engine, count, size = self.engine(), len(learning_rates), self.batch_size
        order = self._take(samples, order)
        rates = np.ascontiguousarray(learning_rates, np.float64)
        check_statistics(self.graph, min(len(order) - (count - 1) * size, size))
        made = StepResults(np.zeros(count), np.zeros(count, np.int64), np.zeros(count))
        for index in range(count):
            rows = order[index * size : (index + 1) * size]
            made.losses[index], made.correct[index], norm = self._pass(
                engine, rows, rates[index : index + 1], self._update
            )
            if self._update is None:
                norm = self._update_in_python(engine, engine.gradient, float(rates[index]))
            else:
                self.step += 1
            made.gradient_norms[index] = norm
        self._constrain(engine)
        return made

    def gradient(self, samples: Samples, rows: np.ndarray) -> tuple[float, int, np.ndarray]:
        """Loss, hits and flat gradient of the batch of some rows, without a step."""
        engine = self.engine()
        rows = self._take(samples, rows)
        check_statistics(self.graph, len(rows))
        value, hits, _ = self._pass(engine, rows, np.zeros(1), None)
        return value, hits, engine.gradient

    def _pass(
        self, engine: "Engine", rows: np.ndarray, rate: np.ndarray, update: "Update | None"
    ) -> tuple[float, int, float]:
        """Loss, hits and norm of one batch, perhaps with the engine's update."""
        images, targets = self._arrays
        batches, moment, loss = (
            batches_of(images, rows, **targets),
            moment_of(self.now()),
            self.loss,
        )
        if not isinstance(loss, PythonLoss):
            losses, hits, norms = engine.run(batches, rate, moment=moment, update=update)
            return float(losses[0]), int(hits[0]), float(norms[0])
        y = self._target[rows]
        weight = None if self._weight is None else self._weight[rows]
        value, outputs, norm = in_halves(
            engine,
            batches,
            lambda made: loss.value_and_gradient(made, y, weight),
            moment=moment,
            rates=rate,
            update=update,
        )
        return value, count_correct(outputs, y, loss), norm

    def update(self, gradient: np.ndarray, lr: float) -> float:
        """Take the optimiser's step along a gradient; returns its norm before clipping."""
        engine = self.engine()
        if self._update is None:
            return self._update_in_python(engine, gradient, lr)
        return super().update(gradient, lr)

    def _update_in_python(self, engine: "Engine", gradient: np.ndarray, lr: float) -> float:
        parts = self._parts or ()
        clear_outside(gradient, [(part.first, part.end) for part in parts])
        norm = clip_gradient_norm(gradient, self.clip_norm)
        self.step += 1
        self.assigned.update_parts(parts, gradient, lr, self.step)
        if engine.program.constrains:
            constrain(self.model)
        return norm

    def _read(self, samples: Samples) -> tuple[np.ndarray, dict[str, Any]]:
        if not isinstance(self.loss, PythonLoss):
            return super()._read(samples)
        target = as_target(self.loss, samples.labels, len(samples), self.graph, np.float32)
        # Refuses weights that the function does not take.
        self.loss.target_weight(target, samples.sample_weight)
        self._target, self._weight = target, samples.sample_weight
        return stored_samples(self.model.preprocessing, samples.images), {}
