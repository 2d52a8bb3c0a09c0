"""Look up relations in pg_catalog, and what an interrupted statement left half-made."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from ..events import Objects
from .cursor import run_plainly

# If `relations` is null: all indexes of the database.
_OBJECTS = """
with indexes as (
    select i.indexrelid::bigint as oid,
           i.indisvalid as is_valid,
           exists (
               select from pg_catalog.pg_stat_progress_create_index p
               where p.index_relid = i.indexrelid
           ) as is_being_built
    from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    where c.relnamespace <> 'pg_catalog'::regnamespace
      and (%(relations)s::oid[] is null
           or i.indrelid = any (%(relations)s::oid[])
           or i.indexrelid = any (%(relations)s::oid[])
           or i.indrelid in (
               select t.reltoastrelid from pg_catalog.pg_class t
               where t.oid = any (%(relations)s::oid[])
           ))
)
select array(select oid from indexes where is_valid order by oid) as valid_indexes,
       array(select oid from indexes where not is_valid order by oid) as invalid_indexes,
       array(
           select oid from indexes where is_being_built and not is_valid order by oid
       ) as being_built,
       array(
           select h.inhrelid::bigint from pg_catalog.pg_inherits h
           join pg_catalog.pg_class c on c.oid = h.inhrelid and c.relispartition
           where h.inhrelid = any (%(relations)s::oid[])
           order by 1
       ) as partitions,
       {pending} as detaching
"""
# pg_inherits.inhdetachpending, like DETACH PARTITION … CONCURRENTLY, was added in 14.
_DETACHING = """
array(
    select h.inhrelid::bigint from pg_catalog.pg_inherits h
    where h.inhdetachpending
      and h.inhrelid = any (%(relations)s::oid[])
    order by 1
)
"""

# It runs under the script's search path.
_RELATIONS = """
select pg_catalog.to_regclass(name)::pg_catalog.oid::bigint
from pg_catalog.unnest(%(names)s::pg_catalog.text[]) as n (name)
"""


def objects(conn: psycopg.Connection[Any], relations: Collection[int] | None) -> Objects:
    """Return what a statement outside a transaction may leave half-made, in one round trip.

    Args:
        relations: Tables and indexes, by OID; None for all of the database, whose partitions
            are then not listed.
    """
    pending = _DETACHING if conn.info.server_version >= 140000 else "'{}'::bigint[]"
    oids = None if relations is None else sorted(relations)
    with conn.cursor(row_factory=dict_row) as cursor:
        query = _OBJECTS.format(pending=pending).encode()
        row = cursor.execute(query, {"relations": oids}).fetchone()
    assert row is not None, "the query has no condition"
    return Objects(**{name: frozenset(oids) for name, oids in row.items()})


def relations(conn: psycopg.Connection[Any], names: Iterable[str]) -> frozenset[int]:
    """Return the OIDs of relations, by names on the session's search path; skip unknown names."""
    rows = run_plainly(conn, _RELATIONS, {"names": list(names)}).fetchall()
    return frozenset(oid for (oid,) in rows if oid is not None)


def rebuilt(conn: psycopg.Connection[Any], relations: Collection[int]) -> frozenset[int]:
    """Return the OIDs that a REINDEX affects: relations, partitions and the tables of indexes."""
    query = """
        with named as (
            select unnest(%(relations)s::oid[]) as oid
        ), tree as (
            select oid from named
            union
            select p.relid from named, pg_partition_tree(named.oid) p
        )
        select oid::bigint from tree
        union
        select i.indrelid::bigint from pg_catalog.pg_index i join tree on tree.oid = i.indexrelid
    """
    rows = conn.execute(query, {"relations": sorted(relations)}).fetchall()
    return frozenset(oid for (oid,) in rows)


def names(conn: psycopg.Connection[Any], oids: Iterable[int]) -> tuple[str, ...]:
    """Return the names of relations, qualified and quoted, in alphabetical order."""
    query = """
        select format('%%I.%%I', n.nspname, c.relname)
        from pg_catalog.pg_class c
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where c.oid = any (%(oids)s::oid[])
        order by 1
    """
    return tuple(row[0] for row in conn.execute(query, {"oids": list(oids)}).fetchall())


def indexes_named(conn: psycopg.Connection[Any], pattern: str) -> frozenset[int]:
    """Return the OIDs of the indexes whose unqualified names match a regular expression."""
    query = """
        select c.oid::bigint
        from pg_catalog.pg_class c
        where c.relkind in ('i', 'I')
          and c.relname ~ %(pattern)s
    """
    rows = conn.execute(query, {"pattern": pattern}).fetchall()
    return frozenset(oid for (oid,) in rows)


def parent(conn: psycopg.Connection[Any], partition: int) -> int:
    """Return the OID of the table that a partition is attached to."""
    query = "select inhparent::bigint from pg_catalog.pg_inherits where inhrelid = %s::oid"
    return int(conn.execute(query, [partition]).fetchall()[0][0])


@dataclass(frozen=True, slots=True)
class Found:
    """A table, or the tables of a schema.

    Attributes:
        name: Qualified and quoted.
        tables: How many the schema has; None for a table.
        rows: As estimated by the server; None if it has no estimate.
        bytes: On disk, with TOAST and without indexes.
    """

    name: str
    tables: int | None
    rows: int | None
    bytes: int


# It runs under the search path of the user, where functions and operators of others may be: all
# are qualified.  The lock of pg_table_size() is not waited for long; without it there is no answer.
_SIZES = """
begin read only;
set local lock_timeout = '1s';
select asked.name,
       asked.is_schema,
       case when asked.is_schema then pg_catalog.quote_ident(n.nspname)
            else pg_catalog.format('%%I.%%I', n.nspname, c.relname) end,
       case when asked.is_schema then (
           select pg_catalog.count(*)
           from pg_catalog.pg_class t
           where t.relnamespace operator(pg_catalog.=) n.oid
             and t.relkind operator(pg_catalog.=) any (array['r', 'p']::pg_catalog."char"[])
             and not t.relispartition
       ) end,
       pg_catalog.sum(f.reltuples::bigint) filter (
           where f.reltuples operator(pg_catalog.>) 0 or f.relpages operator(pg_catalog.>) 0
       )::bigint,
       coalesce(pg_catalog.sum(pg_catalog.pg_table_size(f.oid)), 0)::bigint
from (
    select pg_catalog.unnest(%(tables)s::pg_catalog.text[]) as name, false as is_schema
    union all
    select pg_catalog.unnest(%(schemas)s::pg_catalog.text[]), true
) asked
left join pg_catalog.pg_class c
  on not asked.is_schema
 and c.oid operator(pg_catalog.=) pg_catalog.to_regclass(asked.name)::pg_catalog.oid
join pg_catalog.pg_namespace n
  on n.oid operator(pg_catalog.=) c.relnamespace
  or asked.is_schema
 and n.nspname operator(pg_catalog.=) (pg_catalog.parse_ident(asked.name))[1]::pg_catalog.name
left join pg_catalog.pg_class f
  on f.relkind operator(pg_catalog.=) any (array['r', 'm']::pg_catalog."char"[])
 and case when asked.is_schema then f.relnamespace operator(pg_catalog.=) n.oid
          else f.oid operator(pg_catalog.=) c.oid or f.oid operator(pg_catalog.=) any (
              array(select p.relid::pg_catalog.oid from pg_catalog.pg_partition_tree(c.oid) p)
          )
     end
group by 1, 2, 3, 4
order by 1, 2;
commit
"""


def sizes(
    conn: psycopg.Connection[Any], tables: Collection[str], schemas: Collection[str]
) -> dict[tuple[str, bool], Found]:
    """Return the sizes of tables and schemas, in one round trip.

    Args:
        tables: By names on the session's search path, as SQL writes them.
        schemas: As SQL writes them.

    Returns:
        By the name that was asked for, and whether it is that of a schema; what does not exist
        is left out.
    """
    cursor = psycopg.ClientCursor(conn)
    # A duplicate name would be counted twice.
    asked = {"tables": list(set(tables)), "schemas": list(set(schemas))}
    cursor.execute(_SIZES.encode(), asked)
    rows = [row for _ in cursor.results() if cursor.description for row in cursor.fetchall()]
    return {(name, is_schema): Found(*found) for name, is_schema, *found in rows}


def is_empty(conn: psycopg.Connection[Any], schema: str) -> bool:
    """Whether a database has no relations except those of the system, of extensions and ours."""
    query = """
        select not exists (
            select from pg_catalog.pg_class c
            join pg_catalog.pg_namespace n on n.oid = c.relnamespace
            where n.nspname <> 'information_schema'
              and n.nspname !~ '^pg_'
              and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
              and not (
                  n.nspname = %(schema)s
                  and c.relname ~ '^migration_(versions|repeatables|log)'
              )
              and not exists (
                  select from pg_catalog.pg_depend d
                  where d.objid = c.oid and d.deptype = 'e'
              )
        )
    """
    row = conn.execute(query, {"schema": schema}).fetchone()
    return bool(row and row[0])
