"""Turn PostgreSQL's diagnostics of a statement into an error with a place and a next step."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath

from ..errors import Location, LockTimeoutError, StatementError
from ..files import copydata
from ..model import Direction, Step
from ..postgres.inflight import Field
from ..sql.location import excerpt as excerpt_at
from ..sql.location import excerpt_of, line_number, locate
from ..sql.script import Block, Statement

RETRIED = frozenset(["55P03", "40P01", "40001"])
"""lock_not_available, deadlock_detected, serialization_failure: another try may succeed."""

ALONE = frozenset(["25001", "2D000"])
"""active_sql_transaction, invalid_transaction_termination: it has to run outside of one."""

_NO_TRANSACTION = "begin the file with: -- migrator: no-transaction"
_HINTS = {
    "25001": _NO_TRANSACTION,
    "2D000": _NO_TRANSACTION,
    "25P02": "an earlier statement of the file failed without a message: read the server's log",
    "42501": "run as a role that may do this: --role NAME, or -- migrator: role NAME in the file",
    "55P04": "use the new enum value in a later migration: it exists once this one is committed",
    "57014": "if it needs the time: -- migrator: statement-timeout 15min in the file",
    "53200": "split the file: its tables exceed what max_locks_per_transaction lets it lock",
}
_AT_THE_END = "deferred constraints are checked at the end of the file"
_INLINE_LINE = re.compile(r"inline_code_block line ([0-9]+)")
_COPY_LINE = re.compile(r"COPY [^,\n]+, \w+ ([0-9]+)")  # `line` is in the server's language
_BODY = re.compile(r"\$(?:[^\W\d]\w*)?\$|'")


_NOT_THE_FILE = "it is no statement of the file: see what PostgreSQL says, and mend that"
_OWN_HINTS = {
    "22P05": "the encoding of the database has no such character, and the script is stored in it: "
    "take it out of\nthe file, comments included",
    "25006": "take READ ONLY out of the file's own BEGIN: the record is written in its transaction",
    "42P01": "the history has lost one of its two tables: bring it back from a backup",
    "22023": "check the name of the role: --role NAME, or -- migrator: role NAME in the file",
    "42501": "the role that connects needs all rights on migration_versions and migration_log, "
    "and\nhas to be a member of the role of --role NAME or -- migrator: role NAME",
}


def own_error(fields: Mapping[Field, str], step: Step, outcome: str) -> StatementError:
    """Say which statement of ours around a migration's own was refused; it has no place.

    Args:
        fields: As for `statement_error`.
        outcome: As for `statement_error`.
    """
    sqlstate = fields.get(Field.SQLSTATE)
    kind = LockTimeoutError if sqlstate in RETRIED else StatementError
    message = fields.get(Field.MESSAGE_PRIMARY, "PostgreSQL gave no message")
    again = f"then run: migrator {step.direction}"
    specific = _OWN_HINTS.get(sqlstate or "")
    return kind(
        f"{step.version} could not be set up or recorded: {message}",
        detail=fields.get(Field.MESSAGE_DETAIL),
        hint=_busy(sqlstate, step) or f"{specific or _NOT_THE_FILE}\n{again}",
        version=step.version,
        sqlstate=sqlstate,
        server_hint=fields.get(Field.MESSAGE_HINT),
        context=_context(fields),
        outcome=outcome,
    )


def statement_error(
    fields: Mapping[Field, str], step: Step, statement: Statement | None, outcome: str
) -> StatementError:
    """Say what was refused, where, and what to type next.

    Args:
        fields: PostgreSQL's diagnostics; see "Error and Notice Message Fields" in its manual.
        statement: None if what was deferred to the end of the file was refused.
        outcome: What was rolled back and what stays, as sentences.
    """
    location, excerpt = _place(fields, step, statement)
    sqlstate = fields.get(Field.SQLSTATE)
    kind = LockTimeoutError if sqlstate in RETRIED else StatementError
    return kind(
        fields.get(Field.MESSAGE_PRIMARY, "PostgreSQL gave no message"),
        location=location,
        detail=fields.get(Field.MESSAGE_DETAIL),
        hint=_next_step(sqlstate, step),
        version=step.version,
        excerpt=excerpt,
        sqlstate=sqlstate,
        server_hint=fields.get(Field.MESSAGE_HINT),
        context=_context(fields) if statement else _AT_THE_END,
        outcome=outcome,
    )


def _place(
    fields: Mapping[Field, str], step: Step, statement: Statement | None
) -> tuple[Location, str]:
    """Return where a statement was refused, and the lines around the place."""
    source, path = step.script.source, step.script.path
    line = _COPY_LINE.match(fields.get(Field.CONTEXT, ""))
    if statement and statement.block and line and Field.STATEMENT_POSITION not in fields:
        return _place_in_block(statement, statement.block, int(line[1]), path)
    offset = _offset(fields, statement) if statement else len(source.rstrip())
    location = locate(source, offset, path)
    return location, excerpt_at(source, location)


def _place_in_block(
    statement: Statement, block: Block, line: int, path: PurePath
) -> tuple[Location, str]:
    source = statement.source
    first, _ = statement.data or (0, 0)
    location = Location(path, line_number(source, first - 1) + line, 1)
    lines = copydata.lines(block, max(1, line - 2), line)
    if lines:
        return location, excerpt_of(lines, location)
    return location, excerpt_at(source, locate(source, statement.offset, path))


def _offset(fields: Mapping[Field, str], statement: Statement) -> int:
    """Return where in the source an error is: PostgreSQL counts characters, from 1."""
    if position := fields.get(Field.STATEMENT_POSITION):
        return statement.offset + int(position) - 1
    source = statement.source
    if position := fields.get(Field.INTERNAL_POSITION):
        # The query of a function's body, as it stands there: in this statement, or in the
        # one of the same file that made the function.
        query = fields.get(Field.INTERNAL_QUERY, "")
        # Until 13 PL/pgSQL writes SELECT before an expression, which stands in no file.
        added = 7 if query.startswith("SELECT ") and query not in source else 0
        found = source.find(query[added:], statement.offset, statement.end)
        found = found if found >= 0 else source.find(query[added:])
        if query and found >= 0:
            return found + int(position) - added - 1
    return _line_of_do(fields, statement) or _line_of_copy(fields, statement) or statement.offset


def _line_of_copy(fields: Mapping[Field, str], statement: Statement) -> int | None:
    """Return where the line of inline COPY data begins that PostgreSQL names in its context."""
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
    """Return where the line of a DO block begins that PL/pgSQL names in its context."""
    line = _INLINE_LINE.search(fields.get(Field.CONTEXT, ""))
    body = _BODY.search(statement.text) if statement.words[:1] == ("do",) else None
    if not line or not body:
        return None
    offset = statement.offset + body.start()
    for _ in range(int(line[1]) - 1):
        offset = statement.source.find("\n", offset) + 1
    text = statement.source[offset : statement.end]
    return offset + len(text) - len(text.lstrip())


def _context(fields: Mapping[Field, str]) -> str | None:
    query = fields.get(Field.INTERNAL_QUERY)
    lines = (f"in: {query}" if query else None, fields.get(Field.CONTEXT))
    return "\n".join(line for line in lines if line) or None


def _busy(sqlstate: str | None, step: Step) -> str | None:
    if sqlstate in RETRIED:
        return f"end what is in the way, or try at a quieter time: migrator {step.direction}"
    return None


def _next_step(sqlstate: str | None, step: Step) -> str:
    if busy := _busy(sqlstate, step):
        return busy
    specific = _HINTS.get(sqlstate or "")
    if sqlstate in ALONE and not step.script.transactional:
        specific = "move it out of its BEGIN … COMMIT: what stands there is one transaction"
    if step.direction is Direction.DOWN:
        again = "mend the down file, then run: migrator down --from-files"
    else:
        again = "mend the file, then run: migrator up"
    return f"{specific}\n{again}" if specific else again
