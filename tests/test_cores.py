"""Threads on separate cores."""

import os

import pytest

from fastcnn.cores import available_cores, take_core


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system places threads itself")
def test_a_core_is_taken_but_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = os.sched_getaffinity(0)
    wanted = []
    real = os.sched_setaffinity

    def spy(pid: int, cores: set[int]) -> None:
        wanted.append(cores)
        real(pid, cores)

    monkeypatch.setattr(os, "sched_setaffinity", spy)
    for index in range(len(allowed) + 1):
        take_core(index)
    order = sorted(allowed)
    assert wanted[::2] == [{core} for core in (*order, order[0])]
    assert wanted[1::2] == [allowed] * (len(allowed) + 1)
    assert os.sched_getaffinity(0) == allowed
    assert available_cores() == len(allowed)


def test_a_system_that_forbids_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, cores: set[int]) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    take_core(1)
