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


_FLYWAY = frozenset(["installed_rank", "version", "type", "script", "checksum"]) | frozenset(
    ["installed_by", "installed_on", "success"]
)
# Rails has a second table since 5.0, by which `find` tells it from dbmate.
DBMATE_OR_RAILS = "dbmate or Rails"
# `adopt` reads all of these columns.  Four tools share the names schema_version and
# schema_migrations.
_TOOLS = (
    _Tool("dblift", _FLYWAY, "dblift_schema_history"),
    _Tool("Flyway", _FLYWAY),
    _Tool("Liquibase", frozenset(["orderexecuted", "exectype", "md5sum"])),
    _Tool("golang-migrate", frozenset(["version", "dirty"]), is_exact=True),
    # Some applications add a column of their own.
    _Tool("golang-migrate", frozenset(["version", "dirty"]), "schema_migrations"),
    _Tool("goose", frozenset(["id", "version_id", "is_applied", "tstamp"])),
    _Tool("sqlx", frozenset(["version", "installed_on", "success", "checksum", "execution_time"])),
    _Tool("pgmigrate", frozenset(["version", "type", "installed_by", "installed_on"])),
    _Tool(
        "Prisma",
        frozenset(["checksum", "finished_at", "migration_name", "rolled_back_at", "started_at"]),
    ),
    _Tool("Alembic", frozenset(["version_num"]), is_exact=True),
    _Tool("sqitch", frozenset(["script_hash", "change", "project", "committed_at", "planned_at"])),
    _Tool("graphile-migrate", frozenset(["hash", "previous_hash", "filename", "date"])),
    _Tool("yoyo", frozenset(["migration_hash", "migration_id", "applied_at_utc"])),
    _Tool("refinery", frozenset(["version", "name", "applied_on", "checksum"]), is_exact=True),
    _Tool("postgrator", frozenset(["version", "name", "md5", "run_at"])),
    _Tool("Atlas", frozenset(["version", "executed_at", "partial_hashes"])),
    _Tool("node-pg-migrate", frozenset(["id", "name", "run_on"]), "pgmigrations"),
    _Tool("Knex", frozenset(["name", "batch", "migration_time"])),
    _Tool("sql-migrate", frozenset(["id", "applied_at"]), "gorp_migrations"),
    _Tool("Django", frozenset(["app", "name", "applied"]), "django_migrations"),
    _Tool("Pop", frozenset(["version"]), "schema_migration", is_exact=True),
    _Tool("Pop", frozenset(["version", "version_self"]), is_exact=True),
    _Tool("tern", frozenset(["version"]), "schema_version", is_exact=True),
    _Tool(DBMATE_OR_RAILS, frozenset(["version"]), "schema_migrations", is_exact=True),
)
_FIND = """
begin read only;
set local search_path = pg_catalog, pg_temp;
set local lock_timeout = '1s';
select format('%I.%I', n.nspname, c.relname) as name,
       n.nspname::text as schema,
       c.relname::text as bare,
       array(
           select a.attname::text
           from pg_attribute a
           where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
       ) as columns,
       exists (
           select
           from pg_class r
           where r.relnamespace = n.oid and r.relname = 'ar_internal_metadata'
       ) as is_rails
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p')
  and n.nspname !~ '^pg_'
  and exists (
      select
      from pg_attribute a
      where a.attrelid = c.oid
        and a.attname in ('version', 'version_id', 'version_num', 'installed_rank', 'md5sum',
                          'migration_name', 'script_hash', 'previous_hash', 'migration_hash',
                          'run_on', 'batch', 'applied_at', 'app')
  )
order by n.nspname, c.relname;
commit
"""


@dataclass(frozen=True, slots=True)
class Found:
    """The history table of another tool.

    Attributes:
        table: Its name, qualified, and quoted where it has to be.
        schema: Its schema.
        name: Its name alone.
        columns: Those that the tool created, as far as that is known.
    """

    tool: str
    table: str
    schema: str
    name: str
    columns: tuple[str, ...] = ()


def find(conn: psycopg.Connection[Any], *, renamed: str | None = None) -> tuple[Found, ...]:
    """Return the history tables of other tools, by schema and name.

    Args:
        renamed: The name of one that does not have its usual name, with or without its schema;
            it is returned for each tool that has such columns.
    """
    cursor = psycopg.ClientCursor(conn)
    cursor.execute(_FIND)
    rows = [row for _ in cursor.results() if cursor.description for row in cursor.fetchall()]
    found = []
    for table, schema, name, columns, is_rails in rows:
        if renamed is None:
            tool = tool_of(name, columns)
            tools = ["Rails" if is_rails and tool == DBMATE_OR_RAILS else tool]
        else:
            is_meant = renamed in (name, table, f"{schema}.{name}")
            fitting = (tool.name for tool in _TOOLS if is_meant and _fits(tool, columns))
            tools = list(dict.fromkeys(fitting))
        found += [Found(each, table, schema, name, _own(each, columns)) for each in tools if each]
    return tuple(found)


def _own(name: str, columns: Iterable[str]) -> tuple[str, ...]:
    every = [tool.columns for tool in _TOOLS if tool.name == name and tool.is_exact]
    return tuple(each for each in columns if not every or any(each in own for own in every))


def tool_of(table: str, columns: Iterable[str]) -> str | None:
    """Return the tool that a table is the history of; None if there is none.

    >>> tool_of("schema_migrations", ["version", "dirty"])
    'golang-migrate'
    >>> tool_of("schema_migrations", ["version", "dirty", "data_version"])
    'golang-migrate'
    >>> tool_of("schema_migrations", ["version"])
    'dbmate or Rails'
    >>> tool_of("releases", ["version"])
    """
    present = frozenset(columns)
    for tool in _TOOLS:
        if tool.table in (None, table) and _fits(tool, present):
            return tool.name
    return None


def _fits(tool: _Tool, columns: Iterable[str]) -> bool:
    present = frozenset(columns)
    return present == tool.columns if tool.is_exact else present >= tool.columns
