"""Find out which queries of the running release can be planned, and explain them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from ...errors import CancelledError
from ...postgres.cursor import Connection, prepare, run_plainly
from ..report import LeftOut, QueryCheck
from ..stage import Stage
from .running import Queries, Query, is_planned

_NAME = "migrator_query"
_INFERRED = "unknown"
_SETTINGS = {
    # The planner runs immutable functions.
    "transaction_read_only": "on",
    "statement_timeout": "2s",
    "plan_cache_mode": "force_generic_plan",
    "standard_conforming_strings": "on",
}
_SOURCES = ("Outer", "Member")  # the second before PostgreSQL 14
# A BEFORE trigger may fill the column.
_REQUIRED = """
select a.attname
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid
where n.nspname = %s
  and c.relname = %s
  and c.relkind in ('r', 'p')
  and a.attnum = any(%s)
  and a.attnotnull
  and a.attgenerated = ''
  and not a.attisdropped
  and not exists (
      select
      from pg_trigger t
      where t.tgrelid in (select c.oid union select relid from pg_partition_tree(c.oid))
        and not t.tgisinternal
        and t.tgenabled <> 'D'
        and t.tgtype & 7 = 7
  )
order by a.attnum
limit 1
"""
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


def explain(conn: Connection, runnable: Runnable) -> list[Mapping[str, Any]]:
    """Return the plans of a query, in a transaction that is rolled back afterwards.

    Rules can make several plans of it, or none.

    Raises:
        psycopg.Error: PostgreSQL refuses to plan it, or would refuse each row that it inserts.
    """
    _prepare(conn, runnable)
    values = ", ".join(["null"] * len(runnable.types))
    call = _NAME + (values and f" ({values})")
    found = run_plainly(conn, f"explain (format json, verbose) execute {call}").fetchall()[0][0]
    plans = [each["Plan"] for each in found if "Plan" in each]
    for node in (node for plan in plans for node in nodes(plan)):
        if node["Node Type"] == "ModifyTable" and node.get("Operation") == "Insert":
            _check_insert(conn, node)
    return plans


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the nodes of a plan, each before those below it."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def _check_insert(conn: Connection, node: Mapping[str, Any]) -> None:
    """Check that an INSERT gives a value to each column that needs one.

    The node below it returns all columns of the table in their order, with NULL for one that has
    no value and no default.

    Raises:
        psycopg.errors.NotNullViolation: It does not.
    """
    (source, *_) = [each for each in node["Plans"] if each["Parent Relationship"] in _SOURCES]
    output = enumerate(source.get("Output", ()), 1)
    empty = [number for number, text in output if text.startswith("NULL::")]
    name = [node.get("Schema"), node.get("Relation Name")]
    for (column,) in conn.execute(_REQUIRED, [*name, empty]).fetchall() if empty else ():
        raise psycopg.errors.NotNullViolation(
            f'null value in column "{column}" of relation "{name[1]}" violates not-null constraint'
        )


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
