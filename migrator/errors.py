"""Everything that can go wrong, as the user meets it.

    MigratorError
      UsageError              an option, a version or a name that cannot be right
      ConfigurationError      the settings name no database, or not one that can be
      DirectoryError          the migrations directory cannot be read or written
      EmbeddedServerError     the embedded PostgreSQL cannot be started
      MigrationFileError      a file cannot be read as a migration
      VersionError            one version's file and history disagree
        ModifiedError MissingError OutOfOrderError IrreversibleError InterruptedMigrationError
      BlockedError            all the reasons why nothing was run
      PlanChangedError        a rehearsed plan is out of date
      ScratchError            no scratch database for a rehearsal
      DumpError               no pg_dump for the server, or it failed
      DatabaseConnectionError no connection, or it was lost
      HistoryError            the history table is not one that can be used
        TakenError            another runner was faster
      StatementError          PostgreSQL refused a statement
        LockTimeoutError      it could not have a lock in time, in any of the tries
      RunnerLockError         another runner is at work
      CancelledError          the user stopped the run

An error carries data, never layout: `render` decides how it looks, `cli` which exit
code it becomes.  `code` is stable, and is the name of a section in README.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import PurePath


@dataclass(frozen=True, slots=True)
class Location:
    """A character in a file; `line` and `column` count from 1, as editors do."""

    path: PurePath
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


@dataclass(eq=False)
class MigratorError(Exception):
    """Base of every error that the command line reports without a traceback.

    Attributes:
        message: What is wrong, in PostgreSQL's manner: lower case, no full stop.
        location: The place in a file; None where it is in none.
        detail: More of the same, over as many lines as it takes; None for nothing more.
        hint: What to do, with the command to type; None where there is nothing to do.
    """

    code: ClassVar[str]

    message: str
    location: Location | None = None
    detail: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.location}: {self.message}" if self.location else self.message


class UsageError(MigratorError):
    """An option, a version or a name that cannot be right."""

    code = "usage"


class ConfigurationError(MigratorError):
    """The settings name no database, or contradict themselves."""

    code = "configuration"


class DirectoryError(MigratorError):
    """The migrations directory cannot be read or written."""

    code = "directory"


class EmbeddedServerError(MigratorError):
    """The embedded PostgreSQL cannot be installed, started or reached."""

    code = "embedded-server"


class MigrationFileError(MigratorError):
    """A file cannot be read as a migration, or holds what is refused in advance."""

    code = "migration-file"


@dataclass(eq=False)
class VersionError(MigratorError):
    """Files and history disagree about one version."""

    version: str = ""


class ModifiedError(VersionError):
    """The file's SQL is not the one that was applied; `detail` is the difference."""

    code = "modified"


class MissingError(VersionError):
    """A version was applied, newer ones too, and its file is gone."""

    code = "missing"


class OutOfOrderError(VersionError):
    """A pending version is older than one that is applied."""

    code = "out-of-order"


class IrreversibleError(VersionError):
    """A version cannot be taken back: it has no down script."""

    code = "irreversible"


class InterruptedMigrationError(VersionError):
    """A migration outside a transaction stopped halfway and cannot simply go on."""

    code = "interrupted"


@dataclass(eq=False)
class BlockedError(MigratorError):
    """Every reason why nothing was run, in the order of the versions; at least one."""

    code = "blocked"

    errors: tuple[MigratorError, ...] = ()


class PlanChangedError(MigratorError):
    """Files or history are not those that a plan was rehearsed with."""

    code = "plan-changed"


class ScratchError(MigratorError):
    """A scratch database cannot be made, or cannot be given the target's schema."""

    code = "scratch"


class DumpError(MigratorError):
    """There is no `pg_dump` for the server, or it failed."""

    code = "dump"


class DatabaseConnectionError(MigratorError):
    """No connection to PostgreSQL could be made, or it was lost."""

    code = "connection"


class HistoryError(MigratorError):
    """The table `migration_versions` cannot be created, read or understood."""

    code = "history"


class TakenError(HistoryError):
    """Another runner recorded this version first; nothing of it was run here."""


@dataclass(eq=False)
class StatementError(MigratorError):
    """PostgreSQL refused a statement; `location` is the offending character.

    Attributes:
        version: The migration whose script it stands in.
        excerpt: The lines around the place, with a caret; None without a place.
        sqlstate: PostgreSQL's five-character code; None where the connection broke.
        server_hint: PostgreSQL's own hint.
        context: PostgreSQL's call stack, such as `PL/pgSQL function f() line 3 at RAISE`.
        outcome: What was rolled back and what stays, as sentences.
    """

    code = "statement"

    version: str = ""
    excerpt: str | None = None
    sqlstate: str | None = None
    server_hint: str | None = None
    context: str | None = None
    outcome: str = ""


class LockTimeoutError(StatementError):
    """A statement could not have its lock, in any of the tries; nothing was changed."""

    code = "lock-timeout"


class RunnerLockError(MigratorError):
    """Another runner is at work on the same history, and the wait for it is over."""

    code = "runner-lock"


@dataclass(eq=False)
class CancelledError(MigratorError):
    """The user stopped the run; `signal` is the number of the signal that did."""

    code = "cancelled"

    signal: int = 2
