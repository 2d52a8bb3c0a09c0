"""Run a command of the configuration file around a run, such as `before-up`."""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO

from psycopg import ConnectionInfo, pq

from ..config import Command
from ..errors import CancelledError, duration
from ..interrupts import Interrupts

_POLL = 0.1  # seconds; a program that has ended may leave children that hold its output
_GRACE = 2.0  # seconds to end after SIGTERM
# Not for a child: how libpq looks up the address itself, and what psycopg or we have added.
_NOT_PASSED = frozenset({"hostaddr", "client_encoding", "application_name", "connect_timeout"})
_HIDDEN = frozenset({"DATABASE_PASSWORD", "MIGRATOR_SCRATCH_URL"})


class FailedError(Exception):
    """A command could not be run, failed, or took too long; the text says which."""


def environment(info: ConnectionInfo, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command: the user's, and libpq's variables for the database.

    Args:
        info: That of our connection.
    """
    given = {**info.get_parameters(), "host": info.host, "port": str(info.port)}
    given |= {"dbname": info.dbname, "user": info.user, "password": info.password}
    variables = {
        option.envvar.decode(): given.get(option.keyword.decode())
        for option in pq.Conninfo.get_defaults()
        if option.envvar and option.keyword.decode() not in _NOT_PASSED
    }
    found = {name: value for name, value in environ.items() if name not in _HIDDEN}
    return found | {name: value for name, value in variables.items() if value}


def run(
    command: Command,
    document: str,
    environ: Mapping[str, str],
    say: Callable[[str], None],
    *,
    limit: float | None,
    interrupts: Interrupts | None = None,
) -> None:
    """Run a command without a shell, in the directory of the configuration file.

    Args:
        document: What it can read from its standard input.
        say: Called with each line of its stdout and stderr.
        limit: How long it may take, in seconds; None for no limit.
        interrupts: The flag that stops it; None if a signal raises an exception.

    Raises:
        FailedError: It could not be run, failed, or took too long.
        CancelledError: A signal stopped it.
    """
    name = f'"{command.words[0]}"'
    try:
        process = _start(command, document, environ)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it contains a NUL"
        raise FailedError(f"{name} cannot be run: {reason}") from None
    try:
        _relay(process, say, None if limit is None else time.monotonic() + limit, interrupts)
    except TimeoutError:
        text = f"{name} did not finish within {duration(limit or 0)}"
        raise FailedError(text) from None
    finally:
        _end(process)
    if code := process.returncode:
        ended = f"signal {-code}" if code < 0 else f"exit status {code}"
        raise FailedError(f"{name} failed with {ended}")


def shown(command: Command) -> str:
    """Write a command as it would be typed."""
    return shlex.join(command.words)


def _start(command: Command, document: str, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # A file: a program that does not read a pipe would block us, or be sent a signal.
    with tempfile.TemporaryFile() as stdin:
        stdin.write(document.encode())
        stdin.seek(0)
        return subprocess.Popen(  # noqa: S603  (the user names it, in a file of their own)
            command.words,
            cwd=command.directory,
            env=environ,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches only us; we stop it
        )


def _relay(
    process: subprocess.Popen[bytes],
    say: Callable[[str], None],
    end: float | None,
    interrupts: Interrupts | None,
) -> None:
    """Pass the output of a program on, until it has ended.

    Raises:
        TimeoutError: It has not at `end`, by the monotonic clock.
        CancelledError: A signal has arrived.
    """
    assert process.stdout, "it is a pipe"
    os.set_blocking(process.stdout.fileno(), False)
    left = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if interrupts:
            selector.register(interrupts, selectors.EVENT_READ)
        while True:
            has_ended = process.poll() is not None
            left = _say_lines(left + _available(process.stdout), say)
            if has_ended:
                break
            if interrupts and interrupts.signal:
                raise CancelledError("interrupted; nothing was run", signal=interrupts.signal)
            if end is not None and time.monotonic() > end:
                raise TimeoutError
            selector.select(_POLL)
    if left:
        say(left.decode(errors="replace"))


def _available(stream: IO[bytes]) -> bytes:
    parts = []
    with suppress(BlockingIOError):
        while part := os.read(stream.fileno(), 1 << 16):
            parts.append(part)
    return b"".join(parts)


def _say_lines(data: bytes, say: Callable[[str], None]) -> bytes:
    """Say all complete lines, and return the rest."""
    *lines, rest = data.split(b"\n")
    for line in lines:
        say(line.decode(errors="replace").removesuffix("\r"))
    return rest


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program that still runs, with every process that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
    if process.stdout:
        process.stdout.close()
