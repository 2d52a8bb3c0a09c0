"""Find the place in a file that PostgreSQL's diagnostics mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import Location
from ..files import copydata
from ..postgres.inflight import Field
from ..sql.location import excerpt_at, excerpt_of, line_number, locate

if TYPE_CHECKING:
    from ..sql.script import Block, Script, Statement

_INLINE_LINE = re.compile(r"inline_code_block line ([0-9]+)")
_COPY_LINE = re.compile(r"COPY [^,\n]+, \w+ ([0-9]+)")  # `line` is in the server's language
_BODY = re.compile(r"\$(?:[^\W\d]\w*)?\$|'")
_ADDED_SELECT = len("SELECT ")


def place(
    fields: Mapping[Field, str],
    script: Script,
    statement: Statement | None,
    offset: int | None = None,
) -> tuple[Location, str]:
    """Return where a statement failed, and the lines around that place.

    Args:
        fields: PostgreSQL's diagnostics.
        statement: None for what is checked at the end of the script.
        offset: The place in the source, if it is known better than PostgreSQL tells; else None.
    """
    line = _COPY_LINE.match(fields.get(Field.CONTEXT, ""))
    if statement and statement.block and line and Field.STATEMENT_POSITION not in fields:
        return _place_in_block(script, statement, statement.block, int(line[1]))
    source = script.source
    if offset is None:
        offset = _offset(fields, statement) if statement else len(source.rstrip())
    location = locate(source, offset, script.path)
    return location, excerpt_at(source, location)


def _place_in_block(
    script: Script, statement: Statement, block: Block, line: int
) -> tuple[Location, str]:
    source = statement.source
    first, _ = statement.data or (0, 0)
    location = Location(script.path, line_number(source, first - 1) + line, 1)
    lines = copydata.lines(block, max(1, line - 2), line)
    if lines:
        return location, excerpt_of(lines, location)
    return location, excerpt_at(source, locate(source, statement.offset, script.path))


def _offset(fields: Mapping[Field, str], statement: Statement) -> int:
    """Return where in the source an error is; PostgreSQL counts characters from 1."""
    if position := fields.get(Field.STATEMENT_POSITION):
        return statement.offset + int(position) - 1
    return (
        _position_in_body(fields, statement)
        or _line_of_do(fields, statement)
        or _line_of_copy(fields, statement)
        or statement.offset
    )


def _position_in_body(fields: Mapping[Field, str], statement: Statement) -> int | None:
    """Return where an error inside a function is.

    PostgreSQL quotes the failed query of the body.  It is looked for in this statement first, and
    then in the rest of the file, which may have created the function.
    """
    position, query = fields.get(Field.INTERNAL_POSITION), fields.get(Field.INTERNAL_QUERY, "")
    if not position or not query:
        return None
    source = statement.source
    # Up to version 13, PL/pgSQL puts SELECT before an expression; the file does not have it.
    is_added = query.startswith("SELECT ") and query not in source
    added = _ADDED_SELECT if is_added else 0
    found = source.find(query[added:], statement.offset, statement.end)
    found = found if found >= 0 else source.find(query[added:])
    return found + int(position) - added - 1 if found >= 0 else None


def _line_of_copy(fields: Mapping[Field, str], statement: Statement) -> int | None:
    """Return where the line of COPY data begins that PostgreSQL's context names."""
    line = _COPY_LINE.match(fields.get(Field.CONTEXT, ""))
    if not line or not statement.data:
        return None
    offset, end = statement.data
    for _ in range(int(line[1]) - 1):
        offset = statement.source.find("\n", offset, end) + 1
        if not offset:
            return None
    return offset


def _line_of_do(fields: Mapping[Field, str], statement: Statement) -> int | None:
    """Return where the line of a DO block begins that PL/pgSQL's context names."""
    line = _INLINE_LINE.search(fields.get(Field.CONTEXT, ""))
    body = _BODY.search(statement.text) if statement.words[:1] == ("do",) else None
    if not line or not body:
        return None
    offset = statement.offset + body.start()
    for _ in range(int(line[1]) - 1):
        offset = statement.source.find("\n", offset) + 1
    text = statement.source[offset : statement.end]
    return offset + len(text) - len(text.lstrip())


def call_stack(fields: Mapping[Field, str]) -> str | None:
    """Return the query and the call stack that an error came from, by lines; None without."""
    query = fields.get(Field.INTERNAL_QUERY)
    lines = (f"in: {query}" if query else None, fields.get(Field.CONTEXT))
    return "\n".join(line for line in lines if line) or None
