"""The command line: one module a command, each a thin call into the package."""

import atexit
import gc
import io
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

#: Exit code of a command that Ctrl-C ended, as shells have it.
INTERRUPTED = 130


def interrupted_code(interrupt: KeyboardInterrupt) -> int:
    """The exit code of a command that a signal ended: that of SIGTERM, or of Ctrl-C."""
    from fastcnn.training.interrupts import Terminated

    return 143 if isinstance(interrupt, Terminated) else INTERRUPTED


def main() -> None:
    """Run the command line; expected errors become one line and exit code 2, Ctrl-C 130."""
    run(_application)


def run(make: Callable[[list[str]], Any]) -> None:
    """Run a command line as :func:`main` does; ``make`` gives an application of typer."""
    try:
        status = _run(make)
        if status == INTERRUPTED:
            raise KeyboardInterrupt
    except KeyboardInterrupt:  # also while modules are being imported
        print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    finally:
        # ``python -m`` ends by SIGINT, whatever the exit code, if Ctrl-C came while a string was
        # executed (dataclasses do so) and none was since.
        exec("")
    raise SystemExit(status)


def _application(arguments: list[str]) -> Any:
    from fastcnn.cli.app import application

    return application(arguments)


def _run(make: Callable[[list[str]], Any]) -> int:
    """The exit code of the command that the arguments name."""
    # What is imported stays: looking through it for garbage, again and again and once more at the
    # end, takes a tenth of a short command's time.
    gc.set_threshold(500_000, 20, 100)
    atexit.register(gc.freeze)

    from fastcnn.cli.lines import Lines, complain
    from fastcnn.errors import FastcnnError, sentence

    logging.lastResort = Lines(logging.WARNING)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal or a file may not have all the characters of a path or a class.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _check_empty(sys.argv[1:])
        arguments = [_with_home(argument) for argument in sys.argv[1:]]
        status = make(arguments)(args=arguments, standalone_mode=False)
    except (FastcnnError, OSError, MemoryError) as error:
        if os.environ.get("FASTCNN_TRACEBACK"):
            raise
        complain(f"error: {sentence(error)}")
        raise SystemExit(2) from None
    except Exception as error:
        # Typer's errors are those of click, or of a copy of it, which depends on its version.
        if type(error).__name__ == "Abort":  # what older versions make of Ctrl-C
            return INTERRUPTED
        if not hasattr(error, "format_message"):
            raise
        if message := error.format_message():
            complain(f"error: {_in_one_line(message, error)}")
        raise SystemExit(getattr(error, "exit_code", 2)) from None
    return status if isinstance(status, int) else 0


def _in_one_line(message: str, error: Any) -> str:
    """What is wrong with the words of a command, and where they are listed."""
    text = " ".join(message.replace("Value error, ", "").split()).rstrip(".")
    context = getattr(error, "ctx", None)
    return text if context is None else f"{text}; see {context.command_path} --help"


def _check_empty(arguments: list[str]) -> None:
    """Refuse what a variable that is not set leaves: as a path it would be the current folder."""
    from fastcnn.errors import ConfigurationError

    for place, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if argument and (value or name == argument or not name.startswith("--")):
            continue
        before = arguments[place - 1] if place else ""
        after = f" after {before}" if before else ""
        where = name if argument else f"the argument{after}"
        raise ConfigurationError(f"{where} is empty: is a variable of the shell not set?")


def _with_home(argument: str) -> str:
    """An argument with ``~`` replaced by the home folder, also in ``--out=~/run``.

    Shells do so for a word of its own, and not all of them after an equals sign.
    """
    from fastcnn.files import expanded

    name, sign, value = argument.partition("=")
    if name.startswith("--") and value.startswith("~"):
        return f"{name}{sign}{expanded(value)}"
    return str(expanded(argument)) if argument.startswith("~") else argument
