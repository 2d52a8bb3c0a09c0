"""Query, between the statements of a migration, its locks and the state of relations.

The answers are JSON, which `diff.read` reads.  A query is one statement without parameters, so
that it can be sent between the migration's statements, in its transaction.  It needs no
privilege, and takes only ACCESS SHARE locks on catalogs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from threading import Event
from typing import Any

import psycopg
from psycopg import sql

from . import diff
from .diff import Snapshot
from .trace import LockMode

_MODES = ",".join(mode.name.title().replace("_", "") + "Lock" for mode in LockMode)

# Without TOAST tables and our own.
_IS_INCLUDED = """
c.relkind <> 't'
  and pg_catalog.left(c.relname, 9) <> 'pg_toast_'
  and (
      c.relnamespace is distinct from (select pg_catalog.to_regnamespace({schema})::oid)
      or c.relname !~ '^migration_(versions|repeatables|log)(_pkey|_id_seq|_ordinal_idx)?$'
  )
"""

# A relation: lock mode, OID, name, kind, file, OID of an index's table, counters (scans, rows
# read, inserted, updated, deleted), columns, constraints.  The mode is null without a lock, the
# counters if all are 0, columns and constraints unless {has_details}.
_RELATION = """
pg_catalog.json_build_array(
    {mode},
    c.oid::bigint,
    c.relnamespace::regnamespace || '.' || pg_catalog.quote_ident(c.relname),
    c.relkind,
    c.relfilenode::bigint,
    case when c.relkind in ('i', 'I') then (
        select i.indrelid::bigint
        from pg_catalog.pg_index i
        where i.indexrelid = c.oid
    ) end,
    case when c.relkind in ('r', 'm') then nullif(
        array[
            pg_catalog.pg_stat_get_xact_numscans(c.oid),
            pg_catalog.pg_stat_get_xact_tuples_returned(c.oid),
            pg_catalog.pg_stat_get_xact_tuples_inserted(c.oid),
            pg_catalog.pg_stat_get_xact_tuples_updated(c.oid),
            pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid)
        ],
        '{{0,0,0,0,0}}'
    ) end,
    case when {has_details} then (
        select coalesce(pg_catalog.json_agg(pg_catalog.json_build_array(
            a.attnum,
            pg_catalog.quote_ident(a.attname),
            a.atttypid::bigint,
            a.atttypmod,
            a.attnotnull,
            a.atthasdef
                or a.attidentity <> ''
                or exists (
                    select from pg_catalog.pg_type t
                    where t.oid = a.atttypid
                      and t.typtype = 'd'
                      and t.typdefault is not null
                )
        ) order by a.attnum), '[]')
        from pg_catalog.pg_attribute a
        where a.attrelid = c.oid
          and a.attnum > 0
          and not a.attisdropped
    ) end,
    case when {has_details} then (
        select coalesce(pg_catalog.json_agg(pg_catalog.json_build_array(
            k.oid::bigint,
            pg_catalog.quote_ident(k.conname),
            k.contype,
            k.convalidated,
            k.conkey,
            k.confrelid::bigint,
            k.conparentid::bigint
        ) order by k.oid), '[]')
        from pg_catalog.pg_constraint k
        where k.conrelid = c.oid
    ) end
)
"""
_HAS_COLUMNS = "c.relkind in ('r', 'p', 'v', 'm', 'f', 'c')"

# An object: catalog, OID, kind, name, labels of an enum type as pairs of OID and label.
# Kind and name are null if it no longer exists.
_OBJECT = """
pg_catalog.json_build_array(
    o.classid::bigint,
    o.objid::bigint,
    d.type,
    d.identity,
    (
        select pg_catalog.json_agg(
            pg_catalog.json_build_array(e.oid::bigint, e.enumlabel)
            order by e.enumsortorder
        )
        from pg_catalog.pg_enum e
        where o.classid = 1247
          and e.enumtypid = o.objid
    )
)
"""
# The named objects that DROP locks: {catalog: condition}.  Not those that belong to another
# object: array types, row types of tables, triggers of constraints and rules of views.  Not
# extended statistics, which ALTER … TYPE drops and creates again (PostgreSQL 14).
_CATALOGS = {
    "pg_type": "typrelid = 0 and typtype <> 'm' and typcategory <> 'A'",
    "pg_proc": "true",
    "pg_namespace": "nspname !~ '^pg_'",
    "pg_trigger": "not tgisinternal",
    "pg_policy": "true",
    "pg_rewrite": "rulename <> '_RETURN'",
    "pg_extension": "true",
    "pg_publication": "true",
    "pg_publication_rel": "true",
    "pg_collation": "true",
    "pg_event_trigger": "true",
    "pg_foreign_server": "true",
    "pg_ts_config": "true",
    "pg_operator": "true",
    "pg_cast": "true",
}
ON_RELATION = {"pg_trigger": "tgrelid", "pg_policy": "polrelid", "pg_rewrite": "ev_class"}
"""The catalogs of objects that are on a relation, and the column with its OID."""

_OBJECTS = "\nunion all\n".join(
    f"select tableoid as classid, oid as objid from pg_catalog.{catalog}"  # noqa: S608
    f" where oid >= 16384 and {condition}"
    for catalog, condition in _CATALOGS.items()
)
_REGCLASSES = ", ".join(f"'pg_catalog.{catalog}'::regclass" for catalog in _CATALOGS)

# The arguments are evaluated in their order.
_BEGIN = """
    'asked', extract(epoch from pg_catalog.statement_timestamp())::double precision,
    'wal', {wal},
"""
_END = "'answered', extract(epoch from pg_catalog.clock_timestamp())::double precision"
WAL = """
pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')::bigint
"""
"""How many bytes of WAL the server has written, as SQL; a standby and some services refuse it."""

_STATE = """
select pg_catalog.json_build_object(
    'complete', true,
    {begin}
    'relations', ({relations}),
    'objects', ({objects}),
    {end}
)::text
"""
_IDENTIFIED = """
select pg_catalog.json_agg({object})
from ({objects}) o
cross join lateral pg_catalog.pg_identify_object(o.classid, o.objid, 0) d
where {condition}
"""

# Renaming a schema takes no lock on it, but its row then has the transaction's xmin.
_PROBE = """
with locks as materialized (
    select coalesce(classid, 'pg_catalog.pg_class'::regclass) as classid,
           coalesce(objid, relation) as objid,
           pg_catalog.max(pg_catalog.array_position('{{{modes}}}'::text[], mode)) as mode
    from pg_catalog.pg_locks
    where pid = pg_catalog.pg_backend_pid()
      and granted
      and locktype in ('relation', 'object')
      and mode <> 'SIReadLock'
      and coalesce(objid, relation) >= 16384
    group by 1, 2
)
select pg_catalog.json_build_object(
    'complete', false,
    {begin}
    'relations', (
        select pg_catalog.json_agg(
            case when c.oid is null then
                pg_catalog.json_build_array(l.mode, l.objid::bigint)
            else {relation} end
        )
        from locks l
        left join pg_catalog.pg_class c on c.oid = l.objid
        where l.classid = 'pg_catalog.pg_class'::regclass
          and (c.oid is null or {is_included})
    ),
    'objects', (
        select pg_catalog.json_agg({object})
        from (
            select classid, objid
            from locks
            where mode >= 7
              and classid in ({regclasses})
            union all
            select tableoid, oid
            from pg_catalog.pg_namespace
            where pg_catalog.age(xmin)
                    <= pg_catalog.age(pg_catalog.pg_current_xact_id_if_assigned()::xid)
              and nspname !~ '^pg_'
        ) o
        {identity}
    ),
    {end}
)::text
"""
_IDENTITY = """
left join lateral pg_catalog.pg_identify_object(o.classid, o.objid, 0) d on true
"""
# In PostgreSQL 13, it raises an error for objects that no longer exist.
_EXISTS = "\nor ".join(
    f"o.classid = 'pg_catalog.{catalog}'::regclass"
    f" and exists (select from pg_catalog.{catalog} where oid = o.objid)"
    for catalog in _CATALOGS
)
_IDENTITY_13 = """
left join lateral pg_catalog.pg_identify_object(
    o.classid,
    case when {exists} then o.objid end,
    0
) d on true
"""

_LOCKS = """
select relation::bigint, mode
from pg_catalog.pg_locks
where pid = %s
  and locktype = 'relation'
  and relation >= 16384
  and mode <> 'SIReadLock'
"""
_LONGEST_PAUSE = 0.02  # seconds between two samples of a long statement


def start(schema: str, *, wal: bool = False) -> bytes:
    """Return the query for the start of a transaction: all relations and objects.

    It takes 1 ms with few tables, and 0.2 s with 5,000 tables (30,000 relations).

    Args:
        schema: That of our own tables, which are left out.
        wal: Whether to ask how much WAL was written.
    """
    relations = of_relations(schema, "c.oid >= 16384")
    objects = _IDENTIFIED.format(object=_OBJECT, objects=_OBJECTS, condition="true")
    return _state(relations, objects, wal=wal)


def clock(*, wal: bool = False) -> bytes:
    """Return the query for what `start` says of time and WAL, without relations and objects."""
    return _state("null", "null", wal=wal)


def of_relations(schema: str, condition: str) -> str:
    """Return the query for what `start` says of relations: one JSON array, or null for none.

    Args:
        schema: As in `start`.
        condition: Chooses rows of pg_class, which are called `c`.
    """
    relation = _RELATION.format(mode="null", has_details=_HAS_COLUMNS)
    return (
        f"select pg_catalog.json_agg({relation})"  # noqa: S608
        f" from pg_catalog.pg_class c where {condition} and {_is_included(schema)}"
    )


def of_objects(condition: str) -> str:
    """Return the query for what `start` says of objects on relations, as `of_relations`.

    Args:
        condition: Chooses triggers, policies and rules by `relation`, their relation's OID.
    """
    objects = " union all ".join(
        f"select tableoid as classid, oid as objid, {column} as relation"  # noqa: S608
        f" from pg_catalog.{catalog} where {_CATALOGS[catalog]}"
        for catalog, column in ON_RELATION.items()
    )
    return _IDENTIFIED.format(object=_OBJECT, objects=objects, condition=condition)


def after_statement(schema: str, server_version: int, *, wal: bool = False) -> bytes:
    """Return the query for after each statement: the locked relations and objects.

    Columns and constraints are included if the lock allows them to change, which takes at least
    SHARE UPDATE EXCLUSIVE.

    Args:
        schema, wal: As in `start`.
        server_version: As in `psycopg.ConnectionInfo.server_version`.
    """
    details = f"l.mode >= {LockMode.SHARE_UPDATE_EXCLUSIVE} and {_HAS_COLUMNS}"
    return _PROBE.format(
        modes=_MODES,
        relation=_RELATION.format(mode="l.mode", has_details=details),
        is_included=_is_included(schema),
        object=_OBJECT,
        regclasses=_REGCLASSES,
        identity=_IDENTITY if server_version >= 140000 else _IDENTITY_13.format(exists=_EXISTS),
        begin=_begin(wal=wal),
        end=_END,
    ).encode()


@contextmanager
def sampling(conn: psycopg.Connection[Any], pid: int, query: bytes) -> Iterator[Future[Snapshot]]:
    """Watch a statement outside a transaction from another session, during a `with`.

    After the `with`, the future has the snapshot.  A lock that was held for less than a
    millisecond may be missing.

    Args:
        conn: In autocommit mode, and used for nothing else meanwhile.
        pid: The server process that runs the statement.
        query: That of `start`.
    """
    done = Event()
    with ThreadPoolExecutor(max_workers=1) as pool:
        try:
            yield pool.submit(sample, conn, pid, query, done)
        finally:
            done.set()


def sample(conn: psycopg.Connection[Any], pid: int, query: bytes, done: Event) -> Snapshot:
    """Return the locks that a session held or waited for until `done`, and all relations then."""
    locks: dict[int, LockMode] = {}
    began = time.monotonic()
    while True:
        for oid, mode in conn.execute(_LOCKS, [pid]).fetchall():
            locks[oid] = max(LockMode.parse(mode), locks.get(oid, LockMode.ACCESS_SHARE))
        if done.wait(min((time.monotonic() - began) / 100, _LONGEST_PAUSE)):
            break
    row = conn.execute(query).fetchone()
    assert row is not None, "the query has no condition"
    return replace(diff.read(row[0]), locks=locks, sampled=True)


def prepare(schema: str, server_version: int, *, wal: bool = False) -> bytes:
    """Return the statement that prepares `after_statement`, to be run by `EXECUTE`.

    Planning the query takes four times as long as running it.  DEALLOCATE ALL or DISCARD ALL in
    a migration drops it.
    """
    return b"prepare migrator_trace as " + after_statement(schema, server_version, wal=wal)


def forget(conn: psycopg.Connection[Any]) -> None:
    """Deallocate the prepared query if it exists."""
    known = "select from pg_catalog.pg_prepared_statements where name = 'migrator_trace'"
    if conn.execute(known).fetchone() is not None:
        conn.execute(DEALLOCATE)


EXECUTE = b"execute migrator_trace"
DEALLOCATE = b"deallocate migrator_trace"


def _state(relations: str, objects: str, *, wal: bool) -> bytes:
    begin = _begin(wal=wal)
    return _STATE.format(begin=begin, relations=relations, objects=objects, end=_END).encode()


def _begin(*, wal: bool) -> str:
    return _BEGIN.format(wal=WAL if wal else "null")


def _is_included(schema: str) -> str:
    name = sql.Identifier(schema).as_string(None)
    return _IS_INCLUDED.format(schema=sql.Literal(name).as_string(None))
