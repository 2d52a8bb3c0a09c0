"""How the program was called, where its output goes, and which exit code it ends with."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from .. import config, errors
from ..config import Settings
from .configuration import Configuration
from .keys import DATABASE_URL, PASSWORD_COMMAND
from .streams import write_error

if TYPE_CHECKING:
    from ..events import Event
    from ..model import Migration
    from ..output.json import Json
    from ..output.progress import EventWriter
    from ..output.text import Style
    from ..postgres.cursor import Connection
    from ..session import Session

EXIT_CODES: dict[type[errors.MigratorError], int] = {
    errors.UsageError: 2,
    errors.ConfigurationError: 2,
    errors.EmptyDirectoryError: 4,
    errors.DirectoryError: 2,
    errors.EmbeddedServerError: 6,
    errors.DatabaseConnectionError: 6,
    errors.LockTimeoutError: 5,
    errors.RunnerLockError: 5,
    errors.RequirementError: 4,
    errors.StatementError: 1,
    errors.InterruptedMigrationError: 7,
    errors.BlockedError: 4,
    errors.HistoryError: 4,
    errors.ReadOnlyError: 4,
    errors.MigrationFileError: 4,
    errors.VersionError: 4,
    errors.PlanChangedError: 4,
    errors.SchemaFileError: 4,
    errors.ScratchError: 6,
    errors.CopyError: 6,
    errors.DumpError: 6,
    errors.BackupError: 6,
    errors.HookError: 6,
    errors.InternalError: 70,
}
"""By kind of error, subclasses before their base; the README has the same table."""

_LOGGED = 2  # -vv

DISAGREEING = 4
"""The exit code for findings, drift and everything else that needs a decision."""


def called_as() -> str:
    """Return how the user called the program; the Makefile sets `MIGRATOR_CALLED_AS`."""
    if os.environ.get("MIGRATOR_CALLED_AS") == "make":
        return "make"
    spec = sys.modules["__main__"].__spec__
    return "python -m migrator" if spec and spec.name == "migrator.__main__" else "migrator"


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
        arguments: Those of the program.
        config_path: The configuration file to read; None for `migrator.toml`, if there is one.
        env: The environment to choose in it; None for none.
        sources: Where each of the program's options was given; none for those that were not.
        wait: How long to wait for the database, as it was given; None for not at all.
        program: How the user called it: `migrator`, `python -m migrator` or `make`.
    """

    settings: Settings = field(default_factory=Settings)
    arguments: tuple[str, ...] = field(default=(), repr=False)
    config_path: str | None = None
    env: str | None = None
    configuration: Configuration = field(default_factory=Configuration)
    sources: dict[str, ParameterSource] = field(default_factory=dict)
    database_url: str | None = field(default=None, repr=False)
    wait: str | None = None
    as_json: bool = False
    verbosity: int = 0
    program: str = field(default_factory=called_as)
    _writer: EventWriter | None = None

    @property
    def logs(self) -> bool:
        """Whether all SQL is logged, and the place of a bug."""
        return self.verbosity >= _LOGGED or "migrator" in os.environ.get("DEBUG", "").split(",")

    def opened(
        self, *, read: Callable[[], tuple[Migration, ...]] | None = None
    ) -> AbstractContextManager[Session]:
        """Read the files, connect and find the history, as `session.opened` does."""
        from .. import session

        return session.opened(self._configured(), self.notify, read=read)

    def connected(self) -> AbstractContextManager[Connection]:
        """Connect alone, as `session.connected` does."""
        from .. import session

        return session.connected(self._configured(), self.notify)

    def _configured(self) -> Settings:
        if self.logs:
            log_statements()
        return replace(self.settings, database=self.database())

    def database(self) -> config.Database | None:
        """Choose the database: by option, environment and file; None if none of them does.

        Raises:
            ConfigurationError: A value is invalid, or the file may not name a program.
        """
        names = config.naming(os.environ)
        is_of_file = self.sources.get("database_url") is ParameterSource.DEFAULT_MAP
        typed, written = (None, self.database_url) if is_of_file else (self.database_url, None)
        if is_of_file and self.env and names:
            place = self.configuration.place(("", DATABASE_URL))
            self.remark(f"warning: {', '.join(names)} overrides database-url of {place}")
        is_named = self.config_path is not None or "DATABASE_URL" in names
        if is_of_file and not is_named and config.has_password(os.environ):
            self.configuration.trust_url()
        chosen = config.database(typed, os.environ, written)
        if chosen and not config.has_password(os.environ):
            chosen = replace(chosen, password_command=self.configuration.command(PASSWORD_COMMAND))
        return chosen

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
        from ..output.terminal import readable

        try:
            path.write_text(readable(text), encoding="utf-8")
        except OSError as error:
            raise errors.UsageError(f"cannot write {path}: {error.strerror}") from error

    def notify(self, event: Event) -> None:
        """Write an event to stderr, and keep it for the result."""
        self._events().write(event)

    def progress(self, text: str) -> None:
        """Show progress on a terminal, in place of the progress shown before."""
        self._events().progress(text)

    def _events(self) -> EventWriter:
        if self._writer is None:
            from ..output.progress import EventWriter

            self._writer = EventWriter(
                sys.stderr,
                style(sys.stderr),
                as_json=self.as_json,
                is_verbose=self.verbosity > 0,
                program=self.program,
            )
        return self._writer

    def remark(self, text: str) -> None:
        """Write a sentence, as `notify` does."""
        from ..events import Remarked

        self.notify(Remarked(text))

    def say(self, text: str) -> None:
        """Write text to stderr, except with `--json`."""
        if not self.as_json:
            from ..output.invocation import as_called
            from ..output.terminal import readable

            self._clear_line()
            click.echo(readable(as_called(text, self.program)), err=True)

    @property
    def events(self) -> tuple[Event, ...]:
        """What was written as JSON, in order."""
        return tuple(self._writer.events) if self._writer else ()

    def _clear_line(self) -> None:
        if self._writer:
            self._writer.clear()

    def show(
        self,
        as_text: Callable[[], str],
        as_json: Callable[[], Json | list[Json]],
        *,
        kept: str | None = None,
    ) -> None:
        """Print a result on stdout, as text or as JSON; the other form is not built.

        Args:
            kept: What the command has changed, for the error if the result cannot be written; None
                if it changed nothing.

        Raises:
            UsageError: It cannot be written, and not because the reader closed the pipe.
        """
        self._clear_line()
        if self.as_json:
            from ..output.json import dumps

            click.echo(dumps(as_json(), indent=2))
        else:
            from ..output.terminal import readable

            click.echo(readable(as_text()))
        error = write_error(sys.stdout)
        if error and error.errno != errno.EPIPE:
            raise _unwritten(error, kept)

    def show_exactly(
        self, as_text: Callable[[], str], as_json: Callable[[], Json | list[Json]]
    ) -> None:
        """Print a result on stdout as `show` does, byte for byte unless stdout is a terminal.

        Raises:
            UsageError: As `show`.
        """
        if self.as_json or sys.stdout.isatty():
            self.show(lambda: as_text().removesuffix("\n"), as_json)
            return
        self._clear_line()
        click.echo(as_text().encode(), nl=False)
        error = write_error(sys.stdout)
        if error and error.errno != errno.EPIPE:
            raise _unwritten(error)

    def fail(self, error: errors.MigratorError) -> int:
        """Print an error, and return its exit code."""
        self._clear_line()
        is_interrupt = isinstance(error, errors.CancelledError) and error.signal == signal.SIGINT
        if is_interrupt and sys.stderr.isatty():
            click.echo(err=True)  # the terminal has written ^C
        if self.as_json:
            from ..output.json import dumps, of_error

            document = {"error": of_error(error)}
            click.echo(dumps(document, indent=2))
            if write_error(sys.stdout):
                click.echo(dumps(document), err=True)  # one line, like the events
        else:
            from ..output.terminal import readable
            from ..output.text import error_text

            text = error_text(error, style(sys.stderr), self.program)
            click.echo(readable(text), err=True)
        return exit_code(error)


def log_statements() -> None:
    """Log every statement that is sent to stderr, with its time."""
    import logging

    from ..output.terminal import readable

    class Readable(logging.Formatter):
        """Formats a line without passwords and control characters."""

        def format(self, record: logging.LogRecord) -> str:
            """Format a record."""
            return readable(super().format(record))

    handler = logging.StreamHandler()
    handler.setFormatter(Readable("%(asctime)s.%(msecs)03d %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("migrator")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


def terminal_width(stream: Any) -> int | None:
    """Return the width of a stream in columns; None if it is no terminal."""
    is_terminal = stream is not None and stream.isatty()
    return shutil.get_terminal_size().columns if is_terminal else None


def style(stream: Any) -> Style:
    """Return how to colour text for a stream: not at all for a file or with NO_COLOR."""
    from ..output.text import plain

    colourful = stream is not None and stream.isatty() and "NO_COLOR" not in os.environ
    return _coloured if colourful else plain


def _coloured(text: str, **style: Any) -> str:
    from ..output.terminal import own

    before, after = click.style("\0", **style).split("\0")
    return f"{own(before)}{text}{own(after)}"


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
