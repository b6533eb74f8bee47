"""The registry of readers that the mutation fuzzer attacks.

A room adds its readers in a module ``readers_ROOM.py`` in this folder that calls :func:`register`.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Reader:
    """A function that reads files from untrusted sources.

    Attributes
    ----------
    name : str
    samples : function that returns a sequence of bytes
        Small valid files (a few kilobytes), which are mutated. :attr:`read` must accept each of
        them unchanged.
    read : function of a path
        Reads the file; may raise a :class:`~fastcnn.errors.FastcnnError` and nothing else.
    filename : str
        The file's name; it is alone in a folder, in which ``read`` may write.
    wrap : function of bytes, optional
        Builds the file from the mutated content, where a mutation of the file itself would only
        reach its checksum: it packs the content, or renews the checksum.
    cost : int
        Relative cost of reading one file: fewer files are tried when time is limited.
    """

    name: str
    samples: Callable[[], Sequence[bytes]]
    read: Callable[[Path], object]
    filename: str
    wrap: Callable[[bytes], bytes] = bytes
    cost: int = 1


READERS: dict[str, Reader] = {}


def register(
    name: str,
    samples: Callable[[], Sequence[bytes]],
    read: Callable[[Path], object],
    filename: str,
    wrap: Callable[[bytes], bytes] = bytes,
    cost: int = 1,
) -> None:
    """Add a reader."""
    assert name not in READERS, name
    READERS[name] = Reader(name, samples, read, filename, wrap, cost)


def all_readers() -> dict[str, Reader]:
    """The readers of all rooms, by name."""
    for path in sorted(Path(__file__).parent.glob("readers_*.py")):
        importlib.import_module(f"{__package__}.{path.stem}")
    return READERS
