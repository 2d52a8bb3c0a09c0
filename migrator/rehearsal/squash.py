"""Write one pair of files that replaces several migrations, and prove that it makes the same.

What the old files make is dumped by `pg_dump`: its schema, the rows of chosen tables, and the
values of sequences.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from .. import programs
from ..config import Database
from ..errors import HistoryError, UsageError, counted
from ..events import Notify
from ..files.source import read_source
from ..history import layout
from ..model import Direction, Migration, Step
from ..session import Session
from ..sql import parser, splitter
from ..sql.script import Statement
from . import contents, replay
from .prepare import empty_stage
from .schemas import schema
from .schemas.differences import difference_lines
from .schemas.drift import READ_LOCK_TIMEOUT
from .schemas.schema import Schema
from .stage import Stage, run

# Of the settings at the top of a dump, those that change what its statements mean.  Others depend
# on the version of pg_dump.
_SETTINGS = """\
set check_function_bodies = false;
set xmloption = content;
select pg_catalog.set_config('search_path', '', false);"""
_KEPT_SETTINGS = ("default_tablespace", "default_table_access_method")
# They belong to the server, so a dump does not contain them.
_SHARED = frozenset({"role", "user", "group", "database", "tablespace", "subscription"})
_CHANGES = ("create", "alter", "drop")
_UNCALLED = re.compile(r"(?i)select pg_catalog\.setval\('.*', 1, false\);")
_MOST_TOLD = 20

_UP = """\
-- migrator: replaces {first}..{last}
{replaced}
--
-- {version}: what {oldest} to {newest} made, as pg_dump wrote it.
-- A database that has all of them records this file in their place, and runs nothing.
{irreversible}
{body}
"""
_DOWN = """\
-- Revert {version}: drop everything that it made, in reverse order.
-- All rows of its tables are lost.

{body}
"""


@dataclass(frozen=True, slots=True)
class Squashed:
    """A pair of files that was proven to make the same as the files that it replaces.

    Attributes:
        down: None if it cannot be reverted.
        tables: Those whose rows it inserts, by name.
        irreversible: Why there is no down script; None if there is one.
    """

    version: str
    up: str
    down: str | None
    tables: tuple[str, ...]
    irreversible: str | None


@dataclass(frozen=True, slots=True)
class _Made:
    """What the old files make."""

    schema: Schema
    rows: contents.Contents
    sequences: contents.Contents


def squash(
    work: Session,
    migrations: Sequence[Migration],
    server: Database | None,
    notify: Notify,
    *,
    data: Collection[str],
    leaves_rows: bool,
) -> Squashed:
    """Write one pair in place of migrations, by ascending number; at least two.

    Args:
        server: Any database of the server for the scratch databases; None for the target's.
        data: The tables whose rows the new file inserts.
        leaves_rows: Whether the rows of other tables are left out.

    Raises:
        UsageError: A table has rows, and it was not decided what becomes of them; or a table in
            `data` has none.
        HistoryError: The migrations cannot be applied to an empty database, change what belongs
            to the server, or the new file does not make the same.
        MigratorError: As `compare.find_drift`.
    """
    _refuse_shared(migrations)
    version = f"{migrations[-1].version.partition('_')[0]}_squashed"
    with empty_stage(work, server, notify) as (database, stage):
        try:
            replay.apply(replace(stage, is_guarded=True), migrations)
        except replay.ReplayError as error:
            raise HistoryError(
                f"cannot squash: {error}",
                hint="squash up to an earlier version; or use another server: --scratch-url URL",
            ) from error
        made = _read(stage)
        tables = _chosen(made.rows, data, leaves_rows=leaves_rows)
        body, drops = _dumped(database, stage, sorted(made.rows.keys() - set(tables)))
    with empty_stage(work, server, notify) as (_, stage):
        nothing = schema.read(stage.conn, stage.schema)
        up = _up_text(version, migrations, body, None)
        _prove_up(stage, version, up, made, tables)
        down = _DOWN.format(version=version, body=drops) if drops else ""
        reason = _prove_down(stage, version, down, nothing)
    if reason:
        up = _up_text(version, migrations, body, reason)
    return Squashed(version, up, None if reason else down, tables, reason)


def _refuse_shared(migrations: Iterable[Migration]) -> None:
    """Refuse statements that change roles, databases or the server: a dump does not contain them.

    Raises:
        HistoryError: A statement does.
    """
    found = [
        f"{script.path}: {' '.join(statement.words[:3])}"
        for script in (parser.parse(each.up.path, each.up.text) for each in migrations)
        for unit in script.units
        for statement in unit.statements
        if statement.words[:1] and statement.words[0] in _CHANGES and _is_shared(statement)
    ]
    if found:
        raise HistoryError(
            "cannot squash: some statements change what belongs to the server, not to the "
            "database, and a dump leaves that out",
            detail="\n".join(found[:_MOST_TOLD]),
            hint="create roles before the migrations run, or squash up to an earlier version",
        )


def _is_shared(statement: Statement) -> bool:
    is_mapping = statement.words[1:3] == ("user", "mapping")
    return not is_mapping and statement.words[1:2] != () and statement.words[1] in _SHARED


def _read(stage: Stage) -> _Made:
    return _Made(
        schema.read(stage.conn, stage.schema),
        contents.rows(stage.conn, stage.schema),
        contents.sequences(stage.conn, stage.schema),
    )


def _chosen(
    rows: contents.Contents, data: Collection[str], *, leaves_rows: bool
) -> tuple[str, ...]:
    """Return the tables whose rows are inserted, by name.

    Raises:
        UsageError: As `squash`.
    """
    known = {
        name: [each for each in rows if name in (each, each.partition(".")[2])] for name in data
    }
    if strange := [name for name, found in known.items() if len(found) != 1]:
        raise UsageError(
            f'no table with rows is called "{strange[0]}"',
            hint=f"those that have rows: {', '.join(rows) or 'none'}",
        )
    tables = {found[0] for found in known.values()}
    undecided = [name for name in rows if name not in tables]
    if undecided and not leaves_rows:
        raise UsageError(
            f"the migrations leave rows in {counted(len(undecided), 'table')}",
            detail="\n".join(f"{name}: {counted(rows[name][0], 'row')}" for name in undecided),
            hint="to insert them in the new file: --data TABLE, for each table; to leave out all "
            "others: --no-data",
        )
    return tuple(sorted(tables))


def _dumped(database: Database, stage: Stage, left_out: Iterable[str]) -> tuple[str, str]:
    """Return the statements that make what the old files made, and those that drop it."""
    major = stage.conn.info.server_version // 10000
    role = stage.settings.role
    (owner,), (history,), (first_owner,) = stage.conn.execute(
        "select pg_catalog.quote_ident(coalesce(%s, session_user))"
        " union all select pg_catalog.quote_ident(%s)"
        " union all select pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(10))",
        [role, stage.schema],
    ).fetchall()
    # Before PostgreSQL 15, the superuser that initdb makes owns the schema of every new database.
    unchanged = f"ALTER SCHEMA public OWNER TO {first_owner};"
    ours = [f"--exclude-table={history}.{name}" for name in layout.NAMES]
    left = [f"--exclude-table-data={name}" for name in left_out]

    def dump(*options: str) -> list[str]:
        given = (*ours, *options)
        text = programs.dump(
            database, major, lock_timeout=READ_LOCK_TIMEOUT, role=role, options=given
        )
        portable = _portable(splitter.split(text), owner, history)
        return [each for each in portable if each != unchanged]

    drops = dump("--schema-only", "--clean")
    removing = [each for each in drops[: _first_made(drops)] if _drops(each)]
    return "\n\n".join(dump(*left)), "\n".join(removing)


def _first_made(statements: Sequence[str]) -> int:
    """Return the index of the first statement that makes something."""
    made = (number for number, each in enumerate(statements) if each.startswith("CREATE "))
    return next(made, len(statements))


def _drops(statement: str) -> bool:
    return statement.startswith("DROP ") or (
        statement.startswith("ALTER ") and " DROP " in statement
    )


def _portable(statements: Iterable[Statement], owner: str, history: str) -> Iterator[str]:
    """Yield the statements of a dump, without what only the scratch database needs.

    Args:
        owner: The role that ran the migrations; another one will own what the new file makes.
        history: The schema of the history, which exists before.
    """
    for each in statements:
        text = each.text
        if splitter.is_meta_command(each) or _is_noise(each, text):
            continue
        if text.endswith(f" OWNER TO {owner};"):
            continue
        if re.fullmatch(rf"(?:CREATE|DROP) SCHEMA (?:{re.escape(history)}|public);", text):
            continue
        if each.data and not each.source[slice(*each.data)]:
            continue  # no rows
        if each.data:
            text += f"\n{each.source[slice(*each.data)]}\\."
        yield text.replace(
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} ", "ALTER DEFAULT PRIVILEGES "
        )


def _is_noise(statement: Statement, text: str) -> bool:
    words = statement.words
    if words[:1] == ("set",):
        return words[1:2] == () or words[1] not in _KEPT_SETTINGS
    return "pg_catalog.set_config('search_path'" in text or bool(_UNCALLED.fullmatch(text))


def _up_text(
    version: str, migrations: Sequence[Migration], body: str, irreversible: str | None
) -> str:
    oldest, newest = migrations[0].version, migrations[-1].version
    return _UP.format(
        first=oldest.partition("_")[0],
        last=newest.partition("_")[0],
        replaced="\n".join(f"--   {each.version} {each.up.checksum}" for each in migrations),
        version=version,
        oldest=oldest,
        newest=newest,
        irreversible=f"-- There is no down script: {irreversible}.\n" if irreversible else "",
        body=f"{_SETTINGS}\n\n{body}",
    )


def _step(version: str, direction: Direction, text: str) -> Step:
    path = PurePath(f"{version}.{direction}.sql")
    source = read_source(path, text.encode())
    script = parser.parse(path, text)
    made = Migration(version, source, None) if direction is Direction.UP else None
    return Step(version, direction, script, made)


def _prove_up(
    stage: Stage, version: str, text: str, wanted: _Made, tables: Collection[str]
) -> None:
    """Run the new file on an empty database, and compare.

    Raises:
        HistoryError: It fails, or makes something else.
    """
    if error := run(stage, _step(version, Direction.UP, text)):
        raise HistoryError(f"cannot squash: the new file fails: {error}", detail=error.detail)
    found = _read(stage)
    lines = list(difference_lines(schema.compare(_settled(wanted.schema), _settled(found.schema))))
    rows = {name: wanted.rows[name] for name in tables}
    lines += _unequal("rows", rows, found.rows)
    lines += _unequal("value", wanted.sequences, found.sequences)
    if lines:
        raise HistoryError(
            "cannot squash: the new file does not make what the old ones make "
            "(- by the old, + by the new)",
            detail="\n".join(lines[:_MOST_TOLD]),
            hint="squash up to a version before the one that makes this",
        )


def _unequal(what: str, wanted: contents.Contents, found: contents.Contents) -> Iterator[str]:
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            yield f"{what} of {name}"


def _prove_down(stage: Stage, version: str, text: str, nothing: Schema) -> str | None:
    """Run the down script; return why there cannot be one, or None."""
    if not text:
        return "pg_dump gives nothing to drop"
    if error := run(stage, _step(version, Direction.DOWN, text)):
        return f"what it made cannot be dropped ({error.message})"
    left = schema.compare(nothing, schema.read(stage.conn, stage.schema))
    return f"it would leave {left[0].label}" if left else None


# PostgreSQL writes `check (code in ('a', 'b'))` of a varchar one way, and another way after it has
# read that back.
_CAST_OF_ARRAY = re.compile(
    r"\(ARRAY\[((?:'(?:[^']|'')*'::[a-z ]+(?:\(\d+\))?(?:, )?)+)\]\)::([a-z]+)\[\]"
)
_ELEMENT = re.compile(r"'(?:[^']|'')*'::[a-z ]+(?:\(\d+\))?")


def _settled(found: Schema) -> Schema:
    """Return a schema with its definitions as PostgreSQL writes them after reading them back."""
    return tuple(replace(each, definition=read_again(each.definition)) for each in found)


def read_again(definition: str) -> str:
    """Write casts of arrays as casts of their elements, as PostgreSQL does when it reads them.

    >>> read_again("((code)::text = ANY ((ARRAY['a'::character varying, 'b'::text])::text[]))")
    "((code)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::text)::text]))"
    """

    def cast(found: re.Match[str]) -> str:
        elements = (f"({each})::{found[2]}" for each in _ELEMENT.findall(found[1]))
        return f"ARRAY[{', '.join(elements)}]"

    return _CAST_OF_ARRAY.sub(cast, definition)
