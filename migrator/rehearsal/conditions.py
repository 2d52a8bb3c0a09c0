"""Ask the target what pending migrations require, and judge what they ensure without its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import psycopg

from ..errors import MigratorError
from ..execution.conditions import in_words, question, unmet
from ..execution.context import Asked, Context
from ..model import Step
from ..postgres import connection
from ..postgres.cursor import Connection, explain, run_plainly
from ..session import Session
from ..sql.location import line_number
from ..sql.names import quoted
from ..sql.script import Statement
from .report import Condition, Met, RehearsedMigration

_SETTINGS = (
    "set transaction isolation level read committed, read only, not deferrable",
    "set local lock_timeout = '100ms'",
    "set local statement_timeout = '10s'",
)
_SET_ROLE = "select pg_catalog.set_config('role', %s, true)"
# lock_not_available, query_canceled, serialization_failure, read_only_sql_transaction
_NO_ANSWER = frozenset(["55P03", "57014", "40001", "25006"])
_CATALOGS = frozenset(["pg_catalog", "information_schema"])


def required(work: Session, done: tuple[RehearsedMigration, ...]) -> tuple[RehearsedMigration, ...]:
    """Return migrations with the answers of the target to what they require; it is only read.

    Raises:
        DatabaseConnectionError: The connection was lost.
    """
    if not any(each.step.script.options.requires for each in done):
        return done
    with connection.reported():
        return tuple(
            replace(
                each, conditions=(*_required(work, each.step, each is done[0]), *each.conditions)
            )
            for each in done
        )


def _required(work: Session, step: Step, is_next: bool) -> Iterator[Condition]:  # noqa: FBT001
    role = step.script.options.role or work.settings.role
    for query in step.script.options.requires:
        condition = _condition(step, query, is_required=True)
        try:
            gave = _ask(work.conn, query, role)
        except psycopg.Error as error:
            if work.conn.closed:
                raise
            reason = error.diag.message_primary or str(error)
            fails = is_next and error.sqlstate not in _NO_ANSWER
            yield replace(condition, met=Met.NO if fails else Met.UNKNOWN, reason=reason)
        else:
            if gave == "true":
                yield replace(condition, met=Met.YES)
            elif is_next:
                yield replace(condition, met=Met.NO, gave=gave)
            else:
                reason = "pending migrations before it may change that"
                yield replace(condition, gave=gave, reason=reason)


def _condition(step: Step, query: Statement, *, is_required: bool) -> Condition:
    line = line_number(step.script.source, query.offset)
    return Condition(query, line, step.direction, is_required, Met.UNKNOWN)


def _ask(conn: Connection, query: Statement, role: str | None) -> str:
    with conn.transaction(force_rollback=True):
        for setting in _SETTINGS:
            run_plainly(conn, setting)
        if role:
            run_plainly(conn, _SET_ROLE, (role,))
        row = run_plainly(conn, question(query)).fetchone()
    return in_words(*row[0])


def judge(context: Context, found: list[Condition]) -> MigratorError | None:
    """Judge what a script ensured on a scratch database, and add it to a list.

    Returns:
        The error of a condition that is not met, whatever rows the target has.
    """
    for asked in context.asked:
        condition = _condition(asked.step, asked.query, is_required=False)
        if asked.gave == "true":
            found.append(replace(condition, met=Met.YES))
        elif why := _why_unknown(context.conn, asked):
            found.append(replace(condition, gave=asked.gave, reason=why))
        else:
            found.append(replace(condition, met=Met.NO, gave=asked.gave))
            return unmet(context, asked)
    return None


def _why_unknown(conn: Connection, asked: Asked) -> str | None:
    """Return why the rows of the target could change an answer; None if they could not."""
    try:
        with conn.transaction(force_rollback=True):
            tables = set(_tables(explain(conn, asked.query.text)))
            empty = sorted(table for table in tables if _is_empty(conn, table))
    except psycopg.Error:
        if conn.closed:
            raise
        return "which rows it reads is not known"
    return f"{', '.join(empty)} has no rows there" if empty else None


def _tables(plan: Mapping[str, Any]) -> Iterator[str]:
    if "Relation Name" in plan and plan["Schema"] not in _CATALOGS:
        yield quoted([plan["Schema"], plan["Relation Name"]])
    for each in plan.get("Plans", ()):
        yield from _tables(each)


def _is_empty(conn: Connection, table: str) -> bool:
    row = conn.execute(f"select exists (select from {table})".encode()).fetchone()  # noqa: S608
    return row == (False,)
