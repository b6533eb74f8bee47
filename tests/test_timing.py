"""Timing: fair turns, rest before them, and what counts."""

import threading
from collections.abc import Callable
from functools import partial

import pytest

from fastcnn import timing as measuring
from fastcnn.timing import in_turns, measure, together
from tests.benchmark.conftest import Clock, clock

__all__ = ["clock"]


def test_contestants_take_turns(clock: Clock) -> None:
    calls: list[str] = []

    def works(name: str, seconds: float, waits: float = 0.0) -> Callable[[int], None]:
        def run(times: int) -> None:
            calls.append(name)
            clock.compute(times * seconds)
            clock.sleep(times * waits)

        return run

    # Powers of two: sums of the clock are exact.
    timings = measure(
        {"fast": works("fast", 2**-10), "slow": works("slow", 2**-10, waits=3 * 2**-10)},
        rounds=3, seconds=2**-8, pause=64.0,
    )  # fmt: skip
    assert calls[-6:] == ["fast", "slow", "slow", "fast", "fast", "slow"]
    fast, slow = timings["fast"], timings["slow"]
    assert (fast.median, fast.rounds, fast.repeats, fast.cores) == (2**-10, 3, 4, 1.0)
    assert (slow.median, slow.rounds, slow.repeats, slow.cores) == (2**-8, 3, 1, 0.25)


def test_rest_until_nothing_spins(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    spinning = [1.0]

    def spin(seconds: float) -> None:
        clock.now += seconds
        if clock.now < spinning[0]:
            clock.busy += seconds

    monkeypatch.setattr(clock, "sleep", spin)
    measuring.rest(64.0)
    assert clock.now == 1.0
    # A thread that never ends is waited for up to the given maximum.
    spinning[0] = 1e9
    measuring.rest(0.5)
    assert clock.now == 1.5


def test_a_round_that_was_disturbed_is_in_the_spread(clock: Clock) -> None:
    rounds = iter([1.0, 1.0, 1.0, 9.0, 1.0, 2.0, 1.0])
    timing = measure(
        {"one": lambda times: clock.compute(times * next(rounds))}, rounds=5, seconds=1
    )
    assert timing["one"].times == [1.0, 9.0, 1.0, 2.0, 1.0]
    assert (timing["one"].low, timing["one"].median) == (1.0, 1.0)
    assert timing["one"].high == pytest.approx(6.2)  # the decile lies between the two largest


@pytest.mark.parametrize(("longest", "rounds"), [(4.0, 5), (0.0, 3), (99.0, 9)])
def test_no_round_begins_after_the_longest_time(longest: float, rounds: int, clock: Clock) -> None:
    run = {"one": clock.compute}
    timing = measure(run, rounds=9, most=1, pause=0.0, longest=longest)["one"]
    assert timing.times == [1.0] * rounds


def test_what_comes_before_a_turn_is_not_timed(clock: Clock) -> None:
    order: list[str] = []

    def run(name: str, times: int) -> None:
        order.append(name)
        clock.compute(times)

    def before() -> None:
        order.append("before")
        clock.compute(8.0)

    runs = {name: partial(run, name) for name in "ab"}
    timings = measure(runs, rounds=2, most=1, pause=0.0, before=before)
    assert order == ["a", "b", "before", "a", "before", "b", "before", "b", "before", "a"]
    assert [timing.times for timing in timings.values()] == [[1.0, 1.0]] * 2


def test_calls_take_turns() -> None:
    numbers = iter(range(6))
    calls = {name: lambda: next(numbers) for name in "abc"}
    assert in_turns(calls, rounds=2) == {"a": [0, 5], "b": [1, 3], "c": [2, 4]}


def test_contestants_together_run_on_threads_of_their_own() -> None:
    meeting, seen = threading.Barrier(3, timeout=60), []

    def run(times: int) -> None:
        meeting.wait()
        seen.append((times, threading.get_ident()))

    together([run] * 3)(7)
    assert len(dict.fromkeys(seen)) == 3
    assert (7, threading.get_ident()) in seen
