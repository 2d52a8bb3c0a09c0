"""Turn Ctrl-C, SIGTERM and SIGHUP into a flag that every wait of a run checks."""

from __future__ import annotations

import os
import select
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE = 6.0  # seconds to end after a signal; container runtimes kill after ten
_REPEAT = 1.0  # seconds; clean-up may wait for the same dead server again


class ForcedStopError(BaseException):
    """A second signal arrived, or the run did not end in time after the first.

    Not a KeyboardInterrupt: psycopg would catch it, and wait for the server again.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number
        """The number of the first signal."""


class Interrupts:
    """In its `with`, a first signal only sets a flag; a second one, or a timeout, stops the run.

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
        if self.signal is not None:
            raise ForcedStopError(self.signal)
        self.signal = number
        os.write(self._writer, b"!")
        # A statement of our own may wait for a dead server without checking the flag.
        signal.setitimer(signal.ITIMER_REAL, _GRACE, _REPEAT)
