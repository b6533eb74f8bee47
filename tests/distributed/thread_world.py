"""Several processes' worlds as threads of this one: all communication without a launcher."""

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastcnn.distributed import World


class _Board:
    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=300)
        self.values: list[Any] = [None] * size


class ThreadWorld(World):
    def __init__(self, rank: int, size: int, board: _Board) -> None:
        super().__init__()
        self.rank, self.size, self.board = rank, size, board

    def _all(self, value: Any) -> list[Any]:
        assert not self.is_alone, "a process that may fail by itself talks to the others"
        self.board.values[self.rank] = value
        self.board.barrier.wait()
        values = list(self.board.values)
        self.board.barrier.wait()
        return values

    def threads(self) -> int:
        return self._all(1)[self.rank]

    def add(self, array: np.ndarray) -> None:
        parts = self._all(array.copy())
        total = parts[0].copy()
        for part in parts[1:]:
            total += part
        array[...] = total

    def copy_from_root(self, array: np.ndarray) -> None:
        array[...] = self._all(array.copy())[0]

    def largest(self, number: float) -> float:
        return max(self._all(number))

    def exchange(
        self, parts: np.ndarray, sent: Sequence[int], received: Sequence[int]
    ) -> np.ndarray:
        pieces = np.split(parts, np.cumsum(sent)[:-1])
        mine = [row[self.rank] for row in self._all(pieces)]
        assert [len(piece) for piece in mine] == list(received)
        return np.concatenate(mine)

    def join_parts(self, part: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        parts = self._all(part)
        assert [len(each) for each in parts] == list(counts)
        return np.concatenate(parts)

    def bytes_from_root(self, content: bytes) -> bytes:
        return self._all(content)[0]

    def everyone(self, value: Any) -> list[Any]:
        return [json.loads(text) for text in self._all(json.dumps(value))]

    def wait(self) -> None:
        self._all(None)

    def abort(self, error: BaseException) -> None:
        self.board.barrier.abort()


def on_ranks(size: int, work: Callable[[World], Any]) -> list[Any]:
    """What ``work`` returns on each of ``size`` ranks; the first error is raised."""
    board = _Board(size)
    results: list[Any] = [None] * size

    def run(rank: int) -> None:
        try:
            results[rank] = work(ThreadWorld(rank, size, board))
        except BaseException as error:
            results[rank] = error
            board.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [each for each in results if isinstance(each, BaseException)]
    ordinary = [each for each in errors if not isinstance(each, threading.BrokenBarrierError)]
    if errors:
        raise (ordinary or errors)[0]
    return results
