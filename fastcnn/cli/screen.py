"""Where commands print."""

from rich.console import Console


def screen(quiet: bool = False) -> Console:
    """A console that prints names of files and classes as they are, also ``:dog:`` and ``[b]``."""
    return Console(quiet=quiet, highlight=False, emoji=False, markup=False)
