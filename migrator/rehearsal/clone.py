"""Copy the schema of the target to a scratch database, and name what is missing there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from .. import programs
from ..config import Database
from ..errors import DatabaseConnectionError
from ..postgres import connection
from ..postgres.cursor import Connection, run_plainly
from ..sql import splitter
from ..sql.script import Statement

_BATCH = 400  # statements in one transaction: each holds locks in the server's lock table
_LONGEST_LABEL = 100  # characters

_ROLES = """
select rolname
from pg_catalog.pg_roles
where oid in (
    select refobjid
    from pg_catalog.pg_shdepend
    where refclassid = 'pg_catalog.pg_authid'::regclass
      and dbid = (select oid from pg_catalog.pg_database where datname = current_database())
    union all
    -- the first superuser, whose dependencies are not recorded
    select relowner
    from pg_catalog.pg_class
    where oid >= 16384
)
"""
_EXTENSIONS = "select extname from pg_catalog.pg_extension"
_KNOWN_ROLES = "select rolname from pg_catalog.pg_roles"
_KNOWN_EXTENSIONS = "select name from pg_catalog.pg_available_extensions"

# What CREATE DATABASE does not copy.
_OWNER = """
select pg_get_userbyid(datdba)
from pg_catalog.pg_database
where datname = current_database()
"""
_GRANTS = """
select a.privilege_type, case when a.grantee <> 0 then pg_get_userbyid(a.grantee) end
from pg_catalog.pg_database d, aclexplode(d.datacl) as a
where d.datname = current_database()
  and a.grantee <> d.datdba
order by 2, 1
"""
# The one that counts, of a role in a database, a role, a database and all (ApplySetting in
# src/backend/utils/init/postinit.c); pg_settings does not have those that no module defines.
_SETTINGS = """
select distinct on (lower(split_part(line, '=', 1)))
       split_part(line, '=', 1), substr(line, strpos(line, '=') + 1)
from pg_catalog.pg_db_role_setting s, unnest(s.setconfig) as line
where s.setdatabase in (0, (select oid from pg_catalog.pg_database
                            where datname = current_database()))
  and s.setrole in (0, (select oid from pg_catalog.pg_roles where rolname = session_user))
order by lower(split_part(line, '=', 1)), s.setrole = 0, s.setdatabase = 0
"""
# A run sets these for itself, so they matter on the target as little.
_OF_A_RUN = frozenset(
    {
        "default_transaction_read_only",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "lock_timeout",
        "statement_timeout",
        "transaction_timeout",
    }
)

_MAY_BECOME = (
    "select rolname from pg_catalog.pg_roles where rolname = %s and pg_has_role(oid, 'usage')"
)
_UNPOPULATED = """
select format('%I.%I', n.nspname, c.relname)
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'm'
  and not c.relispopulated
order by c.oid
"""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A statement of the dump that was skipped.

    Attributes:
        statement: Its first line, at most 100 characters of it.
        reason: PostgreSQL's message, or our own.
    """

    statement: str
    reason: str


@dataclass(frozen=True, slots=True)
class Missing:
    """What a scratch database lacks of the target.

    Attributes:
        roles: Those that the schema names and the scratch server does not have, by name.
        extensions: Those that the schema needs and the scratch server does not have, by name.
        skipped: In the order of the dump; many fail because of a missing role or extension.
    """

    roles: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True, slots=True)
class _Properties:
    """What CREATE DATABASE does not copy, and what a schema needs of its server."""

    owner: str
    grants: tuple[tuple[str, str | None], ...]
    settings: tuple[tuple[str, str], ...]
    roles: frozenset[str]
    extensions: frozenset[str]


def copy_schema(
    target: Database, scratch: Database, *, lock_timeout: int, role: str | None
) -> Missing:
    """Copy the target's schema, without rows, to an empty scratch database.

    The tables of the history are copied too.  Subscriptions and user mappings are not: they
    would connect to other servers.  The target is only read, in read-only transactions.

    Args:
        lock_timeout: How long to wait for a table of the target, in milliseconds.

    Raises:
        DumpError: No `pg_dump` can read the target's version, or it failed.
        DatabaseConnectionError: A connection failed or was lost.
    """
    with closing(connection.connect_own(target)) as conn:
        major = conn.info.server_version // 10000
        dump = programs.dump_schema(target, major, lock_timeout=lock_timeout, role=role)
        wanted = _properties(conn)
    with closing(connection.connect_own(scratch)) as conn:
        roles = wanted.roles - _names(conn, _KNOWN_ROLES)
        extensions = wanted.extensions - _names(conn, _KNOWN_EXTENSIONS)
        conn.execute("set synchronous_commit = off")
        skipped = tuple(_restore(conn, dump))
    return Missing(tuple(sorted(roles)), tuple(sorted(extensions)), skipped)


def copy_properties(target: Database, scratch: Database) -> tuple[Database, tuple[Skipped, ...]]:
    """Copy the target's owner, privileges and settings, such as `search_path`.

    The owner is copied only if our role has its rights, so that it can still drop the database.
    The settings are those that our own session has on the target.  They do not reach sessions
    that are already open.

    Returns:
        How to connect to the scratch database with these settings, and what its server refused.

    Raises:
        DatabaseConnectionError: A connection failed or was lost.
    """
    with closing(connection.connect_own(target)) as conn:
        wanted = _properties(conn)
    with closing(connection.connect_own(scratch)) as conn:
        skipped = tuple(_set_rights(conn, wanted))
        refused = {each: tuple(_set(conn, *each)) for each in wanted.settings}
        takes_options = conn.info.backend_pid == connection.backend_pid(conn)  # no pooler does
    # Only a superuser may attach a setting that no module defines to a database.
    custom = [each for each in refused if refused[each] and "." in each[0] and takes_options]
    rest = (reason for each, reasons in refused.items() if each not in custom for reason in reasons)
    return _with_options(scratch, custom), (*skipped, *rest)


def _with_options(database: Database, settings: Sequence[tuple[str, str]]) -> Database:
    """Return how to connect with settings; those that the user gives apply after them."""
    if not settings:
        return database
    parameters = {**conninfo_to_dict(database.url), **database.parameters}
    given = parameters.get("options") or os.environ.get("PGOPTIONS", "")
    ours = (re.sub(r"([\\\s])", r"\\\1", f"--{name}={value}") for name, value in settings)
    options = " ".join((*ours, str(given))).strip()
    return replace(database, parameters={**database.parameters, "options": options})


def _properties(conn: psycopg.Connection[Any]) -> _Properties:
    with conn.transaction():
        conn.execute("set transaction read only, not deferrable")
        return _Properties(
            conn.execute(_OWNER).fetchall()[0][0],
            tuple(conn.execute(_GRANTS).fetchall()),
            # `role` last: it may take away the right to set the others.
            tuple(
                sorted(
                    (each for each in conn.execute(_SETTINGS) if each[0] not in _OF_A_RUN),
                    key=lambda each: each[0] == "role",
                )
            ),
            _names(conn, _ROLES),
            _names(conn, _EXTENSIONS),
        )


def _names(conn: psycopg.Connection[Any], query: str) -> frozenset[str]:
    return frozenset(name for (name,) in conn.execute(query.encode()).fetchall())


def _restore(conn: Connection, dump: str) -> Iterator[Skipped]:
    """Run a dump, and skip what is refused twice: a new owner may need a grant at the end."""
    wanted = []
    for statement in splitter.split(dump):
        if statement.words[1:3] == ("user", "mapping"):
            # Its options may hold a password.
            yield Skipped(" ".join(statement.words), "skipped: it would connect to another server")
        elif not splitter.is_meta_command(statement):
            wanted.append(statement)
    batches = (wanted[start : start + _BATCH] for start in range(0, len(wanted), _BATCH))
    for each in [refused for batch in batches for refused in _run_batch(conn, batch)]:
        yield from _try(conn, each.text.encode())
    connection.forget(conn)
    for (name,) in conn.execute(_UNPOPULATED).fetchall():
        yield from _try(conn, f"refresh materialized view {name}".encode())


def _run_batch(conn: Connection, statements: Sequence[Statement]) -> Iterator[Statement]:
    """Run statements in one transaction; if that fails, each in its own.  Yield the refused."""
    try:
        run_plainly(conn, "\n".join(each.text for each in statements).encode())
    except psycopg.Error as error:
        _raise_if_lost(conn, error)
        for each in statements:
            # A dump starts with settings that an older server may not know.
            if [*_try(conn, each.text.encode())] and each.words[:1] != ("set",):
                yield each


def _set_rights(conn: psycopg.Connection[Any], wanted: _Properties) -> Iterator[Skipped]:
    here = sql.Identifier(conn.info.dbname)
    # We could not drop the database if a role whose rights we lack owned it.
    if conn.execute(_MAY_BECOME, [wanted.owner]).fetchone():
        owner = sql.Identifier(wanted.owner)
        yield from _try(conn, sql.SQL("alter database {} owner to {}").format(here, owner))
    for privilege, name in wanted.grants:
        role = sql.Identifier(name).as_string(conn) if name else "public"
        grant = f"grant {privilege} on database {here.as_string(conn)} to {role}"
        yield from _try(conn, grant.encode())


def _set(conn: psycopg.Connection[Any], name: str, value: str) -> Iterator[Skipped]:
    """Attach a setting to the database, for its later sessions."""
    here = sql.Identifier(conn.info.dbname)
    # FROM CURRENT copies a list without quoting it again.  One message is one transaction: a
    # setting must not affect the next statement.
    alter = sql.SQL("alter database {} set {}").format(here, sql.Identifier(name))
    copy = sql.SQL("select pg_catalog.set_config({}, {}, true); {} from current")
    for skipped in _try(conn, copy.format(name, value, alter)):
        yield replace(skipped, statement=alter.as_string(conn))


def _try(conn: psycopg.Connection[Any], command: bytes | sql.Composed) -> Iterator[Skipped]:
    """Run a statement; yield it with the reason if the server refuses it."""
    try:
        run_plainly(conn, command)
    except psycopg.Error as error:
        _raise_if_lost(conn, error)
        text = command.decode() if isinstance(command, bytes) else command.as_string(conn)
        line = text.partition("\n")[0]
        label = line if len(line) <= _LONGEST_LABEL else f"{line[: _LONGEST_LABEL - 1]}…"
        yield Skipped(label, error.diag.message_primary or str(error))


def _raise_if_lost(conn: psycopg.Connection[Any], error: psycopg.Error) -> None:
    if conn.closed:
        reason = " ".join(str(error).split())
        raise DatabaseConnectionError(f"the connection was lost: {reason}") from error
