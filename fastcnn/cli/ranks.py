"""How a command ends on several MPI processes: once, not in as many voices."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastcnn.cli.lines import complain
from fastcnn.errors import FastcnnError

if TYPE_CHECKING:
    from fastcnn.distributed import World


@contextmanager
def one_voice(world: "World") -> Iterator[None]:
    """Let the root alone print an error that all processes raise, and all end together.

    ``python -m mpi4py`` ends the job as soon as one process leaves with an exit code: the others
    have to wait until the root has said what there is to say.
    """
    try:
        yield
    except (FastcnnError, OSError) as error:
        if world.size == 1:
            raise
        if world.is_root:
            complain(f"error: {error}")
        world.wait()
        raise SystemExit(2) from None
    except SystemExit:
        world.wait()
        raise
