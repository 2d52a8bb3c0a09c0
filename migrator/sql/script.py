"""The nouns of a script: its text, its statements, and what its comments ask for."""

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
_LONGEST = 2**31 - 1  # milliseconds: the most that a setting of PostgreSQL holds
_MILLISECONDS = {None: 1, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of COPY data that stayed in their file.

    Attributes:
        start: Where they begin, in bytes; `end` is where they end.
        lines: How many line ends they hold.
        checksum: SHA-256 of them, in hexadecimal.
    """

    path: Path
    start: int
    end: int
    lines: int
    checksum: str


class Abridged(str):
    """The text of a long file without its COPY data; it is equal to no text that has some."""

    __slots__ = ("blocks",)

    blocks: Mapping[int, Block]
    """Where they are, by the offset at which they would begin here."""

    def __new__(cls, text: str, blocks: Mapping[int, Block]) -> Self:
        """Make it of its text and its blocks."""
        self = super().__new__(cls, text)
        self.blocks = blocks
        return self

    def __eq__(self, other: object) -> bool:
        is_alike = isinstance(other, Abridged) and self.blocks == other.blocks
        return is_alike and str.__eq__(self, str(other))

    def __ne__(self, other: object) -> bool:
        return not self == other  # `str` has a comparison of its own

    def __hash__(self) -> int:
        return str.__hash__(self)

    def skipped(self, offset: int) -> int:
        """Return how many lines of data the file has before an offset of this text."""
        return sum(block.lines for at, block in self.blocks.items() if at <= offset)


def is_long(text: str) -> bool:
    """Whether a text is too long to be stored in the history, and to be compared in detail."""
    return len(text) > _LONG or isinstance(text, Abridged)


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
            without the closing `\.` line; None for every other statement.  In an `Abridged`
            source there are none: `block` tells where they are.
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

    @property
    def block(self) -> Block | None:
        """Where its lines of data are, if they stayed in the file; None if the source has them."""
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
class Options:
    """What the `-- migrator:` comments of a script ask for; None where they ask for nothing.

    Attributes:
        lock_timeout: How long a statement may wait for a lock, in milliseconds; 0 is no limit.
        statement_timeout: How long a statement may run, in milliseconds; 0 is no limit.
        role: The role that the statements run as, spelled as in `pg_roles`.
        irreversible: The reason why a down script does not restore everything.
        allowances: In the order of the script.
    """

    no_transaction: bool = False
    lock_timeout: int | None = None
    statement_timeout: int | None = None
    role: str | None = None
    irreversible: str | None = None
    allowances: tuple[Allowance, ...] = ()


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


def milliseconds(text: str) -> int | None:
    """Read a duration as PostgreSQL spells it, in milliseconds; None if it cannot be one.

    >>> [milliseconds(text) for text in ("2s", "15 min", "250", "0", "soon", "25d")]
    [2000, 900000, 250, 0, None, None]
    """
    match = _DURATION.fullmatch(text.strip())
    number = int(match["number"]) * _MILLISECONDS[match["unit"]] if match else _LONGEST + 1
    return number if number <= _LONGEST else None
