"""Common settings of the experiments of a study."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fastcnn.data.dataset import Dataset
from fastcnn.errors import FastcnnError
from fastcnn.training.pool import run_jobs

#: Divisor of the number of steps in a quick study.
QUICK = 20
Key = TypeVar("Key")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Setting:
    """Data and size of a study.

    Attributes
    ----------
    train, test : Dataset
        Digits 0, 1 and 2.
    quick : bool
        A trial run with few steps, whose results mean little.
    tell : callable, optional
        Called with the numbers of finished and of all runs of an experiment.
    """

    train: Dataset
    test: Dataset
    quick: bool = False
    tell: Callable[[int, int], object] | None = None

    def steps(self, count: int) -> int:
        """Steps of a training that has ``count`` in a full study."""
        return max(2, count // QUICK) if self.quick else count

    def counted(self, results: Iterable[Result], total: int) -> Iterator[Result]:
        """Yield the results of runs as they finish, and report progress."""
        for done, result in enumerate(results, start=1):
            if self.tell is not None:
                self.tell(done, total)
            yield result

    def run(self, task: Callable[..., Result], jobs: Sequence[Any]) -> list[Result]:
        """Call a task with each job and the data, in parallel on all cores.

        Returns
        -------
        list
            Its results, in the order of the jobs.

        Raises
        ------
        FastcnnError
            If a worker process dies.
        """
        found: dict[int, Result] = {}
        results = run_jobs(task, jobs, (self.train, self.test))
        for index, result in self.counted(results, len(jobs)):
            if result is None:
                raise FastcnnError(f"the process of {jobs[index]} ended unexpectedly")
            found[index] = result
        return [found[index] for index in range(len(jobs))]


def shared(keys: Sequence[Key], results: Sequence[Result]) -> dict[Key, list[Result]]:
    """The results by key: each has the same number, in order."""
    count = len(results) // len(keys)
    return {key: list(results[i * count : (i + 1) * count]) for i, key in enumerate(keys)}
