"""Keep what has been sent and not been answered, and tell whose an answer or a remark is."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Generic, TypeVar

from psycopg import pq

from ..errors import MigrationFileError

Tag = TypeVar("Tag")
Field = pq.DiagnosticField

_BYTES = 1 << 20  # enough to keep a server busy over a slow network
_MESSAGES = 512


@dataclass(frozen=True, slots=True)
class Message(Generic[Tag]):
    """One statement to send.

    Attributes:
        tag: What the sender knows it by.
        parameters: In text form, as `$1`, `$2`, …
        data: Gives the lines of a `COPY … FROM stdin`, in pieces; None for every other statement.
        alone: It may not share a transaction, not even the pipeline's implicit one.
        asks: Its answer is wanted as soon as it is there, not with those of later messages.
        more: Statements to send behind it, without parameters; one answer tells of them all.
        parts: What stands in a text of several statements, in order: the tag of each and its
            offset, in characters.  It is sent as one, and its last answer tells of them all.
    """

    tag: Tag
    sql: bytes
    parameters: tuple[bytes | None, ...] = ()
    data: Callable[[], Iterable[bytes]] | None = field(default=None, repr=False)
    alone: bool = False
    asks: bool = False
    more: tuple[bytes, ...] = ()
    parts: Sequence[tuple[Tag, int]] = field(default=(), repr=False)


@dataclass(eq=False)
class RefusedError(Exception, Generic[Tag]):
    """The server refused a statement and skipped those behind it; or the connection broke.

    Attributes:
        fields: The error's diagnostics.  Without an SQLSTATE the connection broke, and
            nobody knows what became of the statements that were in flight.
        cause: Why the data that belong to the statement could not be sent; None if they were.
    """

    tag: Tag
    fields: Mapping[Field, str]
    cause: MigrationFileError | None = None


class HeapError(RefusedError[Tag]):
    """The server did not answer several statements as it does several INSERTs.

    A rule has made more of one: they have to be sent one by one.
    """


class Flight(Generic[Tag]):
    """The messages that are in flight, in the order in which their answers come.

    Attributes:
        due: Results that are to come of the first one.
        left: Parts of it that are to be answered; it is the only one then.
        is_answered: The answer to the first one is parsed: what libpq reads next is behind it.
    """

    def __init__(self, first: Message[Tag]) -> None:
        self.due = self.left = 0
        self.is_answered = False
        self._messages: deque[Message[Tag]] = deque()
        self._bytes = 0
        # Who is to blame if the connection breaks with nothing in flight.
        self._last = first
        # How often names were cut short in the first one, and in the second.
        self._truncated: tuple[Counter[str], Counter[str]] = (Counter(), Counter())

    def __bool__(self) -> bool:
        return bool(self._messages)

    @property
    def first(self) -> Message[Tag]:
        """The one that is at work, or whose answer is under way."""
        return self._messages[0]

    @property
    def tag(self) -> Tag:
        """What the first one is known by; of several statements, the one at work."""
        return self._tag(self.first)

    @property
    def load(self) -> float:
        """How much is in flight, as a share of what may be."""
        return max(self._bytes / _BYTES, len(self._messages) / _MESSAGES)

    def add(self, message: Message[Tag]) -> None:
        """Add what has been sent."""
        self._messages.append(message)
        self._bytes += len(message.sql)
        if len(self._messages) == 1:
            self._begin()

    def drop_first(self) -> None:
        """Take out the one whose last result was taken."""
        self._last = self._messages.popleft()
        self._bytes -= len(self._last.sql)
        if self._messages:
            self._begin()
        if self._truncated[0] or self._truncated[1]:
            self._truncated = (self._truncated[1], Counter())

    def _begin(self) -> None:
        self.due = 1 + len(self.first.more)
        self.left = len(self.first.parts)

    def refused(self, fields: Mapping[Field, str]) -> RefusedError[Tag]:
        """Make the error of the message whose answer is due.

        With nothing in flight the connection broke behind the last answer, whose tag it gets,
        or before the first message, which gets it then.
        """
        message = self.first if self else self._last
        position = int(fields.get(Field.STATEMENT_POSITION, 0))
        if not message.parts or not position:
            return RefusedError(self._tag(message), fields)
        # What the parser refuses is refused before any of them has run: the place tells which.
        has_run = self.left < len(message.parts)
        tag, offset = self._part(message) if has_run else _part_at(message, position - 1)
        own = {Field.STATEMENT_POSITION: str(position - offset)}
        return RefusedError(tag, {**fields, **own})

    def remarked(self, fields: Mapping[Field, str], has_answer: Callable[[], bool]) -> Tag | None:
        """Return the tag of the statement that a notice is about; None with nothing in flight.

        Args:
            has_answer: Tells whether libpq has an answer that was not taken.
        """
        index = min(self._index(fields), len(self._messages) - 1)
        if index < 0:
            return None
        message = self._messages[index]
        if not message.parts:
            return message.tag
        if name := _truncated_name(fields):
            # The parser reads all of them before the first one runs.
            text = message.sql.decode(errors="replace").lower()
            return _part_at(message, max(0, text.find(name)))[0]
        return message.parts[min(-1, has_answer() - self.left)][0]

    def _index(self, fields: Mapping[Field, str]) -> int:
        """Return which of those in flight a notice is about: the first or the second.

        What the parser says of a statement comes before anything else of it, and libpq
        may read it in one go with the answer before, which we have not seen then.  It says
        it once for each time that a name is written.
        """
        behind = int(self.is_answered and self.due == 1)
        name = _truncated_name(fields)
        if name and self and not self.first.parts:
            written = self.first.sql.decode(errors="replace").lower().count(name)
            if self._truncated[0][name] >= written:
                behind = 1
            self._truncated[behind][name] += 1
        return behind

    def _tag(self, message: Message[Tag]) -> Tag:
        return self._part(message)[0] if message.parts else message.tag

    def _part(self, message: Message[Tag]) -> tuple[Tag, int]:
        """Return the tag and the offset of the part that is at work, or of the last one."""
        return message.parts[-max(1, self.left)]


def _part_at(message: Message[Tag], offset: int) -> tuple[Tag, int]:
    """Return the tag and the offset of the part of a message that a character stands in."""
    return message.parts[bisect_right(message.parts, offset, key=itemgetter(1)) - 1]


def _truncated_name(fields: Mapping[Field, str]) -> str:
    """Return the name that the parser says that it cuts short; empty if it does not say so."""
    function = fields.get(Field.SOURCE_FUNCTION)
    if function != "truncate_identifier" or Field.CONTEXT in fields:
        return ""
    words = re.findall(r"[\w$]+", fields.get(Field.MESSAGE_PRIMARY, ""))
    return max(words, key=len, default="").lower()
