"""One layer of the benchmark, run by fastcnn's backends."""

from typing import Any

import numpy as np

from fastcnn.backends.graph import INPUT, Graph, Node
from fastcnn.backends.lanes import Batches, Engine, Unsupported, conv_algorithm
from fastcnn.benchmark.layer_cases import BATCH, Arrays, LayerCase, LayerRun
from fastcnn.execution.workers import workers
from fastcnn.operations import OPERATIONS, Elementwise
from fastcnn.timing import repeated

#: Rows that pack a batch into lanes and copy results out of them.
OUTSIDE = ("gather input", "output")


def alone_run(
    case: LayerCase, arrays: Arrays, backend: str, backward: bool, threads: int
) -> LayerRun:
    """The functional call, repeated."""

    def call() -> tuple[np.ndarray, ...]:
        if backward:
            return case.backward(arrays, backend)
        return (case.forward(arrays.x, arrays.other, arrays.parameters, backend),)

    run = repeated(call, lambda: workers(threads))
    return LayerRun(run, lambda: run(1))


def lanes_run(
    case: LayerCase, arrays: Arrays, backward: bool, threads: int, algorithm: str | None = None
) -> LayerRun:
    """The rows that the engine runs for a layer within a network, repeated.

    Raises
    ------
    Unsupported
        If a convolution's algorithm is given, and fits no part of this direction.
    """
    parameters = arrays.parameters
    # Element-wise functions accept any layout; with a parameter per channel, only maps.
    is_flat = isinstance(OPERATIONS[case.operation], Elementwise) and not parameters
    shape = (int(np.prod(case.shape)),) if is_flat else case.shape
    output = (arrays.y[0].size,) if is_flat else arrays.y.shape[1:]
    before = [Node("before", "relu", (INPUT,), {}, {}, (shape,), shape) for _ in arrays.other]
    graph = Graph(shape, (*before, case.node(shape, output, len(before))))
    places, flat, offset = {}, [np.zeros(0, np.float32)], 0
    for key, value in parameters.items():
        places[key] = (offset, value.shape)
        flat.append(value.ravel())
        offset += value.size
    build: dict[str, Any] = (
        {"backward": True, "input_gradient": True} if backward else {"outputs": True}
    )
    with conv_algorithm(algorithm):
        engine = Engine(
            graph, BATCH, np.concatenate(flat), places, threads, None, training=True, **build
        )
    program, order = engine.program, np.arange(BATCH)
    for _, used in program.algorithms:
        here = {name for part, name in used.items() if (part == "forward") != backward}
        if algorithm and algorithm not in here:
            raise Unsupported("does not fit")
    if backward:
        assert program.output_gradient is not None
        engine.write(program.output_gradient, arrays.grad.reshape(BATCH, *output))
    y = np.empty((BATCH, *output), np.float32)
    engine.run(Batches(arrays.x, order, outputs=y.reshape(-1)))
    chosen = program.phases
    if backward:
        # Other layers follow a forward pass, whose outputs stay in place.
        linear = OPERATIONS[case.operation].gradient_needs == "input"
        chosen = (
            program.backward_phases(skip_forward=True)
            if linear
            else program.phases[program.first_backward :]
        )
    phases = program.filtered(
        chosen,
        lambda index: (
            program.kernel(index) not in OUTSIDE and not program.names[index].startswith("before:")
        ),
    )

    def repeat(times: int) -> None:
        engine.run(Batches(arrays.x, np.tile(order, times)), np.zeros(times), phases=phases)

    def results() -> tuple[np.ndarray, ...]:
        if not backward:
            return (y.reshape(arrays.y.shape),)
        # Run the whole program: gradients have overwritten values that the layer's rows would read
        # again.
        engine.run(Batches(arrays.x, order))
        assert program.input_gradient is not None
        grad_x = engine.read(program.input_gradient, BATCH).reshape(arrays.x.shape)
        return grad_x, *(
            engine.gradient[place : place + value.size].reshape(value.shape).copy()
            for (place, _), value in zip(places.values(), parameters.values(), strict=True)
        )

    return LayerRun(repeat, results)
