"""The statements that record a step, as they are sent among the migration's own."""

from __future__ import annotations

import getpass
import socket
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from ..model import Direction, Migration
from ..sql.script import is_long
from .table import compose

# In each of them `$1` is the version.
_CLAIM = """
insert into {versions} (version, checksum, up_script, down_script, statements_done)
values ($1, $2, $3, $4, 0)
"""
_REFRESH = """
update {versions}
set checksum = $2,
    up_script = $3,
    down_script = $4
where version = $1
"""
# Dividing by no rows is the error that stops a second runner from reverting again.
_RELEASE = """
with gone as (
    delete from {versions}
    where version = $1
    returning version
)
select 1 / count(*)
from gone
"""
# The same error where a version is to be reverted that is not there any more.
_HOLD = """
with held as (
    select version
    from {versions}
    where version = $1
    for update
)
select 1 / count(*)
from held
"""
# An interrupted up stays one until the first unit of its down is done.
_BEGIN_UNIT = """
with begun as (
    update {versions}
    set in_step = clock_timestamp()
    where version = $1
    returning version
)
insert into {log} (version, action, outcome, os_user, host, tool_version, detail)
values ((select version from begun), $2, 'started', $3, $4, $5, $6::jsonb)
"""
_STOP_UNIT = """
update {versions}
set in_step = null
where version = $1
"""
_END_UNIT = """
update {versions}
set statements_done = $2,
    duration_ms = coalesce(duration_ms, 0)
        + extract(epoch from clock_timestamp() - coalesce(in_step, now())) * 1000,
    in_step = null
where version = $1
"""
# Without its row in the history, a migration must not commit: its version is null then.
_FINISH = """
with finished as (
    update {versions}
    set applied_at = clock_timestamp(),
        duration_ms = coalesce(duration_ms, extract(epoch from clock_timestamp() - now()) * 1000),
        statements_done = $2,
        in_step = null
    where version = $1
    returning version, duration_ms
)
insert into {log} (version, action, outcome, os_user, host, tool_version, duration_ms)
values ((select version from finished), 'up', 'done', $3, $4, $5,
        (select duration_ms from finished))
returning duration_ms
"""
# What a person decided: applied without being run, or applied as the file is by now.
_SETTLE = """
insert into {versions} as ours
    (version, checksum, up_script, down_script, applied_at, statements_done)
values ($1, $2, $3, $4, clock_timestamp(), $5)
on conflict (version) do update
set checksum = excluded.checksum,
    up_script = excluded.up_script,
    down_script = excluded.down_script,
    applied_at = coalesce(ours.applied_at, excluded.applied_at),
    statements_done = excluded.statements_done,
    in_step = null
"""
_RENAME = """
update {versions}
set version = $2
where version = $1
"""
_TRACE = """
insert into {log} (version, action, outcome, os_user, host, tool_version, detail)
values ($1, 'trace', 'done', $2, $3, $4, $5::jsonb)
"""
_LOG = """
insert into {log}
    (version, action, outcome, os_user, host, tool_version, sqlstate, message, reason, duration_ms)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9,
        case when $10 then extract(epoch from clock_timestamp() - now()) * 1000 end)
returning duration_ms
"""


Parameters = tuple[bytes | None, ...]
Command = tuple[bytes, Parameters]
"""A statement as it is sent, and its parameters in text form."""


@dataclass(frozen=True, slots=True)
class Recorder:
    """The statements that record a step, ready to be sent among the migration's own."""

    schema: str
    who: Parameters

    def claim(self, migration: Migration, *, again: bool) -> Command:
        """Say that a version is being applied; `again` if its row is there."""
        scripts = (migration.up, migration.down)
        texts = (_script(source.text) if source else None for source in scripts)
        checksum = migration.up.checksum.encode()
        template = _REFRESH if again else _CLAIM
        return self._command(template, migration.version.encode(), checksum, *texts)

    def settle(self, migration: Migration, done: int) -> Command:
        """Say that a version is applied whole, as its files are, whether or not it was run."""
        parameters = self.claim(migration, again=False)[1]
        return self._command(_SETTLE, *parameters, b"%d" % done)

    def rename(self, version: str, new: str) -> Command:
        """Give a version the name that its file has by now."""
        return self._command(_RENAME, version.encode(), new.encode())

    def release(self, version: str) -> Command:
        """Remove a version; fail if it is not there."""
        return self._command(_RELEASE, version.encode())

    def hold(self, version: str) -> Command:
        """Lock a version that is to be reverted; fail if it is not there."""
        return self._command(_HOLD, version.encode())

    def begin_unit(self, version: str, direction: Direction, detail: str) -> Command:
        """Say that a unit is under way that commits by itself; `detail` is JSON."""
        words = (version.encode(), direction.value.encode())
        return self._command(_BEGIN_UNIT, *words, *self.who, detail.encode())

    def stop_unit(self, version: str) -> Command:
        """Say that no unit is under way: the server has given the last one up."""
        return self._command(_STOP_UNIT, version.encode())

    def end_unit(self, version: str, done: int) -> Command:
        """Say that `done` units have finished; below zero, of a down."""
        return self._command(_END_UNIT, version.encode(), b"%d" % done)

    def finish(self, version: str, done: int) -> Command:
        """Say that a version is applied whole, after `done` units."""
        return self._command(_FINISH, version.encode(), b"%d" % done, *self.who)

    def log(
        self,
        version: str,
        action: str,
        outcome: str,
        *,
        sqlstate: str | None = None,
        message: str | None = None,
        reason: str | None = None,
        timed: bool = False,
    ) -> Command:
        """Add a row to the log; `timed` if the transaction's time is that of the work."""
        texts = (text.encode() if text else None for text in (sqlstate, message, reason))
        names = (text.encode() for text in (version, action, outcome))
        return self._command(_LOG, *names, *self.who, *texts, b"t" if timed else b"f")

    def trace(self, version: str, detail: str) -> Command:
        """Add to the log what an up did to the database; `detail` is JSON."""
        return self._command(_TRACE, version.encode(), *self.who, detail.encode())

    def _command(self, template: str, *parameters: bytes | None) -> Command:
        return _bytes(template, self.schema), parameters


def recorder(schema: str) -> Recorder:
    """Make the recorder of a history, as the user and on the machine that run this."""
    who = (_os_user().encode(), socket.gethostname().encode(), tool_version().encode())
    return Recorder(schema, who)


def tool_version() -> str:
    """Return this package's version; `unknown` where it runs without being installed."""
    try:
        return version("plain-sql-migrator")
    except PackageNotFoundError:
        return "unknown"


def _script(text: str) -> bytes | None:
    return None if is_long(text) else text.encode()


def _os_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user in the system's list, as in some containers
        return "unknown"


@cache
def _bytes(template: str, schema: str) -> bytes:
    return compose(template, schema).as_bytes()
