"""Messages in flight: sent, and not answered yet."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from psycopg import pq

from ..errors import MigrationFileError, MigratorError

if TYPE_CHECKING:
    from ..events import Subject

Field = pq.DiagnosticField

_BYTES = 1 << 20  # enough to keep a server busy over a slow network
_MESSAGES = 512


@dataclass(frozen=True, slots=True)
class Answer:
    """The server has run a message's statement.

    Attributes:
        command: The server's command tag, such as `INSERT 0 3`.
        rows: How many rows the tag counts, of a batch in all; None if it counts none.
        seconds: Since the answer before it.
        value: The first column of the first row, in text form; None without a row.
        count: How many statements the message held.
    """

    subject: Subject
    command: str
    rows: int | None
    seconds: float
    value: bytes | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Message:
    """One statement to send, and what its answer means.

    Attributes:
        subject: What the statement is about.
        on_refusal: Makes the user's error when the server refuses the statement; the sender decides
            on its arguments.
        on_answer: Called when the statement has run; None if nothing follows from that.
        parameters: In text form, as `$1`, `$2`, …
        data: Gives the lines of a `COPY … FROM stdin`, in pieces; None for every other statement.
        alone: Whether it must not share a transaction, not even the pipeline's implicit one.
        asks: Whether its answer is requested at once, not together with those of later messages.
        more: Statements to send after it, without parameters; they share one answer.
        parts: Of a batch, the subject of each statement and its offset in `sql`, in characters.
            The text is sent as one, and only its last answer counts.
    """

    subject: Subject
    sql: bytes
    on_refusal: Callable[[Any], MigratorError]
    on_answer: Callable[[Answer], None] | None = None
    parameters: tuple[bytes | None, ...] = ()
    data: Callable[[], Iterable[bytes]] | None = field(default=None, repr=False)
    alone: bool = False
    asks: bool = False
    more: tuple[bytes, ...] = ()
    parts: Sequence[tuple[Subject, int]] = field(default=(), repr=False)


@dataclass(eq=False)
class RefusedError(Exception):
    """The server refused a statement and skipped those after it; or the connection broke.

    Attributes:
        message: The message that held the statement.
        subject: The statement; of a batch, the one that failed.
        fields: The error's diagnostics.  Without an SQLSTATE the connection broke, and the fate
            of the statements in flight is unknown.
        cause: Why the data of the statement could not be sent; None if they were.
    """

    message: Message
    subject: Subject
    fields: Mapping[Field, str]
    cause: MigrationFileError | None = None


class BatchError(RefusedError):
    """The server did not answer a batch as it answers INSERTs.

    A rule has rewritten one of them.  The statements have to be sent one by one.
    """


class InFlight:
    """The messages in flight, in the order in which their answers come.

    Attributes:
        due: The number of results still to come of the first one.
        left: The number of its parts still to be answered; a batch is in flight alone.
        rows: The number of rows of its parts that were answered.
        is_answered: The answer to the first one is parsed: what libpq reads next comes after it.
    """

    def __init__(self, first: Message) -> None:
        self.due = self.left = self.rows = 0
        self.is_answered = False
        self._messages: deque[Message] = deque()
        self._bytes = 0
        # The message that a broken connection is reported for when nothing is in flight.
        self._last = first
        # How often names were truncated in the first message, and in the second.
        self._truncated: tuple[Counter[str], Counter[str]] = (Counter(), Counter())

    def __bool__(self) -> bool:
        return bool(self._messages)

    @property
    def first(self) -> Message:
        """The message that the server works on, or whose answer is being read."""
        return self._messages[0]

    @property
    def subject(self) -> Subject:
        """The subject of the first message; of a batch, that of the statement at work."""
        return self._subject(self.first)

    @property
    def load(self) -> float:
        """How much is in flight, as a share of the limit."""
        return max(self._bytes / _BYTES, len(self._messages) / _MESSAGES)

    def add(self, message: Message) -> None:
        """Add what has been sent."""
        self._messages.append(message)
        self._bytes += len(message.sql)
        if len(self._messages) == 1:
            self._begin()

    def drop_first(self) -> None:
        """Remove the message whose last result was read."""
        self._last = self._messages.popleft()
        self._bytes -= len(self._last.sql)
        if self._messages:
            self._begin()
        if self._truncated[0] or self._truncated[1]:
            self._truncated = (self._truncated[1], Counter())

    def _begin(self) -> None:
        self.due = 1 + len(self.first.more)
        self.left, self.rows = len(self.first.parts), 0

    def refused(
        self, fields: Mapping[Field, str], cause: MigrationFileError | None = None
    ) -> RefusedError:
        """Make the error of the message whose answer is due.

        With nothing in flight, the connection broke after the last answer or before the first
        message: the error is that message's.
        """
        message = self.first if self else self._last
        position = int(fields.get(Field.STATEMENT_POSITION, 0))
        if not message.parts or not position:
            return RefusedError(message, self._subject(message), fields, cause)
        # A syntax error is found before any statement of the batch has run: its position tells
        # which one has it.
        has_run = self.left < len(message.parts)
        subject, offset = self._part(message) if has_run else _part_at(message, position - 1)
        own = {Field.STATEMENT_POSITION: str(position - offset)}
        return RefusedError(message, subject, {**fields, **own}, cause)

    def not_a_batch(self) -> BatchError:
        """Make the error of a batch that was not answered as INSERTs are."""
        return BatchError(self.first, self.subject, {})

    def noticed(
        self, fields: Mapping[Field, str], has_answer: Callable[[], bool]
    ) -> Subject | None:
        """Return the subject that a notice is about; None with nothing in flight.

        Args:
            has_answer: Tells whether libpq has an answer that was not read.
        """
        index = min(self._index(fields), len(self._messages) - 1)
        if index < 0:
            return None
        message = self._messages[index]
        if not message.parts:
            return message.subject
        if name := _truncated_name(fields):
            # The parser reads the batch to its end before the first statement runs.
            text = message.sql.decode(errors="replace").lower()
            return _part_at(message, max(0, text.find(name)))[0]
        return message.parts[min(-1, has_answer() - self.left)][0]

    def _index(self, fields: Mapping[Field, str]) -> int:
        """Return which message in flight a notice is about: the first or the second.

        The parser's notices come before all others of a statement.  libpq may read them together
        with the answer before, which we have not seen then.  There is one for each time that a
        name is written.
        """
        after = int(self.is_answered and self.due == 1)
        name = _truncated_name(fields)
        if name and self and not self.first.parts:
            written = self.first.sql.decode(errors="replace").lower().count(name)
            if self._truncated[0][name] >= written:
                after = 1
            self._truncated[after][name] += 1
        return after

    def _subject(self, message: Message) -> Subject:
        return self._part(message)[0] if message.parts else message.subject

    def _part(self, message: Message) -> tuple[Subject, int]:
        """Return the part that is at work, or the last one, and its offset."""
        return message.parts[-max(1, self.left)]


def _part_at(message: Message, offset: int) -> tuple[Subject, int]:
    """Return the part of a batch that holds a character, and the part's offset."""
    return message.parts[bisect_right(message.parts, offset, key=itemgetter(1)) - 1]


def _truncated_name(fields: Mapping[Field, str]) -> str:
    """Return the name that the parser reports as truncated; empty for other notices."""
    function = fields.get(Field.SOURCE_FUNCTION)
    if function != "truncate_identifier" or Field.CONTEXT in fields:
        return ""
    words = re.findall(r"[\w$]+", fields.get(Field.MESSAGE_PRIMARY, ""))
    return max(words, key=len, default="").lower()
