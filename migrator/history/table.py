"""Create and read the history: the versions, the repeatable files, and the log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row, tuple_row

from ..errors import HistoryError
from ..model import AppliedMigration, AppliedRepeatable, BatchProgress, Direction, Recorded
from . import layout, place
from .layout import compose
from .place import History

if TYPE_CHECKING:
    from .overview import LogEntry

_NUMBERED = re.compile(r"[0-9]")

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
       in_step,
       ordinal,
       progress
from {source}
"""
_READ_REPEATABLES = """
select name,
       checksum,
       case
           when checksum operator(pg_catalog.<>) all(%(known)s::pg_catalog.text[]) then script
       end as script,
       applied_at,
       applied_by,
       duration_ms
from {repeatables}
order by name
"""
_WITH_REPEATABLES = 3  # the first format that has them
_WITH_PROGRESS = 4
_FORMAT_1 = (
    "(select *, null::pg_catalog.jsonb as progress"
    " from {versions} join ({ordinals}) o using (version)) ours"
)
_FORMAT_3 = "(select *, null::pg_catalog.jsonb as progress from {versions}) ours"
_READ_PROGRESS = "select progress from {versions} where version = %(version)s"
_READ_UPS = """
select version, up_script
from {versions}
where version = any(%(versions)s)
"""
_OTHERS = """
select
from {versions}
where version operator(pg_catalog.<>) all(%(versions)s::pg_catalog.text[])
union all
select
from {log}
where action operator(pg_catalog.=) 'down'
limit 1
"""

# A lock on the history must not make a reading command wait forever.
_LIMITED = """
begin isolation level read committed read only;
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

# What was adopted and not undone; after it, any version that was run or recorded since.
_ADOPTED = """
select version, detail
from (
    select version, detail, id, 0 as later
    from {log}
    where action = 'adopt' and outcome = 'done'
    union all
    (
        select version, null, id, 1
        from {log}
        where action not in ('adopt', 'trace')
          and id > (select max(id) from {log} where action = 'adopt')
        order by id
        limit 1
    )
) as found
where id > coalesce((select max(id) from {log} where action = 'adopt' and outcome = 'undone'), 0)
order by later, id
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
               then substring(version from '^[0-9]+')::numeric = %(version)s::text::numeric end
    order by id desc
    limit %(limit)s
) as newest
order by id
"""


def ensure(
    conn: psycopg.Connection[Any],
    schema: str,
    *,
    trusted: str | None = None,
    is_named: bool = True,
) -> History:
    """Create the tables if they do not exist, or bring them to the present format.

    The caller holds the runner's lock: two sessions that create them at the same time would fail.

    Args:
        trusted: As in `place.locate`.
        is_named: As in `place.locate`.

    Raises:
        HistoryError: As `place.locate`; or only another role can upgrade the format.
    """
    found = place.locate(conn, schema, trusted=trusted, is_named=is_named)
    if not found.exists:
        layout.create(conn, schema)
    elif found.format < layout.FORMAT:
        try:
            layout.upgrade(conn, schema, old=found.format)
        except psycopg.errors.InsufficientPrivilege as error:
            raise HistoryError(
                f"the history has format {found.format}, and only its owner can upgrade it to "
                f"{layout.FORMAT}",
                hint="as the owner of migration_versions, run: migrator up",
            ) from error
    return replace(found, exists=True, format=layout.FORMAT)


def read(
    conn: psycopg.Connection[Any],
    history: History,
    *,
    known: Set[str] = frozenset(),
    downs: bool = False,
) -> Recorded:
    """Read every row; in one round trip if every up script is known.

    Args:
        known: Checksums of scripts that the caller has: those are not read.
        downs: Whether to read the down scripts.

    Raises:
        HistoryError: A version has no number, or two have the same.
    """
    schema = history.schema
    source = compose("{versions}", schema)
    if history.format == 1:
        ordinals = compose(layout.ORDINALS_OF_FORMAT_1, schema)
        source = compose(_FORMAT_1, schema, ordinals=ordinals)
    elif history.format < _WITH_PROGRESS:
        source = compose(_FORMAT_3, schema)
    queries = [compose(_READ, schema, source=source)]
    if history.format >= _WITH_REPEATABLES:
        queries.append(compose(_READ_REPEATABLES, schema))
    first, *more = _bounded(conn, queries, {"downs": downs, "known": list(known)})
    rows = [replace(AppliedMigration(*row), progress=_progress(row[-1])) for row in first]
    repeatables = tuple(AppliedRepeatable(*row) for found in more for row in found)
    _check(rows, f'"{schema}.migration_versions"')
    unknown = [row.version for row in rows if row.checksum not in known]
    if unknown:
        (found,) = _bounded(conn, [compose(_READ_UPS, schema)], {"versions": unknown})
        ups: dict[str, str | None] = dict(found)
        rows = [replace(row, up_script=ups.get(row.version)) for row in rows]
    return Recorded(tuple(rows), repeatables)


def progress(conn: psycopg.Connection[Any], schema: str, version: str) -> BatchProgress | None:
    """Return how far a statement of a version that runs in batches has come; None if none does."""
    row = conn.execute(compose(_READ_PROGRESS, schema), {"version": version}).fetchone()
    return _progress(row[0]) if row else None


def _progress(found: dict[str, Any] | None) -> BatchProgress | None:
    if found is None:
        return None
    return BatchProgress(**{**found, "direction": Direction(found["direction"])})


def _bounded(
    conn: psycopg.Connection[Any], queries: Iterable[sql.Composed], parameters: dict[str, Any]
) -> list[list[tuple[Any, ...]]]:
    """Return the rows of each query, and give up waiting for a lock on the history after 10 s."""
    # In one message, so that the limit costs no round trip.
    limited = sql.SQL(_LIMITED).format(statement=sql.SQL(";").join(queries))
    cursor = conn.cursor(row_factory=tuple_row).execute(limited, parameters)
    return [cursor.fetchall() for _ in cursor.results() if cursor.description]


def _check(rows: Sequence[AppliedMigration], table: str) -> None:
    known: dict[int, str] = {}
    for row in rows:
        if not _NUMBERED.match(row.version):
            raise HistoryError(
                f'{table} has a version without a number: "{row.version}"',
                hint="delete that row: migrator does not write such versions",
            )
        if other := known.get(row.number):
            raise HistoryError(
                f"{table} has two versions with the same number: {other} and {row.version}",
                hint="delete the row of the version that was never applied",
            )
        known[row.number] = row.version


def has_only(conn: psycopg.Connection[Any], schema: str, versions: Set[str]) -> bool:
    """Whether the history has no other versions than these, and none was ever reverted."""
    query = compose(_OTHERS, schema)
    return conn.execute(query, {"versions": list(versions)}).fetchone() is None


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


def adopted(
    conn: psycopg.Connection[Any], schema: str
) -> tuple[tuple[str, dict[str, Any] | None], ...]:
    """Return the versions of the last adoption, in order, with what was logged of each.

    They are followed by one that was run or recorded since, with None, if there is any.
    """
    return tuple(conn.execute(compose(_ADOPTED, schema)).fetchall())


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
