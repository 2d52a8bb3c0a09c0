"""What the scripts tell: comments that accept nothing, and objects that `down` may not change."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import PurePath
from typing import Any

import psycopg

from ..errors import HistoryError, LockTimeoutError, StatementError
from ..hazards import possible
from ..history import place, table
from ..model import AppliedMigration, Entry, Migration, Recorded, Repeatable, SourceFile, Status
from ..postgres import connection
from ..postgres.cursor import Connection, run_plainly
from ..session import compared
from ..sql import parser, splitter
from ..sql.location import locate
from ..sql.made import Made, changed
from ..sql.script import Allowance, Script
from .checks import Check, Diagnosis, Finding, Unchecked, checks
from .examine import Question, unusable

_DOWNS = 10  # the newest versions: old ones are rarely reverted
_BOTH = ("down-not-owner", "allow-unused")
_PENDING = frozenset([Status.PENDING, Status.OUT_OF_ORDER])

_PATH = "select pg_catalog.array_to_json(pg_catalog.current_schemas(true))::pg_catalog.text"
# One row for each object that an asked name may mean; of a name without a schema those in the
# first schema of the search path that has any.
_OWNERS = """
with asked as (
    select *
    from jsonb_to_recordset(%(asked)s::jsonb)
        as a (id int, kind text, schema text, name text, runner text, is_drop bool)
),
path as (
    select nspname, place
    from jsonb_array_elements_text(%(path)s::jsonb) with ordinality as p (nspname, place)
),
objects as (
    select 'relation' as kind, relname as name, relnamespace as schema, relowner as owner,
           null::text[] as arguments,
           format('%%s %%s',
               case relkind when 'v' then 'view' when 'm' then 'materialized view'
                            when 'S' then 'sequence' when 'f' then 'foreign table'
                            when 'i' then 'index' when 'I' then 'index' else 'table' end,
               format('%%I.%%I', relnamespace::regnamespace::name, relname)) as text,
           case when relkind in ('i', 'I') then
               (select format('table %%s', i.indrelid::regclass) from pg_index i
                where i.indexrelid = pg_class.oid)
           end as owned
    from pg_class
    where relname in (select name from asked where kind = 'relation')
    union all
    select 'routine', proname, pronamespace, proowner,
           array(
               select format_type(t, null)
               from unnest(proargtypes) with ordinality as a (t, n)
               order by n
           ),
           format('routine %%s', oid::regprocedure), null
    from pg_proc
    where proname in (select name from asked where kind = 'routine')
    union all
    select 'type', typname, typnamespace, typowner, null, format('type %%s', oid::regtype), null
    from pg_type
    where typname in (select name from asked where kind = 'type')
    union all
    select 'schema', nspname, null, nspowner, null, format('schema %%I', nspname), null
    from pg_namespace
    where nspname in (select name from asked where kind = 'schema')
),
found as (
    select a.id, o.*, n.nspowner, a.is_drop, r.oid as runner_oid, r.rolname as runner,
           rank() over (partition by a.id order by p.place)
    from asked a
    join objects o on o.kind = a.kind and o.name = a.name
    join pg_roles r on r.rolname = coalesce(a.runner, current_user)
    left join pg_namespace n on n.oid = o.schema
    left join path p on p.nspname = n.nspname
    where case when a.kind = 'schema' then true
               when a.schema is null then p.place is not null
               else n.nspname = a.schema end
)
select id, case when kind = 'routine' then to_json(arguments)::text end,
       pg_has_role(runner_oid, owner, 'usage')
           or (is_drop and coalesce(pg_has_role(runner_oid, nspowner, 'usage'), false)),
       text, o.rolname,
       case when o.rolsuper then format('alter %%s owner to %%I;', coalesce(owned, text), runner)
            else format('grant %%I to %%I;', o.rolname, runner) end
from found
join pg_roles o on o.oid = found.owner
where rank = 1
order by id, text
"""


@dataclass(frozen=True, slots=True)
class _Change:
    """An object that a down script changes.

    Attributes:
        object: The one that the right to do so depends on: of a trigger, its table.
        runner: The role that the script runs as; None for the one that is connected.
    """

    version: str
    object: Made
    runner: str | None
    is_drop: bool

    def may_mean(self, arguments: str | None) -> bool:
        """Whether it may be the object that takes these arguments, a list of types as JSON."""
        if arguments is None or self.object.arguments is None:
            return True
        types = tuple(tuple(splitter.tokens(each)) for each in json.loads(arguments))
        return self.object.is_same(replace(self.object, arguments=types))


def examine_scripts(
    conn: Connection, question: Question, migrations: Sequence[Migration]
) -> Diagnosis:
    """Examine the comments of the pending files, and the newest stored down scripts.

    Raises:
        DatabaseConnectionError: The connection was lost.
    """
    known = frozenset(each.up.checksum for each in migrations)
    found, recorded = None, Recorded()
    try:
        with connection.reported():
            found = place.locate(conn, question.schema, trusted=question.trusted)
            if found.exists:
                recorded = table.read(conn, found, known=known, downs=True)
            findings = tuple(_not_owned(conn, recorded.versions, question.role))
    except (LockTimeoutError, StatementError) as error:
        return unread(str(error), *_BOTH)
    except HistoryError as error:
        # What `examine` has reported, such as a missing privilege, is reported once.
        is_refused = isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege)
        is_known = found is None or is_refused
        return Diagnosis(() if is_known else (unusable(error),)) + unread(str(error), *_BOTH)
    return Diagnosis((*findings, *_unused(*compared(migrations, recorded))))


def unread(reason: str, *ids: str) -> Diagnosis:
    """Return the answer of checks whose files or history cannot be read."""
    return Diagnosis(unchecked=tuple(Unchecked(each, reason) for each in ids))


def _unused(entries: Iterable[Entry], repeatable: Iterable[Repeatable]) -> Iterator[Finding]:
    pending = (each.migration for each in entries if each.status in _PENDING)
    changed_again = (each.migration for each in repeatable if each.is_pending)
    for migration in filter(None, (*pending, *changed_again)):
        up = _parsed(migration.up)
        yield from _of_comments(up, possible.needless(up))
        # Of a repeatable file, the down is the text that was applied last.
        if migration.down and not migration.is_repeatable:
            down = _parsed(migration.down)
            yield from _of_comments(down, possible.needless_in_down(down))


def _parsed(source: SourceFile) -> Script:
    return parser.parse(source.path, source.text)


def _of_comments(script: Script, allowances: Iterable[Allowance]) -> Iterator[Finding]:
    check = _check("allow-unused")
    for each in allowances:
        at = locate(script.source, each.offset, script.path)
        message = f"{at.path}:{at.line}: allow {each.hazard}"
        yield Finding(check.id, check.title, message, check.meaning, check.action)


def _check(name: str) -> Check:
    return next(each for each in checks() if each.id == name)


def _not_owned(
    conn: Connection, versions: Iterable[AppliedMigration], role: str | None
) -> Iterator[Finding]:
    """Yield the objects that exist, and that the role of the newest downs may not change."""
    newest = sorted(versions, key=lambda row: row.ordinal, reverse=True)[:_DOWNS]
    changes = [change for row in newest for change in _changes(row, role)]
    if not changes:
        return
    check = _check("down-not-owner")
    (path,) = run_plainly(conn, _PATH).fetchone()
    asked = json.dumps([_asked(number, each) for number, each in enumerate(changes)])
    rows = conn.execute(_OWNERS, {"asked": asked, "path": path}).fetchall()
    told: dict[tuple[str, str, str], list[str]] = {}
    for number, group in groupby(rows, key=itemgetter(0)):
        change = changes[number]
        meant = [row[2:] for row in group if change.may_mean(row[1])]
        # Without its arguments, any of several routines may be the one.
        if meant and not any(is_allowed for is_allowed, *_ in meant):
            _, name, owner, action = meant[0]
            told.setdefault((name, owner, action), []).append(change.version)
    for (name, owner, action), downs in told.items():
        message = f"{name}, of role {owner}: down of {', '.join(dict.fromkeys(downs))}"
        yield Finding(check.id, check.title, message, check.meaning, action)


def _changes(row: AppliedMigration, role: str | None) -> Iterator[_Change]:
    script = parser.parse(PurePath(f"{row.version}.down.sql"), row.down_script or "")
    for made, is_drop in changed(script):
        runner = script.options.role or role
        if made.table:
            yield _Change(row.version, Made("table", made.table), runner, is_drop=False)
        else:
            yield _Change(row.version, made, runner, is_drop=is_drop)


def _asked(number: int, change: _Change) -> dict[str, Any]:
    name = change.object.name
    return {
        "id": number,
        "kind": change.object.group,
        "schema": name[-2] if len(name) > 1 else None,
        "name": name[-1],
        "runner": change.runner,
        "is_drop": change.is_drop,
    }
