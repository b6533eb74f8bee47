"""The number of threads that training chooses."""

import pytest

from fastcnn.execution.thread_choice import ThreadChoice


def settle(most: int, seconds: dict[int, float], chunk: int = 50) -> ThreadChoice:
    """Let a choice observe the given seconds per step for each number of threads."""
    choice = ThreadChoice(most)
    for _ in range(100):
        left = chunk
        while left:
            threads, steps = choice.piece(left)
            assert 1 <= steps <= left
            choice.record(threads, steps, steps * seconds[threads])
            left -= steps
    return choice


@pytest.mark.parametrize(
    ("seconds", "best"),
    [({1: 2e-4, 2: 3e-4, 4: 4e-4}, 1), ({1: 3e-4, 2: 2e-4, 4: 2.5e-4}, 2),
     ({1: 4e-4, 2: 3e-4, 4: 2e-4}, 4)],
)  # fmt: skip
def test_the_fastest_is_kept(seconds: dict[int, float], best: int) -> None:
    choice = settle(4, seconds)
    assert choice.decided
    assert choice.threads == best
    assert choice.piece(1000) == (best, 1000)


def test_long_steps_take_all_threads_at_once() -> None:
    choice = ThreadChoice(2)
    threads, steps = choice.piece(100)
    choice.record(threads, steps, steps * 0.01)
    assert choice.decided
    assert choice.threads == 2


def test_pieces_that_are_too_short_decide_nothing() -> None:
    assert not settle(2, {1: 1e-4, 2: 2e-4}, chunk=5).decided


def test_one_thread_is_no_choice() -> None:
    assert ThreadChoice(1).piece(7) == (1, 7)
