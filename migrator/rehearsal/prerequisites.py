"""Create on a scratch database what scripts need and no script creates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Protocol

import psycopg
from psycopg import sql

from ..errors import MigratorError, StatementError
from ..events import Notify, Remarked
from ..history import other_tools
from ..model import Step
from ..postgres import connection
from ..postgres.cursor import Connection, run_plainly

_EXTENSIONS = """
select e.extname, n.nspname, e.extversion
from pg_catalog.pg_extension e
join pg_catalog.pg_namespace n on n.oid = e.extnamespace
order by e.oid
"""
_CREATED = re.compile(
    r'\bcreate\s+extension\s+(?:if\s+not\s+exists\s+)?(?:"(?P<quoted>[^"]+)"|(?P<bare>\w+))',
    re.IGNORECASE,
)
_EXISTS = "select to_regclass(%s) is not null"
_COLUMNS = """
select array_agg(
    format(
        '%%I %%s%%s', attname, format_type(atttypid, atttypmod),
        case when attnotnull then ' not null' else '' end
    )
    order by attnum
)
from pg_catalog.pg_attribute
where attrelid = to_regclass(%(table)s)
  and attname = any(%(columns)s)
"""
_PRIMARY_KEY = """
select format('constraint %%I %%s', conname, pg_get_constraintdef(oid))
from pg_catalog.pg_constraint
where conrelid = to_regclass(%(table)s)
  and contype = 'p'
"""

# SQLSTATEs of what does not exist: an object, a function, a table, a schema.
_MISSING = ("42704", "42883", "42P01", "3F000")

_Tried = tuple[str, str | None]
"""What was to be created, and why the server refused it; None if it did not."""


class Scratch(Protocol):
    """A scratch database; `target` is a session of the target if it was made empty, or None."""

    @property
    def conn(self) -> Connection: ...  # noqa: D102

    @property
    def target(self) -> Connection | None: ...  # noqa: D102

    @property
    def notify(self) -> Notify: ...  # noqa: D102


def create(scratch: Scratch, step: Step, error: MigratorError, others: Iterable[str] = ()) -> bool:
    """Create what a step that failed may lack; return whether that was anything.

    That is what the target has, the scratch database has not, and no script creates: extensions,
    and the tables of other migration tools that the step's script names.

    Args:
        others: The other scripts of the history.
    """
    conn, target = scratch.conn, scratch.target
    is_missing = isinstance(error, StatementError) and error.sqlstate in _MISSING
    if not is_missing or not step.migration or target is None or conn.closed:
        return False
    text = step.migration.up.text
    with connection.reported():
        found = [*_extensions(conn, target, (text, *others)), *_tables(conn, target, text)]
    for what, refusal in found:
        note = f"created the {what} on the scratch database: no migration creates it"
        refused = f"could not create the {what} on the scratch database: {refusal}"
        scratch.notify(Remarked(refused if refusal else note))
    return any(refusal is None for _, refusal in found)


def _extensions(conn: Connection, target: Connection, scripts: Iterable[str]) -> Iterator[_Tried]:
    here = {name for name, *_ in conn.execute(_EXTENSIONS).fetchall()}
    found = (match for text in scripts for match in _CREATED.finditer(text))
    created = here | {match["quoted"] or match["bare"].lower() for match in found}
    for name, schema, version in target.execute(_EXTENSIONS).fetchall():
        if name not in created:
            yield f"extension {name}", _create_extension(conn, name, schema, version)


def _create_extension(conn: Connection, name: str, schema: str, version: str) -> str | None:
    """Create an extension in the schema and version of the target, or in the server's version."""
    form = sql.SQL("create schema if not exists {1}; create extension {0} with schema {1}").format(
        sql.Identifier(name), sql.Identifier(schema)
    )
    same = form + sql.SQL(" version {}").format(sql.Literal(version))
    return _refusal(conn, same) and _refusal(conn, form)


def _refusal(conn: Connection, command: sql.Composed) -> str | None:
    """Run a command; return why the server refused it, or None."""
    try:
        run_plainly(conn, command)
    except psycopg.Error as error:
        return error.diag.message_primary or str(error)
    return None


def _tables(conn: Connection, target: Connection, text: str) -> Iterator[_Tried]:
    for each in other_tools.find(target):
        (is_there,) = conn.execute(_EXISTS, [each.table]).fetchall()[0]
        is_named = re.search(rf"\b{re.escape(each.name)}\b", text, re.IGNORECASE)
        if is_named and not is_there:
            yield f"table {each.table} of {each.tool}", _create_table(conn, target, each)


def _create_table(conn: Connection, target: Connection, found: other_tools.Found) -> str | None:
    """Create the table as the tool does: migrations may have added the rest of it."""
    given = {"table": found.table, "columns": list(found.columns)}
    ((parts,),) = target.execute(_COLUMNS, given).fetchall()
    parts += [key for (key,) in target.execute(_PRIMARY_KEY, given).fetchall()]
    form = sql.SQL("create schema if not exists {}; create table {} ({})").format(
        sql.Identifier(found.schema),
        sql.Identifier(found.schema, found.name),
        sql.SQL(", ").join(map(sql.SQL, parts)),
    )
    return _refusal(conn, form)
