"""Loads compiled functions from the cache by the digest of their source, or compiles them."""

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
from fastcnn.extras import NOT_INSTALLED, numba_version, refuse_untested_numba

log = logging.getLogger("fastcnn.codegen")
#: Maximum concurrent compiling processes: each takes 150 MB.
MOST_WORKERS = 8
_lock = forks.lock()


@dataclass(frozen=True, eq=False)
class Source:
    """The source of an object file."""

    #: Plain Python, or declared by ``linked``.
    function: Any
    entry: Entry
    #: Module, name of a callable in it, and arguments, with which another process can reproduce
    #: this source; if None, this process compiles the object.
    origin: tuple[str, str, list[Any]] | None = None
    #: Whether LLVM spends time on the addresses of loops; see :func:`objects.make_object`.
    strength_reduction: bool = True

    @property
    def name(self) -> str:
        """The entry's symbol, which is unique among sources."""
        return self.entry.symbol

    def key(self, records: Records | None = None) -> str:
        """Digest of everything the object depends on; see :func:`function_digest`."""
        digest = function_digest(self.function, records)
        parts = (self.name, repr(self.entry), str(self.strength_reduction), versions(), digest)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def compile(self) -> bytes:
        """Compile the object with numba."""
        try:
            from fastcnn.codegen.numba_frontend import lower

            module = lower(self.function, self.entry)
        except Exception as error:
            refuse_untested_numba(error)
            raise
        return objects.make_object(module, self.name, self.strength_reduction)


@dataclass
class Report:
    """What this process has compiled and loaded so far."""

    #: Names of functions found in the cache, and of those compiled.
    loaded: list[str] = field(default_factory=list)
    compiled: list[str] = field(default_factory=list)
    #: Time spent on this.
    seconds: float = 0.0


report = Report()
_addresses: dict[str, int] = {}
#: Compiling processes started ahead of time.
_started: list["subprocess.Popen[bytes]"] = []
#: Those that compile now.
_busy: list["subprocess.Popen[bytes]"] = []
#: The signal, as an exception, that is deferred: compilations raise it.
_interrupt: type[BaseException] | None = None


@functools.cache
def disabled_by() -> str:
    """Why compiled functions run as plain Python, which debuggers and coverage want; else "".

    Read once, as numba does.
    """
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return "NUMBA_DISABLE_JIT"
    return "a Python without numba" if numba_version() == NOT_INSTALLED else ""


@functools.cache
def is_disabled() -> bool:
    """Whether compiled functions run as plain Python; every call of one asks."""
    return bool(disabled_by())


def addresses(sources: Sequence[Source]) -> list[int]:
    """Addresses of entries; functions missing from the cache are compiled, several at a time."""
    missing = [source for source in sources if source.name not in _addresses]
    if missing:
        with _lock:
            _prepare([source for source in missing if source.name not in _addresses])
    return [_addresses[source.name] for source in sources]


def interrupt(kind: type[BaseException] | None) -> None:
    """Make compilations end soon and raise ``kind``; None allows them again.

    For signal handlers that defer a signal: compiling takes too long to wait for.
    """
    global _interrupt
    _interrupt = kind
    if kind is not None:
        for process in _busy:
            process.terminate()


def kept(sources: Sequence[Source]) -> int:
    """How many of these a new process would find in the cache."""
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
        # If several processes start together, one compiles for all of them.
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
    where = f", once; they are cached in {folder}" if folder else ""
    level = logging.WARNING if len(sources) > 1 else logging.INFO
    log.log(level, "compiling %s for this processor (%s)%s", count, processor()[1], where)


def start_ahead(*modules: str) -> None:
    """Start a compiling process if the cache is empty: it is ready when training needs it.

    Parameters
    ----------
    *modules : str
        Modules to import in it.
    """
    folder = store.object_folder()
    kept = folder is not None and next(folder.glob("*.o"), None) is not None
    if not (kept or _started or is_disabled()) and available_cores() > 1 and sys.executable:
        with suppress(OSError):  # the compilation itself reports this error
            _started.append(_start(modules))


def _start(modules: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
    # It imports from the same places as this process, and not from the current folder first.
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
        # It may have ended, for example by an earlier Ctrl-C, or belong to the parent of a fork.
        if process.poll() is None:
            return process
    return _start()


def _compile(
    sources: list[Source],
    keys: dict[str, str],
    records: Records,
    keep: Callable[[Source, bytes], None],
) -> None:
    """Compile in several processes; whatever they do not know or fail at is compiled here."""
    left = {source.name: source for source in sources}
    known = [source for source in sources if source.origin is not None]
    processes = min(available_cores(), MOST_WORKERS, len(known))
    if processes > 1 and sys.executable:
        process: subprocess.Popen[bytes] | None = None
        try:
            with _ready() as process:
                _busy.append(process)
                _check_interrupt()
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(json.dumps([processes, _groups(known, records)]).encode())
                process.stdin.write(b"\n")
                process.stdin.flush()
                for line in process.stdout:
                    name, key, size = line.decode().split()
                    content = process.stdout.read(int(size))
                    # Another key means that it was compiled from a file edited since this process
                    # read it.
                    if key == keys[name] and len(content) == int(size):
                        keep(left.pop(name), content)
        except (OSError, ValueError) as error:
            log.debug("a compiling process failed: %s", error)
        finally:
            _busy.clear()
        if process is not None and process.returncode == -signal.SIGINT:
            # A Ctrl-C in the terminal, which this process may have deferred.
            raise KeyboardInterrupt
    for source in left.values():
        _check_interrupt()
        keep(source, source.compile())


def _check_interrupt() -> None:
    if _interrupt is not None:
        raise _interrupt


def _groups(sources: Sequence[Source], records: Records) -> list[list[tuple[str, Any]]]:
    """Names and origins, grouped by function, so that numba types each function once.

    Those that reach most code come first: they take longest.
    """
    groups: dict[int, list[tuple[str, Any]]] = {}
    for source in sorted(sources, key=lambda each: -len(records.reached(each.function))):
        groups.setdefault(id(source.function), []).append((source.name, source.origin))
    return list(groups.values())
