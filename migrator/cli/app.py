"""How the program was called, where its output goes, and which exit code it ends with."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from .. import config, errors
from ..config import Settings
from ..interrupts import ForcedStopError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ..events import Event
    from ..output.json import Json
    from ..output.progress import Teller
    from ..output.text import Style
    from ..session import Session

EXIT_CODES: dict[type[errors.MigratorError], int] = {
    errors.UsageError: 2,
    errors.ConfigurationError: 2,
    errors.DirectoryError: 2,
    errors.EmbeddedServerError: 6,
    errors.DatabaseConnectionError: 6,
    errors.LockTimeoutError: 5,
    errors.RunnerLockError: 5,
    errors.StatementError: 1,
    errors.InterruptedMigrationError: 7,
    errors.BlockedError: 4,
    errors.HistoryError: 4,
    errors.MigrationFileError: 4,
    errors.VersionError: 4,
    errors.PlanChangedError: 4,
    errors.ScratchError: 6,
    errors.DumpError: 6,
}
"""By kind of error, subclasses before their base; the README has the same table."""

_LOGGED = 2  # -vv

DISAGREEING = 4
"""The exit code for findings, drift and everything else that needs a decision."""


def called_as() -> str:
    """Return what the program was called as; the Makefile says so in `MIGRATOR_CALLED_AS`."""
    if os.environ.get("MIGRATOR_CALLED_AS") == "make":
        return "make"
    spec = sys.modules["__main__"].__spec__
    return "python -m migrator" if spec and spec.name == "migrator.__main__" else "migrator"


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


def final_code(code: str | int | None) -> str | int | None:
    """Return the exit code of a run that ends with this one, given what became of its output.

    A failed run keeps its own code.  A closed pipe is no error: the reader closed it on purpose.
    """
    error = write_error(sys.stdout)
    if code or error is None:
        return code
    return 128 + signal.SIGPIPE if error.errno == errno.EPIPE else App().fail(_unwritten(error))


def _unwritten(error: OSError, kept: str | None = None) -> errors.UsageError:
    return errors.UsageError(f"the result cannot be written: {error.strerror}", detail=kept)


@dataclass(slots=True)
class App:
    """How the program was called, and where its output goes.

    Attributes:
        program: What it was called as: `migrator`, `python -m migrator` or `make`.
    """

    settings: Settings = field(default_factory=Settings)
    database_url: str | None = field(default=None, repr=False)
    as_json: bool = False
    verbosity: int = 0
    program: str = field(default_factory=called_as)
    _teller: Teller | None = None

    def opened(self) -> AbstractContextManager[Session]:
        """Read the files, connect and find the history, as `session.opened` does."""
        from .. import session

        if self.verbosity >= _LOGGED or "migrator" in os.environ.get("DEBUG", "").split(","):
            log_statements()
        database = config.database(self.database_url, os.environ)
        return session.opened(replace(self.settings, database=database), self.notify)

    def other_database(self, url: str | None) -> config.Database | None:
        """Parse the URL of a second database, such as that of `--scratch-url`.

        Raises:
            ConfigurationError: The URL is invalid.
        """
        return config.database(url, {}) if url else None

    def write(self, path: Path, text: str) -> None:
        """Write a result to a file.

        Raises:
            UsageError: It cannot be written.
        """
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise errors.UsageError(f"cannot write {path}: {error.strerror}") from error

    def notify(self, event: Event) -> None:
        """Write an event to stderr, and keep it for the result."""
        if self._teller is None:
            from ..output.progress import Teller

            self._teller = Teller(
                sys.stderr,
                style(sys.stderr),
                as_json=self.as_json,
                is_verbose=self.verbosity > 0,
                program=self.program,
            )
        self._teller.tell(event)

    def say(self, text: str) -> None:
        """Write text to stderr, which JSON does without."""
        if not self.as_json:
            from ..output.invocation import as_called

            self._clear_line()
            click.echo(as_called(text, self.program), err=True)

    @property
    def events(self) -> tuple[Event, ...]:
        """What was written as JSON, in order."""
        return tuple(self._teller.events) if self._teller else ()

    def _clear_line(self) -> None:
        if self._teller:
            self._teller.clear()

    def show(
        self,
        as_text: Callable[[], str],
        as_json: Callable[[], Json | list[Json]],
        *,
        kept: str | None = None,
    ) -> None:
        """Print a result on stdout; only the form that is asked for is made.

        Args:
            kept: What the command has done that stays if the result is lost; None for nothing.

        Raises:
            UsageError: It cannot be written, and not because the reader closed the pipe.
        """
        self._clear_line()
        click.echo(json.dumps(as_json(), indent=2) if self.as_json else as_text())
        error = write_error(sys.stdout)
        if error and error.errno != errno.EPIPE:
            raise _unwritten(error, kept)

    def fail(self, error: errors.MigratorError) -> int:
        """Print an error, and return its exit code."""
        from ..output.json import of_error
        from ..output.text import error_text

        self._clear_line()
        is_interrupt = isinstance(error, errors.CancelledError) and error.signal == signal.SIGINT
        if is_interrupt and sys.stderr.isatty():
            click.echo(err=True)  # the terminal has written ^C
        if self.as_json:
            document = {"error": of_error(error)}
            click.echo(json.dumps(document, indent=2))
            if write_error(sys.stdout):
                click.echo(json.dumps(document), err=True)  # one line, like the events
        else:
            click.echo(error_text(error, style(sys.stderr), self.program), err=True)
        return exit_code(error)


class WrongUsageError(click.UsageError):
    """Wrong arguments, with a suggestion; None points to the help."""

    def __init__(self, message: str, ctx: click.Context, hint: str | None) -> None:
        super().__init__(message, ctx)
        self.hint = hint


class Commands(click.Group):
    """The commands, in the order of their definition; reports every error of ours."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        """List the commands in the order of their definition."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  (click's signature)
        """Write the first sentence of each command, in full, and the topics of `help`."""
        from ..output.reference import TOPICS

        shown = (command for command in self.commands.values() if not command.hidden)
        rows = [(str(each.name), (each.help or "").partition("\n")[0]) for each in shown]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
        with formatter.section("Topics (migrator help TOPIC)"):
            formatter.write_dl(list(TOPICS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; suggest one if there is none of that name.

        Raises:
            WrongUsageError: There is none.
        """
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            from .suggestion import suggest

            guess = suggest(args[0], self.commands)
            hint = f"did you mean: migrator {guess}" if guess else None
            raise WrongUsageError(f"no such command '{args[0]}'", ctx, hint)
        return super().resolve_command(ctx, args)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Read the options before the command, and report a wrong one as an error of ours."""
        given = tuple(args)  # click takes them out
        for stream in (sys.stdout, sys.stderr):
            # A terminal in Latin-1 must not end a run because of a letter that it cannot show.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        try:
            return super().make_context(info_name, args, parent, obj=App(), **extra)
        except click.UsageError as error:
            if not given:
                raise  # it is the help
            app = App(as_json="--json" in given)
            raise click.exceptions.Exit(app.fail(_usage(error))) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and turn its error into a message and an exit code."""
        # A wrong command is reported before the options after it are read.
        asked_for_json = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            ctx.obj.as_json = ctx.obj.as_json or asked_for_json
            ctx.exit(ctx.obj.fail(_usage(error)))
        except errors.MigratorError as error:
            ctx.exit(ctx.obj.fail(error))
        except (KeyboardInterrupt, ForcedStopError) as error:
            at_once = errors.CancelledError(
                "interrupted at once; the server may still be running a statement",
                hint="to see what was done, run: migrator status",
                signal=getattr(error, "signal", signal.SIGINT),
            )
            ctx.exit(ctx.obj.fail(at_once))


def _usage(error: click.UsageError) -> errors.UsageError:
    """Write an error of click in the manner of ours."""
    message = error.format_message().rstrip(".").replace("'. (", "' (")
    is_command = error.ctx is not None and error.ctx.parent is not None
    path = f"migrator {error.ctx.info_name}" if error.ctx and is_command else "migrator"
    hint = error.hint if isinstance(error, WrongUsageError) else None
    return errors.UsageError(message[:1].lower() + message[1:], hint=hint or f"see: {path} --help")


def log_statements() -> None:
    """Log every statement that is sent to stderr, with its time."""
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("migrator")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


def style(stream: Any) -> Style:
    """Return how to colour text for a stream: not at all for a file or with NO_COLOR."""
    from ..output.text import plain

    colourful = stream is not None and stream.isatty() and "NO_COLOR" not in os.environ
    return click.style if colourful else plain


def exit_code(error: errors.MigratorError) -> int:
    """Return the exit code of an error; of several errors, the highest.

    >>> exit_code(errors.CancelledError("interrupted", signal=15))
    143
    """
    if isinstance(error, errors.CancelledError):
        return 128 + error.signal
    if isinstance(error, errors.BlockedError):
        return max((exit_code(each) for each in error.errors), default=DISAGREEING)
    return next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
