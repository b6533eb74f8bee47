"""The command line as a user runs it, in a new process or in this one."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cache
from typing import Any
from unittest import mock

from fastcnn import cli
from fastcnn.data import digits_dataset

SETTINGS = {"NO_COLOR": "1", "COLUMNS": "100"}
ENVIRONMENT = {**os.environ, **SETTINGS}
ENVIRONMENT.pop("FASTCNN_NUM_THREADS", None)

digits_drawn_once = cache(digits_dataset)


def drawn_once() -> AbstractContextManager[Any]:
    """Within it, data sets drawn by the package are drawn once per process, not per command."""
    return mock.patch("fastcnn.data.loading.digits_dataset", digits_drawn_once)


def process(*arguments: object, code: int = 0) -> str:
    """Run a command in a separate process; return all its output."""
    done = subprocess.run(
        [sys.executable, "-m", "fastcnn", *map(str, arguments)],
        capture_output=True, text=True, env=ENVIRONMENT, check=False, timeout=300,
    )  # fmt: skip
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    assert "Traceback" not in output
    return output


@contextlib.contextmanager
def started(*arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """A running command; it and its workers are ended afterwards, whatever the test found."""
    with subprocess.Popen(
        [sys.executable, "-m", "fastcnn", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
        start_new_session=True,
    ) as begun:  # fmt: skip
        try:
            yield begun
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(begun.pid, signal.SIGKILL)


def fastcnn(*arguments: object, code: int = 0) -> str:
    """The same in this process, which saves the imports: a command's effects and output."""
    printed, warned = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["fastcnn", *map(str, arguments)]),
        mock.patch.dict(os.environ, SETTINGS),
        drawn_once(),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(warned),
    ):
        try:
            cli.main()
            left: object = 0
        except SystemExit as leaving:
            left = leaving.code or 0
    output = printed.getvalue() + warned.getvalue()
    assert left == code, output
    return output
