"""Turn Ctrl-C and SIGTERM into a flag that every wait of a run looks at."""

from __future__ import annotations

import os
import select
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 6.0  # seconds; a container's runtime kills after ten
_AGAIN = 1.0  # seconds; what cleans up may wait for the same dead server


class ImpatientError(BaseException):
    """The run did not end in good time after a signal, or a second one arrived.

    No KeyboardInterrupt: psycopg would catch that, and wait for the server once more.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number
        """The number of the first signal."""


class Interrupts:
    """While entered, a first signal is only noted; a second one, or time, interrupts at once.

    An exception out of nowhere would leave the run unable to say what it had done.
    Outside the main thread, where Python hands out no signals, nothing is changed.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        """The number of the signal that arrived; None while none has."""

        self._reader = self._writer = -1
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # A program under nohup keeps ignoring SIGHUP.
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
        """Give a descriptor that can be read once a signal has arrived."""
        return self._reader

    def wait(self, seconds: float) -> bool:
        """Sleep, and return whether a signal arrived before or meanwhile."""
        if self.signal is None:
            select.select([self], [], [], seconds)
        return self.signal is not None

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            raise ImpatientError(self.signal)
        self.signal = number
        os.write(self._writer, b"!")
        # A statement of our own may wait for a server that is gone, and look at no flag.
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE, _AGAIN)
