"""How many threads suit a network: found by trying while it trains."""

from collections.abc import Iterator

#: Steps of one trial, and how often each number of threads is tried.
TRIAL_STEPS, TRIALS = 16, 3
#: Seconds of a step from which on more threads are always worth their barriers.
LONG_STEP = 1e-3


class ThreadChoice:
    """Tries numbers of threads on the first steps of a training run and keeps the fastest.

    What one core writes and another reads costs tens of nanoseconds a cache line, more on some
    machines than on others: a step of a small network at a small batch may take longer on two
    cores than on one. Results do not depend on the number of threads, so that trying is free.

    Parameters
    ----------
    most : int
        Threads to use at most.
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
        """Threads for the next steps and how many steps, of at most ``left``."""
        if self._next is None:
            return self.threads, left
        return self._next[0], min(self._next[1], left)

    def record(self, threads: int, steps: int, seconds: float) -> None:
        """Note what the steps of a piece took."""
        if self._next is None:
            return
        each = seconds / steps
        if each > LONG_STEP and threads == self.threads:
            self.decided, self._next = True, None
            return
        if steps < self._next[1]:
            return  # too short to tell
        if self._next[1] == TRIAL_STEPS:
            self._fastest[threads] = min(each, self._fastest.get(threads, each))
        self._next = next(self._trials, None)
        if self._next is None:
            self.decided = True
            self.threads = min(self._fastest, key=self._fastest.__getitem__)
