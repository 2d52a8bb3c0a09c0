"""A migration in its files, in the history and in a plan."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import PurePath

    from .errors import MigratorError
    from .sql.script import Script


REPEATABLE = "R__"
"""What the name of a repeatable file begins with."""


class Direction(enum.StrEnum):
    """One of the two scripts of a migration."""

    UP = "up"
    DOWN = "down"


class Status(enum.StrEnum):
    """The state of a version by its files and the history."""

    PENDING = "pending"
    APPLIED = "applied"
    INTERRUPTED = "interrupted"  # a no-transaction script that was begun and not finished
    MODIFIED = "modified"  # applied, and the SQL of its file was edited since
    RENAMED = "renamed"  # applied, and its file was given another name or number since
    MISSING = "missing"  # applied, but the file is missing
    OUT_OF_ORDER = "out of order"  # pending, but older than an applied version
    SQUASHED = "squashed"  # applied as the versions that its file replaces
    INCOMPLETE = "incomplete"  # only some of the versions that its file replaces are applied


@dataclass(frozen=True, slots=True)
class SourceFile:
    """The content of a file, without a BOM and with its own line ends.

    Attributes:
        checksum: SHA-256 in hexadecimal; the same for LF and CRLF.
    """

    path: PurePath
    text: str = field(repr=False)
    checksum: str


@dataclass(frozen=True, slots=True)
class Migration:
    """The files of one version, or a repeatable file.

    Attributes:
        version: The stem of the file names, such as `01_create_users` or `R__views`.
        down: None if the migration is irreversible; of a repeatable file, the text that was
            applied last, None if there is none.
    """

    version: str
    up: SourceFile
    down: SourceFile | None

    @property
    def number(self) -> int:
        """The integer that orders versions; a repeatable file has none."""
        return number_of(self.version)

    @property
    def is_repeatable(self) -> bool:
        """Whether it is applied again whenever its text has changed."""
        return is_repeatable(self.version)


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """How far a statement that runs in batches has come; committed together with each batch.

    Attributes:
        direction: Of the script.
        unit: The index of the statement's unit in the script.
        checksum: Of the statement's meaning: an edited one starts again.
        table: With its schema; empty for a statement that is repeated.
        turn: The number of the pass over the table, from 1.
        done: The blocks before the next batch; without blocks, the batches of this pass.
        end: The blocks of this pass; 0 if unknown.
        key: The last value of the column that the batches before had; None for none.
        size: Of the next batch, in blocks or rows.
        rows: How many rows were changed, without those of the last batch.
        in_turn: The same in this pass.
        in_first: The same in the first pass; 0 until it has ended.
    """

    direction: Direction
    unit: int
    checksum: str
    table: str
    turn: int = 1
    done: int = 0
    end: int = 0
    key: str | None = None
    size: int = 1
    rows: int = 0
    in_turn: int = 0
    in_first: int = 0


@dataclass(frozen=True, slots=True)
class AppliedMigration:
    """One row of `migration_versions`.

    Attributes:
        up_script: The script as it was applied; None if it was too long to store, or was not
            read.
        down_script: The down script of that time; None also if there was none.
        has_down: Whether a down script is stored.
        applied_at: None until the last unit of a no-transaction script has finished.
        duration_ms: How long the server took for the statements, in milliseconds.
        statements_done: How many units of a no-transaction up script have finished; negative:
            how many of the down script.
        in_step: When the next unit was begun; None between units.
        ordinal: Grows with every migration that is applied or resumed, whatever the clock says.
        progress: Of the statement that runs in batches; None if none is under way.
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
    ordinal: int
    progress: BatchProgress | None = None

    @property
    def number(self) -> int:
        """The integer that orders versions."""
        return number_of(self.version)

    @property
    def units_reverted(self) -> int:
        """How many units of a no-transaction down script have finished."""
        return max(0, -self.statements_done)

    @property
    def interrupted(self) -> Direction | None:
        """The script that was interrupted; None if the version is completely applied."""
        if self.statements_done < 0:
            return Direction.DOWN
        if self.progress:
            return self.progress.direction
        if self.applied_at is None:
            return Direction.UP
        return Direction.DOWN if self.in_step else None


@dataclass(frozen=True, slots=True)
class AppliedRepeatable:
    """One row of `migration_repeatables`.

    Attributes:
        name: The stem of the file name, such as `R__views`.
        script: The text as it was applied; None if it was too long to store, or was not read.
        duration_ms: How long the server took for the statements, in milliseconds.
    """

    name: str
    checksum: str
    script: str | None
    applied_at: datetime
    applied_by: str
    duration_ms: int | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """All rows of the history, in no order."""

    versions: tuple[AppliedMigration, ...] = ()
    repeatables: tuple[AppliedRepeatable, ...] = ()


class Freshness(enum.StrEnum):
    """The state of a repeatable file by its text and the history."""

    UP_TO_DATE = "up to date"
    CHANGED = "changed"
    NEVER_APPLIED = "never applied"
    FILE_GONE = "file gone"  # what it made may still be in the database


@dataclass(frozen=True, slots=True)
class Repeatable:
    """One repeatable file in the outer join of files and history.

    Attributes:
        migration: None if there is no file.
        applied: None if it is not in the history; never together with `migration`.
        reformatted: Whether the file was edited since, but only in what has no meaning.
    """

    status: Freshness
    migration: Migration | None
    applied: AppliedRepeatable | None
    reformatted: bool = False

    @property
    def name(self) -> str:
        """The stem of the file name."""
        if self.migration:
            return self.migration.version
        assert self.applied is not None, "it has a file or a row"
        return self.applied.name

    @property
    def is_pending(self) -> bool:
        """Whether the text of its file is not applied."""
        return self.status in (Freshness.CHANGED, Freshness.NEVER_APPLIED)


@dataclass(frozen=True, slots=True)
class Entry:
    """One version in the outer join of files and history.

    Attributes:
        number: In the history, or else in the files.
        migration: None if there is no file.
        applied: None if it is not in the history; never together with `migration`.
        reformatted: Whether the file was edited since, but only in what has no meaning.
        replaces: The rows that the file is to take the place of, by ascending number; then it
            has no row itself.
    """

    number: int
    status: Status
    migration: Migration | None
    applied: AppliedMigration | None
    reformatted: bool = False
    replaces: tuple[AppliedMigration, ...] = ()

    @property
    def new_name(self) -> str | None:
        """The version that its file has now; None if that is the same, or without a file."""
        name = self.migration.version if self.migration else self.version
        return None if name == self.version else name

    @property
    def is_edited(self) -> bool:
        """Whether the text of its file differs from what was applied."""
        if not (self.migration and self.applied):
            return False
        return self.migration.up.checksum != self.applied.checksum

    @property
    def file_number(self) -> int:
        """The number of the file; -1 without one."""
        return self.migration.number if self.migration else -1

    @property
    def down_file(self) -> SourceFile | None:
        """The down file of this version; None if the files with its number are another migration.

        A renamed migration with the same text is the same.
        """
        if not self.migration:
            return None
        ours, theirs = self.migration, self.applied
        is_same = (
            not theirs
            or self.status is Status.RENAMED
            or ours.version == theirs.version
            or ours.up.checksum == theirs.checksum
        )
        return ours.down if is_same else None

    @property
    def version(self) -> str:
        """The name in the history, or else that of the file."""
        known = self.applied or self.migration
        assert known is not None, "an entry has a file or a row"
        return known.version


@dataclass(frozen=True, slots=True)
class Step:
    """One script to run: one entry of a plan.

    Attributes:
        migration: What an up records; None for a down.
        start_at: The index of the first unit to run.
        unsure: Whether an earlier run began the unit at `start_at`, which may have finished.
        resumes: Whether an earlier run of this script was interrupted.
        note: What is unusual about it, as a sentence; None if nothing is.
        forgets: The repeatable files whose objects it drops, by name: they have to be applied
            again.
    """

    version: str
    direction: Direction
    script: Script
    migration: Migration | None = None
    start_at: int = 0
    unsure: bool = False
    resumes: bool = False
    note: str | None = None
    forgets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, in order.

    Attributes:
        steps: Empty if there is nothing to do.
        problems: Why the steps cannot be run, by version; empty if they can.
        notes: What the user should know that is not a problem, as sentences.
        entries: The files and the history that it was made from; none in a part of a plan.
        repeatables: The repeatable files, likewise.
        squashed: The files that are recorded in place of what they replace; nothing is run for
            them.
    """

    steps: tuple[Step, ...] = ()
    problems: tuple[MigratorError, ...] = ()
    notes: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()
    repeatables: tuple[Repeatable, ...] = ()
    squashed: tuple[Entry, ...] = ()


def is_repeatable(version: str) -> bool:
    """Whether a name is that of a repeatable file.

    >>> is_repeatable("R__views"), is_repeatable("01_views")
    (True, False)
    """
    return version.startswith(REPEATABLE)


@cache
def number_of(version: str) -> int:
    """Return the integer at the start of a version.

    >>> number_of("007_add_phone")
    7
    """
    digits = re.match(r"[0-9]+", version)
    assert digits, "files and history are checked when they are read"
    return int(digits[0])
