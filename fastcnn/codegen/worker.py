"""A process that compiles for another one, in several processes of its own.

A request line has their number and groups of sources. An answer has a source's name, key and
object.
"""

import gc
import importlib
import json
import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from fastcnn.codegen.build import Source
from fastcnn.codegen.entry import ArgumentEntry
from fastcnn.codegen.reached import Records
from fastcnn.errors import IncompatibleNumbaError

_records = Records()


def compiled(sources: list[tuple[str, tuple[str, str, list[Any]]]]) -> list[tuple[str, str, bytes]]:
    """Names, keys and objects of some sources, given by names and origins."""
    found = []
    for name, (module, maker, arguments) in sources:
        source = getattr(importlib.import_module(module), maker)(*arguments)
        found.append((name, source.key(_records), source.compile()))
    return found


def _begin() -> None:
    # Compilation creates little garbage, and collecting it took a tenth of the time.
    gc.disable()
    sys.stdout = sys.stderr
    # A terminal's Ctrl-C reaches these processes, too; the caller reports it. In the
    # background of a script it is ignored, and stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, "SIGPIPE"):
        # Nobody reads the answers any more.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def _begin_with_parent() -> None:
    _begin()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _nothing(array: Any) -> None:
    array[0] += 1


def main() -> None:
    """Serve one request, or end at the end of input."""
    answers = sys.stdout.buffer
    _begin()
    forks = sys.platform == "linux"
    if forks:
        # Imports and numba's first-use initialisation are done once, before the forks.
        for module in sys.argv[1:]:
            importlib.import_module(module)
        try:
            Source(_nothing, ArgumentEntry("nothing", ("float32[:]",))).compile()
        except IncompatibleNumbaError:
            return  # the caller cannot compile either, and says so
    line = sys.stdin.readline()
    if not line:
        return
    processes, groups = json.loads(line)
    context = multiprocessing.get_context("fork" if forks else "spawn")
    with ProcessPoolExecutor(processes, context, initializer=_begin_with_parent) as pool:
        for future in as_completed([pool.submit(compiled, group) for group in groups]):
            for name, key, content in () if future.exception() else future.result():
                answers.write(f"{name} {key} {len(content)}\n".encode() + content)
                answers.flush()


if __name__ == "__main__":
    main()
