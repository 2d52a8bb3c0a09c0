"""Create a scratch database, and drop it however its use ends; drop nothing else."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql

from ..config import Database
from ..errors import DatabaseConnectionError, ScratchError
from ..events import Event, Remarked
from ..interrupts import Interrupts, StoppedError
from ..postgres import connection
from ..postgres.cursor import run_plainly, settle

PREFIX = "migrator_scratch_"
"""What the name of each scratch database starts with."""

_NAME = re.compile(rf"{PREFIX}(?P<created>[0-9]{{8}}t[0-9]{{6}})_[0-9a-f]{{8}}")
_STAMP = "%Y%m%dt%H%M%S"
_NOT_CREATED = "could not create a scratch database"
_GRACE = timedelta(hours=1)

_LOCALITY = """
select pg_encoding_to_char(encoding), to_jsonb(d)
from pg_catalog.pg_database d
where datname = current_database()
"""
_PROVIDERS = {"i": "icu", "b": "builtin", "c": "libc"}

_IDLE_DATABASES = """
select datname
from pg_catalog.pg_database d
where datname ^@ %(prefix)s
  and not exists (select from pg_catalog.pg_stat_activity a where a.datid = d.oid)
order by datname
"""


@dataclass(frozen=True, slots=True)
class Locality:
    """The encoding and locale of a database.

    Attributes:
        provider: `libc`, `icu` or `builtin`; always `libc` before PostgreSQL 15.
        locale: Of the provider; None for libc, which uses `collate` and `ctype`.
        rules: Additional rules of ICU; None without any.
    """

    encoding: str
    collate: str
    ctype: str
    provider: str = "libc"
    locale: str | None = None
    rules: str | None = None


def locality(conn: psycopg.Connection[Any]) -> Locality:
    """Return the encoding and locale of a database."""
    encoding, row = conn.execute(_LOCALITY).fetchall()[0]
    return Locality(
        encoding,
        row["datcollate"],
        row["datctype"],
        _PROVIDERS[row.get("datlocprovider", "c")],  # since 15
        row.get("datlocale", row.get("daticulocale")),  # renamed in 17
        row.get("daticurules"),
    )


@contextmanager
def database(
    admin: Database, like: Locality | None, notify: Callable[[Event], None]
) -> Iterator[Database]:
    """Create an empty database, and drop it when the `with` ends.

    What remains after a `kill -9` is dropped an hour later, by the next run that creates a scratch
    database on that server.

    Args:
        admin: Any database of the server, with a role that may create databases.
        like: The encoding and locale; None for the defaults of the server.  If the server does
            not have the locale, the database sorts as `C`, and `notify` is told.

    Raises:
        ScratchError: The server does not create it; `detail` is the server's reason.
        DatabaseConnectionError: No connection was made.
    """
    name = new_name(datetime.now(UTC))
    scratch = replace(admin, parameters={**admin.parameters, "dbname": name})
    with closing(connection.connect_own(admin)) as conn:
        _refuse_standby(conn)
        _remove_leftovers(conn, notify)
        is_refused = False
        try:
            try:
                _create(conn, name, like, notify)
            except ScratchError:
                is_refused = not conn.closed  # if the connection was lost, it may exist
                raise
            # A database with a session is not a leftover to other runs.
            with closing(connection.connect_own(scratch)) as keeper:
                settle(keeper)
                yield scratch
        finally:
            if not is_refused:
                _drop_uninterrupted(admin, name, notify)


def _refuse_standby(conn: psycopg.Connection[Any]) -> None:
    if conn.execute("select pg_catalog.pg_is_in_recovery()").fetchall()[0][0]:
        raise ScratchError(
            _NOT_CREATED,
            detail="the server is a read-only standby",
            hint="connect to the primary, or use another server: --scratch-url URL",
        )


def new_name(now: datetime) -> str:
    """Return a new name of a scratch database, with the time of its creation."""
    return f"{PREFIX}{now.astimezone(UTC).strftime(_STAMP)}_{secrets.token_hex(4)}"


def is_leftover(name: str, now: datetime) -> bool:
    """Whether an idle database was left by a killed run.

    >>> later = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
    >>> is_leftover("migrator_scratch_20261123t112900_0123abcd", later)
    True
    >>> is_leftover("migrator_scratch_20261123t113100_0123abcd", later)
    False
    """
    found = _NAME.fullmatch(name)
    return found is not None and now - _created_at(found["created"]) > _GRACE


def drop(conn: psycopg.Connection[Any], name: str, *, force: bool) -> None:
    """Drop a scratch database if it exists.

    Args:
        force: Whether to end its sessions; otherwise a session keeps it from being dropped.

    Raises:
        ScratchError: The name is not that of a scratch database; nothing was done.
        psycopg.Error: The server refused to drop it.
    """
    if not _NAME.fullmatch(name):
        raise ScratchError(f'"{name}" is not a scratch database, and was not dropped')
    command = "drop database if exists {} with (force)" if force else "drop database if exists {}"
    run_plainly(conn, sql.SQL(command).format(sql.Identifier(name)))


def _created_at(stamp: str) -> datetime:
    try:
        return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError:  # not a time, so the name is not ours; never a leftover
        return datetime.max.replace(tzinfo=UTC)


def _create(
    conn: psycopg.Connection[Any],
    name: str,
    like: Locality | None,
    notify: Callable[[Event], None],
) -> None:
    command = sql.SQL("create database {} template template0").format(sql.Identifier(name))
    try:
        if like is None:
            run_plainly(conn, command)
            return
        try:
            run_plainly(conn, command + _options(like, conn.info.server_version))
        except psycopg.errors.InsufficientPrivilege:
            raise
        except psycopg.Error as error:
            run_plainly(conn, command + _options(replace(like, collate="C", ctype="C"), version=0))
            notify(Remarked(f"the scratch database sorts text as C: {_text(error)}"))
    except psycopg.Error as error:
        raise ScratchError(
            _NOT_CREATED,
            detail=_text(error),
            hint="let the role create databases (alter role … createdb), or use another server: "
            "--scratch-url URL",
        ) from error


def _options(like: Locality, version: int) -> sql.Composed:
    given = {"encoding": like.encoding, "lc_collate": like.collate, "lc_ctype": like.ctype}
    if version >= 150000:
        given["locale_provider"] = like.provider
        if like.locale is not None:
            given[f"{like.provider}_locale"] = like.locale
        if like.rules is not None:
            given["icu_rules"] = like.rules
    return sql.Composed(
        [
            sql.SQL(" {} {}").format(sql.Identifier(key), sql.Literal(value))
            for key, value in given.items()
        ]
    )


def _text(error: psycopg.Error) -> str:
    return error.diag.message_primary or " ".join(str(error).split())


def _remove_leftovers(conn: psycopg.Connection[Any], notify: Callable[[Event], None]) -> None:
    """Drop the scratch databases that killed runs left."""
    rows = conn.execute(_IDLE_DATABASES, {"prefix": PREFIX}).fetchall()
    now = datetime.now(UTC)
    for name in (name for (name,) in rows if is_leftover(name, now)):
        try:
            drop(conn, name, force=False)  # the server refuses if there is a session now
            notify(Remarked(f'dropped the leftover scratch database "{name}"'))
        except psycopg.Error as error:
            text = f'could not drop the leftover scratch database "{name}": {_text(error)}'
            notify(Remarked(text))


def _drop_uninterrupted(admin: Database, name: str, notify: Callable[[Event], None]) -> None:
    """Drop a scratch database; a signal that arrives meanwhile takes effect afterwards."""
    with Interrupts() as interrupts:
        try:
            # The session that created it may have been cancelled while it read a result.
            with closing(connection.connect_own(admin)) as conn:
                drop(conn, name, force=True)
        except (psycopg.Error, DatabaseConnectionError) as error:
            reason = _text(error) if isinstance(error, psycopg.Error) else error.message
            text = f'could not drop the scratch database: {reason}; run: drop database "{name}";'
            notify(Remarked(text))
    if interrupts.signal:
        raise StoppedError(interrupts.signal)
