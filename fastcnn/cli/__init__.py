"""The command line: one module per command, each a thin wrapper around the package."""

import atexit
import gc
import io
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from fastcnn.cli.signals import INTERRUPTED


def main() -> None:
    """Run the command line; expected errors print one line and exit with 2.

    Ctrl-C exits with 130, SIGTERM with 143.
    """
    run(_application)


def run(make: Callable[[list[str]], Any]) -> None:
    """Run a command line as :func:`main` does; ``make`` returns a typer application."""
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
    # Imported modules are never freed: scanning them for garbage, repeatedly and once more at exit,
    # takes a tenth of a short command's time.
    gc.set_threshold(500_000, 20, 100)
    atexit.register(gc.freeze)

    from fastcnn.cli.lines import Lines, Output, complain
    from fastcnn.errors import FastcnnError, sentence

    logging.lastResort = Lines(logging.WARNING)
    if sys.stdout is None:  # closed when the command was started
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal's or file's encoding may lack characters of a path or a class name.
        sys.stdout.reconfigure(errors="backslashreplace")
        sys.stdout = Output(sys.stdout)
    try:
        _check_empty(sys.argv[1:])
        arguments = [_with_home(argument) for argument in sys.argv[1:]]
        status = make(arguments)(args=arguments, standalone_mode=False)
        sys.stdout.flush()
    except (FastcnnError, OSError, MemoryError) as error:
        if os.environ.get("FASTCNN_TRACEBACK"):
            raise
        if isinstance(error, BrokenPipeError) and error.filename == Output.NAME:
            raise SystemExit(1) from None  # piped into head, for example
        complain(f"error: {sentence(error)}")
        raise SystemExit(2) from None
    except Exception as error:
        # Typer raises the errors of click or of a bundled copy, depending on its version.
        if type(error).__name__ == "Abort":  # raised for Ctrl-C by older versions
            return INTERRUPTED
        if not hasattr(error, "format_message"):
            raise
        if message := error.format_message():
            complain(f"error: {_in_one_line(message, error)}")
        raise SystemExit(getattr(error, "exit_code", 2)) from None
    return status if isinstance(status, int) else 0


def _in_one_line(message: str, error: Any) -> str:
    """A usage error in one line, with the help command that lists the valid arguments."""
    text = " ".join(message.replace("Value error, ", "").split()).rstrip(".")
    context = getattr(error, "ctx", None)
    return text if context is None else f"{text}; see {context.command_path} --help"


def _check_empty(arguments: list[str]) -> None:
    """Refuse empty arguments, as left by an unset variable: as a path, the current folder."""
    from fastcnn.errors import ConfigurationError

    for place, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if argument and (value or name == argument or not name.startswith("--")):
            continue
        before = arguments[place - 1] if place else ""
        after = f" after {before}" if before else ""
        where = name if argument else f"the argument{after}"
        raise ConfigurationError(f"{where} is empty: is a shell variable unset?")


def _with_home(argument: str) -> str:
    """An argument with ``~`` replaced by the home folder, also in ``--out=~/run``.

    Shells expand it at the start of a word, but not all of them after an equals sign.
    """
    from fastcnn.files import expanded

    name, sign, value = argument.partition("=")
    if name.startswith("--") and value.startswith("~"):
        return f"{name}{sign}{expanded(value)}"
    return str(expanded(argument)) if argument.startswith("~") else argument
