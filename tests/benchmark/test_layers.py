"""Single layers: every contestant computes the same before it is timed."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.peers import PEERS
from fastcnn.benchmark import contest, layers
from fastcnn.benchmark.layer_cases import Arrays, LayerCase, LayerRun
from fastcnn.benchmark.layer_runs import alone_run
from fastcnn.benchmark.peer import Peer
from fastcnn.benchmark.results import Result
from fastcnn.benchmark.work import Trainer, Work
from fastcnn.operations import OPERATIONS
from tests.absent import skip_absent

LAYER_PEERS = [peer for peer in PEERS if peer.layer is not None]
PEER_NAMES = {peer.name for peer in PEERS}


@pytest.fixture(autouse=True)
def one_peak(peak: dict[int, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contest, "measured_flops", lambda threads: peak)


def one_of_each() -> Iterator[Any]:
    """The cases; all but the first of each operation in the slow set."""
    seen: set[str] = set()
    for case in layers.cases():
        slow = [pytest.mark.slow] if case.operation in seen else []
        seen.add(case.operation)
        yield pytest.param(case, id=case.work, marks=slow)


def bench(case: LayerCase, *threads: int, peers: Sequence[Peer] = ()) -> list[Result]:
    return layers.bench_layers(threads=threads, peers=peers, chosen=[case], rounds=1, seconds=1e-6)


@pytest.mark.parametrize("case", list(one_of_each()))
def test_contestants_agree(case: LayerCase) -> None:
    results = bench(case, 1, 2)
    kinds = {("im2col", 2), ("lanes", 1), ("lanes", 2)}
    if case.stands_alone:
        kinds.add(("lanes, called alone", 2))
    if case.flops(case.arrays().y.size) <= layers.REFERENCE_FLOPS * layers.BATCH:
        kinds.add(("reference", 1))
    assert {(result.contestant, result.threads) for result in results} == kinds
    assert len(results) == len(kinds) * len(case.directions)
    assert all(result.median > 0 and result.difference is not None for result in results)
    assert {result.work for result in results} == {f"{case.work}, {d}" for d in case.directions}
    timed = [result for result in results if result.contestant != "reference"]
    for result in timed:
        assert (result.rate is not None, result.share is not None) == (bool(case.weight),) * 2
        assert (result.rate or 1.0) > 0
        assert (result.share or 1.0) > 0


def test_algorithms_are_contestants() -> None:
    """Those that fit no part of a direction are not timed."""
    case = next(case for case in layers.cases() if case.shape == (16, 32, 32))
    results = layers.bench_layers(
        threads=(1,),
        peers=(),
        chosen=[case],
        algorithms=("direct", "input_lanes"),
        rounds=1,
        seconds=1e-6,
    )
    notes = {result.contestant: result.note for result in results if "forward" in result.work}
    assert notes["lanes, direct"] == ""
    assert notes["lanes, input_lanes"] == "not timed: does not fit"
    back = {result.contestant: result for result in results if "backward" in result.work}
    assert back["lanes, direct"].rounds == back["lanes, input_lanes"].rounds == 1
    assert back["lanes"].difference != back["lanes, direct"].difference


PADDING = ((1, 1), (1, 1))
POOL = {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0)}
CONV = {"stride": (1, 1), "padding": PADDING, "dilation": (1, 1), "groups": 1}
UNEVEN = CONV | {"stride": (2, 1), "padding": ((1, 1), (0, 0))}
SMALL = [
    LayerCase("conv2d", (2, 5, 7), (3, 2, 3, 3), CONV),
    LayerCase("conv2d", (2, 5, 7), (3, 2, 3, 2), UNEVEN),
    LayerCase("conv_transpose2d", (2, 3, 4), (2, 3, 4, 4),
              CONV | {"stride": (2, 2), "output_padding": (0, 0)}),
    LayerCase("linear", (9,), (5, 9)),
    LayerCase("max_pool2d", (2, 4, 6), None, POOL),
    LayerCase("avg_pool2d", (2, 4, 6), None, POOL | {"count_include_pad": True}),
    LayerCase("adaptive_avg_pool2d", (2, 4, 6), None, {"output_size": (2, 2)}),
    LayerCase("adaptive_max_pool2d", (2, 4, 6), None, {"output_size": (2, 2)}),
    LayerCase("batch_norm", (2, 3, 5), None, {"eps": 1e-5}),
    LayerCase("batch_norm", (5,), None, {"eps": 1e-5}),
    LayerCase("layer_norm", (2, 3, 5), None, {"eps": 1e-5, "normalized_shape": (3, 5)}),
    LayerCase("rms_norm", (5,), None, {"eps": 1e-5, "normalized_shape": (5,)}),
    LayerCase("layer_norm2d", (4, 3, 5), None, {"eps": 1e-5}),
    LayerCase("group_norm", (4, 3, 5), None, {"eps": 1e-5, "num_groups": 2}),
    LayerCase("narrow", (4, 3, 5), None, {"start": 1, "length": 2}),
    *(replace(case, shape=(4, 4, 6)) for case in layers.cases() if len(case.shape) == 3
      and not case.weight and not re.search("pool|norm|narrow", case.operation)),
    *(replace(case, shape=(4, 4, 6)) for case in layers.cases()
      if case.operation == "local_response_norm"),
]  # fmt: skip


#: Tested in the fast set; some peers take ten seconds to compile the others.
FEW = ("linear", "max_pool2d", "dropout")


def test_every_kind_of_layer_is_tested_with_peers() -> None:
    assert {case.operation for case in SMALL} == {case.operation for case in layers.cases()}


@pytest.mark.torch
@pytest.mark.parametrize("cases", [
    pytest.param([case for case in SMALL if case.operation in FEW], id="few"),
    pytest.param(SMALL, id="all", marks=pytest.mark.slow),
])  # fmt: skip
@pytest.mark.parametrize("peer", [
    pytest.param(peer, id=peer.name, marks=[pytest.mark.slow] if "compile" in peer.name else [])
    for peer in LAYER_PEERS
])  # fmt: skip
def test_a_peer_computes_the_same(peer: Peer, cases: list[LayerCase]) -> None:
    skip_absent(peer.name)
    assert peer.layer is not None
    for case in cases:
        arrays = case.arrays()
        for direction in case.directions:
            backward = direction == "backward"
            if not peer.takes_layer(case, backward):
                continue
            run = peer.layer(case, arrays, backward, 1)
            run.repeat(2)
            expected = alone_run(case, arrays, "im2col", backward, 1).results()
            difference = layers.difference_of(case, arrays, backward, run.results(), expected, True)
            assert difference < layers.TOLERANCE, f"{case.work}, {direction}"


@pytest.mark.torch
def test_peers_stand_beside_the_backends() -> None:
    quick = [peer for peer in LAYER_PEERS if peer.can_run and "compile" not in peer.name]
    if not quick:
        pytest.skip("no other library works here")
    case = SMALL[0]
    results = bench(case, 1, 2, peers=quick)
    found = {(r.contestant, r.threads) for r in results if r.contestant in PEER_NAMES}
    assert found == {(peer.name, n) for peer in quick for n in ((1, 2) if peer.on_each else (2,))}
    assert all(r.median > 0 and r.difference is not None and not r.note.startswith("not")
               for r in results)  # fmt: skip


def no_training(work: Work, threads: int) -> Trainer:
    raise AssertionError


def test_a_peer_that_fails_or_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(case: LayerCase, arrays: Arrays, backward: bool, threads: int) -> LayerRun:
        raise RuntimeError("no compiler\nwas found")

    def differs(case: LayerCase, arrays: Arrays, backward: bool, threads: int) -> LayerRun:
        return LayerRun(lambda times: None, lambda: (1.5 * arrays.x,))

    peers = [
        Peer("fails", no_training, fails),
        Peer("differs", no_training, differs),
        Peer("takes none", no_training, fails, takes_layer=lambda case, backward: False),
        Peer("has no layers", no_training),
    ]
    monkeypatch.setattr(Peer, "can_run", True)
    for case in (LayerCase("relu", (2, 2, 2)), LayerCase("dropout", (2, 2, 2), None, {"p": 0.5})):
        results = bench(case, 1, peers=peers)
        forward = {r.contestant: r for r in results if r.work.endswith("forward")}
        assert forward["fails"].note == "failed: no compiler was found"
        assert forward["differs"].note.startswith("not timed: differs by")
        assert forward["differs"].rounds == 0
        assert not {"takes none", "has no layers"} & forward.keys()
        assert forward["lanes"].rounds == 1


def test_gradients_of_jax_take_no_forward_pass() -> None:
    skip_absent("JAX")
    jax = pytest.importorskip("jax")
    from bench.peers.jax import gradients_of

    x = jax.numpy.ones((2, 3))
    gradients, kept = gradients_of(jax.numpy.tanh, [x])
    assert "tanh" not in str(jax.make_jaxpr(gradients)(kept, x))
    assert "tanh" in str(jax.make_jaxpr(jax.grad(lambda x: jax.numpy.tanh(x).sum()))(x))


@pytest.mark.torch
def test_gradients_of_tensorflow_take_no_forward_pass() -> None:
    skip_absent("TensorFlow")
    from bench.peers import tensorflow

    tf = tensorflow._tensorflow()
    x = tf.constant([[0.5, -1.0]])
    for keeps in (True, False):
        run, values = tensorflow._gradients(tf, tf.tanh, [x], x, keeps)
        assert len(values) == 2 + keeps
        np.testing.assert_allclose(run(*values)[0], x * (1 - np.tanh(x) ** 2), rtol=1e-5)


def test_every_kind_of_layer_is_measured() -> None:
    assert {case.operation for case in layers.cases()} == set(OPERATIONS) - {
        *("flatten", "input_part", "unflatten"),
        *("split_bands", "extend_bands", "join_bands"),
    }


def test_the_share_of_the_peak(peak: dict[int, float]) -> None:
    result = next(r for r in bench(next(layers.cases()), 1, 2) if r.contestant == "lanes")
    assert (result.threads, result.work[-9:]) == (1, ", forward")
    flops = 2 * 9 * 4 * 28 * 28 / (result.median * 1e-6)
    assert result.rate == pytest.approx(flops)
    assert result.share == pytest.approx(flops / peak[1])


def test_who_differs_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    case = LayerCase("tanh", (4, 4, 4))
    monkeypatch.setattr(layers, "TOLERANCE", 0.0)
    results = bench(case, 1)
    notes = {
        result.contestant: result.note for result in results if result.work.endswith("forward")
    }
    assert notes["lanes"].startswith("not timed: differs by")
    assert notes["im2col"] == ""
