"""Create the partitions that the target was given at run time on the scratch database as well.

PostgreSQL then shows which of their properties come from the parent, and which do not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from ...errors import counted
from .schema import Schema, SchemaObject, schema_of

_PARTITIONS = """
select format('%I.%I', n.nspname, c.relname),
       format('%I.%I', pn.nspname, p.relname),
       pg_catalog.pg_get_expr(c.relpartbound, c.oid),
       case when c.relkind = 'p' then pg_catalog.pg_get_partkeydef(c.oid) end,
       array(
           select format('%s=%L', split_part(option, '=', 1), regexp_replace(option, '^[^=]*=', ''))
           from unnest(
               c.reloptions || array(select 'toast.' || option from unnest(t.reloptions) as option)
           ) as option
       )
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_inherits i on i.inhrelid = c.oid
join pg_catalog.pg_class p on p.oid = i.inhparent
join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
left join pg_catalog.pg_class t on t.oid = c.reltoastrelid
where c.relispartition
  and c.relkind in ('r', 'p')
order by (select count(*) from pg_catalog.pg_partition_ancestors(c.oid)), 1
"""

_INDEXES = """
select format('%I.%I', n.nspname, c.relname), format('%I.%I', pn.nspname, p.relname), i.relname,
       format('%I.%I', n.nspname, i.relname)
from pg_catalog.pg_inherits h
join pg_catalog.pg_class i on i.oid = h.inhrelid
join pg_catalog.pg_index x on x.indexrelid = i.oid
join pg_catalog.pg_class c on c.oid = x.indrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_class p on p.oid = h.inhparent
join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
"""


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition of the target.

    Attributes:
        name: Quoted, with its schema, like that of its parent.
        bound: `FOR VALUES …` or `DEFAULT`.
        key: How it is partitioned itself; None if it is not.
        options: Storage parameters, which a parent cannot define, such as `fillfactor='70'`.
    """

    name: str
    parent: str
    bound: str
    key: str | None
    options: tuple[str, ...]

    def creation(self) -> str:
        """Return the statement that creates it, in the manner of its parent."""
        key = f" partition by {self.key}" if self.key else ""
        options = f" with ({', '.join(self.options)})" if self.options else ""
        return f"create table {self.name} partition of {self.parent} {self.bound}{key}{options}"


@dataclass(frozen=True, slots=True)
class Partitions:
    """The partitions of the target, parents first, and the names of their indexes.

    Attributes:
        indexes: The name of an index, by table and index of the parent that it is attached to.
    """

    partitions: tuple[Partition, ...]
    indexes: dict[tuple[str, str], str]


def read(conn: psycopg.Connection[Any]) -> Partitions:
    """Read the partitions of the target."""
    rows = conn.execute(sql.SQL(_PARTITIONS)).fetchall()
    found = tuple(
        Partition(name, parent, bound, key, tuple(options))
        for name, parent, bound, key, options in rows
    )
    indexes = {(table, parent): name for table, parent, name, _ in _indexes(conn)} if found else {}
    return Partitions(found, indexes)


@contextmanager
def made(
    conn: psycopg.Connection[Any], known: Partitions, expected: Schema
) -> Iterator[tuple[Partition, ...]]:
    """Create the partitions that the history did not create, until the `with` ends.

    Each is made in a transaction of its own, because a thousand of them would need more locks
    than one may hold.  Those that cannot be made are left out.

    Args:
        expected: What the history made.
    """
    tables = {each.name for each in expected if each.kind == "table"}
    done = []
    for each in known.partitions:
        if each.name not in tables and each.parent in tables and _run(conn, each.creation()):
            tables.add(each.name)
            done.append(each)
    if done:
        _name_indexes(conn, {each.name for each in done}, known.indexes)
    yield tuple(done)
    for each in reversed(done):
        conn.execute(f"drop table {each.name}".encode())


def in_manner_of_parents(
    made: Collection[Partition], expected: Schema, found: Schema
) -> tuple[Schema, Schema]:
    """Return both schemas without the owners and grants that partitions share with their parent.

    Args:
        expected: The history's side, in which the partitions were made.
        found: That of the target.
    """
    parents = {f"table {each.name}": f"table {each.parent}" for each in made}
    if not parents:
        return expected, found
    known = {(each.kind, each.name): each.definition for each in found}

    def follows(each: SchemaObject) -> bool:
        if each.kind not in ("owner", "privileges") or each.parents[0] not in parents:
            return False
        label = each.parents[0]
        of_parent = each.name.removesuffix(label) + parents[label]
        return known.get((each.kind, of_parent)) == each.definition

    deviating = {(each.kind, each.name) for each in found if not follows(each)}
    kept = [each for each in expected if not _is_attribute(each, parents)]
    owners = {each.parents[0]: each for each in expected if each.kind == "owner"}
    for label, parent in parents.items():
        if (owner := owners.get(label)) and ("owner", owner.name) in deviating:
            kept.append(replace(owner, definition=owners[parent].definition))
    return tuple(kept), tuple(each for each in found if not follows(each))


def notes(made: Iterable[Partition]) -> Iterator[str]:
    """Say how many partitions each table of the history has in addition."""
    tops: dict[str, str] = {}
    for each in made:
        tops[each.name] = tops.get(each.parent, each.parent)
    for parent, count in sorted(Counter(tops.values()).items()):
        yield f"{counted(count, 'partition')} of {parent}, made outside the history"


def _is_attribute(each: SchemaObject, labels: Collection[str]) -> bool:
    return each.kind in ("owner", "privileges") and each.parents[0] in labels


def _name_indexes(
    conn: psycopg.Connection[Any], tables: Collection[str], names: dict[tuple[str, str], str]
) -> None:
    """Give the indexes of partitions the names that they have on the target.

    PostgreSQL makes names up when it creates them, and others may have renamed them.
    """
    wrong = []
    for table, parent, name, qualified in _indexes(conn):
        wanted = names.get((table, parent), name)
        if table in tables and wanted != name:
            wrong.append((table, qualified, wanted))
    for number, (_, qualified, _) in enumerate(wrong):
        _run(conn, f"alter index {qualified} rename to migrator_{number}")
    for number, (table, _, wanted) in enumerate(wrong):
        index = sql.Identifier(wanted).as_string(conn)
        _run(conn, f"alter index {schema_of(table)}.migrator_{number} rename to {index}")


def _indexes(conn: psycopg.Connection[Any]) -> list[tuple[str, str, str, str]]:
    return conn.execute(sql.SQL(_INDEXES)).fetchall()


def _run(conn: psycopg.Connection[Any], statement: str) -> bool:
    """Run a statement in a transaction of its own; return whether it succeeded."""
    try:
        with conn.transaction():
            conn.execute(statement.encode())
    except psycopg.Error:
        if conn.closed:
            raise
        return False
    return True
