"""Benchmark of backward passes: each operation on the three backends, over several sizes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastcnn import functional as F
from fastcnn.benchmark.layer_cases import relative_difference, sizes_in_words
from fastcnn.benchmark.results import Result, result_of
from fastcnn.timing import measure

#: Samples given to the nested loops, whose time is reported per sample.
REFERENCE_SAMPLES = 1
#: Largest difference from the nested loops, relative to the largest gradient.
TOLERANCE = 1e-4
#: The gradients of a convolution, separately.
PARTS = {"dx": (True, False, False), "dW": (False, True, False), "db": (False, False, True)}


@dataclass(frozen=True)
class Case:
    """One backward pass.

    Attributes
    ----------
    operation : str
        A function of :mod:`fastcnn.functional`, without ``_backward``.
    axis, value : str, int
        The parameter that varies, and its value.
    shape : tuple of int
        Shape of one sample.
    weight : tuple of int, optional
    """

    operation: str
    axis: str
    value: int
    batch: int
    shape: tuple[int, ...]
    weight: tuple[int, ...] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def work(self) -> str:
        """A description of the case."""
        sizes = sizes_in_words(self.shape, self.weight)
        return f"{self.operation} backward by {self.axis}: {sizes}"


def cases() -> Iterator[Case]:
    """Convolutions over batch, image size, channels and kernel; then all other operations."""
    for batch in (1, 4, 16, 64, 256):
        yield _convolution("batch", batch, batch=batch, outputs=16)
    for size in (4, 7, 14, 28):
        yield _convolution("size", size, size=size)
    for channels in (1, 4, 16, 64):
        yield _convolution("channels", channels, channels=channels, outputs=channels, size=7)
    for part, mask in PARTS.items():
        for channels in (4, 16, 64):
            case = _convolution(
                f"{part}, channels", channels, channels=channels, outputs=channels, size=7
            )
            case.arguments["output_mask"] = mask
            yield case
    for kernel in (1, 3, 5, 7):
        yield _convolution("kernel", kernel, kernel=kernel)
    for size in (8, 16, 32):
        for operation in ("max_pool2d", "avg_pool2d"):
            yield Case(operation, "size", size, 16, (8, size, size), None, {"kernel_size": 2})
        overlapping = {"kernel_size": 3, "stride": 2, "padding": 1}
        yield Case("max_pool2d", "overlapping, size", size, 16, (8, size, size), None, overlapping)
    for width in (32, 128, 512):
        yield Case("linear", "width", width, 64, (width,), (128, width))
    for operation in ("relu", "sigmoid", "tanh"):
        yield Case(operation, "size", 32, 16, (8, 32, 32))
    yield Case("cross_entropy", "classes", 10, 64, (10,))


def _convolution(
    axis: str,
    value: int,
    *,
    batch: int = 16,
    channels: int = 8,
    outputs: int = 8,
    size: int = 14,
    kernel: int = 3,
) -> Case:
    """A convolution of square maps with an output of the same size."""
    weight = (outputs, channels, kernel, kernel)
    padding = {"padding": kernel // 2}
    return Case("conv2d", axis, value, batch, (channels, size, size), weight, padding)


def bench_backward(
    *, chosen: Sequence[Case] | None = None, rounds: int = 5, seconds: float = 0.05
) -> list[Result]:
    """Time backward passes on the three backends, after comparing what they return.

    Returns
    -------
    list of Result
        In microseconds per sample; ``ratio`` is the speed-up over the nested loops, ``difference``
        the largest difference from them.
    """
    results: list[Result] = []
    for case in cases() if chosen is None else chosen:
        results += _bench(case, rounds, seconds)
    return results


def _bench(case: Case, rounds: int, seconds: float) -> list[Result]:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((case.batch, *case.shape)).astype(np.float32)
    function = getattr(F, f"{case.operation}_backward")
    if case.operation == "cross_entropy":
        labels = generator.integers(0, case.shape[0], case.batch)
        few: tuple[Any, ...] = (1.0, x[:REFERENCE_SAMPLES], labels[:REFERENCE_SAMPLES])
        many: tuple[Any, ...] = (1.0, x, labels)
    else:
        weights = []
        if case.weight is not None:
            weights.append(generator.standard_normal(case.weight).astype(np.float32))
        forward = {key: value for key, value in case.arguments.items() if key != "output_mask"}
        y = getattr(F, case.operation)(x, *weights, **forward)
        grad = generator.standard_normal(y.shape).astype(np.float32)
        few = (grad[:REFERENCE_SAMPLES], x[:REFERENCE_SAMPLES], *weights)
        many = (grad, x, *weights)

    def run(arrays: tuple[Any, ...], backend: str, times: int = 1) -> tuple[np.ndarray, ...]:
        for _ in range(times):
            made = function(*arrays, **case.arguments, backend=backend)
        parts = made if isinstance(made, tuple) else (made,)
        return tuple(part for part in parts if part is not None)

    expected = run(few, "reference")
    differences = {
        backend: relative_difference(run(few, backend), expected) for backend in ("im2col", "lanes")
    }
    names = {
        "suite": "backward",
        "work": case.work,
        "threads": 0,
        "batch": case.batch,
        "unit": "us/sample",
    }
    slow = measure(
        {"reference": lambda times: run(few, "reference", times)}, rounds=1, seconds=1e-9, pause=0.0
    )["reference"]
    fast = measure(
        {
            backend: lambda times, b=backend: run(many, b, times)  # type: ignore[misc]
            for backend, difference in differences.items()
            if difference <= TOLERANCE
        },
        rounds=rounds,
        seconds=seconds,
        pause=0.0,
    )
    base = slow.median / REFERENCE_SAMPLES
    return [
        result_of(slow, 1e6 / REFERENCE_SAMPLES, contestant="reference", ratio=1.0, **names),
        *(
            result_of(
                timing,
                1e6 / case.batch,
                contestant=backend,
                ratio=base / (timing.median / case.batch),
                difference=differences[backend],
                **names,
            )
            for backend, timing in fast.items()
        ),
    ]
