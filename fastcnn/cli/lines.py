"""Lines on the error stream: errors, and what the package logs."""

import logging
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastcnn.errors import FastcnnError, sentence

if TYPE_CHECKING:
    from fastcnn.distributed import World


def fitted(text: str, width: int) -> str:
    """Text in lines that end between words, each as long as the width allows."""
    return "\n".join(
        textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
        for line in text.splitlines()
    )


def complain(text: str) -> None:
    """Print to the error stream: a terminal gets whole words in each line, a file gets one line.

    The stream is the one of that time: a progress bar moves it.
    """
    if sys.stderr is None:  # a command that was started with it closed
        return
    if sys.stderr.isatty():
        text = fitted(text, shutil.get_terminal_size().columns)
    print(text, file=sys.stderr, flush=True)


class Lines(logging.Handler):
    """Prints what the package logs."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        complain(self.format(record))


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
            complain(f"error: {sentence(error)}")
        world.wait()
        raise SystemExit(2) from None
    except SystemExit:
        world.wait()
        raise
