"""Read the rows and sequences of a scratch database, to compare two of them."""

from __future__ import annotations

from collections.abc import Mapping

from ..postgres.cursor import Connection

# Tables with rows of their own, other than those of extensions and of the history.
_TABLES = """
select format('%%I.%%I', n.nspname, c.relname)
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = %(kind)s
  and c.relpersistence <> 't'
  and n.nspname !~ '^pg_'
  and n.nspname <> 'information_schema'
  and not (n.nspname = %(history)s
           and c.relname in ('migration_versions', 'migration_log', 'migration_log_id_seq',
                             'migration_repeatables'))
  and not exists (
      select
      from pg_catalog.pg_depend d
      where d.classid = 'pg_catalog.pg_class'::regclass
        and d.objid = c.oid
        and d.deptype = 'e'
  )
order by 1
"""
_ROWS = """
select count(*), coalesce(sum(pg_catalog.hashtextextended("every row"::text, 0)::numeric), 0)
from only {name} as "every row"
"""
_VALUE = "select last_value::numeric, is_called::integer from {name}"

Contents = Mapping[str, tuple[int, int]]
"""By name: the number of rows of a table and a hash of them, or a sequence's value."""


def rows(conn: Connection, history: str) -> Contents:
    """Return the tables that have rows, by name, with their number and a hash.

    Args:
        history: The schema of the history, whose own tables are left out.
    """
    found = _read(conn, history, "r", _ROWS)
    return {name: counted for name, counted in found.items() if counted[0]}


def sequences(conn: Connection, history: str) -> Contents:
    """Return the value of every sequence, and whether it was called, by name."""
    return _read(conn, history, "S", _VALUE)


def _read(conn: Connection, history: str, kind: str, query: str) -> Contents:
    parameters = {"kind": kind, "history": history}
    names = [name for (name,) in conn.execute(_TABLES, parameters).fetchall()]
    return {name: conn.execute(query.format(name=name).encode()).fetchall()[0] for name in names}
