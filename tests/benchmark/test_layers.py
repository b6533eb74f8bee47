"""Single layers: every contestant computes the same before it is timed."""

import re

import pytest

from fastcnn.benchmark import layers
from fastcnn.benchmark.results import Result


def bench(case: layers.LayerCase, threads: tuple[int, ...]) -> list[Result]:
    return layers.bench_layers(
        threads=threads, peers=False, chosen=[case], rounds=1, seconds=1e-6, pause=0.0
    )  # fmt: skip


@pytest.mark.parametrize("case", list(layers.cases()), ids=lambda case: case.work)
def test_contestants_agree(case: layers.LayerCase) -> None:
    results = layers.bench_layers(
        threads=(1, 2), peers=False, chosen=[case], rounds=1, seconds=1e-6, pause=0.0
    )
    assert len(results) == 8
    assert all(result.median > 0 and result.difference is not None for result in results)
    assert {result.work for result in results} == {
        f"{case.work}, {d}" for d in ("forward", "backward")
    }
    wanted = r"\d+ GFLOP/s, \d+% of peak" if case.weight else ""
    assert all(re.fullmatch(wanted, result.note) for result in results)


def test_the_share_of_the_peak() -> None:
    (result, *_) = bench(next(layers.cases()), (1,))
    rate, share = map(int, re.findall(r"\d+", result.note))
    flops = 2 * 9 * 4 * 28 * 28 / (result.median * 1e-6)
    assert rate == pytest.approx(flops / 1e9, abs=0.51)
    assert 0 <= share < 100  # im2col's


def test_who_differs_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    case = layers.LayerCase("tanh", (4, 4, 4))
    monkeypatch.setattr(layers, "TOLERANCE", 0.0)
    results = layers.bench_layers(threads=(1,), peers=False, chosen=[case], rounds=1, seconds=1e-6)
    notes = {
        result.contestant: result.note for result in results if result.work.endswith("forward")
    }
    assert notes["lanes"].startswith("not timed: differs by")
    assert notes["im2col"] == ""
