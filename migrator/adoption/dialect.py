"""What a tool's table and files mean: the nouns that each tool's module fills in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import MigratorError

Fields = Mapping[str, Any]
"""A row of a tool's table by column, as JSON has it: times as text, bytes as `\\x…`."""


@dataclass(frozen=True, slots=True)
class Row:
    """A migration that the tool has applied.

    Attributes:
        key: What its file is known by, as `Piece.key`.
        fields: The row, as it is kept in the log.
        at: When it was applied, as PostgreSQL reads it; None if the tool does not record that.
        by: Who applied it; None likewise.
        checksum: The tool's checksum of the file, in the spelling of `Piece.checksums`; None if
            it has none.
    """

    key: str
    fields: Fields
    at: str | None = None
    by: str | None = None
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class State:
    """What the tool's table says.

    Attributes:
        rows: In the order in which they were applied.
        up_to: The newest number, if the table has that only; all files up to it are applied.
        below: The version of the tool's baseline; files up to it count as applied.
        stop: Why the table cannot be taken over as it is; None if it can.
        hint: What to do about that.
        notes: What the user should know, as sentences.
    """

    rows: tuple[Row, ...] = ()
    up_to: int | None = None
    below: str | None = None
    stop: str | None = None
    hint: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is applied, and nothing is wrong."""
        return self == State()


@dataclass(frozen=True, slots=True)
class Piece:
    """A migration in the tool's files, and what it becomes.

    Attributes:
        key: What the tool's table calls it.
        version: What ours calls it, such as `01_create_users`.
        path: The file of the up script.
        up: The text of the up file.
        down: The text of the down file; None if there is none.
        down_path: The file of the down script, if it has one of its own.
        checksums: Those that the tool may have recorded for it; none if it records none.
    """

    key: str
    version: str
    path: Path
    up: str = field(repr=False)
    down: str | None = field(default=None, repr=False)
    down_path: Path | None = None
    checksums: frozenset[str] = frozenset()

    @property
    def is_ours(self) -> bool:
        """Whether the files already have the names of ours; their text may still differ."""
        names = [self.path.name, self.down_path.name if self.down_path else None]
        down = f"{self.version}.down.sql" if self.down is not None else None
        return names == [f"{self.version}.up.sql", down]


@dataclass(frozen=True, slots=True)
class Reading:
    """The files of a tool.

    Attributes:
        pieces: In the order in which the tool applies them.
        problems: What cannot be converted, with its place.
        is_changed: Whether a text differs from that of its file.
        notes: What the user should know, as sentences.
        unread: The keys of files that are not converted, for one of the problems.
        before: The keys that are applied with a key, where the tool's table has the newest only
            and the files are a chain; empty otherwise.
    """

    pieces: tuple[Piece, ...]
    problems: tuple[MigratorError, ...] = ()
    is_changed: bool = True
    notes: tuple[str, ...] = ()
    unread: frozenset[str] = frozenset()
    before: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def is_in_place(self) -> bool:
        """Whether the files can be used where they are."""
        folders = {piece.path.parent for piece in self.pieces}
        return not self.is_changed and len(folders) == 1 and all(p.is_ours for p in self.pieces)


@dataclass(frozen=True, slots=True)
class Table:
    """A tool's table in the database."""

    schema: str
    name: str
    database: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


def _no_locks(_table: Table) -> tuple[int, ...]:
    return ()


Companions = Mapping[str, Sequence[Fields]]
"""The rows of the tool's other tables, by their names; none of a table that does not exist."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """A migration tool.

    Attributes:
        name: As it is typed.
        recognised: What `other_tools` calls its table.
        interpret: Tells what the rows of its table, and of its companions, mean.
        files: Reads its files from a directory.
        locks: The keys of its advisory locks.
        companions: Its other tables in the same schema, such as that of a lock.
    """

    name: str
    recognised: str
    interpret: Callable[[Sequence[Fields], Companions], State]
    files: Callable[[Path], Reading]
    locks: Callable[[Table], tuple[int, ...]] = _no_locks
    companions: tuple[str, ...] = ()
