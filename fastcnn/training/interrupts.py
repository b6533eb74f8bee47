"""Ctrl-C and SIGTERM, handled between steps instead of anywhere."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from fastcnn.codegen import build


class Terminated(KeyboardInterrupt):
    """The process was asked to terminate (SIGTERM)."""


KINDS: tuple[type[KeyboardInterrupt] | None, ...] = (None, KeyboardInterrupt, Terminated)


class DeferredInterrupts:
    """Defers the first SIGINT or SIGTERM until :meth:`check`, where the state is consistent.

    A second one is raised immediately, and the first one where this process compiles. Outside the
    main thread, where Python has no signal handlers, this has no effect. ``agree`` turns this
    process's 0 (no interrupt), 1 (SIGINT) or 2 (SIGTERM) into a common decision of several
    processes, which compile to the end.
    """

    def __init__(self, agree: Callable[[float], float] | None = None) -> None:
        self._agree = agree
        self.pending: type[KeyboardInterrupt] | None = None
        #: Whether an interrupt was raised by :meth:`check`, where the state is consistent.
        self.raised_between_steps = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "DeferredInterrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # A handler other than Python's default, or none, is the application's choice.
                if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        kind = Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if self.pending is not None:
            raise kind
        self.pending = kind
        if self._agree is None:
            build.interrupt(kind)

    def check(self) -> None:
        """Raise a deferred signal: KeyboardInterrupt, or :class:`Terminated` for SIGTERM."""
        if self._agree is not None:
            self.pending = KINDS[int(self._agree(KINDS.index(self.pending)))]
        if self.pending is not None:
            self.raised_between_steps = True
            raise self.pending

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.pending is not None:
            build.interrupt(None)
        if kind is None:
            self.check()
