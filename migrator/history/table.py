"""Find, create and read the history: the tables `migration_versions` and `migration_log`."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.rows import Row, RowFactory, args_row, class_row, dict_row, tuple_row

from ..errors import HistoryError
from ..model import AppliedMigration, Direction

if TYPE_CHECKING:
    from .overview import LogEntry

FORMAT = 1
"""The format that this version writes; it is stored in a comment on the table."""

_NUMBERED = re.compile(r"[0-9]")

_LOCATE = """
select current_schema() as first_schema,
       pg_backend_pid() as pid,
       to_regnamespace(quote_ident(wanted)) is not null as schema_exists,
       array(
           select n.nspname::text
           from pg_catalog.pg_class c
           join pg_catalog.pg_namespace n on n.oid = c.relnamespace
           where c.relname = 'migration_versions'
             and c.relkind in ('r', 'p')
             and (n.nspname = wanted or n.nspname = any (current_schemas(false)))
       ) as histories,
       (
           select obj_description(c.oid, 'pg_class')
           from pg_catalog.pg_class c
           join pg_catalog.pg_namespace n on n.oid = c.relnamespace
           where c.relname = 'migration_versions'
             and n.nspname = wanted
       ) as comment
from (select coalesce(%(schema)s, current_schema())) as w (wanted)
"""

_CREATE = """
create table {versions} (
    version         text primary key,
    checksum        text not null,
    up_script       text,
    down_script     text,
    applied_at      timestamptz,
    applied_by      text not null default session_user,
    duration_ms     bigint,
    statements_done integer not null,
    in_step         timestamptz
);
create table {log} (
    id           bigint generated always as identity primary key,
    logged_at    timestamptz not null default clock_timestamp(),
    version      text not null,
    action       text not null,
    outcome      text not null,
    db_user      text not null default session_user,
    os_user      text,
    host         text,
    tool_version text not null,
    duration_ms  bigint,
    sqlstate     text,
    message      text,
    reason       text,
    detail       jsonb
);
comment on table {versions} is {comment};
comment on table {log} is 'What migrator did to this database and when; rows are only added.';
"""

# In the order of the fields of an `AppliedMigration`.
_READ = """
select version,
       checksum,
       null as up_script,
       case when %(downs)s then down_script end as down_script,
       down_script is not null as has_down,
       applied_at,
       applied_by,
       duration_ms,
       statements_done,
       in_step
from {versions}
"""
_READ_UPS = """
select version, up_script
from {versions}
where version = any(%(versions)s)
"""

# A lock on the history must not make a reading command wait forever.
_LIMITED = """
begin read only;
set local lock_timeout = '10s';
{statement};
commit
"""

_BEGUN = """
select detail
from {log}
where version = %(version)s
  and action = %(action)s
  and outcome = 'started'
  and detail is not null
  and id > coalesce(
      (
          select max(id)
          from {log}
          where version = %(version)s
            and (outcome = 'done' or action not in ('up', 'down'))
      ),
      0
  )
order by id desc
limit 1
"""

_READ_LOG = """
select logged_at, version, action, outcome, db_user, os_user, host, tool_version, duration_ms,
       sqlstate, message, reason
from (
    select *
    from {log}
    where %(version)s::text is null
       or version = %(version)s
       or case when %(version)s ~ '^[0-9]+$'
               then substring(version from '^[0-9]+')::numeric = %(version)s::numeric end
    order by id desc
    limit %(limit)s
) as newest
order by id
"""


@dataclass(frozen=True, slots=True)
class History:
    """The place of the history in a database.

    Attributes:
        exists: Whether there is a table `migration_versions`.
        pid: The process of the server that answered, by `pg_backend_pid()`.
    """

    schema: str
    exists: bool
    pid: int


def locate(conn: psycopg.Connection[Any], schema: str | None) -> History:
    """Find the history in one round trip; write nothing.

    Args:
        schema: Its schema; None for the first of the search path.

    Raises:
        HistoryError: The schema does not exist, another schema on the search path also has a
            history, or a newer version of migrator wrote it.
    """
    with conn.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(_LOCATE, {"schema": schema}).fetchone()
    assert found is not None, "the query has no condition"
    wanted = schema or found["first_schema"]
    if not wanted or not found["schema_exists"]:
        quoted = sql.Identifier(schema).as_string(conn) if schema else ""
        raise HistoryError(
            f"schema {quoted} does not exist" if schema else "the search path contains no schema",
            hint=f"create it with: create schema {quoted}; or choose another with --schema"
            if schema
            else "choose one with: --schema NAME",
        )
    others = [name for name in found["histories"] if name != wanted]
    if others and not schema:
        raise HistoryError(
            f'the history belongs in schema "{wanted}", but schema "{others[0]}" also has one',
            hint=f"choose one with: --schema {wanted} or --schema {others[0]}",
        )
    if (format_number := _format(found["comment"])) > FORMAT:
        raise HistoryError(
            f"the history has format {format_number}, but this version supports only {FORMAT}",
            hint="use the version of migrator that wrote it, or a newer one",
        )
    return History(wanted, wanted in found["histories"], found["pid"])


def ensure(conn: psycopg.Connection[Any], schema: str) -> History:
    """Create both tables if they do not exist.

    The caller holds the runner's lock: `create table if not exists` can fail in two sessions
    that run it at the same time.
    """
    found = locate(conn, schema)
    if not found.exists:
        comment = f"The history of migrator, format {FORMAT}"
        with conn.transaction():
            conn.execute("set transaction read write")
            conn.execute(compose(_CREATE, schema, comment=sql.Literal(comment)))
    return replace(found, exists=True)


def read(
    conn: psycopg.Connection[Any],
    schema: str,
    *,
    known: Set[str] = frozenset(),
    downs: bool = False,
) -> tuple[AppliedMigration, ...]:
    """Read every row, in no order; in one round trip if every up script is known.

    Args:
        known: Checksums of up scripts that the caller has: those are not read.
        downs: Whether to read the down scripts.

    Raises:
        HistoryError: The table is not a migrator history, a version has no number, or two have
            the same.
    """
    try:
        rows = _bounded(conn, compose(_READ, schema), {"downs": downs}, args_row(AppliedMigration))
    except psycopg.errors.UndefinedColumn as error:
        conn.rollback()
        raise HistoryError(
            f'"{schema}.migration_versions" is not a migrator history: '
            f"{error.diag.message_primary}",
            hint="choose another schema for the history with --schema",
        ) from error
    _check(rows, f'"{schema}.migration_versions"')
    unknown = [row.version for row in rows if row.checksum not in known]
    if not unknown:
        return tuple(rows)
    ups: dict[str, str | None] = dict(
        _bounded(conn, compose(_READ_UPS, schema), {"versions": unknown}, tuple_row)
    )
    return tuple(replace(row, up_script=ups.get(row.version)) for row in rows)


def _bounded(
    conn: psycopg.Connection[Any],
    query: sql.Composed,
    parameters: dict[str, Any],
    row_factory: RowFactory[Row],
) -> list[Row]:
    """Read rows, and give up waiting for a lock on the history after 10 s."""
    limited = _LIMITED.format(statement=query.as_string(conn))
    cursor = psycopg.ClientCursor(conn, row_factory=row_factory)
    # One message of the simple protocol, so that the limit costs no round trip.
    cursor.execute(limited.encode(), parameters)
    return [row for _ in cursor.results() if cursor.description for row in cursor.fetchall()]


def _check(rows: Sequence[AppliedMigration], table: str) -> None:
    known: dict[int, str] = {}
    for row in rows:
        if not _NUMBERED.match(str(row.version)):
            raise HistoryError(
                f'{table} has a version without a number: "{row.version}"',
                hint="delete that row: migrator does not write such versions",
            )
        if not isinstance(row.version, str):
            raise HistoryError(
                f"{table} is not a migrator history: its column version is not text",
                hint="choose another schema for the history with --schema",
            )
        if other := known.get(row.number):
            raise HistoryError(
                f"{table} has two versions with the same number: {other} and {row.version}",
                hint="delete the row of the version that was never applied",
            )
        known[row.number] = row.version


def read_log(
    conn: psycopg.Connection[Any], schema: str, *, version: str | None, limit: int
) -> tuple[LogEntry, ...]:
    """Read the newest rows of the log, the oldest of them first.

    Args:
        version: A version or its number; None for all versions.
        limit: The highest number of rows.
    """
    from .overview import LogEntry  # noqa: PLC0415  (only `log` needs it)

    with conn.cursor(row_factory=class_row(LogEntry)) as cursor:
        query = compose(_READ_LOG, schema)
        return tuple(cursor.execute(query, {"version": version, "limit": limit}).fetchall())


def begun(
    conn: psycopg.Connection[Any], schema: str, version: str, direction: Direction
) -> dict[str, Any] | None:
    """Return what `recovery.Begun.dump` wrote of the statement begun last outside a transaction.

    Returns:
        None if there was none since the version was last applied, reverted or repaired.
    """
    with conn.cursor() as cursor:
        query = compose(_BEGUN, schema)
        row = cursor.execute(query, {"version": version, "action": direction}).fetchone()
    return row[0] if row else None


def compose(template: str, schema: str, **parts: sql.Composable) -> sql.Composed:
    """Insert the names of both tables, with their schema, into a statement."""
    tables = {
        "versions": sql.Identifier(schema, "migration_versions"),
        "log": sql.Identifier(schema, "migration_log"),
    }
    return sql.SQL(template).format(**tables, **parts)


def _format(comment: str | None) -> int:
    match = re.search(r"format ([0-9]+)", comment or "")
    return int(match[1]) if match else FORMAT
