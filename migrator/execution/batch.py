"""Find the INSERTs that can be sent in heaps: many of them in one message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import psycopg

from ..model import Plan, Step
from ..postgres import connection
from ..sql.script import Statement

# A heap waits for the statements before it, and the server does twice as many of it in a second.
_HEAP = 1 << 18  # characters; an error lets the server log them all
_MANY = 250  # statements
_INSERT = ("insert",)
# Each statement of a heap has the text of the whole heap: who keeps that keeps it a thousand
# times.  In SQL_ASCII the server counts bytes, and we cannot tell the place of an error.
_SEES_STATEMENTS = """
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
_READING = ("current_query", "CURRENT_QUERY", "pgaudit", "auto_explain")


def allowed(conn: connection.Connection, plan: Plan) -> list[str]:
    """Return the versions with INSERTs that can be sent in heaps to this database."""
    versions = [step.version for step in plan.steps if _has_heap(step)]
    if versions and not any(word in s.script.source for s in plan.steps for word in _READING):
        # Who may not know it sends them one by one; a broken connection tells by itself.
        with suppress(psycopg.Error):
            if conn.execute(_SEES_STATEMENTS).fetchone() == (False,):
                return versions
    return []


def _has_heap(step: Step) -> bool:
    return any(len(heap) > 1 for unit in step.script.units for heap in cut(unit.statements))


def cut(statements: Sequence[Statement]) -> Iterator[Sequence[Statement]]:
    """Cut statements into heaps of INSERTs with but white space between them, and single ones."""
    start = 0
    if len(statements) < _MANY:
        yield from ((each,) for each in statements)
        return
    while start < len(statements):
        first, end = statements[start], start + 1
        if first.words == _INSERT:
            while end < len(statements) and _follows(statements[end], statements[end - 1], first):
                end += 1
        if end - start < _MANY or _has_rows(statements[start:end]):
            yield from ((each,) for each in statements[start:end])
        else:
            yield statements[start:end]
        start = end


def _follows(statement: Statement, before: Statement, first: Statement) -> bool:
    return (
        statement.words == _INSERT
        and statement.end - first.offset <= _HEAP
        and statement.source[before.end : statement.offset].isspace()
    )


def _has_rows(heap: Sequence[Statement]) -> bool:
    """Whether an INSERT of a heap may answer with rows."""
    return "returning" in heap[0].source[heap[0].offset : heap[-1].end].lower()
