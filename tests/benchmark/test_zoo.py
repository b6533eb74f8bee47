"""The zoo's networks, and the state of the machine."""

import pytest

from fastcnn.benchmark import exchange
from fastcnn.benchmark.work import make_model
from fastcnn.benchmark.zoo import ZOO
from fastcnn.execution import plan
from fastcnn.timing import Timing, measure


@pytest.mark.parametrize("name", sorted(ZOO))
def test_networks_run_on_the_engine(name: str) -> None:
    model = make_model(name)
    assert model.output_shape(model.input_shape) in ((10,), (6,))
    lines = plan(model, ZOO[name][1]).describe().splitlines()
    assert max(map(len, lines)) <= 80


def test_weights_are_fixed() -> None:
    first, second = (make_model("time_series").parameter_vector for _ in range(2))
    assert (first == second).all()


@pytest.mark.parametrize(
    ("alone", "own", "other", "expected"),
    [
        (14e-6, 14e-6, 15e-6, "shared cache"),
        (12e-6, 12.5e-6, 38e-6, "no shared cache (18 ns a line)"),
        (12e-6, 25e-6, 25e-6, "a core is busy"),
    ],
)
def test_states(
    alone: float, own: float, other: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {(1, False): alone, (2, False): own, (2, True): other}
    timings = lambda runs, **_: {key: Timing([seconds[key]]) for key in runs}  # noqa: E731
    monkeypatch.setattr(exchange, "measure", timings)
    monkeypatch.setattr(exchange, "available_cores", lambda: 2)
    assert exchange.machine_state() == expected


def test_one_core_has_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "available_cores", lambda: 1)
    assert exchange.machine_state() == ""


def test_the_exchange_is_measured() -> None:
    (timing,) = measure({1: exchange._exchanges(1, False)}, rounds=1, seconds=0.0).values()
    assert timing.least > 0.0
