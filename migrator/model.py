"""The nouns of a version: its files, its row in the history, what is to be done with it."""

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
        entries: The files and the history that it was made from; none in a part of a plan.
    """

    steps: tuple[Step, ...] = ()
    blockers: tuple[MigratorError, ...] = ()
    notes: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()


@cache
def number_of(version: str) -> int:
    """Return the integer that a version starts with.

    >>> number_of("007_add_phone")
    7
    """
    digits = re.match(r"[0-9]+", version)
    assert digits, "files and history let no version in that starts otherwise"
    return int(digits[0])
