"""The processes of one training run, and their communication."""

import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from fastcnn.errors import (
    ConfigurationError,
    FastcnnError,
    MissingExtraError,
    RankError,
    sentence,
)
from fastcnn.extras import require

#: Variables with the number of processes, set by the launchers of MPICH and Intel MPI, Open MPI,
#: MVAPICH and Slurm. Slurm sets its other variables also for a batch script itself.
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def launched_size() -> int:
    """Processes that the launcher started, 1 without one; an ordinary run never loads MPI."""
    sizes = [os.environ.get(name, "") for name in SIZES]
    return max([int(size) for size in sizes if size.isdigit()], default=1)


class World:
    """A training of one process, without communication; :func:`join` returns larger ones.

    Every method that communicates must be called by all processes, in the same order.

    Attributes
    ----------
    rank, size : int
        This process is ``rank`` of ``size``.
    host : str
        The machine's name.
    known_error : BaseException or None
        The exception that all processes are about to raise, so that none waits for another.
    is_alone : bool
        Whether this process is inside :meth:`preparing`, where it may fail alone and must therefore
        not communicate.
    """

    def __init__(self) -> None:
        self.rank = 0
        self.size = 1
        self.host = os.uname().nodename if hasattr(os, "uname") else "localhost"
        self.known_error: BaseException | None = None
        self.is_alone = False

    @property
    def is_root(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    @property
    def name(self) -> str:
        """The process's name in messages."""
        return f"rank {self.rank} of {self.size} on {self.host}"

    def threads(self) -> int | None:
        """Threads of this process; None if it has all cores to itself and may choose."""
        return None

    def add(self, array: np.ndarray) -> None:
        """Replace an array by the sum over all processes."""

    def copy_from_root(self, array: np.ndarray) -> None:
        """Replace an array by the root's."""

    def largest(self, number: float) -> float:
        """The maximum over all processes."""
        return number

    def exchange(
        self, parts: np.ndarray, sent: Sequence[int], received: Sequence[int]
    ) -> np.ndarray:
        """All-to-all exchange of a flat array; returns the parts sent to this process, by rank.

        Parameters
        ----------
        sent, received : sequence of int
            Elements to and from each rank.
        """
        return parts

    def join_parts(self, part: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        """Concatenate all processes' flat arrays, of ``counts`` elements."""
        return part

    def ordered_sum(self, rows: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        """The sum of all processes' rows in order: the same bits however rows are distributed.

        Each process sums a segment of all rows: a row is sent once, and the sums once more, whereas
        gathering all rows everywhere would send each to every process.

        Parameters
        ----------
        rows : ndarray, shape (counts[rank], N)
            This process' rows; those of rank 0 come first.
        counts : sequence of int
            Rows of each process.

        Returns
        -------
        ndarray, shape (N,)
        """
        bounds = [rows.shape[1] * rank // self.size for rank in range(self.size + 1)]
        widths = [end - first for first, end in pairwise(bounds)]
        parts = np.concatenate([rows[:, first:end].reshape(-1) for first, end in pairwise(bounds)])
        mine = widths[self.rank]
        segment = self.exchange(
            parts, [len(rows) * width for width in widths], [count * mine for count in counts]
        ).reshape(sum(counts), mine)
        total = segment[0].copy()
        for row in segment[1:]:
            total += row
        return self.join_parts(total, widths)

    def bytes_from_root(self, content: bytes) -> bytes:
        """The root's bytes; other processes' arguments are ignored."""
        return content

    def everyone(self, value: Any) -> list[Any]:
        """All processes' values, which JSON can represent, by rank."""
        return [value]

    def wait(self) -> None:
        """Barrier: return when all processes have called this."""

    def abort(self, error: BaseException) -> None:
        """End all processes because this one failed; does not return if there are others."""

    def from_root(self, value: Any) -> Any:
        """The root's value, which JSON can represent."""
        if self.size == 1:
            return value
        return json.loads(self.bytes_from_root(json.dumps(value).encode()))

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Abort all processes if this one alone raises: the others would wait for it forever."""
        try:
            yield
        except BaseException as error:
            if error is not self.known_error:
                self.abort(error)
            raise

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Work that each process does alone before the first step: if one fails, all raise.

        No method that communicates may be called inside: a process that fails before the call would
        leave the others waiting.

        Raises
        ------
        RankError
            If another process failed; the message names it.
        """
        error: FastcnnError | OSError | None = None
        self.is_alone = True
        try:
            yield
        except (FastcnnError, OSError) as caught:
            error = caught
        finally:
            self.is_alone = False
        failures = self.everyone(None if error is None else sentence(error))
        failed = [rank for rank, failure in enumerate(failures) if failure is not None]
        if not failed:
            return
        if len(failed) < self.size and failed != [0]:
            rank = failed[0]
            hosts = self.everyone(self.host)
            error = RankError(f"rank {rank} of {self.size} on {hosts[rank]}: {failures[rank]}")
        elif error is None:
            error = RankError(failures[failed[0]])
        self.known_error = error
        raise error


class MPIWorld(World):
    """All processes of an MPI job.

    Raises
    ------
    MissingExtraError
        If mpi4py or its MPI library is not installed.
    ConfigurationError
        If the launcher belongs to another MPI than the one that mpi4py has loaded.
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            mpi: Any = require("mpi4py.MPI", "mpi")
        except (RuntimeError, ImportError) as error:
            if isinstance(error, MissingExtraError):
                raise
            raise MissingExtraError(
                f"mpi4py finds no MPI library ({error}): pip install 'fastcnn[mpi]'"
            ) from None
        expected = launched_size()
        if mpi.COMM_WORLD.size == 1 < expected:
            library = mpi.Get_library_version().split("\n")[0].strip("\0 ")
            raise ConfigurationError(
                f"the launcher started {expected} processes, but each is alone in its MPI: mpiexec "
                f"and mpi4py's library ({library}) belong to different installations"
            )
        self._mpi = mpi
        self._all = mpi.COMM_WORLD.Dup()
        self._local = self._all.Split_type(mpi.COMM_TYPE_SHARED)
        self.rank, self.size = self._all.rank, self._all.size

    def threads(self) -> int:
        """Threads of this process: ``FASTCNN_NUM_THREADS``, or its share of the cores it may use.

        Cores are divided among all processes of the machine that may use them, so that it does not
        matter whether the launcher has bound processes to cores.
        """
        from fastcnn.backends.lanes import THREADS_VARIABLE, default_threads

        with self.preparing():
            if os.environ.get(THREADS_VARIABLE) or not hasattr(os, "sched_getaffinity"):
                mine = list(range(default_threads()))
            else:
                mine = sorted(os.sched_getaffinity(0))
        neighbours = [set(cores) for cores in _gather(self._local, mine)]
        if os.environ.get(THREADS_VARIABLE):
            return len(mine)
        share = sum(Fraction(1, sum(core in other for other in neighbours)) for core in mine)
        return max(1, int(share))

    def add(self, array: np.ndarray) -> None:
        self._all.Allreduce(self._mpi.IN_PLACE, array)

    def copy_from_root(self, array: np.ndarray) -> None:
        self._all.Bcast(array)

    def largest(self, number: float) -> float:
        found = np.array([number], np.float64)
        self._all.Allreduce(self._mpi.IN_PLACE, found, op=self._mpi.MAX)
        return float(found[0])

    def exchange(
        self, parts: np.ndarray, sent: Sequence[int], received: Sequence[int]
    ) -> np.ndarray:
        made = np.empty(sum(received), parts.dtype)
        self._all.Alltoallv([parts, sent], [made, received])
        return made

    def join_parts(self, part: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        whole = np.empty(sum(counts), part.dtype)
        self._all.Allgatherv(part, [whole, counts])
        return whole

    def bytes_from_root(self, content: bytes) -> bytes:
        length = np.array([len(content)], np.int64)
        self._all.Bcast(length)
        buffer = np.frombuffer(content, np.uint8) if self.is_root else np.empty(length, np.uint8)
        self._all.Bcast(buffer)
        return buffer.tobytes()

    def everyone(self, value: Any) -> list[Any]:
        return _gather(self._all, value)

    def wait(self) -> None:
        self._all.Barrier()

    def abort(self, error: BaseException) -> None:
        if self.size == 1:
            return
        if not isinstance(error, (FastcnnError, KeyboardInterrupt)):
            traceback.print_exception(error)
        sys.stderr.write(
            f"error: {self.name} failed and ends the job: {type(error).__name__}: "
            f"{sentence(error)}\n"
        )
        sys.stderr.flush()
        self._all.Abort(1)


def join() -> World:
    """All processes that the MPI launcher started together with this one, or this one alone."""
    if launched_size() > 1 or "mpi4py.MPI" in sys.modules:
        return MPIWorld()
    return World()


def _gather(communicator: Any, value: Any) -> list[Any]:
    """All values, which JSON can represent, by rank."""
    content = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = np.empty(communicator.size, np.int64)
    communicator.Allgather(np.array([content.size]), lengths)
    joined = np.empty(lengths.sum(), np.uint8)
    communicator.Allgatherv(content, [joined, lengths.tolist()])
    ends = np.cumsum(lengths)
    return [
        json.loads(joined[end - length : end].tobytes())
        for length, end in zip(lengths, ends, strict=True)
    ]
