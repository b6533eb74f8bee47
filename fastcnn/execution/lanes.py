"""Whole networks on the lanes engine: training steps, gradients and inference."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.backends.graph import Graph
from fastcnn.data.dataset import Samples
from fastcnn.execution.assigned import frozen_parameters, largest_norms
from fastcnn.execution.between import MOST_OUTPUTS, Passes, Piece
from fastcnn.execution.checks import as_target, check_layout, check_statistics
from fastcnn.execution.engine_arguments import (
    batches_of,
    check_optimizer,
    engine_targets,
    engine_update,
    engine_weights,
    input_factors,
    is_python_update,
    loss_key,
    moment_of,
    stored_samples,
)
from fastcnn.execution.engines import BLOCK, Lease, make_engine, room_for
from fastcnn.execution.executor import ModelExecutor, StepResults, Training
from fastcnn.execution.prepared import prepared
from fastcnn.execution.step import INFERENCE, Batch, Step
from fastcnn.execution.thread_choice import ThreadChoice
from fastcnn.losses import PythonLoss
from fastcnn.optim import Part

if TYPE_CHECKING:
    from fastcnn.backends.lanes import Batches, Engine, Moment, Update
    from fastcnn.layers import Model

#: Initial value of the arrays that an executor has converted.
NOTHING_TAKEN = (None, None, None, None)
#: Samples for programs whose rows read none.
NOTHING = np.zeros(1, np.float32)


def network_output(
    model: "Model",
    images: np.ndarray,
    graph: Graph,
    *,
    step: Step = INFERENCE,
    threads: int | None = None,
) -> np.ndarray:
    """Output of the last layer for all samples, shape (N, *output_shape).

    Raises
    ------
    Unsupported
        If the engine does not support the model.
    """
    from fastcnn.backends.lanes import default_threads

    count = len(images)
    stored = stored_samples(model.preprocessing, images)
    factors = input_factors(model.preprocessing, images)
    if not (step.training or graph.batch_statistics(training=False)):
        threads = default_threads() if threads is None else threads
        scale = np.concatenate(factors)
        return prepared(model, graph, threads).outputs(stored, scale)
    outputs = np.empty((count, *graph.output_shape), np.float32)
    # The dropout mask depends on a sample's index in its batch.
    build = {"outputs": True, "training": step.training}
    with Lease(model, graph, room_for(count), threads, **build) as engine:
        engine.normalise(*factors)
        batches = batches_of(stored, np.arange(count), outputs=outputs.reshape(-1))
        engine.run(batches, moment=moment_of(step))
    return outputs


def network_values(
    model: "Model", x: np.ndarray, graph: Graph, nodes: Sequence[int]
) -> Iterator[list[np.ndarray]]:
    """Outputs of some nodes outside training; for fused nodes, that of the last.

    Computed a few samples at a time, as the outputs may be large together.

    Raises
    ------
    Unsupported
        Immediately, if the engine does not support the model.
    """
    size = BLOCK
    if graph.batch_statistics(training=False):
        size = room_for(len(x))
    lease = Lease(model, graph, size, 1, values=True)

    def parts() -> Iterator[list[np.ndarray]]:
        images = stored_samples(model.preprocessing, x)
        with lease as engine:
            values = engine.program.values
            engine.normalise(*input_factors(model.preprocessing, x))
            for start in range(0, len(x), size):
                order = np.arange(start, min(start + size, len(x)))
                engine.run(batches_of(images, order))
                yield [engine.read(values[index], len(order)) for index in nodes]

    return parts()


def network_gradients(
    model: "Model", graph: Graph, batch: Batch, step: Step, threads: int | None = None
) -> tuple[float, np.ndarray, np.ndarray]:
    """Loss, output and flat gradient of one batch.

    Raises
    ------
    Unsupported
        If the engine does not support the model or the loss.
    """
    loss, count = batch.loss, len(batch.x)
    build: dict[str, Any] = {"training": step.training, "frozen": frozen_parameters(model)}
    build |= HALVES if isinstance(loss, PythonLoss) else {"loss": loss_key(loss), "outputs": True}
    with Lease(model, graph, room_for(count), threads, **build) as engine:
        engine.normalise(*input_factors(model.preprocessing, batch.x))
        images, moment = stored_samples(model.preprocessing, batch.x), moment_of(step)
        if isinstance(loss, PythonLoss):
            value, outputs = in_halves(
                engine,
                batches_of(images, np.arange(count)),
                lambda made: loss.value_and_gradient(made, batch.target, batch.weight),
                moment=moment,
            )
            return value, outputs, engine.gradient.copy()
        outputs = np.empty((count, *graph.output_shape), np.float32)
        batches = batches_of(
            images,
            np.arange(count),
            outputs=outputs.reshape(-1),
            **engine_targets(loss, batch.target),
            **engine_weights(loss, batch.target, batch.weight),
        )
        totals = loss.target_weights(batch.target, batch.weight)
        if totals is not None:
            batches = batches._replace(mean_weights=totals.mean(axis=0))
        losses, _, _ = engine.run(batches, moment=moment)
        return float(losses[0]), outputs, engine.gradient.copy()


def network_input_gradient(
    model: "Model", x: np.ndarray, graph: Graph, by_outputs: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Gradient with respect to the first layer's input, from that with respect to the outputs."""
    made = np.empty(x.shape, np.float32)
    build = HALVES | {"input_gradient": True, "frozen": tuple(model.named_parameters())}
    with Lease(model, graph, room_for(len(x)), None, **build) as engine:
        engine.normalise(*input_factors(model.preprocessing, x))
        batches = batches_of(stored_samples(model.preprocessing, x), np.arange(len(x)))
        in_halves(engine, batches, lambda outputs: (0.0, by_outputs(outputs)), made=made)
    return made


#: Options of a program that is interrupted by Python code.
HALVES = {"backward": True, "arrays": True, "outputs": True}


def in_halves(
    engine: "Engine",
    batches: "Batches",
    middle: Callable[[np.ndarray], tuple[float, np.ndarray]],
    *,
    moment: "Moment | None" = None,
    made: np.ndarray | None = None,
) -> tuple[float, np.ndarray]:
    """Run a program whose loss is computed by Python, from the outputs of the first half.

    Parameters
    ----------
    middle : function of ndarray
        Returns the loss, and its gradient with respect to the outputs, for the second half.
    made : ndarray of float32, optional
        Is filled with the gradient with respect to the input.

    Returns
    -------
    loss, outputs
    """
    count, first = len(batches.order), engine.program.first_backward
    outputs = np.empty((count, *engine.graph.output_shape), np.float32)
    phases, moment = engine.program.phases, moment or moment_of(INFERENCE)
    forward = batches._replace(outputs=outputs.reshape(-1))
    engine.run(forward, moment=moment, phases=phases[:first])
    value, gradient = middle(outputs)
    rows = np.require(gradient, np.float32, ["C", "A", "W"]).reshape(-1)
    filled = {} if made is None else {"outputs": made.reshape(-1)}
    backward = batches_of(NOTHING, np.arange(count), targets=rows, **filled)
    engine.run(backward, moment=moment, phases=phases[first:])
    return value, outputs


class LanesExecutor(ModelExecutor):
    """Runs consecutive training steps in one compiled call.

    Attributes
    ----------
    step_size : int
        Samples of a step; if they exceed the batch size, gradients are accumulated over several
        passes.
    has_python_update : bool
        Whether any optimiser's update runs in Python.
    engine_update : Update
        The engine's part of an update.
    stored, targets, python_targets
        Samples and targets as the engine reads them, and targets as a loss in Python reads them.
    totals : ndarray, shape (N, losses), or None
        The mean weight of each sample's targets.

    Raises
    ------
    Unsupported
        At construction, if the engine does not support the model, the loss or the optimiser.
    """

    def __init__(self, training: Training, threads: int | None) -> None:
        super().__init__(training)
        self.threads = threads
        self.graph = self.assigned.graph()
        self.step_size = self.batch_size
        self.has_python_update = any(map(is_python_update, self.assigned.optimizers))
        self.engine_update: Update | None = None
        self._parts: tuple[Part, ...] | None = None
        self._frozen: tuple[str, ...] = ()
        is_python = isinstance(self.loss, PythonLoss)
        self._build: dict[str, Any] = HALVES if is_python else {"loss": loss_key(self.loss)}
        self._engine: Engine | None = None
        self._choice: ThreadChoice | None = None
        self._source: tuple[Any, ...] = NOTHING_TAKEN
        self.stored = NOTHING
        self.python_targets: tuple[np.ndarray, np.ndarray | None] = (NOTHING, None)
        self.targets: dict[str, Any] = {}
        self.totals: np.ndarray | None = None
        # Raises immediately if the engine does not support the model.
        self.engine()

    def engine(self) -> "Engine":
        """The engine of the training steps, created at first use and after changes of the model.

        Raises
        ------
        ConfigurationError
            If the model has other parameters than at the start.
        """
        from fastcnn.backends.lanes import default_threads

        graph, vector = self.assigned.graph(), self.model.parameter_vector
        engine = self._engine
        if self._parts is not self.assigned.parts:
            self._parts = self.assigned.parts
            for each in self.assigned.optimizers:
                check_optimizer(each)
            self.engine_update = engine_update(
                self._parts, self.assigned.state, self.clip_norm, self.has_python_update
            )
            frozen = self.assigned.frozen
            if frozen != self._frozen:
                engine, self._frozen = None, frozen
        if engine is None or engine.parameters is not vector or engine.graph is not graph:
            check_layout(self._layout, self.model)
            if graph.output_shape != self.graph.output_shape:
                self._source = NOTHING_TAKEN
            self.graph = graph
            threads = default_threads() if self.threads is None else self.threads
            engine = make_engine(
                self.model,
                graph,
                self.batch_size,
                threads,
                **self._build,
                training=True,
                frozen=self._frozen,
                largest_norms=largest_norms(self.model, self._frozen),
            )
            self._engine = engine
            self._choice = ThreadChoice(threads if self.threads is None else 1)
            self._choice.threads = threads
        return engine

    def train_steps(
        self, samples: Samples, order: np.ndarray, learning_rates: np.ndarray
    ) -> StepResults:
        engine, choice, size = self.engine(), self._choice, self.step_size
        assert choice is not None
        order = self._take(samples, order)
        rates = np.ascontiguousarray(learning_rates, np.float64)
        last = len(order) - (len(rates) - 1) * size
        for whole in {last, *([size] if len(rates) > 1 else [])}:
            check_statistics(self.graph, whole % self.batch_size or self.batch_size)
        most = len(rates)
        if isinstance(self.loss, PythonLoss):
            most = max(1, MOST_OUTPUTS // (4 * size * int(np.prod(self.graph.output_shape))))
        parts: list[StepResults] = []
        done = 0
        while done < len(rates) or not parts:
            threads, count = choice.piece(min(most, len(rates) - done))
            piece = Piece(
                order[done * size : (done + count) * size], rates[done : done + count], size
            )
            began = time.perf_counter()
            parts.append(Passes(self, piece).run(threads))
            choice.record(threads, max(count, 1), time.perf_counter() - began)
            self.step += count
            done += count
        self._constrain(engine)
        names = ("losses", "correct", "gradient_norms")
        joined = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
        return StepResults(*joined)

    def _constrain(self, engine: "Engine") -> None:
        """Enforce maximum norms after the last update, as a step does before reading weights."""
        if engine.program.constrains:
            from fastcnn.backends.lanes import NO_BATCHES

            engine.run(NO_BATCHES, phases=engine.program.phases[:1], threads=1)

    def gradient(
        self, samples: Samples, rows: np.ndarray, whole: np.ndarray | None = None
    ) -> tuple[float, int, np.ndarray]:
        rows = self._take(samples, rows)
        check_statistics(self.graph, len(rows))
        whole = rows if whole is None else whole
        made = Passes(self, Piece(rows, np.zeros(1), self.batch_size), whole).run()
        return float(made.losses[0]), int(made.correct[0]), self.engine().gradient

    def update(self, gradient: np.ndarray, lr: float) -> float:
        from fastcnn.backends.lanes import NO_BATCHES

        engine = self.engine()
        if gradient is not engine.gradient:
            engine.gradient[...] = gradient
        _, _, norms = engine.run(
            NO_BATCHES,
            np.array([lr]),
            phases=np.zeros((0, 3), np.int64),
            threads=1,
            update=self.engine_update,
            moment=moment_of(self.now()),
        )
        self.step += 1
        if self.has_python_update:
            self.assigned.update(engine.gradient, lr, self.step)
        self._constrain(engine)
        return float(norms[0])

    def _take(self, samples: Samples, order: np.ndarray) -> np.ndarray:
        """Convert samples for the engine, once for the same arrays; returns the order."""
        preprocessing = self.model.preprocessing
        source = (samples.images, samples.labels, samples.sample_weight, preprocessing)
        if any(known is not now for known, now in zip(self._source, source, strict=True)):
            self._read(samples)
            self._source = source
        self.engine().normalise(*input_factors(preprocessing, samples.images))
        return np.ascontiguousarray(order, np.int64)

    def _read(self, samples: Samples) -> None:
        """Convert samples, and targets with their weights."""
        target = as_target(self.loss, samples.labels, len(samples), self.graph, np.float32)
        if isinstance(self.loss, PythonLoss):
            self.python_targets = target, samples.sample_weight
        else:
            self.targets = engine_targets(self.loss, target, samples.labels)
            self.targets |= engine_weights(self.loss, target, samples.sample_weight)
        # Raises for weights that the loss does not accept.
        self.totals = self.loss.target_weights(target, samples.sample_weight)
        self.stored = stored_samples(self.model.preprocessing, samples.images)

    def logits(self, images: np.ndarray) -> np.ndarray:
        return network_output(self.model, images, self.model.graph(), threads=self.threads)
