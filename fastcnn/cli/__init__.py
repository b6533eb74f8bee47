"""The command line: one module a command, each a thin call into the package."""

import os
import sys

from fastcnn.errors import FastcnnError


def main() -> None:
    """Run the command line; expected errors become one line and exit code 2."""
    from fastcnn.cli.app import app

    try:
        app()
    except FastcnnError as error:
        if os.environ.get("FASTCNN_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
