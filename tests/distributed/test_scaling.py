"""The model of the speed-up on several machines."""

import math

import pytest

from fastcnn.distributed import World, scaling
from fastcnn.distributed.scaling import (
    Network,
    StepCost,
    measure_network,
    measure_step,
    measure_together,
    predict_scaling,
)
from fastcnn.errors import ConfigurationError
from fastcnn.models import report_cnn
from tests.distributed.thread_world import on_ranks

COST = StepCost(fixed=50e-6, each=5e-6, alone=360e-6, gradient_bytes=270_000)


@pytest.mark.parametrize(
    ("ranks", "rounds", "bytes_sent"), [(2, 1, 1.0), (4, 2, 2.0), (8, 3, 3.0), (3, 3, 3.0)]
)
def test_few_bytes_are_sent_whole(ranks: int, rounds: int, bytes_sent: float) -> None:
    """Recursive doubling; the third of three ranks sends its data first, and receives the sum."""
    slow = Network(latency=1.0, bandwidth=1e6)
    assert slow.allreduce(8, ranks) == pytest.approx(rounds + bytes_sent * 8e-6)


def test_many_bytes_are_sent_in_parts() -> None:
    """Recursive halving and doubling for a power of two; otherwise a ring."""
    fast = Network(latency=1e-6, bandwidth=1e6)
    assert fast.allreduce(1e6, 64) == pytest.approx(12e-6 + 2 * 63 / 64)
    assert fast.allreduce(1e6, 5) == pytest.approx(8e-6 + 8 / 5)
    assert fast.allreduce(1e6, 1) == 0.0


def test_a_share_is_whole_blocks() -> None:
    assert COST.step(1) == COST.step(16) == pytest.approx(50e-6 + 80e-6)
    assert COST.step(17) == COST.step(32) == pytest.approx(50e-6 + 160e-6)


def test_predictions() -> None:
    link = Network(25e-6, 1.15e9)
    alone, two, many = (predict_scaling(COST, link, 64, ranks, weak=False) for ranks in (1, 2, 64))
    assert (alone.speedup, alone.step, alone.communication) == (1.0, COST.alone, 0.0)
    total = 50e-6 + 32 * 5e-6 + 25e-6 + 270e3 / 1.15e9
    assert two.step + two.communication == pytest.approx(total)
    assert two.speedup == pytest.approx(360e-6 / total)
    assert two.efficiency == two.speedup / 2
    assert many.step == pytest.approx(130e-6)
    weak = predict_scaling(COST, link, 64, 2, weak=True)
    assert weak.step == pytest.approx(370e-6)
    assert weak.speedup == pytest.approx(2 * 360e-6 / (weak.step + weak.communication))


def test_averages_are_rare_and_twice_as_long() -> None:
    """In between, the engine runs many steps in one call, as on a single process."""
    link = Network(0.0, 1e9)
    made = predict_scaling(COST, link, 64, 2, weak=False, every=10)
    assert made.communication == pytest.approx(2 * 270e-6 / 10)
    assert made.step == pytest.approx(210e-6 - 10e-6 * 0.9)


def test_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    model = report_cnn(seed=0)
    cost = measure_step(model, 40, threads=1, repeats=5)
    assert cost.gradient_bytes == 4 * model.num_parameters
    assert cost.alone > 0
    # On a busy machine one block may take longer than three.
    assert cost.fixed + cost.each > 0
    found = iter([[7.0, 11.0], [4.0]])
    monkeypatch.setattr(scaling, "_seconds", lambda *_: next(found))
    cost = measure_step(model, 40, threads=1)
    assert (cost.step(16), cost.step(40), cost.alone) == pytest.approx((7.0, 11.0, 0.4))
    with pytest.raises(ConfigurationError, match="above 16"):
        measure_step(model, 16, threads=1)
    with pytest.raises(ConfigurationError, match="between processes"):
        measure_network(World(), 1000)


def test_a_network_is_what_was_measured_through_it() -> None:
    """The latency and bandwidth found reproduce the seconds of the sum."""

    def work(world: World) -> tuple[Network, float, float]:
        link, seconds = measure_network(world, 400_000, repeats=5)
        return link, seconds, measure_together(report_cnn(seed=0), world, 40, 1, repeats=5)

    for size in (2, 3):
        link, seconds, step = on_ranks(size, work)[0]
        assert step > 0
        assert link.latency > 0
        if not math.isclose(link.bandwidth, 1e13, rel_tol=1e-3):
            assert link.allreduce(400_000, size) == pytest.approx(seconds, rel=1e-6)
