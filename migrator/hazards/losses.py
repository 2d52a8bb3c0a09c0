"""Find in a script, before it runs, what its statements will remove by name.

What only the server knows, such as what a function or a CASCADE removes, is reported as unknown; a
rehearsal finds it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..sql import splitter
from ..sql.script import Statement
from .catalogue import Size
from .sizes import bytes_text, rows_text

_WORD = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
_PLAIN = re.compile(rf"{_WORD}(?:\.{_WORD})?")
_BEFORE_NAME = frozenset(["if", "exists", "only", "table", "column"])
_NOT_COLUMNS = frozenset(["constraint"])
_CODE = frozenset(["do", "call", "execute"])
_FIRST_WORDS = frozenset(["drop", "truncate", "delete", "alter", "with", *_CODE])
_TWO_WORDS = frozenset(["materialized", "foreign"])  # DROP MATERIALIZED VIEW, DROP FOREIGN TABLE


class Kind(enum.Enum):
    """What is removed; the value is how a sentence about it begins."""

    TABLE = "drops"
    SCHEMA = "drops schema"
    COLUMN = "drops column"
    ALL_ROWS = "empties"
    SOME_ROWS = "deletes rows of"
    OWNED = "drops everything that is owned by"
    DEPENDENT = "also drops everything that depends on"
    REFERRING = "also empties every table that refers to"
    UNKNOWN = "may remove more than can be listed in advance: runs"


_NAMED = frozenset([Kind.TABLE, Kind.SCHEMA, Kind.COLUMN, Kind.ALL_ROWS, Kind.SOME_ROWS])


@dataclass(frozen=True, slots=True)
class Loss:
    """One thing that a statement will remove.

    Attributes:
        name: Of the table, the schema or the role, as the statement writes it; of UNKNOWN, the
            command.
        column: As the statement writes it; None if it is about no column.
        path_is_known: Whether the script has not set another search path before.
    """

    statement: Statement
    kind: Kind
    name: str
    column: str | None = None
    path_is_known: bool = True

    @property
    def is_known_by_name(self) -> bool:
        """Whether the name is one that the catalog can be asked for."""
        is_found = self.path_is_known or "." in self.name or self.kind is Kind.SCHEMA
        return self.kind in _NAMED and is_found and bool(_PLAIN.fullmatch(self.name))

    def text(self, name: str, size: Size | None, tables: int | None = None) -> str:
        """Say what will be removed.

        >>> statement = next(splitter.split("alter table users drop phone"))
        >>> next(find(statement)).text("public.users", Size(90 * 2**20, 1_000_000))
        'drops column phone of public.users, 1.0 M rows, 90 MB'

        Args:
            name: With its schema.
            size: Of the table, or of all tables of the schema; None if it is unknown.
            tables: The number of tables of a schema; None for anything else.
        """
        count = None if tables is None else f"{tables} table{'s' * (tables != 1)}"
        rows = (
            None
            if size is None or size.rows is None
            else f"{rows_text(size.rows)} row{'s' * (size.rows != 1)}"
        )
        column = f"{self.column} of " if self.column else ""
        parts = (f"{self.kind.value} {column}{name}", count, rows, size and bytes_text(size.bytes))
        return ", ".join(part for part in parts if part)


def find(statement: Statement) -> Iterator[Loss]:
    """Yield what a statement will remove by name, in its order."""
    if statement.words[:1] == () or statement.words[0] not in _FIRST_WORDS:
        return
    if statement.words[0] in _CODE:
        yield Loss(statement, Kind.UNKNOWN, statement.words[0].upper())
        return
    tokens = list(splitter.tokens(statement.text.removesuffix(";")))
    yield from _directly(statement, tokens)
    if tokens[-1].lower() == "cascade":
        yield from _by_cascade(statement, tokens)


def _directly(statement: Statement, tokens: Sequence[str]) -> Iterator[Loss]:
    match [each.lower() for each in tokens[:3]]:
        case ["drop", "table", *_]:
            yield from _named(statement, Kind.TABLE, tokens[2:])
        case ["drop", "materialized", "view"]:
            yield from _named(statement, Kind.TABLE, tokens[3:])
        case ["drop", "schema", *_]:
            yield from _named(statement, Kind.SCHEMA, tokens[2:])
        case ["drop", "owned", "by"]:
            yield from _named(statement, Kind.OWNED, tokens[3:])
        case ["truncate", *_]:
            yield from _named(statement, Kind.ALL_ROWS, tokens[1:])
        case ["alter", "table", *_]:
            yield from _columns(statement, tokens[2:])
        case _:
            yield from _deletions(statement, tokens)


def _by_cascade(statement: Statement, tokens: Sequence[str]) -> Iterator[Loss]:
    match [each.lower() for each in tokens[:2]]:
        case ["drop", "owned"]:
            pass
        case ["drop", kind]:
            names = tokens[3 if kind in _TWO_WORDS else 2 :]
            yield from _named(statement, Kind.DEPENDENT, names)
        case ["truncate", _]:
            yield from _named(statement, Kind.REFERRING, tokens[1:])


def _named(statement: Statement, kind: Kind, tokens: Sequence[str]) -> Iterator[Loss]:
    """Yield a loss for each name of a list."""
    for part in _split(tokens):
        if name := _name(part):
            yield Loss(statement, kind, name)


def _columns(statement: Statement, tokens: Sequence[str]) -> Iterator[Loss]:
    actions = list(_split(tokens))
    table = _name(actions[0]) if actions else ""
    first = _after_name(actions[0]) if actions else []
    for action in (first, *actions[1:]):
        words = [each.lower() for each in action]
        if words[:1] == ["drop"] and not _NOT_COLUMNS & set(words[1:2]):
            yield Loss(statement, Kind.COLUMN, table, _name(action[1:]))
            if words[-1] == "cascade":
                yield Loss(statement, Kind.DEPENDENT, table, _name(action[1:]))


def _deletions(statement: Statement, tokens: Sequence[str]) -> Iterator[Loss]:
    """Yield the DELETEs of a statement, also those in its WITH."""
    words = [each.lower() for each in tokens]
    for index, pair in enumerate(pairwise(words)):
        if pair == ("delete", "from") and words[index - 1 : index] != ["on"]:
            kind = Kind.SOME_ROWS if {"where", "using"} & set(words[index:]) else Kind.ALL_ROWS
            yield Loss(statement, kind, _name(tokens[index + 2 :]))


def _split(tokens: Sequence[str]) -> Iterator[list[str]]:
    """Cut tokens at the commas outside parentheses."""
    part: list[str] = []
    depth = 0
    for each in tokens:
        depth += (each == "(") - (each == ")")
        if each == "," and not depth:
            yield part
            part = []
        else:
            part.append(each)
    yield part


def _name(tokens: Sequence[str]) -> str:
    start = _start_of_name(tokens)
    end = start + 1
    while tokens[end : end + 1] == ["."]:
        end += 2
    return "".join(tokens[start:end])


def _after_name(tokens: Sequence[str]) -> list[str]:
    start = _start_of_name(tokens) + 1
    while tokens[start : start + 1] == ["."]:
        start += 2
    return [each for each in tokens[start:] if each != "*"]


def _start_of_name(tokens: Sequence[str]) -> int:
    return next((i for i, each in enumerate(tokens) if each.lower() not in _BEFORE_NAME), 0)
