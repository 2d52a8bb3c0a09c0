"""The errors that are reported to the user.

    MigratorError
      UsageError              an option, a version or a name is invalid
      ConfigurationError      no database is configured, or a setting is invalid
      DirectoryError          the migrations directory cannot be read or written
        EmptyDirectoryError   there is no migration in it
      EmbeddedServerError     the embedded PostgreSQL cannot be started
      MigrationFileError      a file cannot be read as a migration
      VersionError            file and history of one version disagree
        ModifiedError RenamedError MissingError OutOfOrderError IrreversibleError SquashError
        InterruptedMigrationError
      BlockedError            all problems that kept a run from starting
      PlanChangedError        a rehearsed plan is out of date
      ScratchError            a rehearsal has no scratch database
      DumpError               there is no pg_dump for the server, or it failed
      BackupError             there is no backup before a run
      HookError               a command before a run failed
      SchemaFileError         a schema file is not what the migrations make
      DatabaseConnectionError no connection, or it was lost
        UnavailableError      the database does not answer yet, or does not exist yet
      ReadOnlyError           the database is frozen
      HistoryError            the history table cannot be used
        TakenError            another runner recorded the version first
      StatementError          PostgreSQL refused a statement
        LockTimeoutError      it could not acquire a lock in any attempt
        RequirementError      a condition of the migration is not met
      RunnerLockError         another runner holds the runner's lock
      CancelledError          the user stopped the run
      InternalError           a bug in migrator

An error holds data, not layout: `output` formats it, `cli` chooses the exit code.  `code` is
stable, and the name of a section in README.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import PurePath


_FEW = 5  # versions that are named one by one


def counted(number: int, noun: str) -> str:
    """Write a number of things, as messages do.

    >>> counted(1, "row"), counted(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """Write a time as a person reads it.

    >>> [duration(seconds) for seconds in (0.0004, 0.0123, 1.25, 59.96, 119.7, 7300)]
    ['<1 ms', '12 ms', '1.2 s', '1 min 0 s', '2 min 0 s', '2 h 1 min']
    """
    if round(seconds * 1000) < 1:
        return "<1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def listed(versions: Sequence[str]) -> str:
    """Name successive versions; if they are more than five, how many, the first and the last.

    >>> listed(["01_a", "02_b"])
    '01_a, 02_b'
    >>> listed([f"{number}_x" for number in range(142)])
    '142 migrations, 0_x to 141_x'
    """
    if len(versions) <= _FEW:
        return ", ".join(versions)
    return f"{counted(len(versions), 'migration')}, {versions[0]} to {versions[-1]}"


@dataclass(frozen=True, slots=True)
class Location:
    """A position in a file; `line` and `column` count from 1, as in editors."""

    path: PurePath
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


@dataclass(eq=False)
class MigratorError(Exception):
    """Base of every error that the command line reports without a traceback.

    Attributes:
        message: What is wrong, in the style of PostgreSQL: lower case, no full stop.
        location: Where in a file; None if it is not about a file.
        detail: More about it, on one or more lines; None if there is no more.
        hint: What to do, with the command to type; None if there is nothing to do.
    """

    code: ClassVar[str]

    message: str
    location: Location | None = None
    detail: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.location}: {self.message}" if self.location else self.message


class InternalError(MigratorError):
    """An exception that is a bug in migrator."""

    code = "internal"


class UsageError(MigratorError):
    """An option, a version or a name is invalid."""

    code = "usage"


class ConfigurationError(MigratorError):
    """No database is configured, or a setting is invalid."""

    code = "configuration"


class DirectoryError(MigratorError):
    """The migrations directory cannot be read or written."""

    code = "directory"


class EmptyDirectoryError(DirectoryError):
    """The migrations directory holds no migration, and nothing says that it may be empty."""

    code = "empty-directory"


class EmbeddedServerError(MigratorError):
    """The embedded PostgreSQL cannot be installed, started or reached."""

    code = "embedded-server"


class MigrationFileError(MigratorError):
    """A file cannot be read as a migration, or holds SQL that migrator refuses to run."""

    code = "migration-file"


@dataclass(eq=False)
class VersionError(MigratorError):
    """File and history of one version disagree."""

    version: str = ""


class ModifiedError(VersionError):
    """The SQL of a file differs from what was applied; `detail` is the difference."""

    code = "modified"


class RenamedError(VersionError):
    """The file of an applied version has another name or number."""

    code = "renamed"


class MissingError(VersionError):
    """The file of an applied version is missing."""

    code = "missing"


class OutOfOrderError(VersionError):
    """A pending version is older than an applied one."""

    code = "out-of-order"


class IrreversibleError(VersionError):
    """A version cannot be reverted: it has no down script."""

    code = "irreversible"


class SquashError(VersionError):
    """What a squashed file replaces is not applied as it was, or not recorded yet."""

    code = "squashed"


class InterruptedMigrationError(VersionError):
    """A no-transaction migration was interrupted and cannot simply be resumed."""

    code = "interrupted"


@dataclass(eq=False)
class BlockedError(MigratorError):
    """All problems that kept a run from starting, by version; at least one."""

    code = "blocked"

    errors: tuple[MigratorError, ...] = ()

    @classmethod
    def of(cls, problems: Iterable[MigratorError], suffix: str) -> Self:
        """Build the error of some problems; its message is their number and a suffix.

        >>> BlockedError.of([UsageError("x"), UsageError("y")], "found").message
        '2 problems found'
        """
        errors = tuple(problems)
        return cls(f"{counted(len(errors), 'problem')} {suffix}", errors=errors)


class PlanChangedError(MigratorError):
    """Files or history have changed since a plan was rehearsed."""

    code = "plan-changed"


class ScratchError(MigratorError):
    """A scratch database cannot be created, or not with the schema of the target."""

    code = "scratch"


class CopyError(MigratorError):
    """A database cannot be used as the copy that a rehearsal uses up."""

    code = "copy"


class DumpError(MigratorError):
    """There is no `pg_dump` for the server, or it failed."""

    code = "dump"


class SchemaFileError(MigratorError):
    """A schema file differs from what the migrations make."""

    code = "schema-file"


class BackupError(MigratorError):
    """The backup before a run could not be made; nothing was run."""

    code = "backup"


class HookError(MigratorError):
    """A command that is to run before a run failed; nothing was run."""

    code = "hook"


class DatabaseConnectionError(MigratorError):
    """The connection to PostgreSQL cannot be made, or was lost."""

    code = "connection"


class UnavailableError(DatabaseConnectionError):
    """The server cannot be reached, or the database does not exist; later they may be there."""


class ReadOnlyError(MigratorError):
    """Transactions of the database or the role are read-only by default."""

    code = "read-only"


class HistoryError(MigratorError):
    """The history tables cannot be created, read or understood."""

    code = "history"


class TakenError(HistoryError):
    """Another runner recorded this version first; this one ran nothing of it."""


@dataclass(eq=False)
class StatementError(MigratorError):
    """PostgreSQL refused a statement; `location` is where in its script.

    Attributes:
        version: The migration of the script.
        excerpt: The lines around the location, with a caret; None without a location.
        sqlstate: PostgreSQL's five-character code; None if the connection was lost.
        server_hint: PostgreSQL's own hint.
        context: PostgreSQL's call stack, such as `PL/pgSQL function f() line 3 at RAISE`.
        outcome: What was rolled back and what was kept, in sentences.
    """

    code = "statement"

    version: str = ""
    excerpt: str | None = None
    sqlstate: str | None = None
    server_hint: str | None = None
    context: str | None = None
    outcome: str = ""


class LockTimeoutError(StatementError):
    """A statement could not acquire its lock in any attempt; nothing was changed."""

    code = "lock-timeout"


@dataclass(eq=False)
class RequirementError(StatementError):
    """A condition that a migration requires or ensures is not met.

    Attributes:
        query: The query of the condition.
        gave: What it gave, such as `false` or `3 (integer)`.
    """

    code = "requirement"

    query: str = ""
    gave: str | None = None


class RunnerLockError(MigratorError):
    """Another runner of the same history did not finish in time."""

    code = "runner-lock"


@dataclass(eq=False)
class CancelledError(MigratorError):
    """The user stopped the run; `signal` is the number of the signal."""

    code = "cancelled"

    signal: int = 2
