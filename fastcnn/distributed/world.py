"""The processes of one training, and what they tell each other."""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

import fastcnn
from fastcnn.errors import DisagreementError
from fastcnn.extras import require


class World:
    """All processes of an MPI job; this one is ``rank`` of ``size``.

    Every method must be called by all processes in the same order.

    Parameters
    ----------
    communicator : mpi4py.MPI.Comm, optional
        By default ``COMM_WORLD``.

    Raises
    ------
    MissingExtraError
        If mpi4py is not installed.
    """

    def __init__(self, communicator: Any = None) -> None:
        mpi = require("mpi4py.MPI", "mpi")
        self._mpi = mpi
        self._all = communicator or mpi.COMM_WORLD
        self.rank: int = self._all.rank
        self.size: int = self._all.size
        local = self._all.Split_type(mpi.COMM_TYPE_SHARED)
        self.local_size: int = local.size
        self._local_rank: int = local.rank
        self._local = local

    @property
    def is_root(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def threads(self) -> int:
        """Threads for this process: ``FASTCNN_NUM_THREADS``, or its share of the machine's cores.

        A launcher that binds processes to cores has divided them already.
        """
        from fastcnn.backends.lanes.engine import THREADS_VARIABLE, default_threads

        cores = default_threads()
        bound = cores < (os.cpu_count() or 1)
        if os.environ.get(THREADS_VARIABLE) or bound:
            return cores
        return max(1, cores // self.local_size)

    def prepare_kernels(self) -> None:
        """Load the engine's kernels; one process of each machine compiles them if need be."""
        from fastcnn.backends.lanes import compiled

        if self._local_rank == 0:
            compiled.start()
        self._local.Barrier()
        compiled.start()

    def add(self, array: np.ndarray) -> None:
        """Replace an array by the sum over all processes, which is the same on each."""
        if self.size > 1:
            self._all.Allreduce(self._mpi.IN_PLACE, array)

    def copy_from_root(self, array: np.ndarray) -> None:
        """Replace an array by the root's."""
        if self.size > 1:
            self._all.Bcast(array)

    def bytes_from_root(self, content: bytes | None) -> bytes:
        """The root's bytes, on every process."""
        length = np.array([len(content or b"")], np.int64)
        self.copy_from_root(length)
        buffer = np.zeros(int(length[0]), np.uint8)
        if self.is_root:
            buffer[...] = np.frombuffer(content or b"", np.uint8)
        self.copy_from_root(buffer)
        return buffer.tobytes()

    def from_root(self, value: Any) -> Any:
        """The root's value, of what JSON knows, on every process."""
        if self.size == 1:
            return value
        text = json.dumps(value).encode() if self.is_root else None
        return json.loads(self.bytes_from_root(text))

    def largest(self, number: int) -> int:
        """The largest of all processes' numbers."""
        found = np.array([number], np.int64)
        if self.size > 1:
            self._all.Allreduce(self._mpi.IN_PLACE, found, op=self._mpi.MAX)
        return int(found[0])

    def everyone(self, value: Any) -> list[Any]:
        """All processes' values, of what JSON knows, by rank."""
        content = np.frombuffer(json.dumps(value).encode(), np.uint8)
        width = self.largest(content.size)
        rows = np.full((self.size, width), ord(" "), np.uint8)
        mine = rows[self.rank].copy()
        mine[: content.size] = content
        self._all.Allgather(mine, rows)
        return [json.loads(row.tobytes()) for row in rows]

    def check_agreement(self, **parts: Any) -> None:
        """Refuse to train if a process has other code, data or settings than the root.

        Raises
        ------
        DisagreementError
            On every process; the message names the first rank that differs, and in what.
        """
        known = self.everyone({"code": code_digest(), **parts})
        for rank, theirs in enumerate(known):
            different = [name for name in known[0] if theirs.get(name) != known[0][name]]
            if different:
                raise DisagreementError(
                    f"rank {rank} differs from rank 0 in its {', '.join(different)}: "
                    + "; ".join(f"{n} {theirs.get(n)!r}, not {known[0][n]!r}" for n in different)
                )

    def abort(self, error: BaseException) -> None:
        """End all processes because this one failed; does not return."""
        sys.stderr.write(
            f"error: rank {self.rank} of {self.size} failed and ends the job: "
            f"{type(error).__name__}: {error}\n"
        )
        sys.stderr.flush()
        self._all.Abort(1)


def code_digest() -> str:
    """A digest of the package's sources and of the versions that results depend on."""
    import numba

    digest = hashlib.sha256(f"{fastcnn.__version__} {np.__version__} {numba.__version__}".encode())
    for source in sorted(Path(fastcnn.__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
