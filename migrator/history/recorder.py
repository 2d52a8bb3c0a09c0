"""The statements that record a step, which are sent together with those of the migration."""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from ..model import BatchProgress, Direction, Migration, is_repeatable
from ..passwords import without_passwords
from ..sql.script import is_long
from .layout import compose

# Taken from the table itself, not from a sequence: a copy of the table may have lost that.
_NEXT = "(select coalesce(pg_catalog.max(ordinal), 0) operator(pg_catalog.+) 1 from {versions})"

# `$1` is always the version.  The claim comes before the script, and so it runs under the search
# path of the user: its functions and operators have their schema.  The others run under ours.
_CLAIM = """
insert into {versions} (version, checksum, up_script, down_script, statements_done, ordinal)
values ($1, $2, $3, $4, 0, {next_ordinal})
"""
# The text of the last one applied is the one that counts.
_CLAIM_REPEATABLE = """
insert into {repeatables} (name, checksum, script, applied_at)
values ($1, $2, $3, pg_catalog.clock_timestamp())
on conflict (name) do update
set checksum = excluded.checksum,
    script = excluded.script,
    applied_at = excluded.applied_at,
    applied_by = session_user,
    duration_ms = null
"""
_REFRESH = """
update {versions}
set checksum = $2,
    up_script = $3,
    down_script = $4,
    ordinal = {next_ordinal}
where version operator(pg_catalog.=) $1
"""
# Without the row, the division by zero stops a second runner from reverting again.
_DELETE = """
with gone as (
    delete from {versions}
    where version operator(pg_catalog.=) $1
    returning version
)
select 1 operator(pg_catalog./) pg_catalog.count(*)
from gone
"""
_DELETE_REPEATABLE = """
with gone as (
    delete from {repeatables}
    where name operator(pg_catalog.=) $1
    returning name
)
select 1 operator(pg_catalog./) pg_catalog.count(*)
from gone
"""
_FORGET_REPEATABLE = """
delete from {repeatables}
where name = $1
"""
# The same error if the version to revert is no longer in the history.
_LOCK = """
with held as (
    select version
    from {versions}
    where version operator(pg_catalog.=) $1
    for update
)
select 1 operator(pg_catalog./) pg_catalog.count(*)
from held
"""
# Whether the unit with the number $2 comes next; the number is below zero for a down.
_IS_NEXT = """
case $2::integer
    when -1 then statements_done >= 0
    else statements_done = $2 - sign($2::integer)
end
"""
# An interrupted up remains one until the first unit of its down is done.  The null version stops a
# runner whose progress is no longer that of the history.
_BEGIN_UNIT = """
with begun as (
    update {versions}
    set in_step = clock_timestamp(),
        progress = null
    where version = $1
      and {is_next}
    returning version
)
insert into {log} (version, action, outcome, os_user, host, tool_version, detail)
values ((select version from begun), $3, 'started', $4, $5, $6, $7::jsonb)
"""
_BATCH = """
with gone_on as (
    update {versions}
    set progress = $4::jsonb,
        duration_ms = coalesce(duration_ms, 0)
            + extract(epoch from clock_timestamp() - now()) * 1000,
        in_step = null
    where version = $1
      and {is_next}
      and progress is not distinct from $3::jsonb
    returning version
)
select extract(epoch from clock_timestamp() - now()) / count(*)
from gone_on
"""
_FAIL_UNIT = """
update {versions}
set in_step = null
where version = $1
"""
# The division by zero stops it, too.
_END_UNIT = """
with ended as (
    update {versions}
    set statements_done = $2,
        duration_ms = coalesce(duration_ms, 0)
            + extract(epoch from clock_timestamp() - coalesce(in_step, now())) * 1000,
        in_step = null,
        progress = null
    where version = $1
      and {is_next}
    returning version
)
select 1 / count(*)
from ended
"""
# Without its row in the history a migration must not commit, and a second runner must not finish
# it again: the null version is an error.
_FINISH = """
with finished as (
    update {versions}
    set applied_at = clock_timestamp(),
        duration_ms = coalesce(duration_ms, extract(epoch from clock_timestamp() - now()) * 1000),
        statements_done = $2,
        in_step = null,
        progress = null
    where version = $1
      and applied_at is null
    returning version, duration_ms
)
insert into {log} (version, action, outcome, os_user, host, tool_version, duration_ms)
values ((select version from finished), 'up', 'done', $3, $4, $5,
        (select duration_ms from finished))
returning duration_ms
"""
_FINISH_REPEATABLE = """
with finished as (
    update {repeatables}
    set applied_at = clock_timestamp(),
        duration_ms = extract(epoch from clock_timestamp() - now()) * 1000
    where name = $1
    returning name, duration_ms
)
insert into {log} (version, action, outcome, os_user, host, tool_version, duration_ms)
values ((select name from finished), 'up', 'done', $2, $3, $4,
        (select duration_ms from finished))
returning duration_ms
"""
# A baseline or a repair: applied without being run, or with another text.
_RECORD_APPLIED = """
insert into {versions} as ours
    (version, checksum, up_script, down_script, applied_at, statements_done, ordinal)
values ($1, $2, $3, $4, clock_timestamp(), $5, {next_ordinal})
on conflict (version) do update
set checksum = excluded.checksum,
    up_script = excluded.up_script,
    down_script = excluded.down_script,
    applied_at = coalesce(ours.applied_at, excluded.applied_at),
    ordinal = case when ours.applied_at is null then excluded.ordinal else ours.ordinal end,
    statements_done = excluded.statements_done,
    in_step = null,
    progress = null
"""
# One row in place of several, at the place of the first of them: `down` comes to it last.  The
# division by zero stops a run whose rows are no longer those of the history.
_SQUASH = """
with gone as (
    delete from {versions}
    where version = any($5::text[])
    returning *
)
insert into {versions}
    (version, checksum, up_script, down_script, applied_at, applied_by, duration_ms,
     statements_done, ordinal)
select $1, $2, $3, $4, max(applied_at), (array_agg(applied_by order by ordinal desc))[1],
       sum(duration_ms), 1 / (count(*) = cardinality($5::text[]))::integer - 1, min(ordinal)
from gone
"""
# As `_RECORD_APPLIED`, with the time and the user of another tool.
_RECORD_ADOPTED = """
insert into {versions}
    (version, checksum, up_script, down_script, statements_done, applied_at, applied_by, ordinal)
values ($1, $2, $3, $4, $5, coalesce($6::timestamptz, clock_timestamp()),
        coalesce($7::text, session_user::text), {next_ordinal})
"""
_ADOPT = """
insert into {log} (version, action, outcome, os_user, host, tool_version, detail)
values ($1, 'adopt', $5, $2, $3, $4, $6::jsonb)
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
        coalesce(
            $11::bigint,
            case when $10 then extract(epoch from clock_timestamp() - now()) * 1000 end
        ))
returning duration_ms
"""

Parameters = tuple[bytes | None, ...]
Command = tuple[bytes, Parameters]
"""A statement as it is sent, and its parameters in text format."""


@dataclass(frozen=True, slots=True)
class Recorder:
    """Makes the statements that record what a run does.

    Attributes:
        schema: The schema of the history.
        actor: The user of the operating system, the host and the version of migrator.
    """

    schema: str
    actor: Parameters

    def claim(self, migration: Migration, *, again: bool) -> Command:
        """Record that a migration is being applied; `again` if its version has a row."""
        if migration.is_repeatable:
            return self._claim_repeatable(migration)
        scripts = (migration.up, migration.down)
        texts = (_script(source.text) if source else None for source in scripts)
        checksum = migration.up.checksum.encode()
        template = _REFRESH if again else _CLAIM
        return self._command(template, migration.version.encode(), checksum, *texts)

    def _claim_repeatable(self, migration: Migration) -> Command:
        name, checksum = migration.version.encode(), migration.up.checksum.encode()
        return self._command(_CLAIM_REPEATABLE, name, checksum, _script(migration.up.text))

    def record_applied(self, migration: Migration, done: int) -> Command:
        """Record a migration as applied with the text of its files, without running it."""
        if migration.is_repeatable:
            return self._claim_repeatable(migration)
        parameters = self.claim(migration, again=False)[1]
        return self._command(_RECORD_APPLIED, *parameters, b"%d" % done)

    def squash(self, migration: Migration, versions: Iterable[str]) -> Command:
        """Record a migration in place of versions that are applied; fail if one is not."""
        parameters = self.claim(migration, again=False)[1]
        return self._command(_SQUASH, *parameters, f"{{{','.join(versions)}}}".encode())

    def record_adopted(
        self, migration: Migration, done: int, *, at: str | None, by: str | None
    ) -> Command:
        """Record a version as applied by another tool, at a time and by a user; None: unknown.

        Of a repeatable file, both are those of the adoption.
        """
        if migration.is_repeatable:
            return self._claim_repeatable(migration)
        parameters = self.claim(migration, again=False)[1]
        known = (each.encode() if each else None for each in (at, by))
        return self._command(_RECORD_ADOPTED, *parameters, b"%d" % done, *known)

    def adopt(self, version: str, outcome: str, detail: str) -> Command:
        """Log what is known of a version from another tool; `detail` is JSON."""
        words = (outcome.encode(), detail.encode())
        return self._command(_ADOPT, version.encode(), *self.actor, *words)

    def rename(self, version: str, new: str) -> Command:
        """Rename a version."""
        return self._command(_RENAME, version.encode(), new.encode())

    def delete(self, version: str) -> Command:
        """Remove a version or repeatable file; fail if it has no row."""
        template = _DELETE_REPEATABLE if is_repeatable(version) else _DELETE
        return self._command(template, version.encode())

    def forget(self, name: str) -> Command:
        """Remove a repeatable file if it has a row, so that it is applied again."""
        return self._command(_FORGET_REPEATABLE, name.encode())

    def lock(self, version: str) -> Command:
        """Lock a version that is to be reverted; fail if it has no row."""
        return self._command(_LOCK, version.encode())

    def begin_unit(self, version: str, direction: Direction, done: int, detail: str) -> Command:
        """Record that a statement outside a transaction begins.

        Args:
            done: What `end_unit` will be told.
            detail: JSON.
        """
        words = (version.encode(), b"%d" % done, direction.value.encode())
        return self._command(_BEGIN_UNIT, *words, *self.actor, detail.encode())

    def fail_unit(self, version: str) -> Command:
        """Record that the statement that was begun has failed."""
        return self._command(_FAIL_UNIT, version.encode())

    def end_unit(self, version: str, done: int) -> Command:
        """Record that `done` units have finished; negative for those of a down."""
        return self._command(_END_UNIT, version.encode(), b"%d" % done)

    def batch(
        self, version: str, done: int, before: BatchProgress | None, now: BatchProgress
    ) -> Command:
        """Record a batch after `before`, the last one; the answer is the seconds it has taken."""
        dumped = (json.dumps(asdict(each)).encode() if each else None for each in (before, now))
        return self._command(_BATCH, version.encode(), b"%d" % done, *dumped)

    def finish(self, version: str, done: int) -> Command:
        """Record that a version is completely applied, after `done` units."""
        if is_repeatable(version):
            return self._command(_FINISH_REPEATABLE, version.encode(), *self.actor)
        return self._command(_FINISH, version.encode(), b"%d" % done, *self.actor)

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
        seconds: float | None = None,
    ) -> Command:
        """Add a row to the log.

        Args:
            timed: Whether to log the time since the transaction began.
            seconds: The time to log instead.
        """
        took = None if seconds is None else b"%d" % round(seconds * 1000)
        message = without_passwords(message) if message else None
        texts = (text.encode() if text else None for text in (sqlstate, message, reason))
        names = (text.encode() for text in (version, action, outcome))
        return self._command(_LOG, *names, *self.actor, *texts, b"t" if timed else b"f", took)

    def trace(self, version: str, detail: str) -> Command:
        """Add to the log what an up changed; `detail` is JSON."""
        return self._command(_TRACE, version.encode(), *self.actor, detail.encode())

    def _command(self, template: str, *parameters: bytes | None) -> Command:
        return _bytes(template, self.schema), parameters


def recorder(schema: str) -> Recorder:
    """Create the recorder of a history, for the current user and host."""
    actor = (_os_user().encode(), socket.gethostname().encode(), tool_version().encode())
    return Recorder(schema, actor)


@cache
def tool_version() -> str:
    """Return the version of migrator; `unknown` if it is not installed as a package."""
    try:
        return version("plain-sql-migrator")
    except PackageNotFoundError:
        return "unknown"


def _script(text: str) -> bytes | None:
    return None if is_long(text) else text.encode()


def _os_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user id has no name, as in some containers
        return "unknown"


@cache
def _bytes(template: str, schema: str) -> bytes:
    parts = {"next_ordinal": compose(_NEXT, schema), "is_next": compose(_IS_NEXT, schema)}
    return compose(template, schema, **parts).as_bytes()
