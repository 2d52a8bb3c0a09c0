"""Read the facts that findings depend on from the catalogs: sizes, indexes, dependents."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
{columns}
where {is_full}
  and (%(tables)s::oid[] is null or i.indrelid = any (%(tables)s::oid[]))
  and c.oid >= 16384
  and n.nspname !~ '^pg_'
group by 1
"""
_INDEX_COLUMNS = """cross join lateral (
    select string_agg(coalesce((
               select quote_ident(a.attname)
               from pg_catalog.pg_attribute a
               where a.attrelid = i.indrelid
                 and a.attnum = k.number
                 and k.number > 0
           ), ''), chr(31) order by k.place)
    from unnest(i.indkey::smallint[]) with ordinality k (number, place)
    where k.place <= i.indnkeyatts
) columns (names)
"""
# The check of a foreign key ignores nulls.
_IS_FULL_INDEX = """i.indisvalid
  and (i.indpred is null
       or pg_catalog.pg_get_expr(i.indpred, i.indrelid)
          = '(' || split_part(columns.names, chr(31), 1) || ' IS NOT NULL)')
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
where {proves}
group by 1
"""
_PROVES = """k.contype = 'c'
  and k.convalidated
  and position(format('(%s IS NOT NULL)', quote_ident(a.attname)) in e.text) > 0
  and e.text !~ ' OR |NOT [(]'
"""

# Facts by relation: what, relation, number, second number, text.  Under relation 0 are the
# dependencies of what is on no relation; they are asked for with all relations only.
_UNITS = """
with relation as materialized (
    select c.oid, c.relkind, c.relispartition, c.reltoastrelid, c.reltype
    from pg_class c
    where c.oid >= 16384
      and c.relkind not in ('i', 'I', 't', 'c')
      and {chosen}
),
part (class, oid, relation) as (
    select 'pg_class'::regclass::oid, oid, oid
    from relation
    union all
    select 'pg_class'::regclass, i.indexrelid, i.indrelid
    from pg_index i
    join relation r on r.oid = i.indrelid
    {parts}
)
select 'edge', p.relation, d.refobjid, d.refobjsubid,
       case when p.class = 'pg_rewrite'::regclass
           then pg_describe_object('pg_class'::regclass, p.relation, 0)
           else pg_describe_object(d.classid, d.objid, d.objsubid)
       end
from part p
{depend}
where d.refclassid = 'pg_class'::regclass
  and d.refobjid >= 16384
  and d.deptype = 'n'
  and not (
      d.refobjid = p.relation
      and p.class in ('pg_rewrite'::regclass, 'pg_constraint'::regclass)
  )
{elsewhere}
union all
select 'proven', k.conrelid, 0, 0, quote_ident(a.attname)
from pg_constraint k
join relation r on r.oid = k.conrelid
join pg_attribute a on a.attrelid = k.conrelid and a.attnum = any (k.conkey)
cross join lateral pg_get_expr(k.conbin, k.conrelid) e (text)
where {proves}
union all
select 'parent', i.inhrelid, i.inhparent, 0, null
from pg_inherits i
join relation r on r.oid = i.inhrelid
where r.relispartition
  and r.relkind in ('r', 'p')
union all
select 'object', relation, class, oid, null
from part
where class in ('pg_trigger'::regclass, 'pg_policy'::regclass, 'pg_rewrite'::regclass)
union all
select 'index', i.indrelid, i.indexrelid, 0, columns.names
from relation r
join pg_index i on i.indrelid = r.oid
{columns}
where {is_full}
union all
select 'foreign key', k.conrelid, 0, 0, string_agg(quote_ident(a.attname), chr(31))
from relation r
join pg_constraint k on k.conrelid = r.oid
join pg_attribute a on a.attrelid = k.conrelid and a.attnum = any (k.conkey)
where k.contype = 'f'
  and coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)
group by k.oid, k.conrelid
union all
select 'count', oid, case reltoastrelid when 0 then 1 else 2 end, 0, 'pg_class'
from relation
union all
select 'count', r.oid, case t.typarray when 0 then 1 else 2 end, 0, 'pg_type'
from relation r
join pg_type t on t.oid = r.reltype
union all
select 'count', r.oid, count(*), 0, k.name
from relation r
join (
    {counts}
) k (oid, name) on k.oid = r.oid
group by r.oid, k.name
"""
_PARTS = {
    "pg_attrdef": "adrelid",
    "pg_constraint": "conrelid",
    "pg_policy": "polrelid",
    "pg_rewrite": "ev_class",
    "pg_statistic_ext": "stxrelid",
    "pg_trigger": "tgrelid",
}
# With few relations, the planner would go through all dependencies on any relation.
_OF_SOME = """
cross join lateral (select * from pg_depend where classid = p.class and objid = p.oid offset 0) d
"""
_OF_ALL = "join pg_depend d on d.classid = p.class and d.objid = p.oid"
COUNTED = ("pg_class", "pg_type", "pg_index", "pg_inherits", *_PARTS)
"""The catalogs whose rows on each relation are counted; in pg_class, those of no index."""

UnitRow = tuple[str, int, int, int, str]
"""What, relation, number, second number, text, as in the query of units."""

_ELSEWHERE = """
union all
select 'edge', 0, d.refobjid, d.refobjsubid,
       pg_describe_object(d.classid, d.objid, d.objsubid)
from pg_depend d
where d.refclassid = 'pg_class'::regclass
  and d.refobjid >= 16384
  and d.deptype = 'n'
  and not exists (select from part p where p.class = d.classid and p.oid = d.objid)
"""


def query_of_units(chosen: str | None = None) -> str:
    """Return the query for the facts of some relations, or of all."""
    parts = [
        f"union all select '{catalog}'::regclass, o.oid, o.{column}"  # noqa: S608
        f" from {catalog} o join relation r on r.oid = o.{column}"
        for catalog, column in _PARTS.items()
    ]
    counts = [
        "select indrelid, 'pg_index' from pg_index",
        "select r.oid, 'pg_index' from relation r join pg_index i on i.indrelid = r.reltoastrelid",
        "select coalesce(x.indrelid, i.inhrelid), 'pg_inherits'"
        " from pg_inherits i left join pg_index x on x.indexrelid = i.inhrelid",
        *(f"select {column}, '{catalog}' from {catalog}" for catalog, column in _PARTS.items()),  # noqa: S608
    ]
    return _UNITS.format(
        chosen=chosen or "true",
        depend=_OF_SOME if chosen else _OF_ALL,
        parts="\n    ".join(parts),
        elsewhere="" if chosen else _ELSEWHERE,
        proves=_PROVES,
        columns=_INDEX_COLUMNS,
        is_full=_IS_FULL_INDEX,
        counts="\n    union all ".join(counts),
    )


def sizes(conn: psycopg.Connection[Any]) -> dict[str, Size]:
    """Return the size of each table and materialized view, by name.

    It waits for ACCESS EXCLUSIVE locks on them, so set `lock_timeout` first.
    """
    rows = conn.execute(sql.SQL(_SIZES)).fetchall()
    return {name: Size(size, count, is_empty) for name, size, count, is_empty in rows}


def before(conn: psycopg.Connection[Any], known: Mapping[str, Size], made: Made) -> Facts:
    """Return the facts before a script; `known` are the target's sizes."""
    dependents = conn.execute(sql.SQL(_DEPENDENTS)).fetchall()
    proven = conn.execute(_PROVEN.format(proves=_PROVES).encode()).fetchall()
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
        objects=names(new),
        objects_created=names(new) - names(old),
        object_changes=diff.difference(old, new, old).objects,
    )


def names(snapshot: Snapshot) -> frozenset[tuple[str, str]]:
    """Return kind and name of all objects."""
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
    query = _INDEXES.format(columns=_INDEX_COLUMNS, is_full=_IS_FULL_INDEX)
    rows = conn.execute(query.encode(), {"tables": oids}).fetchall()
    return {name: tuple(tuple(each.split("\x1f")) for each in found) for name, found in rows}


def _foreign_keys(
    conn: psycopg.Connection[Any], tables: Collection[int] | None
) -> frozenset[tuple[str, frozenset[str]]]:
    oids = None if tables is None else sorted(tables)
    rows = conn.execute(sql.SQL(_FOREIGN_KEYS), {"tables": oids}).fetchall()
    return frozenset((name, frozenset(columns)) for name, columns in rows)


def units(conn: psycopg.Connection[Any]) -> list[UnitRow]:
    """Return the facts of all relations, in a transaction.

    Nested loops would take minutes where the catalogs have not been analyzed since they grew.
    """
    conn.execute("set local enable_nestloop = off")
    return conn.execute(query_of_units().encode()).fetchall()


def objects(conn: psycopg.Connection[Any], schema: str) -> Snapshot:
    """Return all relations and objects, as a trace sees them; `schema` holds our own tables."""
    row = conn.execute(probe.start(schema)).fetchone()
    return diff.read(row[0] if row else "")
