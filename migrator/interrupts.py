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


class ForcedStopError(BaseException):
    """A signal arrived a second after the first, or the run did not end in time.

    Not a KeyboardInterrupt: psycopg would catch it, and wait for the server again.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number
        """The number of the first signal."""


class Interrupts:
    """In its `with`, a first signal only sets a flag; a later one, or a timeout, stops the run.

    An exception at an arbitrary place would keep the run from reporting what was done.  So would
    the rest of a burst of signals, which is ignored, also after the `with`.
    Outside the main thread, where Python delivers no signals, nothing is changed.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        """The number of the first signal; None before it arrives."""

        self._first_at = 0.0
        self._reader = self._writer = -1
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # Under nohup, SIGHUP stays ignored.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._on_signal)
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._on_signal)
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
            is_over = self.signal is None or number == signal.SIGALRM
            signal.signal(number, handler if is_over else self._on_late_signal)
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
        if self.signal is not None:
            if number == signal.SIGALRM or not self._is_burst():
                raise ForcedStopError(self.signal)
            return
        self.signal, self._first_at = number, time.monotonic()
        os.write(self._writer, b"!")
        # A statement of our own may wait for a dead server without checking the flag.
        signal.setitimer(signal.ITIMER_REAL, _GRACE, _REPEAT)

    def _on_late_signal(self, number: int, _frame: FrameType | None) -> None:
        """Let the program say what was done, and end; a signal after the burst ends it at once."""
        if not self._is_burst():
            signal.signal(number, self._before[number])
            signal.raise_signal(number)

    def _is_burst(self) -> bool:
        return time.monotonic() - self._first_at < _BURST
