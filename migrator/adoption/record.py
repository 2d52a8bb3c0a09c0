"""Record an adoption with its files, and undo it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql

from ..errors import DirectoryError, HistoryError
from ..events import Notify
from ..execution import runner
from ..history import recorder, table
from ..history.recorder import Command
from ..postgres import connection
from ..postgres.cursor import Connection, send
from ..session import Session
from ..sql import parser
from . import locks
from .adopt import Adoption, read_state, refuse_history
from .dialect import Table

_RETIRED = "_retired"
# Most tools would create the table that they miss, and run everything again.  A view of its name,
# whose rows are an error, stops them all.
_RETIRE = """
alter table {old} rename to {new};
create view {old} as select ({said}::text)::int as version
"""
_UNRETIRE = """
drop view if exists {old};
alter table {new} rename to {name}
"""


def carry_out(work: Session, adoption: Adoption, notify: Notify, *, retire: bool) -> str | None:
    """Write the files and record the history, all or nothing.

    Args:
        retire: Whether to rename the tool's table.

    Returns:
        The new name of the tool's table; None if it keeps its own.

    Raises:
        RunnerLockError: The tool is running.
        HistoryError: The tool's table has changed.
        DirectoryError: The files cannot be written.
    """
    written: list[Path] = []
    schema = work.history.schema
    retired = f"{adoption.table.name}{_RETIRED}" if retire else None
    with runner.locked(work, notify):
        refuse_history(work)
        try:
            place = locks.named(work.conn, adoption.table)
            with place, connection.reported(schema), connection.writing(work.conn):
                with locks.permitted(adoption.table):
                    _hold(work.conn, adoption)
                for text, parameters in _commands(schema, adoption, retired):
                    send(work.conn, text, parameters)
                if retired:
                    _retire(work.conn, adoption.table, retired)
                if not adoption.is_in_place:
                    _write(adoption, written)
        except BaseException:
            for path in written:
                path.unlink(missing_ok=True)
            raise
    return retired


def _hold(conn: Connection, adoption: Adoption) -> None:
    """Keep the tool out until the end of the transaction, and check that it has done nothing."""
    place = adoption.table
    locks.take(conn, adoption.dialect, place)
    conn.execute(f"set local lock_timeout = '{locks.TIMEOUT}'".encode())
    name = sql.Identifier(place.schema, place.name)
    conn.execute(sql.SQL("lock table {} in exclusive mode").format(name))
    if read_state(conn, adoption.dialect, place) != adoption.state:
        raise HistoryError(
            f"{place} has changed in the meantime; nothing was recorded",
            hint="stop the other tool, then try again",
        )


def _commands(schema: str, adoption: Adoption, retired: str | None) -> Iterator[Command]:
    write = recorder.recorder(schema)
    source = {
        "tool": adoption.dialect.name,
        "schema": adoption.table.schema,
        "table": adoption.table.name,
        "retired_to": retired,
    }
    for migration, row in adoption.applied:
        script = parser.parse(migration.up.path, migration.up.text)
        done = 0 if script.transactional else len(script.units)
        at, by = (row.at, row.by) if row else (None, None)
        yield write.record_adopted(migration, done, at=at, by=by)
        detail = {**source, "row": row.fields if row else {"version": adoption.state.up_to}}
        yield write.adopt(migration.version, "done", json.dumps(detail))


def _retire(conn: Connection, place: Table, new: str) -> None:
    names = {
        "old": sql.Identifier(place.schema, place.name),
        "new": sql.Identifier(new),
        "said": sql.Literal("the migrations of this database were taken over by migrator"),
    }
    try:
        with locks.permitted(place):
            conn.execute(sql.SQL(_RETIRE).format(**names))
    except psycopg.errors.DuplicateTable as error:
        raise HistoryError(
            f"{place} cannot be renamed: {new} already exists",
            hint="drop that table, rename it, or adopt without --retire",
        ) from error


def _write(adoption: Adoption, written: list[Path]) -> None:
    into = adoption.into
    try:
        if into.is_dir() and any(path.suffix == ".sql" for path in into.iterdir()):
            raise DirectoryError(
                f'the directory "{into}" already has migrations; nothing was written or recorded',
                hint="name another directory for the converted files: --into DIR",
            )
        into.mkdir(parents=True, exist_ok=True)
        sources = (each for m in adoption.migrations for each in (m.up, m.down) if each)
        for source in sources:
            with Path(source.path).open("xb") as file:
                written.append(Path(source.path))
                file.write(source.text.encode())
    except OSError as error:
        message = f"cannot write {error.filename}: {error.strerror}"
        raise DirectoryError(message, hint="check the permissions of the directory") from error


def undo(work: Session, notify: Notify) -> tuple[str, ...]:
    """Forget an adoption, as long as nothing was run since; leave the files.

    Returns:
        The versions that were forgotten.

    Raises:
        HistoryError: There was none, or something was run since.
    """
    schema = work.history.schema
    if not work.history.exists:
        raise _none_to_undo()
    with runner.locked(work, notify):
        with connection.reported(schema):
            rows = table.adopted(work.conn, schema)
        if not rows:
            raise _none_to_undo()
        if rows[-1][1] is None:
            raise HistoryError(
                f"{rows[-1][0]} was run or recorded since the adoption: it cannot be undone",
                hint="to see what was done, run: migrator log",
            )
        write = recorder.recorder(schema)
        with connection.reported(schema), connection.writing(work.conn):
            for version, detail in rows:
                send(work.conn, *write.delete(version))
                send(work.conn, *write.adopt(version, "undone", json.dumps(detail)))
            _restore(work.conn, rows[0][1] or {})
    return tuple(version for version, _ in rows)


def _none_to_undo() -> HistoryError:
    return HistoryError("there is no adoption to undo", hint="to see the log, run: migrator log")


def _restore(conn: Connection, detail: dict[str, str]) -> None:
    if new := detail.get("retired_to"):
        schema, name = detail["schema"], detail["table"]
        names = {
            "old": sql.Identifier(schema, name),
            "new": sql.Identifier(schema, new),
            "name": sql.Identifier(name),
        }
        with locks.permitted(Table(schema, name, conn.info.dbname)):
            conn.execute(sql.SQL(_UNRETIRE).format(**names))
