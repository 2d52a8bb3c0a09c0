"""Survive a standard output or error that cannot be written: a full device, a closed descriptor."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class StandardStream(io.FileIO):
    """Standard output or standard error: after a failed write, drop everything that follows.

    A write that fails must not stop a run halfway, and what stays in Python's buffer would be
    written again at exit, which then ends with code 120.
    """

    error: OSError | None = None
    """Why the first failed write failed; None while all succeeded."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write bytes, and return how many were written or dropped."""
        if self.error is None:
            try:
                return super().write(data)
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes


def guard_streams() -> None:
    """Put a `StandardStream` under `sys.stdout` and `sys.stderr`; a closed one is `/dev/null`."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # This opens the lowest free number, which is the closed one.  Otherwise a connection
            # would get it, and a warning that libpq prints to stderr would go to the server.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = _guarded(1, sys.stdout), _guarded(2, sys.stderr)


def _guarded(number: int, stream: TextIO | None) -> TextIO:
    raw = StandardStream(number, "w", closefd=False)
    encoding = stream.encoding if stream else None
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, line_buffering=True)


def write_error(stream: TextIO) -> OSError | None:
    """Return why a standard stream could not be written; None if it could."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw.error if isinstance(raw, StandardStream) else None
