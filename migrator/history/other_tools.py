"""Recognise the history tables of other migration tools by their columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg


@dataclass(frozen=True, slots=True)
class _Tool:
    """How to recognise a tool's table.

    Attributes:
        columns: Some that its table has together.
        table: Its name by default, where other tables could have such columns; None otherwise.
        is_exact: Whether the table has no other columns.
    """

    name: str
    columns: frozenset[str]
    table: str | None = None
    is_exact: bool = False


# Four tools share the names schema_version and schema_migrations.
_TOOLS = (
    _Tool("Flyway", frozenset(["installed_rank", "script", "checksum", "success"])),
    _Tool("Liquibase", frozenset(["orderexecuted", "exectype", "md5sum"])),
    _Tool("golang-migrate", frozenset(["version", "dirty"]), is_exact=True),
    _Tool("goose", frozenset(["version_id", "is_applied", "tstamp"])),
    _Tool("sqlx", frozenset(["version", "installed_on", "success", "execution_time"])),
    _Tool("pgmigrate", frozenset(["version", "type", "installed_by", "installed_on"])),
    _Tool("Prisma", frozenset(["migration_name", "rolled_back_at", "applied_steps_count"])),
    _Tool("Alembic", frozenset(["version_num"]), is_exact=True),
    _Tool("sqitch", frozenset(["change_id", "script_hash", "planned_at"])),
    _Tool("graphile-migrate", frozenset(["hash", "previous_hash", "filename"])),
    _Tool("yoyo", frozenset(["migration_hash", "migration_id"])),
    _Tool("refinery", frozenset(["version", "name", "applied_on", "checksum"]), is_exact=True),
    _Tool("postgrator", frozenset(["version", "name", "md5", "run_at"])),
    _Tool("Atlas", frozenset(["version", "executed_at", "partial_hashes"])),
    _Tool("node-pg-migrate", frozenset(["name", "run_on"]), "pgmigrations"),
    _Tool("Knex", frozenset(["name", "batch", "migration_time"])),
    _Tool("sql-migrate", frozenset(["id", "applied_at"]), "gorp_migrations"),
    _Tool("Django", frozenset(["app", "name", "applied"]), "django_migrations"),
    _Tool("tern", frozenset(["version"]), "schema_version", is_exact=True),
    _Tool("dbmate or Rails", frozenset(["version"]), "schema_migrations", is_exact=True),
)
_FIND = """
begin read only;
set local search_path = pg_catalog, pg_temp;
set local lock_timeout = '1s';
select format('%I.%I', n.nspname, c.relname) as name,
       c.relname::text as bare,
       array(
           select a.attname::text
           from pg_attribute a
           where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
       ) as columns
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p')
  and n.nspname !~ '^pg_'
  and exists (
      select
      from pg_attribute a
      where a.attrelid = c.oid
        and a.attname in ('version', 'version_id', 'version_num', 'installed_rank', 'md5sum',
                          'migration_name', 'change_id', 'previous_hash', 'migration_hash',
                          'run_on', 'batch', 'applied_at', 'app')
  )
order by n.nspname, c.relname;
commit
"""


def find(conn: psycopg.Connection[Any]) -> tuple[tuple[str, str], ...]:
    """Return the other tools that have a history in the database, each with its table.

    The name of a table is qualified and quoted where it has to be.
    """
    cursor = psycopg.ClientCursor(conn)
    cursor.execute(_FIND)
    rows = [row for _ in cursor.results() if cursor.description for row in cursor.fetchall()]
    named = ((tool_of(bare, columns), name) for name, bare, columns in rows)
    return tuple((tool, name) for tool, name in named if tool)


def tool_of(table: str, columns: Iterable[str]) -> str | None:
    """Return the tool that a table is the history of; None if there is none.

    >>> tool_of("schema_migrations", ["version", "dirty"])
    'golang-migrate'
    >>> tool_of("schema_migrations", ["version"])
    'dbmate or Rails'
    >>> tool_of("releases", ["version"])
    """
    present = frozenset(columns)
    for tool in _TOOLS:
        is_named = tool.table in (None, table)
        fits = present == tool.columns if tool.is_exact else present >= tool.columns
        if is_named and fits:
            return tool.name
    return None
