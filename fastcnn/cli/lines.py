"""Lines on the error stream: errors, and what the package logs."""

import logging
import shutil
import sys
import textwrap


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
    if sys.stderr.isatty():
        text = fitted(text, shutil.get_terminal_size().columns)
    print(text, file=sys.stderr, flush=True)


class Lines(logging.Handler):
    """Prints what the package logs."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        complain(self.format(record))
