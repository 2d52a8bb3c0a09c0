"""What is in a database: its objects and its rows, to be compared with what ought to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

from .backfills import Tally, tallies
from .histories import History, Sql, Unit, Version

Contents = Mapping[str, str]
"""What is there, by `kind name`: the definition of an object, or the hash of a table's rows."""

# An index that is not valid is nobody's: what an interrupted statement has left.
_OBJECTS = r"""
with ours as (
    select c.*
    from pg_class c
    where c.relnamespace = 'public'::regnamespace
      and c.relname !~ '^migration_(versions|repeatables|log)'
)
select 'table ' || c.relname || ' column ' || row_number() over (
           partition by c.oid order by a.attnum),
       format('%s %s %s %s', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
              pg_get_expr(d.adbin, d.adrelid))
from ours c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
where c.relkind in ('r', 'p')
union all
select 'constraint ' || c.relname || ' ' || pg_get_constraintdef(k.oid), k.conname
from ours c
join pg_constraint k on k.conrelid = c.oid
union all
select case when i.indisvalid and i.indisready and i.indislive then 'index ' else 'broken ' end
           || c.relname,
       pg_get_indexdef(c.oid)
from ours c
join pg_index i on i.indexrelid = c.oid
union all
select case to_jsonb(h) ->> 'inhdetachpending' when 'true' then 'detaching ' else 'partition ' end
           || c.relname,
       h.inhparent::regclass::text
from ours c
join pg_inherits h on h.inhrelid = c.oid
union all
select 'view ' || c.relname, pg_get_viewdef(c.oid)
from ours c
where c.relkind = 'v'
union all
select 'function ' || p.proname, md5(pg_get_functiondef(p.oid))
from pg_proc p
where p.pronamespace = 'public'::regnamespace
"""
_TABLES = r"""
select relname
from pg_class
where relnamespace = 'public'::regnamespace
  and relkind = 'r'
  and relname !~ '^(migration_(versions|repeatables|log)|tally|looked|large)'
"""
_ROWS = (
    "select 'rows {0}', count(*) || ' ' || md5(coalesce(string_agg(t::text, '/' "
    "order by t::text), '')) from public.{0} t"
)
_HISTORY = """
select version, applied_at is not null, statements_done, in_step is not null,
       coalesce((progress ->> 'rows')::integer, 0)
from public.migration_versions
order by version
"""
_REPEATABLES = "select name from public.migration_repeatables"


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the history table.

    Attributes:
        done: How many units have finished.
        in_step: Whether the next one is said to be under way.
        rows: How many the batches of the next one have changed, at the least.
    """

    version: str
    applied: bool
    done: int
    in_step: bool
    rows: int


@dataclass(frozen=True, slots=True)
class State:
    """A database at one moment: what its history says, what is there, what batches have done."""

    records: tuple[Record, ...]
    contents: Contents
    repeatables: frozenset[str] = frozenset()
    tallies: Mapping[str, Tally] = field(default_factory=dict)

    @property
    def applied(self) -> set[str]:
        """The names of the versions and repeatable files that are applied."""
        return {record.version for record in self.records if record.applied} | self.repeatables


@dataclass(frozen=True, slots=True)
class Expected:
    """What ought to be in a database.

    Attributes:
        before: What is there before the version with this index, after so many units of it.
        added: What each repeatable file makes of it after all versions, by its name.
    """

    before: Mapping[tuple[int, int], Contents]
    added: Mapping[str, Contents]


def take(conn: psycopg.Connection[Any]) -> State:
    """Look at a database, all of it at one moment."""
    with conn.transaction():
        conn.execute("set transaction isolation level repeatable read")
        conn.execute("set local search_path = public")
        there = conn.execute("select to_regclass('public.migration_versions')").fetchone()
        rows = conn.execute(_HISTORY.encode()).fetchall() if there and there[0] else []
        found = conn.execute(_REPEATABLES).fetchall() if there and there[0] else []
        contents = dict(conn.execute(_OBJECTS.encode()).fetchall())
        tables = [name for (name,) in conn.execute(_TABLES.encode())]
        if tables:
            query = "\nunion all\n".join(_ROWS.format(name) for name in tables)
            contents |= dict(conn.execute(query.encode()).fetchall())
        counted = tallies(conn)
    repeatables = frozenset(name for (name,) in found)
    return State(tuple(Record(*row) for row in rows), contents, repeatables, counted)


def expect(conn: psycopg.Connection[Any], history: History) -> Expected:
    """Run a history on an empty database without the program, and look after every unit."""
    expected: dict[tuple[int, int], Contents] = {}
    added: dict[str, Contents] = {}
    conn.prepare_threshold = None  # they would be gone after DISCARD ALL
    for index, version in enumerate(history.versions):
        expected[index, 0] = take(conn).contents
        for done, unit in enumerate(version.units, 1):
            _run(conn, unit)
            if not version.transactional:
                expected[index, done] = take(conn).contents
        conn.execute("discard all")
    expected[len(history.versions), 0] = last = take(conn).contents
    for each in history.repeatables:
        _run(conn, Unit(each.statements))
        last, earlier = take(conn).contents, last
        added[each.name] = dict(last.items() - earlier.items())
    return Expected(expected, added)


def _run(conn: psycopg.Connection[Any], unit: Unit) -> None:
    if unit.alone:
        conn.execute(unit.statements[0].text.encode())
        return
    if unit.batched:
        while conn.execute(unit.statements[0].text.encode()).rowcount:
            pass
        return
    with conn.transaction():
        for statement in unit.statements:
            _send(conn, statement)


def _send(conn: psycopg.Connection[Any], statement: Sql) -> None:
    if statement.data is None:
        conn.execute(statement.text.encode())
        return
    with conn.cursor().copy(statement.text.encode()) as copy:
        copy.write(statement.data)


def total(version: Version) -> int:
    """Return what the history counts as the units of a finished version."""
    return 0 if version.transactional else len(version.units)
