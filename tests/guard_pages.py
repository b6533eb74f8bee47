"""Arrays between unreadable guard pages, for the engine's calls. POSIX only.

An access one float outside an array kills the process: run this module, not its functions, and let
the waiting process report which network it was.

``python -m tests.guard_pages --first 0 --count 1000`` runs random networks; it prints each before
it runs, and finally how many ran.
"""

import argparse
import ctypes
import faulthandler
import logging
import mmap
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastcnn.backends import get_backend
from fastcnn.backends.lanes import conv_algorithm
from fastcnn.backends.lanes.session import engine, forward_pass, inference
from fastcnn.data.dataset import ArrayDataset
from fastcnn.execution import make_executor, predict_logits
from fastcnn.execution.parts import call_arguments
from fastcnn.operations import OPERATIONS
from tests.random_networks import BUDGET, Case, random_case

#: Bytes of the guard pages on both sides of an array.
GUARD = 1 << 20
#: Arrays that kernels and the dispatcher must not modify.
READ_ONLY = (
    "phases", "rows", "entries", "T", "settings", "rates", "order", "bytes_", "floats", "labels",
    "targets", "weights", "owners",
)  # fmt: skip
#: Arrays that they fill, so that the previous contents must not matter.
FILLED = ("outputs", "G", "losses", "norms", "block_losses", "squares")


def guarded(array: np.ndarray, at_end: bool, locked: bool = False) -> np.ndarray:
    """A copy whose last byte, or whose first, is next to an unreadable page.

    With ``locked`` a write to it kills the process as well.
    """
    page = mmap.PAGESIZE
    data = max(page, -(-array.nbytes // page) * page)
    memory = mmap.mmap(-1, 2 * GUARD + data)
    first = GUARD + (data - array.nbytes if at_end else 0)
    made = np.frombuffer(memory, array.dtype, array.size, first).reshape(array.shape)
    made[...] = array
    start = made.ctypes.data - first
    _protect(start, GUARD, 0)
    _protect(start + GUARD + data, GUARD, 0)
    if locked:
        _protect(start + GUARD, data, mmap.PROT_READ)
    return made


def _protect(start: int, size: int, protection: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(size), protection):
        raise OSError(ctypes.get_errno(), "mprotect")


@contextmanager
def guarded_engine(at_end: bool) -> Iterator[Counter[str]]:
    """Place all arrays of every run of the engine between unreadable pages.

    Yields the number of runs.
    """
    original = engine.run_threads
    runs: Counter[str] = Counter()

    def run_threads(threads: int, fields: Mapping[str, Any], steps: Mapping[str, Any]) -> None:
        if fields["T"].size == 1:
            # Element-wise functions on arrays in place, which run_case guards itself.
            original(threads, fields, steps)
            return
        has_rows = len(steps["phases"]) > 0
        made: dict[int, tuple[np.ndarray, np.ndarray, bool]] = {}

        def replaced(values: Mapping[str, Any]) -> dict[str, Any]:
            """The same values with guarded copies of arrays; each array has one copy."""
            result = dict(values)
            for name, value in values.items():
                if isinstance(value, np.ndarray):
                    if id(value) not in made:
                        fill = has_rows and name in FILLED
                        source = np.full_like(value, np.nan) if fill else value
                        locked = name in READ_ONLY
                        made[id(value)] = value, guarded(source, at_end, locked), locked
                    result[name] = made[id(value)][1]
            return result

        original(threads, replaced(fields), replaced(steps))
        runs["engine runs"] += 1
        for value, copy, locked in made.values():
            if not locked:
                value[...] = copy

    with guarded_passes(at_end, runs):
        engine.run_threads = run_threads
        try:
            yield runs
        finally:
            engine.run_threads = original


@contextmanager
def guarded_passes(at_end: bool, runs: Counter[str]) -> Iterator[None]:
    """The same for prepared passes: their own memory, and samples and outputs of each call."""
    aligned, run = inference.aligned, forward_pass.Pass.run

    def guarded_memory(size: int, dtype: Any = np.float32) -> np.ndarray:
        return guarded(np.zeros(size, dtype), at_end)

    def guarded_run(
        self: forward_pass.Pass, images: np.ndarray, outputs: np.ndarray, *rest: Any
    ) -> None:
        factors, _ = rest
        read = guarded(images, at_end, locked=True)
        written = guarded(np.full_like(outputs, np.nan), at_end)
        run(self, read, written, factors, (read.ctypes.data, written.ctypes.data))
        outputs[...] = written
        runs["prepared passes"] += 1

    inference.aligned = forward_pass.aligned = guarded_memory
    forward_pass.Pass.run = guarded_run  # type: ignore[method-assign]
    try:
        yield
    finally:
        inference.aligned = forward_pass.aligned = aligned
        forward_pass.Pass.run = run  # type: ignore[method-assign]


def run_case(case: Case, at_end: bool) -> None:
    """Train, differentiate, predict, and call each layer's operation alone."""
    model, x, batch = case.model, case.x, case.batch
    executor = make_executor(
        model, loss=case.loss, optimizer=case.optimizer, backend="lanes", batch_size=batch,
        seed=case.seed, threads=case.threads, clip_norm=case.clip_norm,
    )  # fmt: skip
    # Two steps, of which the second has a few samples.
    count = 2 * batch - (batch // 3 if batch > 3 else 0)
    samples = ArrayDataset(x, case.y, case.weights)
    results = executor.train_steps(samples, np.arange(count), np.full(2, 1e-3))
    _whole("a loss", results.losses)
    _, _, gradient = executor.gradient(samples, np.arange(batch))
    _whole("a gradient", gradient)
    executor.update(gradient, 1e-3)
    _whole("a parameter", model.parameter_vector)
    # Statistics of one sample would be refused.
    fewest = 2 if model.graph(x.shape[1:]).batch_statistics(training=False) else 1
    for samples in {fewest, max(fewest, batch), 2 * batch}:
        _whole("an output", predict_logits(model, x[:samples], threads=case.threads))
    alone(case, at_end)


def alone(case: Case, at_end: bool) -> None:
    """Each layer's operation as a function of arrays, forward and backward."""
    graph = case.model.graph(case.x.shape[1:])
    state = {key: value.astype(np.float32) for key, value in case.model.state_dict().items()}
    operations = get_backend("lanes")
    for node in graph.nodes:
        row = OPERATIONS[node.operation]
        r = np.random.default_rng(case.seed)
        *inputs, grad = (
            guarded(r.standard_normal((case.batch, *shape)).astype(np.float32), at_end, True)
            for shape in (*node.input_shapes, node.output_shape)
        )
        named = {key: state[name] for key, name in node.parameters.items()}
        arguments = call_arguments(node, state)
        taken = [named.get(name) for name in row.parameters]
        read = [named.get(name) for name in row.backward_reads]
        _whole(node.name, getattr(operations, row.name)(*inputs, *taken, **arguments))
        found = getattr(operations, f"{row.name}_backward")(grad, *inputs, *read, **arguments)
        for part in found if isinstance(found, tuple) else (found,):
            _whole(f"{node.name}'s gradient", part)


def _whole(what: str, values: np.ndarray) -> None:
    if np.isnan(values).any():
        raise AssertionError(f"{what} is NaN: it was not written, or made of what was not")


def main() -> None:
    """Run random networks, each printed before it runs."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--first", type=int, default=0, help="The first seed.")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--budget", type=int, default=BUDGET, help="Multiplications of a batch.")
    parser.add_argument("--place", choices=["end", "begin", "both"], default="both")
    parser.add_argument("--convolution", help="An algorithm to use wherever it fits.")
    options = parser.parse_args()
    faulthandler.enable()
    logging.disable(logging.WARNING)
    total: Counter[str] = Counter()
    places = ["end", "begin"] if options.place == "both" else [options.place]
    for place in places:
        for seed in range(options.first, options.first + options.count):
            case = random_case(seed, options.budget)
            print(f"{place}: {case}", flush=True)
            with guarded_engine(place == "end") as runs, conv_algorithm(options.convolution):
                run_case(case, place == "end")
            total += runs + Counter({"networks": 1})
    print(f"passed: {dict(total)}")


if __name__ == "__main__":
    main()
