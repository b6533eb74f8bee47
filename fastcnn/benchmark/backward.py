"""Benchmark of backward passes: each operation on the three backends, over several sizes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastcnn import functional as F
from fastcnn.benchmark.contest import Compared, Contestant, compete, timed_on_few
from fastcnn.benchmark.layer_cases import LayerCase, convolution, relative_difference
from fastcnn.benchmark.results import Result
from fastcnn.timing import repeated

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
    axis : str
        The parameter that varies.
    layer : LayerCase
    mask : tuple of bool, optional
        Which of a convolution's gradients are computed; by default all.
    """

    axis: str
    layer: LayerCase
    mask: tuple[bool, bool, bool] | None = None

    @property
    def work(self) -> str:
        """A description of the case."""
        operation, _, sizes = self.layer.work.partition(" ")
        return f"{operation} backward by {self.axis}: {sizes}"


def cases() -> Iterator[Case]:
    """Convolutions over batch, image size, channels and kernel; then all other operations."""
    for batch in (1, 4, 16, 64, 256):
        yield Case("batch", _convolution(batch=batch, outputs=16))
    for size in (4, 7, 14, 28):
        yield Case("size", _convolution(size=size))
    for channels in (1, 4, 16, 64):
        yield Case("channels", _convolution(channels=channels, outputs=channels, size=7))
    for part, mask in PARTS.items():
        for channels in (4, 16, 64):
            layer = _convolution(channels=channels, outputs=channels, size=7)
            yield Case(f"{part}, channels", layer, mask)
    for kernel in (1, 3, 5, 7):
        yield Case("kernel", _convolution(kernel=kernel))
    halving = {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0)}
    pools = (
        ("max_pool2d", "size", halving),
        ("avg_pool2d", "size", halving | {"count_include_pad": True}),
        (
            "max_pool2d",
            "overlapping, size",
            {"kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1)},
        ),
    )
    for size in (8, 16, 32):
        for operation, axis, arguments in pools:
            yield Case(axis, LayerCase(operation, (8, size, size), None, arguments, 16))
    for width in (32, 128, 512):
        yield Case("width", LayerCase("linear", (width,), (128, width)))
    for operation in ("relu", "sigmoid", "tanh"):
        yield Case("size", LayerCase(operation, (8, 32, 32), batch=16))
    yield Case("classes", LayerCase("cross_entropy", (10,)))


def _convolution(
    *, batch: int = 16, channels: int = 8, outputs: int = 8, size: int = 14, kernel: int = 3
) -> LayerCase:
    """A convolution of square maps with an output of the same size."""
    return convolution((channels, size, size), outputs, kernel, kernel // 2, batch)


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
    return [
        result
        for case in (cases() if chosen is None else chosen)
        for result in compete(
            _contestants(case),
            bases=("reference",),
            scale=1e6 / case.layer.batch,
            rounds=rounds,
            seconds=seconds,
            pause=0.0,
            suite="backward",
            work=case.work,
            batch=case.layer.batch,
            unit="us/sample",
        )
    ]


def _contestants(case: Case) -> Iterator[Contestant]:
    function = getattr(F, f"{case.layer.operation}_backward")
    is_loss = case.layer.operation == "cross_entropy"
    settings = {} if is_loss else case.layer.settings
    if case.mask is not None:
        settings["output_mask"] = case.mask

    def given(batch: int) -> tuple[Any, ...]:
        if is_loss:
            generator = np.random.default_rng(0)
            x = generator.standard_normal((case.layer.batch, *case.layer.shape), np.float32)
            return 1.0, x[:batch], generator.integers(0, len(x[0]), len(x))[:batch]
        arrays = case.layer.arrays().first(batch)
        return arrays.grad, arrays.x, *arrays.parameters.values()

    few, many = given(REFERENCE_SAMPLES), given(case.layer.batch)

    def call(backend: str, arrays: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
        made = function(*arrays, **settings, backend=backend)
        parts = made if isinstance(made, tuple) else (made,)
        return tuple(part for part in parts if part is not None)

    expected, loops = timed_on_few(
        lambda: call("reference", few), REFERENCE_SAMPLES, case.layer.batch
    )

    def compared(backend: str) -> Compared:
        difference = relative_difference(call(backend, few), expected)
        return Compared(difference, repeated(partial(call, backend, many))).within(TOLERANCE)

    yield "reference", 0, lambda: Compared(None, timing=loops)
    for backend in ("im2col", "lanes"):
        yield backend, 0, partial(compared, backend)
