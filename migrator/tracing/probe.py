"""Questions between a migration's statements: what the session holds, and how relations look.

The answers are JSON that `diff.read` understands.  A question is one statement without
parameters, so that it can be sent among a migration's own and in its transaction.  It needs no
privilege, and takes no lock but ACCESS SHARE on catalogs.
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

# TOAST shares the fate of its table, and our own tables concern nobody.
_IS_TOLD = """
c.relkind <> 't'
  and pg_catalog.left(c.relname, 9) <> 'pg_toast_'
  and (
      c.relnamespace is distinct from (select pg_catalog.to_regnamespace({schema})::oid)
      or c.relname !~ '^migration_(versions|log)(_pkey|_id_seq)?$'
  )
"""

# A relation: mode of its lock, OID, name, kind, file, OID of an index's table, counters (scans,
# rows read, inserted, updated, deleted), columns, constraints.  Null: a mode where no lock is
# held, counters that are all 0, columns and constraints where not {has_details}.
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
        )), '[]')
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
        )), '[]')
        from pg_catalog.pg_constraint k
        where k.conrelid = c.oid
    ) end
)
"""
_HAS_COLUMNS = "c.relkind in ('r', 'p', 'v', 'm', 'f', 'c')"

# An object: catalog, OID, kind, name, labels of an enum type as pairs of OID and label.
# Kind and name are null for one that is gone.
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
# What a DROP locks, and has a name that people know it by: {catalog: condition}.  Array types
# and those of tables, the triggers of constraints and the rules of views come with something else;
# extended statistics are dropped and made again by ALTER … TYPE (14).
_CATALOGS = {
    "pg_type": "typrelid = 0 and typtype <> 'm' and typcategory <> 'A'",
    "pg_proc": "true",
    "pg_namespace": "nspname !~ '^pg_'",
    "pg_trigger": "not tgisinternal",
    "pg_policy": "true",
    "pg_rewrite": "rulename <> '_RETURN'",
    "pg_extension": "true",
    "pg_publication": "true",
    "pg_collation": "true",
    "pg_event_trigger": "true",
    "pg_foreign_server": "true",
    "pg_ts_config": "true",
    "pg_operator": "true",
    "pg_cast": "true",
}
_OBJECTS = "\nunion all\n".join(
    f"select tableoid as classid, oid as objid from pg_catalog.{catalog}"  # noqa: S608
    f" where oid >= 16384 and {condition}"
    for catalog, condition in _CATALOGS.items()
)
_REGCLASSES = ", ".join(f"'pg_catalog.{catalog}'::regclass" for catalog in _CATALOGS)

_START = """
select pg_catalog.json_build_object(
    'whole', true,
    'relations', (
        select pg_catalog.json_agg({relation})
        from pg_catalog.pg_class c
        where c.oid >= 16384
          and {is_told}
    ),
    'objects', (
        select pg_catalog.json_agg({object})
        from ({objects}) o
        cross join lateral pg_catalog.pg_identify_object(o.classid, o.objid, 0) d
    )
)::text
"""

# A schema is renamed without a lock on it, but its row is of this transaction since.
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
    'whole', false,
    'relations', (
        select pg_catalog.json_agg(
            case when c.oid is null then
                pg_catalog.json_build_array(l.mode, l.objid::bigint)
            else {relation} end
        )
        from locks l
        left join pg_catalog.pg_class c on c.oid = l.objid
        where l.classid = 'pg_catalog.pg_class'::regclass
          and (c.oid is null or {is_told})
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
    )
)::text
"""
_IDENTITY = """
left join lateral pg_catalog.pg_identify_object(o.classid, o.objid, 0) d on true
"""
# On 13 it raises an error for what is gone.
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
_LONGEST_PAUSE = 0.02  # seconds between two looks at a statement that takes long


def start(schema: str) -> bytes:
    """Give the question at the beginning of a transaction: all relations and their columns.

    Some 0.2 s on 5,000 tables (30,000 relations) and 1 ms on a few.

    Args:
        schema: The one of our own tables, which are left out.
    """
    relation = _RELATION.format(mode="null", has_details=_HAS_COLUMNS)
    return _START.format(
        relation=relation, is_told=_is_told(schema), object=_OBJECT, objects=_OBJECTS
    ).encode()


def after_statement(schema: str, server_version: int) -> bytes:
    """Give the question after each statement: what the session holds, and how that looks.

    Columns and constraints are told where a lock is held without which they cannot change:
    SHARE UPDATE EXCLUSIVE or a stronger one.

    Args:
        schema: The one of our own tables, which are left out.
        server_version: As `psycopg.ConnectionInfo.server_version` has it.
    """
    details = f"l.mode >= {LockMode.SHARE_UPDATE_EXCLUSIVE} and {_HAS_COLUMNS}"
    return _PROBE.format(
        modes=_MODES,
        relation=_RELATION.format(mode="l.mode", has_details=details),
        is_told=_is_told(schema),
        object=_OBJECT,
        regclasses=_REGCLASSES,
        identity=_IDENTITY if server_version >= 140000 else _IDENTITY_13.format(exists=_EXISTS),
    ).encode()


@contextmanager
def sampling(conn: psycopg.Connection[Any], pid: int, schema: str) -> Iterator[Future[Snapshot]]:
    """Watch a statement outside a transaction, from another session, while the `with` lasts.

    The future has the snapshot after the `with`; a lock that was held for less than a
    millisecond may be missing from it.

    Args:
        conn: In autocommit mode, and used by nobody else meanwhile.
        pid: Of the session that the statement runs in.
        schema: The one of our own tables, which are left out.
    """
    done = Event()
    with ThreadPoolExecutor(max_workers=1) as pool:
        try:
            yield pool.submit(sample, conn, pid, schema, done)
        finally:
            done.set()


def sample(conn: psycopg.Connection[Any], pid: int, schema: str, done: Event) -> Snapshot:
    """Return what another session held or waited for until `done`, and all that there is then."""
    locks: dict[int, LockMode] = {}
    began = time.monotonic()
    while True:
        for oid, mode in conn.execute(_LOCKS, [pid]).fetchall():
            locks[oid] = max(LockMode.parse(mode), locks.get(oid, LockMode.ACCESS_SHARE))
        if done.wait(min((time.monotonic() - began) / 100, _LONGEST_PAUSE)):
            break
    row = conn.execute(start(schema)).fetchone()
    assert row is not None, "the question has no condition"
    return replace(diff.read(row[0]), locks=locks, sampled=True)


def prepare(schema: str, server_version: int) -> bytes:
    """Give the statement that prepares `after_statement`, to be asked by `EXECUTE` from then on.

    To plan the question takes the server four times as long as to answer it.  A migration's
    DEALLOCATE ALL or DISCARD ALL forgets it.
    """
    return b"prepare migrator_trace as " + after_statement(schema, server_version)


def forget(conn: psycopg.Connection[Any]) -> None:
    """Forget the prepared question, if there is one."""
    known = "select from pg_catalog.pg_prepared_statements where name = 'migrator_trace'"
    if conn.execute(known).fetchone() is not None:
        conn.execute(DEALLOCATE)


EXECUTE = b"execute migrator_trace"
DEALLOCATE = b"deallocate migrator_trace"


def _is_told(schema: str) -> str:
    name = sql.Identifier(schema).as_string(None)
    return _IS_TOLD.format(schema=sql.Literal(name).as_string(None))
