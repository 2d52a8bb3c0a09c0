"""Send many INSERTs in one message.

The server runs about twice as many INSERTs a second from one message as one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from ..events import Subject
from ..model import Plan, Step
from ..postgres.cursor import Connection
from ..sql.script import Statement

_LONGEST = 1 << 18  # characters; PostgreSQL logs the text of the whole batch with an error
_FEWEST = 250  # statements
_INSERT = ("insert",)
# pgaudit and auto_explain log the whole batch once for each of its statements, and so does a
# function that stores current_query().  In SQL_ASCII PostgreSQL counts the position of an error
# in bytes, so that the failing statement could not be told.
_LOGS_STATEMENTS = """
select current_setting('server_encoding') = 'SQL_ASCII'
    or coalesce(nullif(current_setting('pgaudit.log', true), ''), 'none') <> 'none'
    or coalesce(current_setting('pgaudit.role', true), '') <> ''
    or coalesce(current_setting('auto_explain.log_min_duration', true), '-1') <> '-1'
    or exists (
        select
        from pg_catalog.pg_proc
        where prosrc ~* 'current_query|debug_query_string'
          and pronamespace <> 'pg_catalog'::pg_catalog.regnamespace
    )
"""
_LOGGING_WORDS = ("current_query", "CURRENT_QUERY", "pgaudit", "auto_explain")


def are_allowed(conn: Connection, plan: Plan) -> bool:
    """Whether a plan has INSERTs for batches, and nothing would log a batch for each of them."""
    if not any(_has_batch(step) for step in plan.steps):
        return False
    if any(word in step.script.source for step in plan.steps for word in _LOGGING_WORDS):
        return False
    # Without the answer, statements go one by one; the run itself reports a broken connection.
    with suppress(psycopg.Error):
        return conn.execute(_LOGS_STATEMENTS).fetchone() == (False,)
    return False


def _has_batch(step: Step) -> bool:
    return any(len(group) > 1 for unit in step.script.units for group in cut(unit.statements))


def cut(statements: Sequence[Statement]) -> Iterator[Sequence[Statement]]:
    """Group statements into batches; those that cannot be batched stay single.

    A batch holds INSERTs without RETURNING, with nothing but white space between them.
    """
    start = 0
    if len(statements) < _FEWEST:
        yield from one_by_one(statements)
        return
    while start < len(statements):
        first, end = statements[start], start + 1
        if first.words == _INSERT:
            while end < len(statements) and _follows(statements[end], statements[end - 1], first):
                end += 1
        if end - start < _FEWEST or _may_return_rows(statements[start:end]):
            yield from one_by_one(statements[start:end])
        else:
            yield statements[start:end]
        start = end


def one_by_one(statements: Sequence[Statement]) -> Iterator[Sequence[Statement]]:
    """Yield every statement alone."""
    return ((each,) for each in statements)


def text(batch: Sequence[Statement]) -> bytes:
    """Return the text of a batch, as it is sent."""
    first, last = batch[0], batch[-1]
    return first.source[first.offset : last.end].encode()


@dataclass(frozen=True, slots=True)
class Parts(Sequence[tuple[Subject, int]]):
    """The subject and the offset of each statement of a batch, made when one is asked for.

    Only an error or a notice asks for one, and a seed has millions of statements.
    """

    step: Step
    statements: Sequence[Statement]

    def __len__(self) -> int:
        """Return the number of statements."""
        return len(self.statements)

    def __getitem__(self, index: Any) -> Any:
        """Return the subject and the offset of a statement."""
        statement = self.statements[index]
        return Subject(self.step, statement), statement.offset - self.statements[0].offset


def _follows(statement: Statement, before: Statement, first: Statement) -> bool:
    return (
        statement.words == _INSERT
        and statement.end - first.offset <= _LONGEST
        and statement.source[before.end : statement.offset].isspace()
    )


def _may_return_rows(batch: Sequence[Statement]) -> bool:
    return "returning" in batch[0].source[batch[0].offset : batch[-1].end].lower()
