"""Records of the kernels, vectorised updates, and what happens when a kernel fails."""

import numpy as np
import pytest

import fastcnn
from fastcnn.backends.lanes import Batches, all_sources
from fastcnn.backends.lanes.kernel_table import KERNELS
from fastcnn.backends.lanes.kernels.context import kernel_entry
from fastcnn.codegen import build, linked
from fastcnn.codegen.build import Source
from fastcnn.execution.engines import make_engine
from fastcnn.optim import SGD, Adam, AdamW, RMSprop


def test_every_kernel_has_a_record() -> None:
    for kernel in KERNELS.values():
        assert kernel.name
        assert callable(kernel.cost)
        assert callable(kernel.sizes)
        assert callable(kernel.touches)


def test_no_two_kernels_share_a_symbol() -> None:
    names = [source.name for source in all_sources() if source.origin is not None]
    assert len(names) == len(set(names))


def test_a_kernel_names_what_it_gets() -> None:
    def wrong(A, colour):  # type: ignore[no-untyped-def]
        A[0] = colour

    with pytest.raises(ValueError, match="parameter colour must be one of r, context, block"):
        kernel_entry("wrong", wrong, {})


@pytest.mark.parametrize("size", [1, 15, 16, 17, 1040])
@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(lr=0.01, weight_decay=0.1),
        SGD(lr=0.01, momentum=0.9, nesterov=True),
        Adam(lr=0.01, weight_decay=0.1),
        AdamW(lr=0.01, betas=(0.9, 0.999999)),
        RMSprop(lr=0.01, momentum=0.5),
        RMSprop(lr=0.01, centered=True),
    ],
    ids=repr,
)
def test_an_update_does_not_depend_on_a_parameters_place(optimizer: object, size: int) -> None:
    """Parameters with equal gradients change equally, whether in a full vector or a remainder."""
    model = fastcnn.Sequential(fastcnn.Linear(1, size, bias=False, seed=0), input_shape=(1,))
    model.parameter_vector[...] = 0.25
    executor = fastcnn.execution.make_executor(
        model,
        loss=fastcnn.MSELoss(),
        optimizer=optimizer,
        backend="lanes",
        batch_size=16,
        threads=1,
    )
    for gradient in (0.5, -0.125, 3.0):
        executor.update(np.full(size, gradient, np.float32), 0.01)
    assert len(np.unique(model.parameter_vector)) == 1


@linked
def fails(A):  # type: ignore[no-untyped-def]
    raise ValueError


@pytest.mark.parametrize("threads", [1, 2])
def test_a_kernel_that_fails_stops_all_threads(threads: int) -> None:
    model = fastcnn.models.report_cnn(seed=0)
    x = np.zeros((64, 1, 28, 28), np.float32)
    engine = make_engine(model, model.graph(), 64, threads, outputs=True)
    entries, *_ = engine.prepare()
    (address,) = build.addresses([Source(fails, kernel_entry("test_fails", fails, {}))])
    entries[len(entries) // 2, 0] = address
    with pytest.raises(RuntimeError, match="a kernel of the lanes engine failed"):
        engine.run(Batches(x, np.arange(64), outputs=np.zeros(64 * 3, np.float32)))
