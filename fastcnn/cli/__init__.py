"""The command line: one module a command, each a thin call into the package."""

import atexit
import gc
import os
import sys

from fastcnn.errors import FastcnnError
from fastcnn.files import expanded


def main() -> None:
    """Run the command line; expected errors become one line and exit code 2."""
    # What is imported stays: looking through it for garbage, again and again and once more at the
    # end, takes a tenth of a short command's time.
    gc.set_threshold(500_000, 20, 100)
    atexit.register(gc.freeze)

    from fastcnn.cli.app import application

    arguments = [_with_home(argument) for argument in sys.argv[1:]]
    try:
        application(arguments)(args=arguments)
    except (FastcnnError, OSError) as error:
        if os.environ.get("FASTCNN_TRACEBACK"):
            raise
        text = str(error)
        if isinstance(error, OSError) and error.filename and error.strerror:
            text = f"{error.filename}: {error.strerror}"
        print(f"error: {text}", file=sys.stderr)
        raise SystemExit(2) from None


def _with_home(argument: str) -> str:
    """An argument with ``~`` replaced by the home folder, also in ``--out=~/run``.

    Shells do so for a word of its own, and not all of them after an equals sign.
    """
    name, sign, value = argument.partition("=")
    if name.startswith("--") and value.startswith("~"):
        return f"{name}{sign}{expanded(value)}"
    return str(expanded(argument)) if argument.startswith("~") else argument
