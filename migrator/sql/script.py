"""The parts of a script: its text, its statements, its options."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path, PurePath

    from ..errors import MigratorError

_DURATION = re.compile(r"(?P<number>[0-9]{1,9})\s*(?P<unit>ms|s|min|h|d)?")
_LONG = 1 << 20  # characters
_LONGEST = 2**31 - 1  # milliseconds: the maximum of a setting in PostgreSQL
_MILLISECONDS = {None: 1, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of COPY data that were left in their file.

    Attributes:
        start: The first byte, counted from 0.
        end: The byte after the last.
        lines: The number of line ends.
        checksum: SHA-256 in hexadecimal.
    """

    path: Path
    start: int
    end: int
    lines: int
    checksum: str


class Abridged(str):
    """The text of a long file without its COPY data; never equal to a text that contains data."""

    __slots__ = ("blocks",)

    blocks: Mapping[int, Block]
    """The data left out, by the offset in this text at which they would begin."""

    def __new__(cls, text: str, blocks: Mapping[int, Block]) -> Self:
        """Create the text that has these blocks left out."""
        self = super().__new__(cls, text)
        self.blocks = blocks
        return self

    def __eq__(self, other: object) -> bool:
        is_alike = isinstance(other, Abridged) and self.blocks == other.blocks
        return is_alike and str.__eq__(self, str(other))

    def __ne__(self, other: object) -> bool:
        return not self == other  # `str` defines its own

    def __hash__(self) -> int:
        return str.__hash__(self)

    def skipped(self, offset: int) -> int:
        """Return the number of lines left out before an offset of this text."""
        return sum(block.lines for at, block in self.blocks.items() if at <= offset)


def is_long(text: str) -> bool:
    """Whether a text is too long to store in the history or to show a difference of."""
    return len(text) > _LONG or isinstance(text, Abridged)


@dataclass(frozen=True, slots=True)
class Statement:
    r"""One SQL statement of a source.

    Attributes:
        source: The complete text that contains the statement.
        offset: The first character, counted from 0 in `source`.
        end: The character after its `;`, or after its last token if there is no `;`.
        words: The first words outside parentheses and quotes, in lower case, at most eight; of
            an INSERT only `insert`, because seeds have millions of them.
        data: Start and end in `source` of the lines of data of `COPY … FROM stdin`, without the
            closing `\.` line; None for other statements.  Empty in an `Abridged` source: there
            `block` says where the data are.
        backslash: The first backslash outside quotes and comments, which is a psql command;
            None without one.
    """

    source: str = field(repr=False)
    offset: int
    end: int
    words: tuple[str, ...] = ()
    data: tuple[int, int] | None = None
    backslash: int | None = None

    @property
    def text(self) -> str:
        """The statement as written, with its `;` and without the comments before it."""
        return self.source[self.offset : self.end]

    @property
    def block(self) -> Block | None:
        """The lines of data, if they were left in the file; None if the source contains them."""
        if self.data is None or not isinstance(self.source, Abridged):
            return None
        return self.source.blocks.get(self.data[0])


@dataclass(frozen=True, slots=True)
class Allowance:
    """A comment that accepts a hazard: `-- migrator: allow HAZARD REASON`.

    Attributes:
        offset: Of the comment, in characters from the start of the source.
        hazard: The id of the hazard, which need not exist; empty if none is given.
        reason: Empty if none is given.
        statement: The one directly below; None if there is none, or if it is BEGIN or COMMIT.
    """

    offset: int
    hazard: str
    reason: str
    statement: Statement | None


@dataclass(frozen=True, slots=True)
class Backfill:
    """A comment that runs a statement in batches: `backfill TABLE` or `repeat`.

    Attributes:
        offset: Of the comment, in characters from the start of the source.
        option: `backfill` or `repeat`.
        statement: The one directly below; None if there is none.
        table: Its name, possibly with its schema, as the catalog has it; empty for `repeat`.
        alias: What the statement calls the table.
        column: The column that batches are ranges of; None for ranges of blocks.
        place: Where `/* batch */` begins and ends in the source; None without one.
        is_valid: Whether the comment could be read.
    """

    offset: int
    option: str
    statement: Statement | None
    table: tuple[str, ...]
    alias: str
    column: str | None
    place: tuple[int, int] | None
    is_valid: bool


@dataclass(frozen=True, slots=True)
class Options:
    """The `-- migrator:` comments of a script; None for an option that is not set.

    Attributes:
        lock_timeout: How long a statement may wait for a lock, in milliseconds; 0 is no limit.
        statement_timeout: How long a statement may run, in milliseconds; 0 is no limit.
        batch_time: What a batch of a backfill is to take, in milliseconds.
        role: The role that the statements run as, spelled as in `pg_roles`.
        irreversible: The reason why a down script does not restore everything.
        allowances: In the order of the script.
        requires: Queries that have to give true before the first statement.
        ensures: Queries that have to give true after the last one.
        replaces: The versions that the file takes the place of, each with its checksum, by
            ascending number.
        backfills: In the order of the script.
    """

    no_transaction: bool = False
    lock_timeout: int | None = None
    statement_timeout: int | None = None
    batch_time: int | None = None
    role: str | None = None
    irreversible: str | None = None
    allowances: tuple[Allowance, ...] = ()
    requires: tuple[Statement, ...] = ()
    ensures: tuple[Statement, ...] = ()
    replaces: tuple[tuple[str, str], ...] = ()
    backfills: tuple[Backfill, ...] = ()

    def backfill(self, statement: Statement) -> Backfill | None:
        """Return how a statement is run in batches; None if it is not."""
        return next((b for b in self.backfills if b.statement is statement), None)


@dataclass(frozen=True, slots=True)
class Unit:
    """The statements of one transaction, or one statement outside of a transaction.

    Attributes:
        statements: In the order in which they run; empty for an empty file.
        transactional: Whether they run in one transaction, together with their record.  If
            not, there is exactly one statement.
        begin: The `BEGIN …` in the file, for its modes; None if the file has none.
        modes: The statements of the file that set more modes of the transaction.
    """

    statements: tuple[Statement, ...]
    transactional: bool = True
    begin: Statement | None = None
    modes: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True)
class Script:
    """One direction of a migration, ready to run.

    Attributes:
        path: The file that it was read from; for a stored script, what its file was called.
        units: In the order in which they run; exactly one if the script is transactional.
        transactional: Whether the script and its record are one transaction.
        problems: Why it cannot be run, by place.
    """

    path: PurePath
    source: str = field(repr=False)
    units: tuple[Unit, ...]
    options: Options = Options()
    transactional: bool = True
    problems: tuple[MigratorError, ...] = ()


def milliseconds(text: str) -> int | None:
    """Return the milliseconds of a duration in PostgreSQL's notation; None if it is invalid.

    >>> [milliseconds(text) for text in ("2s", "15 min", "250", "0", "soon", "25d")]
    [2000, 900000, 250, 0, None, None]
    """
    match = _DURATION.fullmatch(text.strip())
    number = int(match["number"]) * _MILLISECONDS[match["unit"]] if match else _LONGEST + 1
    return number if number <= _LONGEST else None
