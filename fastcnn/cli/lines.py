"""Lines on the error stream, errors and log messages; and the output stream."""

import logging
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastcnn.errors import FastcnnError, sentence

if TYPE_CHECKING:
    from fastcnn.distributed import World


def fitted(text: str, width: int) -> str:
    """Text wrapped between words at a width."""
    return "\n".join(
        textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
        for line in text.splitlines()
    )


def complain(text: str) -> None:
    """Print to the error stream: wrapped between words on a terminal, on one line in a file.

    The stream is looked up on each call, since a progress bar redirects it.
    """
    if sys.stderr is None:  # closed when the command was started
        return
    if sys.stderr.isatty():
        text = fitted(text, shutil.get_terminal_size().columns)
    print(text, file=sys.stderr, flush=True)


class Output:
    """The output stream, which is named by its errors."""

    NAME = "the output"

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text."""
        with self._named():
            written: int = self._stream.write(text)
        return written

    def flush(self) -> None:
        """Pass on what was written."""
        with self._named():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = self.NAME
            raise


class Lines(logging.Handler):
    """Prints the log messages of the package."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        complain(self.format(record))


@contextmanager
def one_voice(world: "World") -> Iterator[None]:
    """Let only the root print an error that all processes raise, and let all end together.

    ``python -m mpi4py`` aborts the job as soon as one process exits with an error: the others have
    to wait until the root has printed the message.
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
