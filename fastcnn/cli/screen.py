"""The console that commands print to."""

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table

from fastcnn.cli.lines import fitted

#: Width down to which the words of a column are folded on a narrow screen.
LEAST_WORDS = 10


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

    def show(self, table: Table) -> None:
        """Print a table, all of it: nothing is cut on a narrow screen.

        Words are folded there, numbers are not, and lines between columns are left out; a table
        that is still too wide is wrapped by the terminal.
        """
        if self.fits(table):
            self.print(table)
            return
        whole = least = 0
        for column in table.columns:
            if column.justify == "right":
                column.header, column.no_wrap = str(column.header).replace(" ", "\n"), True
                column.min_width = longest = max(map(_widest, [column.header, *column.cells]))
            else:
                column.overflow = "fold"
                words = " ".join(map(str, [column.header, *column.cells])).split()
                longest = max(map(_widest, words))
            whole += longest + 3
            least += (longest if column.no_wrap else min(longest, LEAST_WORDS)) + 1
        if whole + 1 > self.width:
            table.box, table.padding = SIMPLE_HEAD, 0
            table.width = least + 1 if least + 1 > self.width else None
        self.print(table, crop=False)

    def fits(self, table: Table) -> bool:
        """Whether a table is not wider than the screen."""
        return self.measure(table, options=self.options.update(width=10_000)).maximum <= self.width


def _widest(cell: object) -> int:
    return max(map(cell_len, str(cell).split("\n")))


def number_columns(*titles: str) -> list[Column]:
    """Right-aligned columns of numbers."""
    return [Column(title, justify="right") for title in titles]
