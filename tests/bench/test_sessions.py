"""Sessions and ONNX Runtime's, in turns."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import fastcnn
from bench import callers, sessions, shortest
from fastcnn.benchmark.records import Records
from fastcnn.execution.session import InferenceSession


def test_the_shortest_call_of_each_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    now = [0.0]
    lengths = {"a": iter([0.5, 0.3, 0.2, 0.4, 0.1]), "b": iter([0.5, 0.7, 0.6, 0.9, 0.1])}

    def call(name: str) -> None:
        order.append(name)
        now[0] += next(lengths[name])

    monkeypatch.setattr(shortest, "rest", lambda most: order.append("rest"))
    monkeypatch.setattr(shortest, "WARM", 0.4)
    monkeypatch.setattr(shortest, "TURN", 0.0)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    runs = [partial(call, "a"), partial(call, "b")]
    found = shortest.shortest(runs, 1.0, threads=2)
    assert found == pytest.approx([0.2, 0.6])
    assert order == ["rest", *"aaaa", "rest", *"bbbb"]


def test_several_callers_are_measured_next_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "ROUNDS", 1)
    monkeypatch.setattr(callers, "TURN", 0.0)
    monkeypatch.setattr(callers, "rest", lambda most: None)
    (record,) = callers.measure(["lenet5"], [64], 1, 3)
    assert (record["network"], record["batch"], record["callers"]) == ("lenet5", 64, 3)
    assert record["alone"] > 0
    assert record["together"] > 0
    assert 0 <= record["fewest"] <= 1
    answers = iter(range(10**9))
    monkeypatch.setattr(InferenceSession, "logits", lambda self, x: next(answers))
    session = fastcnn.session(fastcnn.models.report_cnn(seed=0))
    with pytest.raises(AssertionError, match="other results"):
        callers.rate(session, np.zeros((1, 1, 28, 28), np.float32), 2)


def test_the_page_says_what_callers_reached(tmp_path: Path) -> None:
    assert callers.render_callers(tmp_path) == ""
    place = {"network": "lenet5", "batch": 8, "threads": 2, "callers": 8}
    rates = {"alone": 34_000.0, "together": 35_700.0, "fewest": 0.9}
    Records("callers", "the command", [place | rates]).write(tmp_path)
    made = callers.render_callers(tmp_path)
    assert "| lenet5 | 8 | 34,000 | 35,700 | 1.05 |" in made
    assert "2 threads, from one Python thread and from 8" in made
    assert "the command" in made


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": Path("results")}, "--out goes with --callers"),
        ({"callers": 2, "seconds": 1.0}, "--seconds has no effect with --callers"),
        ({"callers": 2, "threads": [1, 2]}, "--callers takes one --threads"),
    ],
)
def test_options_that_would_be_ignored(options: dict[str, Any], message: str) -> None:
    with pytest.raises(typer.BadParameter, match=message):
        sessions.main(**options)
