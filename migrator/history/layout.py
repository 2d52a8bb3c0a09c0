"""The tables of the history, format by format, and the step from each format to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from psycopg import sql

FORMAT = 4
"""The format that this version writes; it is stored in a comment on the table."""

Columns = Mapping[str, str]
"""Types and properties by column, as `place` reads them from the catalog."""

_VERSIONS_1: Columns = {
    "version": "text not null primary key",
    "checksum": "text not null",
    "up_script": "text",
    "down_script": "text",
    "applied_at": "timestamp with time zone",
    "applied_by": "text not null default",
    "duration_ms": "bigint",
    "statements_done": "integer not null",
    "in_step": "timestamp with time zone",
}
_VERSIONS_2: Columns = {**_VERSIONS_1, "ordinal": "bigint not null"}
_VERSIONS_4: Columns = {**_VERSIONS_2, "progress": "jsonb"}
_REPEATABLES: Columns = {
    "name": "text not null primary key",
    "checksum": "text not null",
    "script": "text",
    "applied_at": "timestamp with time zone not null",
    "applied_by": "text not null default",
    "duration_ms": "bigint",
}
_LOG: Columns = {
    "id": "bigint not null generated always as identity primary key",
    "logged_at": "timestamp with time zone not null default",
    "version": "text not null",
    "action": "text not null",
    "outcome": "text not null",
    "db_user": "text not null default",
    "os_user": "text",
    "host": "text",
    "tool_version": "text not null",
    "duration_ms": "bigint",
    "sqlstate": "text",
    "message": "text",
    "reason": "text",
    "detail": "jsonb",
}
TABLES: Mapping[int, Mapping[str, Columns]] = {
    1: {"migration_versions": _VERSIONS_1, "migration_log": _LOG},
    2: {"migration_versions": _VERSIONS_2, "migration_log": _LOG},
    3: {
        "migration_versions": _VERSIONS_2,
        "migration_repeatables": _REPEATABLES,
        "migration_log": _LOG,
    },
    4: {
        "migration_versions": _VERSIONS_4,
        "migration_repeatables": _REPEATABLES,
        "migration_log": _LOG,
    },
}
"""The columns of each table by format."""
NAMES = tuple(TABLES[max(TABLES)])
"""The tables of the present format, without their schema."""

# Our own DDL must not find what others have put into a schema of the search path.
_SAFELY = """
set transaction read write;
set local search_path = pg_catalog, pg_temp;
set local lock_timeout = '10s';
"""
_CREATE_REPEATABLES = """
create table {repeatables} (
    name        text primary key,
    checksum    text not null,
    script      text,
    applied_at  timestamptz not null,
    applied_by  text not null default session_user,
    duration_ms bigint
);
comment on table {repeatables} is 'The last text of each repeatable file.';
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
    in_step         timestamptz,
    ordinal         bigint not null,
    progress        jsonb
);
create index migration_versions_ordinal_idx on {versions} (ordinal);
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
comment on table {log} is 'What migrator did to this database and when; rows are only added.';
"""
# What ALTER DEFAULT PRIVILEGES has given to others: they could read the scripts, or change which
# ones `down` runs.
# These are commands to run then; a DO would need PL/pgSQL, which a database may not have.
_OPEN = """
select format(
    'revoke all on %s %I.%I from %s cascade',
    case c.relkind when 'S' then 'sequence' else 'table' end,
    n.nspname,
    c.relname,
    case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
)
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
cross join lateral aclexplode(c.relacl) a
where a.grantee <> c.relowner
  and n.nspname = {schema_name}
  and c.relname = any({names})
group by c.relkind, n.nspname, c.relname, a.grantee
"""
_MARK = "comment on table {versions} is {comment};"

# Format 1 has times only, and a clock can be set back.  The log tells the order as far as it goes;
# a version that it does not have was applied before its oldest rows were deleted.
ORDINALS_OF_FORMAT_1 = """
select v.version,
       row_number() over (
           order by v.applied_at is null, max(l.id) nulls first, v.applied_at,
                    substring(v.version from '^[0-9]+')::numeric
       ) as ordinal
from {versions} v
left join {log} l on substring(l.version from '^[0-9]+')::numeric
        = substring(v.version from '^[0-9]+')::numeric
    and (
        (l.action = 'up' and l.outcome = 'done')
        or l.action = 'baseline'
        or (l.action = 'repair' and l.outcome = 'applied')
    )
group by v.version, v.applied_at
"""
"""The order in which the versions of a history in format 1 were applied, from 1."""

_TO_2 = """
alter table {versions} add column ordinal bigint;
update {versions} v
set ordinal = o.ordinal
from ({ordinals}) o
where o.version = v.version;
alter table {versions} alter column ordinal set not null;
create index migration_versions_ordinal_idx on {versions} (ordinal);
"""
_TO_4 = "alter table {versions} add column progress jsonb"
# In the order in which they are to be run: the grants by the owner.
_SHARE = """
select command
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
cross join lateral (
    select 0 as place,
           format('alter table %I.migration_repeatables owner to %I', n.nspname,
                  pg_get_userbyid(c.relowner)) as command
    where c.relowner <> current_user::regrole
    union all
    select 1,
           format('grant %s on table %I.migration_repeatables to %s%s',
                  a.privilege_type, n.nspname,
                  case a.grantee
                      when 0 then 'public'
                      else quote_ident(pg_get_userbyid(a.grantee))
                  end,
                  case when a.is_grantable then ' with grant option' else '' end)
    from aclexplode(c.relacl) a
    where a.grantee <> c.relowner
) as commands
where n.nspname = {schema_name}
  and c.relname = 'migration_versions'
order by place
"""


def compose(template: str, schema: str, **parts: sql.Composable) -> sql.Composed:
    """Insert the names of the tables, with their schema, into a statement."""
    tables = {
        "versions": sql.Identifier(schema, "migration_versions"),
        "repeatables": sql.Identifier(schema, "migration_repeatables"),
        "log": sql.Identifier(schema, "migration_log"),
    }
    return sql.SQL(template).format(**tables, **parts)


def create(conn: psycopg.Connection[Any], schema: str) -> None:
    """Create all tables, for their owner alone, in one transaction.

    It takes a round trip more where default privileges open them to others.
    """
    parts = {
        "schema_name": sql.Literal(schema),
        "comment": sql.Literal(_comment(FORMAT)),
        "names": sql.Literal([*TABLES[FORMAT], "migration_log_id_seq"]),
    }
    with conn.transaction():
        create = _SAFELY + _CREATE + _CREATE_REPEATABLES + _MARK + _OPEN
        _run_commands(conn, compose(create, schema, **parts))


def _run_commands(conn: psycopg.Connection[Any], query: sql.Composed) -> None:
    """Run the commands that the last statement of a query returns."""
    cursor = conn.execute(query)
    while cursor.nextset():
        pass
    if commands := [command for (command,) in cursor]:
        conn.execute("; ".join(commands).encode())


def upgrade(conn: psycopg.Connection[Any], schema: str, *, old: int) -> None:
    """Bring a history from an older format to the present one, in one transaction.

    The caller holds the runner's lock.
    """
    with conn.transaction():
        conn.execute(_SAFELY.encode())
        for number in range(old, FORMAT):
            _UPGRADES[number](conn, schema)
        conn.execute(compose(_MARK, schema, comment=sql.Literal(_comment(FORMAT))))


def _to_2(conn: psycopg.Connection[Any], schema: str) -> None:
    """Add the order in which versions were applied."""
    conn.execute(compose(_TO_2, schema, ordinals=compose(ORDINALS_OF_FORMAT_1, schema)))


def _to_3(conn: psycopg.Connection[Any], schema: str) -> None:
    """Add the table of repeatable files, with the owner and the privileges of the other two."""
    parts = {"schema_name": sql.Literal(schema), "names": sql.Literal(["migration_repeatables"])}
    _run_commands(conn, compose(_CREATE_REPEATABLES + _OPEN, schema, **parts))
    _run_commands(conn, compose(_SHARE, schema, **parts))


def _to_4(conn: psycopg.Connection[Any], schema: str) -> None:
    """Add how far a statement that runs in batches has come."""
    conn.execute(compose(_TO_4, schema))


_UPGRADES: Mapping[int, Callable[[psycopg.Connection[Any], str], None]] = {
    1: _to_2,
    2: _to_3,
    3: _to_4,
}
"""By the format to start from; each brings a history to the next one."""


def _comment(number: int) -> str:
    return f"The history of migrator, format {number}"
