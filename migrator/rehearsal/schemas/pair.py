"""Write the SQL that turns one schema into another, by trying it on a scratch database.

Statements that depend on others fail and are tried again after them: PostgreSQL decides on the
order.  After each round, what differs is read again: nothing is claimed that was not tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psycopg

from ...postgres.cursor import Connection
from . import schema, statements
from .attributes import Sides
from .schema import Difference, Schema, Sign
from .statements import Statements

_ATTRIBUTES = ("owner", "comment", "default privileges", "privileges")
_ORDER = (
    *("schema", "extension", "type", "domain", "sequence", "function", "procedure", "table"),
    *("column", "constraint", "index", "statistics", "view", "materialized view", "trigger"),
    *("rule", "policy", *_ATTRIBUTES),
)

Compare = Callable[[Schema], tuple[Difference, ...]]
"""Tells how a schema differs from the one that is wanted."""


@dataclass(frozen=True, slots=True)
class Unsaid:
    """A difference that no statement removes; `reason` is PostgreSQL's, or None."""

    difference: Difference
    reason: str | None


@dataclass(frozen=True, slots=True)
class Written:
    """A script, without semicolons, and the differences that it leaves."""

    statements: Statements
    unsaid: tuple[Unsaid, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """The scripts that bring differences into the history, and undo them."""

    up: Written
    down: Written


def write(conn: Connection, history: str, compare: Compare, wanted: Schema) -> Pair:
    """Write the scripts; the scratch database is the same afterwards.

    Args:
        history: The schema of our own tables.
        wanted: What the up script is to make.

    Raises:
        psycopg.Error: The connection was lost.
    """
    with conn.transaction(force_rollback=True):
        conn.execute("set local check_function_bodies = off")
        before = schema.read(conn, history)
        up = _turn(conn, history, compare, wanted)
        down = _turn(conn, history, lambda now: schema.compare(now, before), before)
    return Pair(up, down)


def _turn(conn: Connection, history: str, compare: Compare, wanted: Schema) -> Written:
    """Run statements until no more of them succeeds."""
    done: list[str] = []
    tried: set[Difference] = set()
    after = {each.label: each for each in wanted}
    while True:
        now = schema.read(conn, history)
        found = compare(now)
        sides = Sides({each.label: each for each in now}, after)
        ran, reasons = _round(conn, [each for each in found if each not in tried], sides)
        if not ran:
            by_label = {each.label: each for each in found}
            left = (
                Unsaid(each, reasons.get(each))
                for each in found
                if not statements.is_with_another(each, by_label)
            )
            return Written(tuple(done), tuple(left))
        for each, way in ran:
            tried.add(each)
            done += way


def _round(
    conn: Connection, found: Iterable[Difference], sides: Sides
) -> tuple[list[tuple[Difference, Statements]], dict[Difference, str]]:
    """Try the statements of all differences until none succeeds; return why the others fail."""
    found = sorted(found, key=_rank)
    by_label = {each.label: each for each in found}
    todo = [each for each in found if not statements.is_with_another(each, by_label)]
    ran: list[tuple[Difference, Statements]] = []
    reasons: dict[Difference, str] = {}
    while True:
        before = len(ran)
        for each in todo.copy():
            for way in statements.write(each, sides):
                reason = _try(conn, way)
                if reason is None:
                    ran.append((each, way))
                    todo.remove(each)
                    reasons.pop(each, None)
                    break
                reasons[each] = reason
        if len(ran) == before:
            return ran, reasons


def _rank(each: Difference) -> tuple[int, int]:
    place = _ORDER.index(each.kind) if each.kind in _ORDER else len(_ORDER)
    is_drop = each.sign is Sign.REMOVED and each.kind not in _ATTRIBUTES
    return (0, -place) if is_drop else (1, place)


def _try(conn: Connection, way: Statements) -> str | None:
    """Run statements, all or none; return why they fail, or None."""
    try:
        with conn.transaction():
            for statement in way:
                conn.execute(statement.encode())
    except psycopg.Error as error:
        if conn.closed:
            raise
        return error.diag.message_primary or str(error)
    return None
