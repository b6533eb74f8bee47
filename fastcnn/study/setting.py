"""What all experiments of a study share."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fastcnn.data.dataset import Dataset
from fastcnn.errors import FastcnnError
from fastcnn.training.pool import run_jobs

#: How many times fewer steps a quick study takes.
QUICK = 20
Result = TypeVar("Result")


@dataclass(frozen=True)
class Setting:
    """Data and size of a study.

    Attributes
    ----------
    train, test : Dataset
        Digits 0, 1 and 2.
    quick : bool
        A trial: few steps, whose results mean little.
    tell : callable, optional
        Called with the trainings of an experiment that are done, and with all there will be.
    """

    train: Dataset
    test: Dataset
    quick: bool = False
    tell: Callable[[int, int], object] | None = None

    def steps(self, count: int) -> int:
        """Steps of a training that takes ``count`` in a whole study."""
        return max(2, count // QUICK) if self.quick else count

    def counted(self, results: Iterable[Result], total: int) -> Iterator[Result]:
        """The results of trainings as they come; each is told of."""
        for done, result in enumerate(results, start=1):
            if self.tell is not None:
                self.tell(done, total)
            yield result

    def run(self, task: Callable[..., Result], jobs: Sequence[Any]) -> list[Result]:
        """Call a task with each job and the data, one on each core.

        Returns
        -------
        list
            What it returned, in the order of the jobs.

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
