"""What each of two threads computes in one sample's rows, with a channel in each lane."""

import ctypes

import pytest

import fastcnn
from fastcnn.backends.lanes.convolution.channel_direct.records import (
    K_CHANNEL_CONV,
    K_CHANNEL_DEPTHWISE,
)
from fastcnn.backends.lanes.convolution.channel_winograd1d.records import K_CHANNEL_ROWS
from fastcnn.backends.lanes.convolution.channel_winograd2d.records import K_CHANNEL_WINOGRAD
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.pool import K_MAX_POOL
from fastcnn.backends.lanes.session.conductor import ALONE
from fastcnn.backends.lanes.session.dispatcher import ENTRY
from fastcnn.backends.lanes.session.forward_pass import WORTH_SHARING, Pass, _Memory
from fastcnn.benchmark.work import make_model
from fastcnn.codegen.functions import address_of
from fastcnn.execution.prepared import make_inference

_KERNEL = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 8)
FILL, EMPTY = 7.25, -7.25


def prepared(name: str) -> Pass:
    """A network's pass for two threads."""
    folded = make_model(name).fold_batch_norm()
    made = make_inference(folded, folded.graph(), 8, 2).by_channels(1)
    assert made is not None
    return made


def written(one: Pass, memory: _Memory, n: int, part: int) -> int:
    """How many elements of its output a thread's part of a row writes."""
    row = one.program.rows[n]
    memory.arena[...] = FILL
    output = memory.arena[row[L.Y] :][: row[L.CHANNELS] * row[L.Y_CHANNEL]]
    output[...] = EMPTY
    entry = _KERNEL(int(one.loaded[0][n, ENTRY]))
    where = address_of(one._rows) + n * L.WIDTH * one._rows.itemsize
    assert entry(address_of(memory._context), where, 0, 1, 0, 0, part, 2) == 0
    return int((output != EMPTY).sum())


@pytest.mark.parametrize(
    "name", ["resnet8", "vgg_small", "strided", "depthwise", "time_series", "report_cnn"]
)
def test_both_threads_find_work_in_a_sample(name: str) -> None:
    one = prepared(name)
    memory = _Memory(one)
    convolutions = K_CHANNEL_CONV, K_CHANNEL_DEPTHWISE, K_CHANNEL_ROWS, K_CHANNEL_WINOGRAD
    kernels = (*convolutions, K_MAX_POOL)
    shared = [
        n
        for n, row in enumerate(one.program.rows)
        if row[L.KERNEL] in kernels and one._nanoseconds[n].sum() > WORTH_SHARING
    ]
    assert len(shared) >= 3
    for n in shared:
        first, second = (written(one, memory, n, part) for part in (0, 1))
        assert 0.8 < first / second < 1.25, one.program.names[n]


def test_threads_meet_once_for_each_row_of_one_sample() -> None:
    """Each row has as many units as there are threads, or one."""
    one = prepared("resnet8")
    segments, *_ = one.segments(1)
    assert len(segments) <= len(one.program.rows) - 1
    assert set(segments[:, 2].tolist()) == {1, 2}


def test_the_caller_runs_a_tiny_pass_alone() -> None:
    model = fastcnn.Sequential(fastcnn.Linear(64, 256), fastcnn.ReLU(), input_shape=(64,))
    made = make_inference(model, model.graph(), 8, 2)
    segments, how, _ = made.choose(1).segments(1)
    assert how == ALONE
    assert set(segments[:, 2].tolist()) == {1}


@pytest.mark.parametrize(("name", "samples"), [("depthwise", False), ("time_series", True)])
def test_maps_of_16_samples_stay_in_the_cache_or_are_not_made(name: str, samples: bool) -> None:
    """For many samples; the choice of program does not depend on the number of threads."""
    folded = make_model(name).fold_batch_norm()
    for threads in (1, 2):
        made = make_inference(folded, folded.graph(), 64, threads)
        expected = made.by_samples(64) if samples else made.by_channels(64)
        assert made.choose(64) is expected
        # A pass that is only compared compiles nothing.
        passes = made.by_samples(64), made.by_channels(64)
        assert ["loaded" in vars(one) for one in passes] == [one is expected for one in passes]
