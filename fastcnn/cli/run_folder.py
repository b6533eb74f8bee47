"""Where a command writes that was given no folder."""

from datetime import datetime
from pathlib import Path


def free_folder(name: str) -> Path:
    """``runs/TIME-name``; with a number where another run began in the same second."""
    folder = first = Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{name}"
    number = 2
    while folder.exists():
        folder = first.with_name(f"{first.name}-{number}")
        number += 1
    return folder
