"""Turn Ctrl-C, SIGTERM and SIGHUP into a flag that every wait of a run checks."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_BURST = 1.0  # seconds in which signals are one: timeout, npm, make and systemd send several
_GRACE = 6.0  # seconds to end after a signal; container runtimes kill after ten
_REPEAT = 1.0  # seconds; clean-up may wait for the same dead server again


class StoppedError(BaseException):
    """A signal arrived outside the `with` of an `Interrupts`.

    Not a KeyboardInterrupt: psycopg would catch it and wait for the server again, and click would
    end with a code of its own.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number
        """The number of the first signal."""


class ForcedStopError(StoppedError):
    """A signal arrived a second after the first, or the run did not end in time."""


class _Burst:
    """Tells the first signal of a burst from the rest, which is ignored wherever it arrives."""

    def __init__(self) -> None:
        self._began_at = -_BURST

    def begins(self) -> bool:
        """Whether the signal that has arrived is the first one of a burst."""
        now = time.monotonic()
        if now - self._began_at < _BURST:
            return False
        self._began_at = now
        return True


_burst = _Burst()


def raise_on_signals() -> None:
    """Let signals raise `StoppedError`, so that every `with` is left in order."""
    for number in _handled():
        signal.signal(number, _raise)


def ignore_signals() -> None:
    """Ignore signals, so that the program ends with the exit code that it has."""
    for number in _handled():
        signal.signal(number, signal.SIG_IGN)


def _handled() -> list[signal.Signals]:
    # Under nohup, SIGHUP stays ignored.
    return [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def _raise(number: int, _frame: FrameType | None) -> None:
    if _burst.begins():
        raise StoppedError(number)


class Interrupts:
    """In its `with`, a first signal only sets a flag; a later one, or a timeout, stops the run.

    An exception at an arbitrary place would keep the run from reporting what was done.
    Outside the main thread, where Python delivers no signals, nothing is changed.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        """The number of the first signal; None before it arrives."""

        self._reader = self._writer = -1
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        if threading.current_thread() is threading.main_thread():
            for number in (*_handled(), signal.SIGALRM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when a signal arrives."""
        return self._reader

    def wait(self, seconds: float) -> bool:
        """Sleep until a signal arrives; return whether one has."""
        if self.signal is None:
            select.select([self], [], [], seconds)
        return self.signal is not None

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGALRM and not _burst.begins():
            return
        if self.signal is not None:
            raise ForcedStopError(self.signal)
        self.signal = number
        os.write(self._writer, b"!")
        # A statement of our own may wait for a dead server without checking the flag.
        signal.setitimer(signal.ITIMER_REAL, _GRACE, _REPEAT)
