"""Where commands print."""

from rich.console import Console
from rich.table import Column

from fastcnn.cli.lines import fitted


class Screen(Console):
    """A console that prints names of files and classes as they are, also ``:dog:`` and ``[b]``."""

    def __init__(self, quiet: bool = False) -> None:
        super().__init__(quiet=quiet, highlight=False, emoji=False, markup=False)

    def say(self, text: str, style: str | None = None) -> None:
        """Print a sentence: a terminal gets whole words in each line, a file gets one line.

        A command that is to be copied is printed with ``soft_wrap=True`` instead: a terminal joins
        the lines that it has broken itself.
        """
        text = fitted(text, self.width) if self.is_terminal else text
        self.print(text, style=style, soft_wrap=True)


def number_columns(*titles: str) -> list[Column]:
    """Columns of numbers, which end at the same place."""
    return [Column(title, justify="right") for title in titles]
