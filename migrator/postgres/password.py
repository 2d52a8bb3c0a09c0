"""Ask a program for the password of a new connection."""

from __future__ import annotations

import os
import selectors
import shlex
import subprocess
import time
from contextlib import suppress
from typing import IO

from ..config import Command
from ..errors import DatabaseConnectionError

_LIMIT = 30.0  # seconds; a program that asks a cloud for a token takes one to three
_LONGEST = 1 << 16  # bytes of output; a token of a cloud has about 2,000
_SHOWN = 2000  # characters of what a failed program says
# Passwords that the program does not need.
_HIDDEN = frozenset({"DATABASE_PASSWORD", "PGPASSWORD", "MIGRATOR_SCRATCH_URL"})


def password_of(command: Command, *, limit: float = _LIMIT) -> str:
    """Run a program, without a shell, and return the first line that it prints.

    It gets the user's environment, which has what it needs (`AWS_PROFILE`, `HOME`, …), without
    passwords.

    Args:
        limit: How long it may take, in seconds.

    Raises:
        DatabaseConnectionError: It cannot be run, fails, takes too long, or prints no password;
            the message does not have its output.
    """
    try:
        process = subprocess.Popen(  # noqa: S603  (the user names it, in a file of their own)
            command.words,
            cwd=command.directory,
            env={name: value for name, value in os.environ.items() if name not in _HIDDEN},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it contains a NUL"
        raise _failed(command, f"cannot be run: {reason}") from None
    try:
        output, said = _read(process, time.monotonic() + limit)
        if len(output) > _LONGEST:
            raise _failed(command, "printed more than 64 kB")
        code = process.wait(limit)
    except (TimeoutError, subprocess.TimeoutExpired):
        raise _failed(command, f"did not finish within {limit:g} s") from None
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()
    if code:
        ended = f"signal {-code}" if code < 0 else f"exit status {code}"
        raise _failed(command, f"failed with {ended}", _without(output, said))
    return _first_line(command, output)


def _first_line(command: Command, output: bytes) -> str:
    line = output.partition(b"\n")[0].removesuffix(b"\r")
    with suppress(UnicodeDecodeError):
        if (password := line.decode()) and "\0" not in password:
            return password
    raise _failed(command, "printed no password: its first line is " + _what(line))


def _what(line: bytes) -> str:
    return "not text" if line else "empty"


def _read(process: subprocess.Popen[bytes], end: float) -> tuple[bytes, bytes]:
    """Return what a program prints and says, until it closes both or prints too much.

    Raises:
        TimeoutError: It has not done so at `end`, by the monotonic clock.
    """
    assert process.stdout, "it is a pipe"
    assert process.stderr, "it is a pipe"
    read: dict[IO[bytes], bytes] = {process.stdout: b"", process.stderr: b""}
    with selectors.DefaultSelector() as selector:
        for stream in read:
            selector.register(stream, selectors.EVENT_READ, stream)
        while selector.get_map() and len(read[process.stdout]) <= _LONGEST:
            ready = selector.select(max(0, end - time.monotonic()))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                if data := os.read(key.fd, 4096):
                    read[key.data] = (read[key.data] + data)[: _LONGEST + 1]
                else:
                    selector.unregister(key.fileobj)
    return read[process.stdout], read[process.stderr]


def _without(output: bytes, said: bytes) -> str:
    """Return the end of what a program said, without what it printed."""
    text = said.decode(errors="replace").strip()
    for word in sorted(output.decode(errors="replace").split(), key=len, reverse=True):
        text = text.replace(word, "****")
    return text[-_SHOWN:]


def _failed(command: Command, reason: str, said: str | None = None) -> DatabaseConnectionError:
    return DatabaseConnectionError(
        f'password-command "{command.words[0]}" {reason}',
        detail=said or None,
        hint=f"to see why, run it yourself: {shlex.join(command.words)}",
    )
