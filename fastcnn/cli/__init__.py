"""The command line: one module a command, each a thin call into the package."""

import atexit
import gc
import os
import sys

from fastcnn.errors import FastcnnError


def main() -> None:
    """Run the command line; expected errors become one line and exit code 2."""
    # What is imported stays: looking through it for garbage, again and again and once more at the
    # end, takes a tenth of a short command's time.
    gc.set_threshold(50_000, 20, 100)
    atexit.register(gc.freeze)

    from fastcnn.cli.app import app

    try:
        app()
    except (FastcnnError, OSError) as error:
        if os.environ.get("FASTCNN_TRACEBACK"):
            raise
        text = str(error)
        if isinstance(error, OSError) and error.filename and error.strerror:
            text = f"{error.filename}: {error.strerror}"
        print(f"error: {text}", file=sys.stderr)
        raise SystemExit(2) from None
