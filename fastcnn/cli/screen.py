"""The console that commands print to."""

from rich.console import Console
from rich.table import Column

from fastcnn.cli.lines import fitted


class Screen(Console):
    """A console that prints names of files and classes verbatim, even ``:dog:`` and ``[b]``."""

    def __init__(self, quiet: bool = False) -> None:
        super().__init__(quiet=quiet, highlight=False, emoji=False, markup=False)

    def say(self, text: str, style: str | None = None) -> None:
        """Print a sentence: wrapped between words on a terminal, on one line in a file.

        Print a command to be copied with ``soft_wrap=True`` instead: a terminal joins the lines
        that it has wrapped itself.
        """
        text = fitted(text, self.width) if self.is_terminal else text
        self.print(text, style=style, soft_wrap=True)


def number_columns(*titles: str) -> list[Column]:
    """Right-aligned columns of numbers."""
    return [Column(title, justify="right") for title in titles]
