"""Chooses the number of threads for a network by trials during training."""

from collections.abc import Iterator

#: Steps of one trial, and number of trials of each number of threads.
TRIAL_STEPS, TRIALS = 16, 3
#: Seconds of a step from which on more threads always pay.
LONG_STEP = 1e-3


class ThreadChoice:
    """Tries numbers of threads on the first steps of a training run and keeps the fastest.

    Reading what another core has written costs tens of nanoseconds per cache line, more on some
    machines than on others: a step of a small network at a small batch may take longer on two cores
    than on one. Results do not depend on the number of threads, so trials are free.

    Parameters
    ----------
    most : int
        Maximum number of threads.
    """

    def __init__(self, most: int) -> None:
        self.threads = most
        self.decided = most == 1
        self._fastest: dict[int, float] = {}
        self._trials = self._schedule(most)
        self._next: tuple[int, int] | None = None if self.decided else next(self._trials)

    @staticmethod
    def _schedule(most: int) -> Iterator[tuple[int, int]]:
        """Threads and steps of each trial; the first one warms the caches."""
        counts, count = [most], 1
        while count < most:
            counts.append(count)
            count *= 2
        yield most, 2
        for _ in range(TRIALS):
            for count in counts:
                yield count, TRIAL_STEPS

    def piece(self, left: int) -> tuple[int, int]:
        """The number of threads for the next steps, and the number of steps, at most ``left``."""
        if self._next is None:
            return self.threads, left
        return self._next[0], min(self._next[1], left)

    def record(self, threads: int, steps: int, seconds: float) -> None:
        """Record the time of a piece's steps."""
        if self._next is None:
            return
        each = seconds / steps
        if each > LONG_STEP and threads == self.threads:
            self.decided, self._next = True, None
            return
        if steps < self._next[1]:
            return  # too short to measure
        if self._next[1] == TRIAL_STEPS:
            self._fastest[threads] = min(each, self._fastest.get(threads, each))
        self._next = next(self._trials, None)
        if self._next is None:
            self.decided = True
            self.threads = min(self._fastest, key=self._fastest.__getitem__)
