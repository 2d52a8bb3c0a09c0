"""Find out which queries of the running release can be planned, and explain them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from ..errors import CancelledError
from ..postgres.cursor import Connection, prepare, run_plainly
from .queries import Queries, Query, is_planned
from .report import LeftOut, QueryCheck
from .steps import Stage

_NAME = "migrator_query"
_INFERRED = "unknown"
_SETTINGS = {
    # The planner runs immutable functions.
    "transaction_read_only": "on",
    "statement_timeout": "2s",
    "plan_cache_mode": "force_generic_plan",
    "standard_conforming_strings": "on",
}
# Classes of errors that say nothing about a query: a lost connection, a deadlock, resources, a
# timeout or cancel, the system, a bug of the server; and a lock timeout.
_UNRELATED = ("08", "40", "53", "57", "58", "XX", "55P03")
# A driver sends a number, a time or a UUID with its type; text takes every type that fits.
_TYPES = """
select array(
    select case
        when coalesce(e.oid, b.oid) < 16384
            and (coalesce(e.typcategory, b.typcategory) in ('B', 'D', 'N', 'T')
                 or coalesce(e.typname, b.typname) = 'uuid')
        then pg_catalog.format('pg_catalog.%I', b.typname)
        else 'unknown'
    end
    from unnest(s.parameter_types::oid[]) with ordinality p (type, place)
    join pg_catalog.pg_type t on t.oid = p.type
    join pg_catalog.pg_type b on b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
    left join pg_catalog.pg_type e on e.oid = b.typelem and b.typcategory = 'A'
    order by p.place
)
from pg_catalog.pg_prepared_statements s
"""


@dataclass(frozen=True, slots=True)
class Runnable:
    """A query that can be planned before the migrations, and how.

    Attributes:
        role: Whose privileges it has; None for those of the rehearsal.
        types: Of its parameters, as in `cursor.prepare`.
    """

    query: Query
    role: str | None
    path: str
    types: tuple[str, ...]


def find(stage: Stage, queries: Queries) -> tuple[QueryCheck, tuple[Runnable, ...]]:
    """Find out which queries can be planned, and how.

    Raises:
        CancelledError: The user stopped it.
    """
    runnable, left_out = _runnable(stage, queries.queries)
    others = [r for r in runnable if r.query.role not in (None, stage.conn.info.user)]
    unprivileged = sum(each.role is None for each in others)
    return QueryCheck(queries, tuple(left_out), unprivileged), tuple(runnable)


def _runnable(stage: Stage, queries: Iterable[Query]) -> tuple[list[Runnable], list[LeftOut]]:
    path = stage.conn.execute(
        "select reset_val from pg_catalog.pg_settings where name = 'search_path'"
    ).fetchall()[0][0]
    runnable, left_out = [], []
    for query in queries:
        stop_if_interrupted(stage)
        if not is_planned(query.text):
            left_out.append(LeftOut(query, "it is not one SELECT, INSERT, UPDATE, DELETE or MERGE"))
            continue
        found = _first_runnable(stage.conn, query, path)
        if isinstance(found, str):
            left_out.append(LeftOut(query, found))
        else:
            runnable.append(found)
    return runnable, left_out


def _first_runnable(conn: Connection, query: Query, path: str) -> Runnable | str:
    """Return how a query can be planned: as its role, else as ours; or the reason why not.

    Its parameters have the types that PostgreSQL infers, unless it cannot be planned with them.
    """
    reason = ""
    for role in dict.fromkeys((query.role, None)):
        plain = Runnable(query, role, query.path or path, ())
        try:
            with conn.transaction(force_rollback=True):
                _prepare(conn, plain)
                (types,) = conn.execute(_TYPES).fetchall()[0]
        except psycopg.Error as refused:
            reason = message(conn, refused)
            continue
        for declared in (tuple(types), (_INFERRED,) * len(types)):
            runnable = replace(plain, types=declared)
            error = refusal(conn, runnable)
            if error is None:
                return runnable
            reason = message(conn, error)
    return reason


def _prepare(conn: Connection, runnable: Runnable) -> None:
    settings = {**_SETTINGS, "search_path": runnable.path}
    if runnable.role:
        settings["role"] = runnable.role
    calls = sql.SQL(", ").join(
        sql.SQL("pg_catalog.set_config({}, {}, true)").format(name, value)
        for name, value in settings.items()
    )
    run_plainly(conn, sql.SQL("deallocate all; select {}").format(calls))
    prepare(conn, _NAME, runnable.types, runnable.query.text)


def explain(conn: Connection, runnable: Runnable) -> Any:
    """Return the plan of a query, in a transaction that is rolled back afterwards.

    Raises:
        psycopg.Error: PostgreSQL refuses to plan it.
    """
    _prepare(conn, runnable)
    values = ", ".join(["null"] * len(runnable.types))
    call = _NAME + (values and f" ({values})")
    return run_plainly(conn, f"explain (format json, verbose) execute {call}").fetchall()[0][0]


def refusal(conn: Connection, runnable: Runnable) -> psycopg.Error | None:
    """Return the error with which PostgreSQL refuses to plan a query; None if it does not."""
    try:
        with conn.transaction(force_rollback=True):
            explain(conn, runnable)
    except psycopg.Error as error:
        if conn.closed:
            raise
        return error
    return None


def is_refused(error: psycopg.Error) -> bool:
    """Whether an error is about the query, not about the server or its other sessions."""
    return not (error.sqlstate or "").startswith(_UNRELATED)


def message(conn: Connection, error: psycopg.Error) -> str:
    """Return PostgreSQL's message.

    Raises:
        psycopg.Error: The connection was lost.
    """
    if conn.closed:
        raise error
    return error.diag.message_primary or " ".join(str(error).split())


def stop_if_interrupted(stage: Stage) -> None:
    """Stop where the user asked for it.

    Raises:
        CancelledError: The user did.
    """
    if stage.interrupts.signal:
        raise CancelledError("interrupted", signal=stage.interrupts.signal)
