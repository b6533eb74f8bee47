"""A network prepared for inference: programs, packed weights and memory that calls only reuse."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from fastcnn import forks
from fastcnn.backends.alignment import aligned
from fastcnn.backends.graph import Graph
from fastcnn.backends.lanes.convolution.algorithms import conv_algorithm, forced_algorithm
from fastcnn.backends.lanes.kernels.layout import KERNEL
from fastcnn.backends.lanes.lowering.channel_plan import plan_channels
from fastcnn.backends.lanes.planning.buffers import LANES
from fastcnn.backends.lanes.planning.grouping import Unsupported
from fastcnn.backends.lanes.reach.door import check_program
from fastcnn.backends.lanes.session import team
from fastcnn.backends.lanes.session.engine import Engine
from fastcnn.backends.lanes.session.forward_pass import Pass
from fastcnn.backends.lanes.session.loading import check_enabled, check_own_kernels
from fastcnn.backends.lanes.session.probabilities import softmax
from fastcnn.codegen.functions import address_of

#: Batch sizes for which passes with a sample in each lane are planned.
BATCHES = (16, 64, 256)
#: Maximum samples at a time with a channel in each lane: some layers keep the maps of all.
FEW = 16
#: Ratio of estimates below which passes with a channel in each lane are used: for up to FEW samples
#: they measured faster at equal estimates; more samples run in pieces of FEW, for which threads
#: synchronise at some layers, and which must be estimated clearly faster.
AS_GOOD, BETTER = 1.05, 0.95


class Inference:
    """A network's forward pass, prepared for batches up to a maximum size.

    Parameters
    ----------
    graph : Graph
        With batch normalisation folded where possible.
    state : mapping of str to ndarray
        Parameters and running statistics by state key; they are copied.
    parameters : ndarray of float32
        The parameters as one array, of which ``places`` has each one's offset and shape.
    most : int
        Samples of the largest batch that is run at a time, up to the last of ``BATCHES``.

    Raises
    ------
    Unsupported
        If the engine does not support the network.
    """

    def __init__(
        self,
        graph: Graph,
        state: Mapping[str, np.ndarray],
        parameters: np.ndarray,
        places: dict[str, tuple[int, tuple[int, ...]]],
        running: Mapping[str, Sequence[np.ndarray]],
        most: int,
        threads: int,
    ) -> None:
        check_enabled()
        self.graph = graph
        self.threads = threads
        self.algorithm = forced_algorithm()
        #: With more samples memory grows, but time per sample does not shrink.
        self.most = min(most, BATCHES[-1])
        self._parameters = parameters.copy()
        self._places, self._running = places, running
        self._state = dict(state)
        #: Shape of a sample's outputs, and their number of elements.
        self._shape, self._results = graph.output_shape, prod(graph.output_shape)
        self._group = team.join(self, threads)
        self._channels: dict[int, Pass | None] = {}
        self._samples: dict[int, Pass] = {}
        self._chosen: dict[int, Pass] = {}
        self._lock = forks.lock()

    def by_channels(self, count: int) -> Pass | None:
        """The pass with a channel in each lane for one sample, or for up to ``FEW``, if any.

        One sample may be faster with other convolution algorithms than several.
        """
        batch = min(self.most, 1 if count == 1 else FEW)
        if batch not in self._channels:
            self._channels[batch] = self._planned(batch)
        return self._channels[batch]

    def _planned(self, batch: int) -> Pass | None:
        try:
            program = plan_channels(self.graph, batch, self.threads, self._state)
        except Unsupported:
            return None
        check_own_kernels(program.rows[:, KERNEL].tolist())
        assert program.weights is not None
        weights = aligned(program.weights.size)
        weights[...] = program.weights
        for other in filter(None, self._channels.values()):
            if np.array_equal(other.parameters, weights):
                weights = other.parameters
        check_program(program, weights, np.zeros(1, np.float32), {})
        program = replace(program, weights=None)  # the pass has its own copy of them now
        return Pass(program, weights, self.threads, self._group)

    def by_samples(self, batch: int) -> Pass:
        """The pass with a sample in each lane, for up to ``batch`` samples."""
        if batch not in self._samples:
            engine = Engine(
                self.graph,
                batch,
                self._parameters,
                self._places,
                self.threads,
                running=self._running,
                outputs=True,
            )
            program = engine.pack_weights()
            self._samples[batch] = Pass(
                program, self._parameters, self.threads, self._group, engine.arena
            )
        return self._samples[batch]

    def choose(self, count: int) -> Pass:
        """The pass with the lowest estimated time for some samples.

        Raises Unsupported if the engine does not support the network.
        """
        found = self._chosen.get(count)
        if found is None:
            with self._lock, conv_algorithm(self.algorithm):
                found = self._fastest(count)
                found.segments(1)  # compiled now, not by the first run
                self._chosen[count] = found
        return found

    def _fastest(self, count: int) -> Pass:
        batch = next(size for size in BATCHES if count <= size)
        one = self.by_channels(count)
        if one is not None and count == 1:
            return one
        many = self.by_samples(batch)
        share = AS_GOOD if count <= FEW else BETTER
        if one is not None and one.nanoseconds(count) < share * many.nanoseconds(count):
            return one
        return many

    def outputs(self, images: np.ndarray, factors: np.ndarray) -> np.ndarray:
        """The outputs of all samples, float32 of shape (N, ...).

        ``images``, of shape (N, ...), are contiguous; ``factors`` has scales, then offsets, of the
        input's channels, and must not be modified. Raises RuntimeError if a kernel failed.
        """
        found = np.empty((len(images), *self._shape), np.float32)
        self._run(images, found, address_of(found), factors)
        return found

    def probabilities(self, images: np.ndarray, factors: np.ndarray) -> np.ndarray | None:
        """The softmax of each sample's outputs, or None if one is not finite.

        Parameters are those of :meth:`outputs`.
        """
        count, classes = len(images), self._results
        # Logits begin after one vector, and are followed by room for another.
        values = np.empty(count * classes + 2 * LANES, np.float32)
        place = address_of(values)
        self._run(images, values[LANES:], place + 4 * LANES, factors)
        if softmax(values, place, count, classes) >= 0:
            return None
        return values[: count * classes].reshape(count, classes)

    def _run(self, images: np.ndarray, outputs: np.ndarray, to: int, factors: np.ndarray) -> None:
        """Fill ``outputs``, at the address ``to``, with those of all samples."""
        count, place = len(images), address_of(images)
        chosen = self._chosen.get(count) or self.choose(min(count, self.most))
        # The last piece also uses this pass: a separate one would need memory.
        size = chosen.program.batch
        if count <= size:
            chosen.run(images, outputs, factors, (place, to))
            return
        filled = outputs.reshape(-1)
        for start in range(0, count, size):
            part, first = images[start : start + size], start * self._results
            made = filled[first : first + len(part) * self._results]
            places = place + start * (images.nbytes // count), to + 4 * first
            chosen.run(part, made, factors, places)

    @property
    def bytes(self) -> int:
        """Memory of the prepared passes."""
        passes = [*self._samples.values(), *filter(None, self._channels.values())]
        return sum(one.bytes for one in passes)
