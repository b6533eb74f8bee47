"""Single layers: every contestant computes the same before it is timed."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from fastcnn.backends.operations import OPERATIONS
from fastcnn.benchmark import layers
from fastcnn.benchmark.results import Result


@pytest.fixture(autouse=True)
def one_peak(peak: dict[int, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "measured_flops", lambda threads: peak)


def one_of_each() -> Iterator[Any]:
    """The cases; all but the first of each operation in the slow set."""
    seen: set[str] = set()
    for case in layers.cases():
        slow = [pytest.mark.slow] if case.operation in seen else []
        seen.add(case.operation)
        yield pytest.param(case, id=case.work, marks=slow)


def bench(case: layers.LayerCase, *threads: int, peers: bool = False) -> list[Result]:
    return layers.bench_layers(
        threads=threads, peers=peers, chosen=[case], rounds=1, seconds=1e-6
    )  # fmt: skip


@pytest.mark.parametrize("case", list(one_of_each()))
def test_contestants_agree(case: layers.LayerCase) -> None:
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
    wanted = r"\d+ GFLOP/s, \d+% of peak" if case.weight else ""
    assert all(
        re.fullmatch(wanted, result.note) for result in results if result.contestant != "reference"
    )


@pytest.mark.torch
@pytest.mark.parametrize("case", list(layers.cases()), ids=lambda case: case.work)
def test_pytorch_agrees(case: layers.LayerCase) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    results = bench(case, 1, peers=True)
    theirs = [result for result in results if result.contestant.startswith("PyTorch")]
    assert len(theirs) == len(case.directions) * (2 if len(case.shape) == 3 else 1)
    assert all(result.difference is not None and result.median > 0 for result in theirs)


def test_every_kind_of_layer_is_measured() -> None:
    assert {case.operation for case in layers.cases()} == set(OPERATIONS) - {"flatten"}


def test_the_share_of_the_peak(peak: dict[int, float]) -> None:
    result = next(r for r in bench(next(layers.cases()), 1, 2) if r.contestant == "lanes")
    assert (result.threads, result.work[-9:]) == (1, ", forward")
    rate, share = map(int, re.findall(r"\d+", result.note))
    flops = 2 * 9 * 4 * 28 * 28 / (result.median * 1e-6)
    assert rate == pytest.approx(flops / 1e9, abs=0.51)
    assert share == pytest.approx(100 * flops / peak[1], abs=0.51)


def test_who_differs_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    case = layers.LayerCase("tanh", (4, 4, 4))
    monkeypatch.setattr(layers, "TOLERANCE", 0.0)
    results = bench(case, 1)
    notes = {
        result.contestant: result.note for result in results if result.work.endswith("forward")
    }
    assert notes["lanes"].startswith("not timed: differs by")
    assert notes["im2col"] == ""
