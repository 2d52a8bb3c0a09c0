"""Give a scratch database the schema of another one, and name what it could not be given."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ..config import Database
from ..embedded import binaries
from ..errors import DatabaseConnectionError, DumpError, EmbeddedServerError
from ..postgres import connection
from ..sql import splitter
from ..sql.script import Statement

_OPTIONS = (
    "--schema-only",
    "--no-password",
    "--encoding=UTF8",
    # A database with a subscription cannot be dropped, and the subscription keeps a slot alive.
    "--no-subscriptions",
    "--no-tablespaces",
    "--no-security-labels",
)
_BATCH = 400  # statements in one transaction; each may hold several of the server's locks
_LABEL = 100  # characters

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
_SETTINGS = """
select name, setting
from pg_catalog.pg_settings
where source in ('database', 'user', 'database user')
order by name
"""

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
    """A statement that the scratch server refused, and that was left out.

    Attributes:
        statement: Its first line, cut at 100 characters.
        reason: PostgreSQL's message, or ours.
    """

    statement: str
    reason: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """In what a scratch database differs from the one whose schema it was given.

    Attributes:
        roles: Those that the schema names and the scratch server lacks, by name.
        extensions: The same.
        skipped: In the order of the dump; many of them for the want of a role or extension.
    """

    roles: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    @property
    def lacking(self) -> tuple[str, ...]:
        """What the scratch server lacks, such as `the role app`."""
        roles = (f"the role {name}" for name in self.roles)
        return (*roles, *(f"the extension {name}" for name in self.extensions))


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What CREATE DATABASE does not copy, and what a schema asks of its server."""

    owner: str
    grants: tuple[tuple[str, str | None], ...]
    settings: tuple[tuple[str, str], ...]
    roles: frozenset[str]
    extensions: frozenset[str]


def load_schema(target: Database, scratch: Database, *, lock_timeout: int) -> Loaded:
    """Give an empty scratch database the target's schema, without its rows; `settle` it, too.

    The tables of the history come along, empty.  Subscriptions and user mappings do not come:
    they would reach out to other servers.  The target is only read, in read-only transactions.

    Args:
        lock_timeout: How long to wait for one of the target's tables, in milliseconds.

    Raises:
        DumpError: There is no `pg_dump` for the target's version, or it failed.
        DatabaseConnectionError: No connection was made, or it was lost.
    """
    with closing(connection.connect(target)) as conn:
        major = conn.info.server_version // 10000
        dump = dump_schema(target, major, lock_timeout=lock_timeout)
        wanted = _surroundings(conn)
    with closing(connection.connect(scratch)) as conn:
        roles = wanted.roles - _names(conn, _KNOWN_ROLES)
        extensions = wanted.extensions - _names(conn, _KNOWN_EXTENSIONS)
        conn.execute("set synchronous_commit = off")
        skipped = (*_run(conn, dump), *_settle(conn, wanted))
    return Loaded(tuple(sorted(roles)), tuple(sorted(extensions)), skipped)


def settle(target: Database, scratch: Database) -> tuple[Skipped, ...]:
    """Give a scratch database the target's owner, privileges and settings, such as `search_path`.

    The owner only where the role that connects has its rights, and so can still drop it.
    Sessions that are open know nothing of the settings.

    Returns:
        What the scratch server refused.

    Raises:
        DatabaseConnectionError: No connection was made, or it was lost.
    """
    with closing(connection.connect(target)) as conn:
        wanted = _surroundings(conn)
    with closing(connection.connect(scratch)) as conn:
        return tuple(_settle(conn, wanted))


def _surroundings(conn: psycopg.Connection[Any]) -> _Surroundings:
    with conn.transaction():
        conn.execute("set transaction read only")
        return _Surroundings(
            conn.execute(_OWNER).fetchall()[0][0],
            tuple(conn.execute(_GRANTS).fetchall()),
            tuple(conn.execute(_SETTINGS).fetchall()),
            _names(conn, _ROLES),
            _names(conn, _EXTENSIONS),
        )


def _names(conn: psycopg.Connection[Any], query: str) -> frozenset[str]:
    return frozenset(name for (name,) in conn.execute(query.encode()).fetchall())


def _run(conn: psycopg.Connection[Any], dump: str) -> Iterator[Skipped]:
    """Run a dump, and leave out what the server refuses."""
    wanted = []
    for statement in splitter.split(dump):
        if statement.words[1:3] == ("user", "mapping"):
            # The rest of it may hold a password.
            yield Skipped(" ".join(statement.words), "left out: it would reach another server")
        elif not splitter.is_meta_command(statement):
            wanted.append(statement)
    for start in range(0, len(wanted), _BATCH):
        yield from _run_batch(conn, wanted[start : start + _BATCH])
    conn.execute("reset all")
    for (name,) in conn.execute(_UNPOPULATED).fetchall():
        yield from _try(conn, f"refresh materialized view {name}".encode())


def _run_batch(conn: psycopg.Connection[Any], statements: Sequence[Statement]) -> Iterator[Skipped]:
    """Run statements in one transaction; if that fails, each in one of its own."""
    try:
        conn.execute("\n".join(each.text for each in statements).encode())
    except psycopg.Error as error:
        _raise_if_lost(conn, error)
        for each in statements:
            skipped = tuple(_try(conn, each.text.encode()))
            # A dump begins with settings of which an older server does not know all.
            yield from skipped if each.words[:1] != ("set",) else ()


def _settle(conn: psycopg.Connection[Any], wanted: _Surroundings) -> Iterator[Skipped]:
    here = sql.Identifier(conn.info.dbname)
    # Whose rights are not ours could own it, and keep us from dropping it.
    if conn.execute(_MAY_BECOME, [wanted.owner]).fetchone():
        owner = sql.Identifier(wanted.owner)
        yield from _try(conn, sql.SQL("alter database {} owner to {}").format(here, owner))
    for privilege, name in wanted.grants:
        role = sql.Identifier(name).as_string(conn) if name else "public"
        grant = f"grant {privilege} on database {here.as_string(conn)} to {role}"
        yield from _try(conn, grant.encode())
    for setting, value in wanted.settings:
        # FROM CURRENT spares us the question how a list has to be quoted.
        alter = sql.SQL("alter database {} set {} from current").format(
            here, sql.Identifier(setting)
        )
        refused = tuple(
            _try(conn, sql.SQL("select set_config({}, {}, false)").format(setting, value))
        )
        yield from refused or _try(conn, alter)


def _try(conn: psycopg.Connection[Any], command: bytes | sql.Composed) -> Iterator[Skipped]:
    """Run a statement; give it with the reason if the server refuses it."""
    try:
        conn.execute(command)
    except psycopg.Error as error:
        _raise_if_lost(conn, error)
        text = command.decode() if isinstance(command, bytes) else command.as_string(conn)
        line = text.partition("\n")[0]
        label = line if len(line) <= _LABEL else f"{line[: _LABEL - 1]}…"
        yield Skipped(label, error.diag.message_primary or str(error))


def _raise_if_lost(conn: psycopg.Connection[Any], error: psycopg.Error) -> None:
    if conn.closed:
        reason = " ".join(str(error).split())
        raise DatabaseConnectionError(f"the connection was lost: {reason}") from error


def dump_schema(database: Database, major: int, *, lock_timeout: int) -> str:
    """Give the schema of a database, as `pg_dump` writes it in a session that can write nothing.

    Args:
        database: One that a connection was made to; a passphrase for the key of a client
            certificate (`sslpassword`) cannot be handed on.
        major: The server's version.
        lock_timeout: How long it waits for a table, in milliseconds.

    Raises:
        DumpError: There is no `pg_dump` for the server's version, or it failed.
    """
    program = find_pg_dump(major, os.environ)
    # What the connection itself says it uses, an older pg_dump need not understand.
    parameters: dict[str, Any] = {
        **database.defaults,
        **conninfo_to_dict(database.url),
        **database.parameters,
    }
    # A command line can be read by everybody.
    password = parameters.pop("password", None)
    parameters.pop("sslpassword", None)
    given = parameters.get("options") or os.environ.get("PGOPTIONS", "")
    parameters["options"] = f"{given} -c default_transaction_read_only=on".strip()
    where = f"--dbname={make_conninfo('', **parameters)}"
    secret = {"PGPASSWORD": str(password)} if password else {}
    done = subprocess.run(  # noqa: S603 -- our own command
        (program, *_OPTIONS, f"--lock-wait-timeout={lock_timeout}", where),
        env={**os.environ, **secret, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise DumpError(
            "pg_dump could not read the schema of the database",
            detail=done.stderr.decode(errors="replace").strip() or None,
            hint="let the role read every table (pg_read_all_data, from PostgreSQL 14 on), and "
            "connect to the server itself, past any connection pooler",
        )
    return done.stdout.decode()


def find_pg_dump(major: int, environ: Mapping[str, str]) -> Path:
    """Find a `pg_dump` that can read a server: of its major version, else the next newer one.

    Looked for in `MIGRATOR_PG_BINDIR`, the embedded PostgreSQL, `PATH` and Debian's places.

    Raises:
        DumpError: There is none.
    """
    found: dict[Path, int] = {}
    for folder in _folders(environ):
        if program := shutil.which("pg_dump", path=str(folder)):
            with suppress(OSError, subprocess.CalledProcessError, ValueError):
                found.setdefault(Path(program), _major_version(Path(program)))
    fitting = [program for program, version in found.items() if version >= major]
    if not fitting:
        known = (f"{program} is of PostgreSQL {version}" for program, version in found.items())
        raise DumpError(
            f"there is no pg_dump that can read PostgreSQL {major}",
            detail="\n".join(known) or None,
            hint="install the client programs of that version, or: "
            "pip install 'plain-sql-migrator[embedded]'",
        )
    return min(fitting, key=found.__getitem__)


def _folders(environ: Mapping[str, str]) -> Iterator[Path]:
    if configured := environ.get("MIGRATOR_PG_BINDIR"):
        yield Path(configured)
    with suppress(EmbeddedServerError):
        yield binaries.find_binaries({})
    yield from (Path(each) for each in environ.get("PATH", "").split(os.pathsep) if each)
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def _major_version(program: Path) -> int:
    done = subprocess.run(  # noqa: S603 -- our own command
        (program, "--version"), capture_output=True, text=True, check=True
    )
    found = re.search(r"\) (\d+)", done.stdout)
    if not found:
        raise ValueError(done.stdout)
    return int(found[1])
