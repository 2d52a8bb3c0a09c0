"""The nouns: immutable values that every other module passes around."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import PurePath

from .errors import MigratorError

_DURATION = re.compile(r"(?P<number>[0-9]{1,9})\s*(?P<unit>ms|s|min|h|d)?")
_LONGEST = 2**31 - 1  # milliseconds: the most that a setting of PostgreSQL holds
_MILLISECONDS = {None: 1, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


class Direction(enum.StrEnum):
    """Which of a migration's two scripts is meant."""

    UP = "up"
    DOWN = "down"


class Status(enum.StrEnum):
    """What files and history together say of one version."""

    PENDING = "pending"
    APPLIED = "applied"
    INTERRUPTED = "interrupted"  # begun outside a transaction and not finished
    MODIFIED = "modified"  # the file's SQL changed after it was applied
    MISSING = "missing"  # applied, but the file is gone
    OUT_OF_ORDER = "out of order"  # pending, but older than an applied version


@dataclass(frozen=True, slots=True)
class Location:
    """A character in a file; `line` and `column` count from 1, as editors do."""

    path: PurePath
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Statement:
    r"""One SQL statement of a source: a window on the text, never a copy of it.

    Attributes:
        source: The text that the statement stands in, whole.
        offset: Where its first character stands, in characters from the start of `source`.
        end: Where it ends: behind its `;`, or behind its last token if it has none.
        words: Its first words outside parentheses, lower case and unquoted, at most eight; of
            an INSERT that one alone, for seeds have millions and nobody asks what follows.
        data: For `COPY … FROM stdin`, where its lines of data begin and end in `source`,
            without the closing `\.` line; None for every other statement.
        backslash: Where the first backslash outside quotes and comments stands, which is a
            command of psql; None without one.
    """

    source: str = field(repr=False)
    offset: int
    end: int
    words: tuple[str, ...] = ()
    data: tuple[int, int] | None = None
    backslash: int | None = None

    @property
    def text(self) -> str:
        """The statement as it is written, with its `;` and without the comments before it."""
        return self.source[self.offset : self.end]


@dataclass(frozen=True, slots=True)
class Options:
    """What a script's own comments ask for; None where they ask for nothing.

    Attributes:
        lock_timeout: How long one statement may wait for one lock, in milliseconds; 0: for ever.
        statement_timeout: How long one statement may take, in milliseconds; 0: for ever.
        role: The role that the statements run as, spelled as in `pg_roles`.
    """

    lock_timeout: int | None = None
    statement_timeout: int | None = None
    role: str | None = None


@dataclass(frozen=True, slots=True)
class Unit:
    """Statements that take effect together.

    Attributes:
        statements: In the order in which they run; none in an empty file.
        transactional: Whether they run in one transaction, together with their record.
            A unit that does not holds exactly one statement.
        begin: The file's own `BEGIN …`, for its modes; None where the file has none.
    """

    statements: tuple[Statement, ...]
    transactional: bool = True
    begin: Statement | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """One direction of a migration, ready to run.

    Attributes:
        path: The file that it was read from, or would have been.
        units: In the order in which they run; exactly one if the script is transactional.
        transactional: Whether the whole script and its record are one transaction.
        problems: Everything that forbids to run it, by place.
    """

    path: PurePath
    source: str = field(repr=False)
    units: tuple[Unit, ...]
    options: Options = Options()
    transactional: bool = True
    problems: tuple[MigratorError, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as it was read: UTF-8 without a BOM, line ends as they are.

    Attributes:
        checksum: SHA-256 of the text, in hexadecimal, whatever its line ends.
    """

    path: PurePath
    text: str = field(repr=False)
    checksum: str


@dataclass(frozen=True, slots=True)
class Migration:
    """One version, as the files have it.

    Attributes:
        version: The whole stem, such as `01_create_users`.
        down: None if the migration is irreversible.
    """

    version: str
    up: SourceFile
    down: SourceFile | None

    @property
    def number(self) -> int:
        """The integer that orders the versions."""
        return number_of(self.version)


@dataclass(frozen=True, slots=True)
class AppliedMigration:
    """One row of `migration_versions`.

    Attributes:
        up_script: The script as it was applied; None if it was too long to keep, or
            was not asked for.
        down_script: The same for its down; None also if it is irreversible.
        has_down: Whether a down script is stored.
        applied_at: None while its up, outside a transaction, is under way.
        duration_ms: Time of the server in its statements, in milliseconds.
        statements_done: How many units of an up outside a transaction have finished;
            below zero, how many of its down have.
        in_step: Since when its next unit is under way; None between units.
    """

    version: str
    checksum: str
    up_script: str | None
    down_script: str | None
    has_down: bool
    applied_at: datetime | None
    applied_by: str
    duration_ms: int | None
    statements_done: int
    in_step: datetime | None

    @property
    def number(self) -> int:
        """The integer that orders the versions."""
        return number_of(self.version)

    @property
    def taken_back(self) -> int:
        """How many units of its down have finished."""
        return max(0, -self.statements_done)

    @property
    def under_way(self) -> Direction | None:
        """The direction in which it was interrupted; None if it is applied whole."""
        if self.statements_done < 0:
            return Direction.DOWN
        if self.applied_at is None:
            return Direction.UP
        return Direction.DOWN if self.in_step else None


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One row of `migration_log`.

    Attributes:
        action: `up`, `down`, `repair` or `baseline`.
        outcome: `done`, `failed`, `started` (a step outside a transaction), or a decision.
        duration_ms: Of the server, in milliseconds.
        reason: Why a person decided so.
    """

    logged_at: datetime
    version: str
    action: str
    outcome: str
    db_user: str
    os_user: str | None
    host: str | None
    tool_version: str
    duration_ms: int | None
    sqlstate: str | None
    message: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One version in the outer join of files and history; never both None.

    Attributes:
        reformatted: The file was edited since, in comments and white space only.
    """

    number: int
    status: Status
    migration: Migration | None
    applied: AppliedMigration | None
    reformatted: bool = False

    @property
    def down_file(self) -> SourceFile | None:
        """The down file of this very version; None without one, or if it is another's.

        A number can have gone to another migration.  One that was only renamed is the same.
        """
        if not self.migration:
            return None
        ours, theirs = self.migration, self.applied
        is_same = (
            not theirs or ours.version == theirs.version or (ours.up.checksum == theirs.checksum)
        )
        return ours.down if is_same else None

    @property
    def version(self) -> str:
        """Its name in the history if it has one there, else that of its file."""
        known = self.applied or self.migration
        assert known is not None, "an entry comes from one side at least"
        return known.version


@dataclass(frozen=True, slots=True)
class Step:
    """One script to run, and what the history is to say of it.

    Attributes:
        migration: What is recorded by an up; None for a down.
        start_at: The index of the first unit that has not finished.
        unsure: The unit at `start_at` was begun before, and nobody knows how far it came.
        resumes: The history has a row of this step's own making.
        note: What is unusual about it, as a sentence; None if nothing is.
    """

    version: str
    direction: Direction
    script: Script
    migration: Migration | None = None
    start_at: int = 0
    unsure: bool = False
    resumes: bool = False
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, in order.

    Attributes:
        steps: None if the database is in the state asked for.
        blockers: Everything that forbids to run them, by version; none if they may run.
        notes: What the user should know though it forbids nothing, as sentences.
    """

    steps: tuple[Step, ...] = ()
    blockers: tuple[MigratorError, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did.

    Attributes:
        plan: The last one, if another runner took a part of the first.
        finished: Steps, in order.
    """

    plan: Plan
    finished: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Overview:
    """What `status` knows.

    Attributes:
        server_version: Such as `18.6`.
        schema: The one that holds the history, or will.
        entries: By ascending number.
        is_current: Nothing is pending, interrupted, or differs from what was applied.  A
            database that is ahead of the files is current: it has what they need.
    """

    database: str
    server_version: str
    schema: str
    entries: tuple[Entry, ...]
    is_current: bool


@dataclass(frozen=True, slots=True)
class Backend:
    """A session of the server, as a DBA has to know it to act on it.

    Attributes:
        state: As in `pg_stat_activity`, such as `idle in transaction`.
        transaction_age: In seconds; None outside a transaction.
        query: What it runs or ran last, on one line, cut at 200 characters.
    """

    pid: int
    user: str | None
    application: str | None
    host: str | None
    state: str | None
    transaction_age: float | None
    query: str | None

    def __str__(self) -> str:
        who = (("user", self.user), ("application", self.application), ("host", self.host))
        known = [f"{name} {value}" for name, value in who if value]
        age = self.transaction_age
        since = f"{self.state or 'at work'}" + (f" for {age:.0f} s" if age is not None else "")
        return f"pid {self.pid} ({', '.join([*known, since])}): {self.query or 'no query'}"


@dataclass(frozen=True, slots=True)
class Objects:
    """What of a database a statement outside a transaction can leave half-made, by OID.

    Attributes:
        invalid_indexes: Those with `indisvalid = false`.
        being_built: Those of them that a session is building right now.
        partitions: Tables that are attached to another one.
        detaching: Those of them whose concurrent DETACH has stopped halfway.
    """

    valid_indexes: frozenset[int] = frozenset()
    invalid_indexes: frozenset[int] = frozenset()
    being_built: frozenset[int] = frozenset()
    partitions: frozenset[int] = frozenset()
    detaching: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Notice:
    """What PostgreSQL says beside its answer.

    Attributes:
        severity: `NOTICE`, `WARNING`, `INFO`, … as the server spells it in English.
    """

    severity: str
    sqlstate: str
    message: str
    detail: str | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a command of the server has come, as it tells itself.

    Attributes:
        command: Such as `CREATE INDEX CONCURRENTLY`.
        phase: In the server's words, such as `building index: scanning table`.
        done: In units; it begins again with each phase.
        total: In units; 0 if the server does not know it.
        unit: `blocks`, `rows`, `bytes`, or `sessions` that are waited for.
    """

    command: str
    phase: str
    done: int
    total: int
    unit: str

    @property
    def share(self) -> float | None:
        """How much of the phase is done, from 0 to 1; None if nobody knows."""
        return min(self.done / self.total, 1.0) if self.total else None


@dataclass(frozen=True, slots=True)
class Observed:
    """What another session sees of one that is at work.

    Attributes:
        blockers: Who holds what it waits for; none if it does not wait.
        progress: How far its command has come; None if the server does not tell.
    """

    blockers: tuple[Backend, ...] = ()
    progress: Progress | None = None


@cache
def number_of(version: str) -> int:
    """Return the integer that a version starts with.

    >>> number_of("007_add_phone")
    7
    """
    digits = re.match(r"[0-9]+", version)
    assert digits, "files and history let no version in that starts otherwise"
    return int(digits[0])


def milliseconds(text: str) -> int | None:
    """Read a duration as PostgreSQL spells it, in milliseconds; None if it cannot be one.

    >>> [milliseconds(text) for text in ("2s", "15 min", "250", "0", "soon", "25d")]
    [2000, 900000, 250, 0, None, None]
    """
    match = _DURATION.fullmatch(text.strip())
    number = int(match["number"]) * _MILLISECONDS[match["unit"]] if match else _LONGEST + 1
    return number if number <= _LONGEST else None
