"""Create a scratch database, and drop it whatever happens; drop nothing else."""

from __future__ import annotations

import re
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any, NoReturn

import psycopg
from psycopg import sql

from ..config import Database
from ..errors import DatabaseConnectionError, ScratchError
from ..events import Event, Remarked
from ..interrupts import Interrupts
from ..postgres import connection

PREFIX = "migrator_scratch_"
"""What the name of every scratch database begins with, and of no other database."""

_NAME = re.compile(rf"{PREFIX}(?P<made>[0-9]{{8}}t[0-9]{{6}})_[0-9a-f]{{8}}")
_STAMP = "%Y%m%dt%H%M%S"
_GRACE = timedelta(hours=1)
_ENDING = (signal.SIGTERM, signal.SIGHUP)

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
    """How a database encodes and sorts text.

    Attributes:
        provider: `libc`, `icu` or `builtin`; before PostgreSQL 15 always `libc`.
        locale: The provider's own; None for libc, which has `collate` and `ctype`.
        rules: ICU's additional rules; None for none.
    """

    encoding: str
    collate: str
    ctype: str
    provider: str = "libc"
    locale: str | None = None
    rules: str | None = None


def locality(conn: psycopg.Connection[Any]) -> Locality:
    """Ask a database how it encodes and sorts text."""
    encoding, row = conn.execute(_LOCALITY).fetchall()[0]
    return Locality(
        encoding,
        row["datcollate"],
        row["datctype"],
        _PROVIDERS[row.get("datlocprovider", "c")],  # from 15 on
        row.get("datlocale", row.get("daticulocale")),  # the second until 16
        row.get("daticurules"),
    )


@contextmanager
def database(
    admin: Database, like: Locality | None, notify: Callable[[Event], None]
) -> Iterator[Database]:
    """Have an empty database for a `with`; it is dropped however the `with` ends.

    Ctrl-C, SIGTERM and SIGHUP end the `with` in order.  What only a `kill -9` leaves behind is
    removed an hour later by the next one that is made on that server.

    Args:
        admin: Any database of the server, as a role that may create databases.
        like: Encoding and locale; None for those of the server.  Where the server has no
            such locale, the database sorts as `C`, and `notify` hears so.

    Raises:
        ScratchError: The server does not create it; its reason is in `detail`.
        DatabaseConnectionError: No connection was made.
    """
    name = new_name(datetime.now(UTC))
    made = replace(admin, parameters={**admin.parameters, "dbname": name})
    with closing(connection.connect(admin)) as conn, _signals_end_it():
        _remove_leftovers(conn, notify)
        try:
            _create(conn, name, like, notify)
            # While somebody is connected, no other run takes it for a leftover.
            with closing(connection.connect(made)) as keeper:
                if keeper.info.server_version >= 140000:
                    keeper.execute("set idle_session_timeout = 0")
                yield made
        finally:
            _drop_undisturbed(admin, name, notify)


def new_name(now: datetime) -> str:
    """Make up the name of a scratch database; it tells when it was made."""
    return f"{PREFIX}{now.astimezone(UTC).strftime(_STAMP)}_{secrets.token_hex(4)}"


def is_leftover(name: str, now: datetime) -> bool:
    """Whether a database that nobody is connected to is what a killed run has left.

    >>> later = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
    >>> is_leftover("migrator_scratch_20261123t112900_0123abcd", later)
    True
    >>> is_leftover("migrator_scratch_20261123t113100_0123abcd", later)
    False
    """
    found = _NAME.fullmatch(name)
    return found is not None and now - _made(found["made"]) > _GRACE


def drop(conn: psycopg.Connection[Any], name: str, *, force: bool) -> None:
    """Drop a scratch database if it exists.

    Args:
        force: Whether sessions on it are ended; otherwise it stays if there are any.

    Raises:
        ScratchError: The name is not one of ours; nothing was done.
        psycopg.Error: As PostgreSQL has it.
    """
    if not _NAME.fullmatch(name):
        raise ScratchError(f'the database "{name}" is no scratch database, and was not dropped')
    command = "drop database if exists {} with (force)" if force else "drop database if exists {}"
    conn.execute(sql.SQL(command).format(sql.Identifier(name)))


def _made(stamp: str) -> datetime:
    try:
        return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError:  # no moment, so not made by us: for ever new
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
            conn.execute(command)
            return
        try:
            conn.execute(command + _options(like, conn.info.server_version))
        except psycopg.errors.InsufficientPrivilege:
            raise
        except psycopg.Error as error:
            conn.execute(command + _options(replace(like, collate="C", ctype="C"), version=0))
            notify(Remarked(f"the scratch database sorts text as C: {_text(error)}"))
    except psycopg.Error as error:
        raise ScratchError(
            "the server does not create a scratch database",
            detail=_text(error),
            hint="let the role create databases (alter role … createdb), or name another "
            "server with --scratch-url",
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
    """Drop what killed runs left, and name what is not ours to drop."""
    rows = conn.execute(_IDLE_DATABASES, {"prefix": PREFIX}).fetchall()
    now = datetime.now(UTC)
    for name in (name for (name,) in rows if is_leftover(name, now)):
        try:
            drop(conn, name, force=False)  # refused by the server if somebody has come
            notify(Remarked(f'dropped the scratch database "{name}" of a killed run'))
        except psycopg.Error as error:
            notify(Remarked(f'the scratch database "{name}" of a killed run stays: {_text(error)}'))


def _drop_undisturbed(admin: Database, name: str, notify: Callable[[Event], None]) -> None:
    """Drop it; a signal that comes meanwhile takes its effect afterwards."""
    with Interrupts() as interrupts:
        try:
            # The session that created it may have been cancelled in the middle of an answer.
            with closing(connection.connect(admin)) as conn:
                drop(conn, name, force=True)
        except (psycopg.Error, DatabaseConnectionError) as error:
            reason = _text(error) if isinstance(error, psycopg.Error) else error.message
            notify(Remarked(f'the scratch database stays: {reason}; drop database "{name}";'))
    if interrupts.signal:
        signal.raise_signal(interrupts.signal)


@contextmanager
def _signals_end_it() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit where they would end the process on the spot."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in _ENDING:
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, _exit)
    try:
        yield
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
