"""Compiled functions by what they are made from: found in the cache, or compiled and kept."""

import functools
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastcnn import forks
from fastcnn.codegen import objects, store
from fastcnn.codegen.entry import Entry
from fastcnn.codegen.identity import function_digest, versions
from fastcnn.codegen.processor import processor
from fastcnn.codegen.reached import Records
from fastcnn.cores import available_cores

log = logging.getLogger("fastcnn.codegen")
#: Compiling processes at once: each takes 150 MB.
MOST_WORKERS = 8
_lock = forks.lock()


@dataclass(frozen=True, eq=False)
class Source:
    """What an object is made from."""

    #: Plain Python, or declared by ``linked``.
    function: Any
    entry: Entry
    #: Module, name of a callable there, and arguments, by which another process gets this source;
    #: without it the object is compiled by this one.
    origin: tuple[str, str, list[Any]] | None = None

    @property
    def name(self) -> str:
        """The entry's symbol, which is unique among sources."""
        return self.entry.symbol

    def key(self, records: Records | None = None) -> str:
        """Digest of all that the object depends on; see :func:`function_digest`."""
        digest = function_digest(self.function, records)
        parts = (self.name, repr(self.entry), versions(), digest)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def compile(self) -> bytes:
        """Make the object, with numba."""
        from fastcnn.codegen.numba_frontend import lower

        return objects.make_object(lower(self.function, self.entry), self.name)


@dataclass
class Report:
    """What this process has compiled and loaded so far."""

    #: Names of functions from the cache, and of those that were not there.
    loaded: list[str] = field(default_factory=list)
    compiled: list[str] = field(default_factory=list)
    #: Time it took.
    seconds: float = 0.0


report = Report()
_addresses: dict[str, int] = {}
#: What was started ahead.
_started: list["subprocess.Popen[bytes]"] = []


@functools.cache
def is_disabled() -> bool:
    """Whether ``NUMBA_DISABLE_JIT`` asks for plain Python, as for debuggers and coverage.

    Read once, as by numba: each compiled call asks.
    """
    return os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


def addresses(sources: Sequence[Source]) -> list[int]:
    """Addresses of entries; what is not in the cache is compiled, several at once."""
    missing = [source for source in sources if source.name not in _addresses]
    if missing:
        with _lock:
            _prepare([source for source in missing if source.name not in _addresses])
    return [_addresses[source.name] for source in sources]


def kept(sources: Sequence[Source]) -> int:
    """How many of them a new process would find in the cache."""
    folder = store.object_folder()
    if folder is None:
        return 0
    records = Records()
    keys = {source.name: source.key(records) for source in sources}
    return sum(store.read(folder, name, key) is not None for name, key in keys.items())


def _prepare(sources: Sequence[Source]) -> None:
    began = time.perf_counter()
    unique = {source.name: source for source in sources}
    folder = store.object_folder()
    records = Records()
    keys = {name: source.key(records) for name, source in unique.items()}
    found: dict[str, bytes] = {}

    def missing() -> list[Source]:
        for name in unique.keys() - found.keys():
            content = store.read(folder, name, keys[name]) if folder else None
            if content is not None:
                found[name] = content
        return [source for name, source in unique.items() if name not in found]

    def keep(source: Source, content: bytes) -> None:
        found[source.name] = content
        if folder:
            store.write(folder, source.name, keys[source.name], content)

    if missing():
        # One of the processes that start at once compiles what all of them need.
        with store.one_at_a_time(folder):
            left = missing()
            report.loaded += found
            if left:
                _announce(left, folder)
                _compile(left, keys, records, keep)
                report.compiled += [source.name for source in left]
                log.info("compiled in %.1f s", time.perf_counter() - began)
                if folder:
                    store.remove_unused(folder)
    else:
        report.loaded += found
    for name, content in found.items():
        _addresses[name] = objects.load(name, content)
    report.seconds += time.perf_counter() - began


def _announce(sources: list[Source], folder: Path | None) -> None:
    count = f"{len(sources)} functions" if len(sources) > 1 else sources[0].name
    where = f", once; they are kept in {folder}" if folder else ""
    level = logging.WARNING if len(sources) > 1 else logging.INFO
    log.log(level, "compiling %s for this processor (%s)%s", count, processor()[1], where)


def start_ahead(*modules: str) -> None:
    """Start what compiles, if nothing is kept yet: it is ready when a training asks for it.

    Parameters
    ----------
    *modules : str
        What to import there.
    """
    folder = store.object_folder()
    kept = folder is not None and next(folder.glob("*.o"), None) is not None
    if not (kept or _started or is_disabled()) and available_cores() > 1 and sys.executable:
        with suppress(OSError):  # who needs it says so
            _started.append(_start(modules))


def _start(modules: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
    # It imports from where this process does, and not from the current folder before all others.
    path = os.pathsep.join(place or os.curdir for place in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "fastcnn.codegen.worker", *modules],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )


def _ready() -> "subprocess.Popen[bytes]":
    while _started:
        process = _started.pop()
        # It may have ended since, as by a Ctrl-C before this, or be that of a process which forked.
        if process.poll() is None:
            return process
    return _start()


def _compile(
    sources: list[Source],
    keys: dict[str, str],
    records: Records,
    keep: Callable[[Source, bytes], None],
) -> None:
    """Compile in some processes at once; here what they do not know or fail at."""
    left = {source.name: source for source in sources}
    known = [source for source in sources if source.origin is not None]
    processes = min(available_cores(), MOST_WORKERS, len(known))
    if processes > 1 and sys.executable:
        process: subprocess.Popen[bytes] | None = None
        try:
            with _ready() as process:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(json.dumps([processes, _groups(known, records)]).encode())
                process.stdin.write(b"\n")
                process.stdin.flush()
                for line in process.stdout:
                    name, key, size = line.decode().split()
                    content = process.stdout.read(int(size))
                    # Another key: made from a file that was edited since this process read it.
                    if key == keys[name] and len(content) == int(size):
                        keep(left.pop(name), content)
        except (OSError, ValueError) as error:
            log.debug("a compiling process failed: %s", error)
        if process is not None and process.returncode == -signal.SIGINT:
            # A terminal's Ctrl-C, which this process may have noted for later.
            raise KeyboardInterrupt
    for source in left.values():
        keep(source, source.compile())


def _groups(sources: Sequence[Source], records: Records) -> list[list[tuple[str, Any]]]:
    """Names and origins, together of what one function makes, which numba then types once.

    First those that reach most: they take longest.
    """
    groups: dict[int, list[tuple[str, Any]]] = {}
    for source in sorted(sources, key=lambda each: -len(records.reached(each.function))):
        groups.setdefault(id(source.function), []).append((source.name, source.origin))
    return list(groups.values())
