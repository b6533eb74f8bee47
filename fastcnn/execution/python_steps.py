"""Training steps on the engine whose loss, or optimiser, or both, are Python's."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.execution.assigned import Assigned, clear_outside
from fastcnn.execution.checks import as_target, check_statistics
from fastcnn.execution.constraints import constrain
from fastcnn.execution.engine_arguments import NUMBERS, batches_of, stored_samples
from fastcnn.execution.executor import StepResults, count_correct
from fastcnn.execution.lanes import WORTH_A_THREAD, LanesExecutor
from fastcnn.losses import Loss, PythonLoss
from fastcnn.operations import own
from fastcnn.optim import Assignment, Optimizer, Part, clip_gradient_norm

if TYPE_CHECKING:
    from fastcnn.backends.lanes import Engine, Update
    from fastcnn.layers import Model

#: Where no rows read samples.
NOTHING = np.zeros(1, np.float32)


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
        return {"backward": True, "arrays": True, "outputs": True, "training": True}

    def _made_update(self, parts: tuple[Part, ...] | None) -> "Update | None":
        return None if has_python_update(self.assigned) else super()._made_update(parts)

    def train_steps(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        order: np.ndarray,
        learning_rates: np.ndarray,
        sample_weight: np.ndarray | None = None,
    ) -> StepResults:
        """Take one step for each learning rate, on consecutive batches of ``order``."""
        engine, count, size = self.engine(), len(learning_rates), self.batch_size
        order = self._take(images, labels, order, sample_weight)
        rates = np.ascontiguousarray(learning_rates, np.float64)
        check_statistics(self.graph, min(len(order) - (count - 1) * size, size))
        made = StepResults(np.zeros(count), np.zeros(count, np.int64), np.zeros(count))
        for index in range(count):
            samples = order[index * size : (index + 1) * size]
            made.losses[index], made.correct[index], norm = self._pass(
                engine, samples, rates[index : index + 1], self._update
            )
            if self._update is None:
                norm = self._update_in_python(engine, engine.gradient, float(rates[index]))
            else:
                self.step += 1
            made.gradient_norms[index] = norm
        self._constrain(engine)
        return made

    def gradient(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        samples: np.ndarray,
        sample_weight: np.ndarray | None = None,
    ) -> tuple[float, int, np.ndarray]:
        """Loss, hits and flat gradient of one batch, without a step."""
        engine = self.engine()
        samples = self._take(images, labels, samples, sample_weight)
        check_statistics(self.graph, len(samples))
        value, hits, _ = self._pass(engine, samples, np.zeros(1), None)
        return value, hits, engine.gradient

    def _pass(
        self, engine: "Engine", samples: np.ndarray, rate: np.ndarray, update: "Update | None"
    ) -> tuple[float, int, float]:
        """Loss, hits and norm of one batch, perhaps with the engine's update."""
        images, targets = self._arrays
        moment = self._moment()
        if not isinstance(self.loss, PythonLoss):
            batch = batches_of(images, samples, **targets)
            losses, hits, norms = engine.run(batch, rate, moment=moment, update=update)
            return float(losses[0]), int(hits[0]), float(norms[0])
        phases, middle = engine.program.phases, engine.program.first_backward
        outputs = np.empty((len(samples), *self.graph.output_shape), np.float32)
        forward = batches_of(images, samples, outputs=outputs.reshape(-1))
        engine.run(forward, moment=moment, phases=phases[:middle])
        y = self._target[samples]
        weight = None if self._weight is None else self._weight[samples]
        value, gradient = self.loss.value_and_gradient(outputs, y, weight)
        # The gradient has a row for each sample of the batch.
        rows = np.require(gradient, np.float32, ["C", "A"]).reshape(-1)
        backward = batches_of(NOTHING, np.arange(len(samples)), targets=rows)
        _, _, norms = engine.run(
            backward, rate, moment=moment, phases=phases[middle:], update=update
        )
        return value, count_correct(outputs, y, self.loss), float(norms[0])

    def update(self, gradient: np.ndarray, lr: float) -> float:
        """Take the optimiser's step along a gradient; returns its norm before clipping."""
        engine = self.engine()
        if self._update is None:
            return self._update_in_python(engine, gradient, lr)
        return super().update(gradient, lr)

    def _update_in_python(self, engine: "Engine", gradient: np.ndarray, lr: float) -> float:
        parts = self._parts or ()
        clear_outside(gradient, [(part.first, part.end) for part in parts])
        norm = clip_gradient_norm(gradient, self._clip_norm)
        self.step += 1
        self.assigned.update_parts(parts, gradient, lr, self.step)
        if engine.program.constrains:
            constrain(self.model)
        return norm

    def _read(
        self, images: np.ndarray, labels: np.ndarray, weight: np.ndarray | None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        if not isinstance(self.loss, PythonLoss):
            return super()._read(images, labels, weight)
        target = as_target(self.loss, labels, len(images), self.graph, np.float32)
        self.loss.target_weight(target, weight)  # refuses weights that the function does not take
        self._target, self._weight = target, weight
        return stored_samples(self.model.preprocessing, images), {}
