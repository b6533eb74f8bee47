"""Exit codes of commands that a signal ended."""

import sys

#: Exit code of a command that Ctrl-C ended, by shell convention.
INTERRUPTED = 130


def interrupted_code(interrupt: KeyboardInterrupt) -> int:
    """The exit code of a command that a signal ended: that of SIGTERM, or of Ctrl-C."""
    # Only a module that is loaded has raised its exception.
    terminated = getattr(sys.modules.get("fastcnn.training.interrupts"), "Terminated", ())
    return 143 if isinstance(interrupt, terminated) else INTERRUPTED
