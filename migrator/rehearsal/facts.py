"""Read the facts that findings depend on from the catalogs: sizes, indexes, dependents."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import sql

from ..hazards.catalogue import Facts, Made, Size
from ..tracing import diff, probe
from ..tracing.diff import Snapshot

# A partitioned table has no file: its size is that of its partitions.
_SIZES = """
select format('%I.%I', n.nspname, c.relname),
       coalesce(sum(pg_catalog.pg_table_size(p.oid)), 0)::bigint,
       sum(p.reltuples::bigint) filter (where p.reltuples > 0 or p.relpages > 0)::bigint,
       coalesce(sum(pg_catalog.pg_relation_size(p.oid)), 0) = 0
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
cross join lateral (
    select c.oid where c.relkind <> 'p'
    union all
    select t.relid from pg_catalog.pg_partition_tree(c.oid) t where c.relkind = 'p' and t.isleaf
) leaf
join pg_catalog.pg_class p on p.oid = leaf.oid
where c.relkind in ('r', 'p', 'm')
  and c.oid >= 16384
  and n.nspname !~ '^pg_'
group by 1
"""

_INDEXES = """
select format('%%I.%%I', n.nspname, c.relname),
       array_agg(columns.names)
from pg_catalog.pg_index i
join pg_catalog.pg_class c on c.oid = i.indrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
cross join lateral (
    select string_agg(coalesce(quote_ident(a.attname), ''), chr(31) order by k.place)
    from unnest(i.indkey::smallint[]) with ordinality k (number, place)
    left join pg_catalog.pg_attribute a
        on a.attrelid = i.indrelid and a.attnum = k.number and k.number > 0
    where k.place <= i.indnkeyatts
) columns (names)
where i.indisvalid
  and (%(tables)s::oid[] is null or i.indrelid = any (%(tables)s::oid[]))
  and (i.indpred is null
       -- The check of a foreign key ignores nulls.
       or pg_catalog.pg_get_expr(i.indpred, i.indrelid)
          = format('(%%s IS NOT NULL)', split_part(columns.names, chr(31), 1)))
  and c.oid >= 16384
  and n.nspname !~ '^pg_'
group by 1
"""

_FOREIGN_KEYS = """
select format('%%I.%%I', n.nspname, c.relname), array_agg(quote_ident(a.attname))
from pg_catalog.pg_constraint k
join pg_catalog.pg_class c on c.oid = k.conrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = any (k.conkey)
where k.contype = 'f'
  -- From PostgreSQL 18 on: NOT ENFORCED checks nothing, so it needs no index.
  and coalesce((pg_catalog.to_jsonb(k) ->> 'conenforced')::boolean, true)
  and (%(tables)s::oid[] is null or k.conrelid = any (%(tables)s::oid[]))
group by k.oid, n.nspname, c.relname
"""

# A view depends on columns through its rule; the description names the view.
_DEPENDENTS = """
with dependents as (
    select d.refobjid,
           d.refobjsubid,
           case when d.classid = 'pg_catalog.pg_rewrite'::regclass
               then pg_catalog.pg_describe_object('pg_catalog.pg_class'::regclass, r.ev_class, 0)
               else pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)
           end as description
    from pg_catalog.pg_depend d
    left join pg_catalog.pg_rewrite r
        on d.classid = 'pg_catalog.pg_rewrite'::regclass and r.oid = d.objid
    left join pg_catalog.pg_constraint k
        on d.classid = 'pg_catalog.pg_constraint'::regclass and k.oid = d.objid
    where d.refclassid = 'pg_catalog.pg_class'::regclass
      and d.refobjid >= 16384
      and d.deptype = 'n'
      and r.ev_class is distinct from d.refobjid
      and k.conrelid is distinct from d.refobjid
)
select t.name || case when is_table then '' else '.' || quote_ident(a.attname) end,
       array_agg(distinct d.description)
from dependents d
join pg_catalog.pg_class c on c.oid = d.refobjid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
cross join lateral format('%I.%I', n.nspname, c.relname) t (name)
cross join (values (true), (false)) w (is_table)
left join pg_catalog.pg_attribute a
    on a.attrelid = d.refobjid and a.attnum = d.refobjsubid and d.refobjsubid > 0
where is_table or a.attname is not null
group by 1
"""

_PARTITIONS = """
select format('%I.%I', n.nspname, c.relname),
       format('%I.%I', rn.nspname, r.relname)
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_class r on r.oid = pg_catalog.pg_partition_root(c.oid)
join pg_catalog.pg_namespace rn on rn.oid = r.relnamespace
where c.relispartition
  and c.relkind in ('r', 'p')
"""

# What PostgreSQL itself accepts as proof (ConstraintImpliedByRelConstraint), as deparsed.
_PROVEN = """
select format('%I.%I', n.nspname, c.relname), array_agg(quote_ident(a.attname))
from pg_catalog.pg_constraint k
join pg_catalog.pg_class c on c.oid = k.conrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = any (k.conkey)
cross join lateral pg_catalog.pg_get_expr(k.conbin, k.conrelid) e (text)
where k.contype = 'c'
  and k.convalidated
  and position(format('(%s IS NOT NULL)', quote_ident(a.attname)) in e.text) > 0
  and e.text !~ ' OR |NOT [(]'
group by 1
"""


def sizes(conn: psycopg.Connection[Any]) -> dict[str, Size]:
    """Return the size of each table and materialized view, by name.

    It waits for ACCESS EXCLUSIVE locks on them, so set `lock_timeout` first.
    """
    rows = conn.execute(sql.SQL(_SIZES)).fetchall()
    return {name: Size(size, count, is_empty) for name, size, count, is_empty in rows}


def before(conn: psycopg.Connection[Any], known: dict[str, Size], made: Made) -> Facts:
    """Return the facts before a script; `known` are the target's sizes."""
    dependents = conn.execute(sql.SQL(_DEPENDENTS)).fetchall()
    proven = conn.execute(sql.SQL(_PROVEN)).fetchall()
    return Facts(
        sizes=known,
        dependents={name: tuple(sorted(what)) for name, what in dependents},
        partitions=_partitions(conn),
        proven={name: frozenset(columns) for name, columns in proven},
        made=made,
    )


def after(
    conn: psycopg.Connection[Any],
    known: Facts,
    old: Snapshot,
    new: Snapshot,
    *,
    tables: Collection[int] | None = None,
) -> Facts:
    """Add the facts after a script to those before it.

    Args:
        old: All relations and objects before the script.
        new: All relations and objects after it.
        tables: Read the indexes and foreign keys of these only, by OID; None for all tables.
    """
    return replace(
        known,
        indexes=_indexes(conn, tables),
        foreign_keys=_foreign_keys(conn, tables),
        partitions={**known.partitions, **_partitions(conn)},
        objects=_names(new),
        objects_created=_names(new) - _names(old),
        object_changes=diff.difference(old, new, old).objects,
    )


def _names(snapshot: Snapshot) -> frozenset[tuple[str, str]]:
    return frozenset((each[2], each[3]) for each in snapshot.objects.values())


def _partitions(conn: psycopg.Connection[Any]) -> dict[str, str]:
    """Return the topmost table of each partition, by the name of the partition."""
    return dict(conn.execute(sql.SQL(_PARTITIONS)).fetchall())


def _indexes(
    conn: psycopg.Connection[Any], tables: Collection[int] | None
) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Return the columns of each valid index that is not partial, by table.

    Args:
        tables: As in `after`.
    """
    oids = None if tables is None else sorted(tables)
    rows = conn.execute(sql.SQL(_INDEXES), {"tables": oids}).fetchall()
    return {name: tuple(tuple(each.split("\x1f")) for each in found) for name, found in rows}


def _foreign_keys(
    conn: psycopg.Connection[Any], tables: Collection[int] | None
) -> frozenset[tuple[str, frozenset[str]]]:
    oids = None if tables is None else sorted(tables)
    rows = conn.execute(sql.SQL(_FOREIGN_KEYS), {"tables": oids}).fetchall()
    return frozenset((name, frozenset(columns)) for name, columns in rows)


def objects(conn: psycopg.Connection[Any], schema: str) -> Snapshot:
    """Return all relations and objects, as a trace sees them; `schema` holds our own tables."""
    row = conn.execute(probe.start(schema)).fetchone()
    return diff.read(row[0] if row else "")
