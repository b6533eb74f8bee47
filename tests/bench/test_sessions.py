"""Sessions and ONNX Runtime's in turns."""

import time
from functools import partial

import pytest

from bench import sessions


def test_the_shortest_call_of_each_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    now = [0.0]
    lengths = {"a": iter([0.5, 0.3, 0.2, 0.4, 0.1]), "b": iter([0.5, 0.7, 0.6, 0.9, 0.1])}

    def call(name: str) -> None:
        order.append(name)
        now[0] += next(lengths[name])

    monkeypatch.setattr(sessions, "rest", lambda most: order.append("rest"))
    monkeypatch.setattr(sessions, "WARM", 0.4)
    monkeypatch.setattr(sessions, "TURN", 0.0)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    runs = [partial(call, "a"), partial(call, "b")]
    found = sessions.shortest(runs, 1.0, lambda: now[0])
    assert found == pytest.approx([0.2, 0.6])
    assert order == ["rest", *"aaaa", "rest", *"bbbb"]
