"""Whole networks on the lanes engine: training steps, gradients and inference."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.backends.graph import Graph
from fastcnn.execution.assigned import Assigned, frozen_parameters
from fastcnn.execution.between import MOST_OUTPUTS, Passes, Piece
from fastcnn.execution.checks import as_target, check_layout, check_statistics
from fastcnn.execution.constraints import constrain, largest_norms
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
from fastcnn.execution.executor import (
    STEP_RESULTS,
    StepResults,
    Watched,
    copy_slots,
    mean_score,
)
from fastcnn.execution.prepared import prepared
from fastcnn.execution.step import INFERENCE, Batch, Step
from fastcnn.execution.thread_choice import ThreadChoice
from fastcnn.losses import Loss, PythonLoss
from fastcnn.optim import Assignment, Optimizer, Part

if TYPE_CHECKING:
    from fastcnn.backends.lanes import Engine, Moment, Update
    from fastcnn.layers import Model

#: The arrays that an executor has converted, before the first ones.
NOTHING_TAKEN = (None, None, None, None)


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
        If the engine does not cover the model.
    """
    from fastcnn.backends.lanes import default_threads

    count = len(images)
    outputs = np.empty((count, *graph.output_shape), np.float32)
    stored = stored_samples(model.preprocessing, images)
    factors = input_factors(model.preprocessing, images)
    if not (step.training or graph.batch_statistics(training=False)):
        threads = default_threads() if threads is None else threads
        prepared(model, graph, threads).run(stored, outputs, np.concatenate(factors))
        return outputs
    # The dropout mask depends on a sample's place in its batch.
    build = {"outputs": True, "training": step.training}
    with Lease(model, graph, room_for(count), threads, **build) as engine:
        engine.normalise(*factors)
        batches = batches_of(stored, np.arange(count), outputs=outputs.reshape(-1))
        engine.run(batches, moment=moment_of(step))
    return outputs


def network_values(
    model: "Model", x: np.ndarray, graph: Graph, nodes: Sequence[int]
) -> Iterator[list[np.ndarray]]:
    """Outputs of some nodes outside training; of nodes that run as one, that of the last.

    A few samples at a time: together they may be large.

    Raises
    ------
    Unsupported
        At once, if the engine does not cover the model.
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
        If the engine does not cover the model or the loss.
    """
    if isinstance(batch.loss, PythonLoss):
        return _gradients_of_python(model, graph, batch, step, threads)
    x, count = batch.x, len(batch.x)
    outputs = np.empty((count, *graph.output_shape), np.float32)
    build = {
        "loss": loss_key(batch.loss),
        "training": step.training,
        "outputs": True,
        "frozen": frozen_parameters(model),
    }
    with Lease(model, graph, room_for(count), threads, **build) as engine:
        engine.normalise(*input_factors(model.preprocessing, x))
        batches = batches_of(
            stored_samples(model.preprocessing, x),
            np.arange(count),
            outputs=outputs.reshape(-1),
            **engine_targets(batch.loss, batch.target),
            **engine_weights(batch.loss, batch.target, batch.weight),
        )
        losses, _, _ = engine.run(batches, moment=moment_of(step))
        return float(losses[0]), outputs, engine.gradient.copy()


def _gradients_of_python(
    model: "Model", graph: Graph, batch: Batch, step: Step, threads: int | None
) -> tuple[float, np.ndarray, np.ndarray]:
    """The same with a loss that Python computes between the two halves of the program."""
    x, count = batch.x, len(batch.x)
    outputs = np.empty((count, *graph.output_shape), np.float32)
    build = {
        "backward": True,
        "arrays": True,
        "training": step.training,
        "outputs": True,
        "frozen": frozen_parameters(model),
    }
    moment = moment_of(step)
    with Lease(model, graph, room_for(count), threads, **build) as engine:
        engine.normalise(*input_factors(model.preprocessing, x))
        phases, middle = engine.program.phases, engine.program.first_backward
        order, images = np.arange(count), stored_samples(model.preprocessing, x)
        forward = batches_of(images, order, outputs=outputs.reshape(-1))
        engine.run(forward, moment=moment, phases=phases[:middle])
        assert isinstance(batch.loss, PythonLoss)
        value, gradient = batch.loss.value_and_gradient(outputs, batch.target, batch.weight)
        targets = np.require(gradient, np.float32, ["C", "W"]).reshape(-1)
        engine.run(
            batches_of(images, order, targets=targets), moment=moment, phases=phases[middle:]
        )
        return value, outputs, engine.gradient.copy()


def network_input_gradient(
    model: "Model", x: np.ndarray, graph: Graph, by_outputs: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Gradient of a number by what the first layer reads, from its gradient by the outputs."""
    count, frozen = len(x), tuple(model.named_parameters())
    build = {"backward": True, "arrays": True, "outputs": True, "input_gradient": True}
    outputs = np.empty((count, *graph.output_shape), np.float32)
    made = np.empty(x.shape, np.float32)
    with Lease(model, graph, room_for(count), None, **build, frozen=frozen) as engine:
        engine.normalise(*input_factors(model.preprocessing, x))
        phases, middle = engine.program.phases, engine.program.first_backward
        common = stored_samples(model.preprocessing, x), np.arange(count)
        engine.run(batches_of(*common, outputs=outputs.reshape(-1)), phases=phases[:middle])
        gradient = np.require(by_outputs(outputs), np.float32, ["C", "W"]).reshape(-1)
        backward = batches_of(*common, outputs=made.reshape(-1), targets=gradient)
        engine.run(backward, phases=phases[middle:])
    return made


class LanesExecutor(Watched):
    """Runs consecutive training steps in one compiled call.

    Attributes
    ----------
    step_size : int
        Samples of a step; if they are more than the batch size, their gradients are added up in
        several passes.
    has_python_update : bool
        Whether the engine has no update of one of the optimisers.
    update_of_steps : Update
        The engine's part of an update.
    stored, targets, python_targets
        What the engine reads of the samples and their targets, and what a loss in Python reads:
        targets, and their weights if they have any.

    Raises
    ------
    Unsupported
        At construction, if the engine does not cover the model, the loss or the optimiser.
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
        self.model = model
        self.loss = loss
        self.assigned = Assigned(model, optimizer)
        self.batch_size = self.step_size = batch_size
        self.seed = seed
        self.threads = threads
        self.step = 0
        self.first_sample = 0
        self.graph = self.assigned.graph()
        self._clip_norm = clip_norm
        self.has_python_update = any(map(is_python_update, self.assigned.optimizers))
        self.update_of_steps: Update | None = None
        self._layout = model.parameter_layout()
        self._parts: tuple[Part, ...] | None = None
        self._frozen: tuple[str, ...] = ()
        constrain(model)
        self._build: dict[str, Any] = {"training": True}
        if isinstance(loss, PythonLoss):
            self._build |= {"backward": True, "arrays": True, "outputs": True}
        else:
            self._build["loss"] = loss_key(loss)
        self._engine: Engine | None = None
        self._choice: ThreadChoice | None = None
        self._source: tuple[Any, ...] = NOTHING_TAKEN
        self.stored = np.empty(0)
        self.targets: dict[str, Any] = {}
        self.python_targets: tuple[np.ndarray, np.ndarray | None] = (np.empty(0), None)
        # Says at once whether the engine covers the model.
        self.engine()

    def engine(self) -> "Engine":
        """The engine of the training steps, made at first use and when the model has changed.

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
            self.update_of_steps = engine_update(
                self._parts, self.assigned.state, self._clip_norm, self.has_python_update
            )
            frozen = frozen_parameters(self.model, self._parts)
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
                frozen=self._frozen,
                largest_norms=largest_norms(self.model),
            )
            self._engine = engine
            self._choice = ThreadChoice(threads if self.threads is None else 1)
            self._choice.threads = threads
        return engine

    def train_steps(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        order: np.ndarray,
        learning_rates: np.ndarray,
        sample_weight: np.ndarray | None = None,
    ) -> StepResults:
        """Take one step for each learning rate, on consecutive batches of ``order``."""
        engine, choice, size = self.engine(), self._choice, self.step_size
        assert choice is not None
        order = self._take(images, labels, order, sample_weight)
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
            parts.append(Passes(self, piece, labels, sample_weight).run(threads))
            choice.record(threads, max(count, 1), time.perf_counter() - began)
            self.step += count
            done += count
        self._constrain(engine)
        found = ([getattr(part, name) for part in parts] for name in STEP_RESULTS)
        return StepResults(*map(np.concatenate, found))

    @property
    def moment(self) -> "Moment":
        """What the engine draws dropout's masks by."""
        return moment_of(Step(True, self.seed, self.step, self.first_sample))

    def _constrain(self, engine: "Engine") -> None:
        """Let the weights that a last update has left obey their largest norms, as steps do."""
        if engine.program.constrains:
            from fastcnn.backends.lanes import NO_BATCHES

            engine.run(NO_BATCHES, phases=engine.program.phases[:1], threads=1)

    def start_epoch(self, epoch: int, per_epoch: int) -> None:
        """Say which epoch it is, counted from 1, and how many steps one has."""
        self.assigned.start_epoch(epoch, per_epoch)

    def gradient(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        samples: np.ndarray,
        sample_weight: np.ndarray | None = None,
    ) -> tuple[float, int, np.ndarray]:
        """Loss, hits and flat gradient of one batch, without a step."""
        samples = self._take(images, labels, samples, sample_weight)
        check_statistics(self.graph, len(samples))
        made = Passes(self, Piece(samples, np.zeros(1), self.batch_size)).run()
        return float(made.losses[0]), int(made.correct[0]), self.engine().gradient

    def update(self, gradient: np.ndarray, lr: float) -> float:
        """Take the optimiser's step along a gradient; returns its norm before clipping."""
        from fastcnn.backends.lanes import NO_BATCHES

        engine = self.engine()
        if gradient is not engine.gradient:
            engine.gradient[...] = gradient
        _, _, norms = engine.run(
            NO_BATCHES,
            np.array([lr]),
            phases=np.zeros((0, 3), np.int64),
            threads=1,
            update=self.update_of_steps,
            moment=self.moment,
        )
        self.step += 1
        if self.has_python_update:
            self.assigned.update(engine.gradient, lr, self.step)
        self._constrain(engine)
        return float(norms[0])

    def _take(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        order: np.ndarray,
        weight: np.ndarray | None,
    ) -> np.ndarray:
        """Give the engine what it reads, converted once for the same arrays; returns the order."""
        preprocessing = self.model.preprocessing
        source = (images, labels, preprocessing, weight)
        if any(known is not now for known, now in zip(self._source, source, strict=True)):
            self._read(images, labels, weight)
            self._source = source
        self.engine().normalise(*input_factors(preprocessing, images))
        return np.ascontiguousarray(order, np.int64)

    def _read(self, images: np.ndarray, labels: np.ndarray, weight: np.ndarray | None) -> None:
        """Samples, and targets with their weights, in the form in which they are read."""
        target = as_target(self.loss, labels, len(images), self.graph, np.float32)
        if isinstance(self.loss, PythonLoss):
            self.loss.target_weight(target, weight)  # refuses what the function does not take
            self.python_targets = target, weight
        else:
            self.targets = engine_targets(self.loss, target, labels)
            self.targets |= engine_weights(self.loss, target, weight)
        self.stored = stored_samples(self.model.preprocessing, images)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The network's output outside training."""
        return network_output(self.model, images, self.model.graph(), threads=self.threads)

    def evaluate(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        sample_weight: np.ndarray | None = None,
    ) -> tuple[float, float, np.ndarray]:
        """Mean loss, accuracy and logits outside training."""
        logits = self.logits(images)
        return *mean_score(self.model, self.loss, logits, labels, sample_weight), logits

    def optimizer_state(self) -> dict[str, np.ndarray]:
        """The optimiser's arrays by name, as live views."""
        return self.assigned.slots()

    def load_optimizer_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy the optimiser's arrays from ``state``."""
        copy_slots(self.assigned.slots(), state)
