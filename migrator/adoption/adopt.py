"""Decide what to take over of a tool's files and history."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from ..errors import (
    BlockedError,
    DirectoryError,
    HistoryError,
    MigrationFileError,
    MigratorError,
    MissingError,
    ModifiedError,
    UsageError,
    counted,
)
from ..files import names
from ..files.source import read_source
from ..history import table
from ..model import Migration, is_repeatable
from ..postgres import connection
from ..postgres.cursor import Connection
from ..session import Session
from ..sql import parser
from ..sql.splitter import tokens
from . import locks, pairs
from .dialect import Dialect, Piece, Reading, Row, State, Table


@dataclass(frozen=True, slots=True)
class Adoption:
    """What would be taken over.

    Attributes:
        files: The directory of the tool's files.
        into: The directory of the converted files; that of the tool's if they stay there.
        migrations: All that could be converted, by ascending number.
        applied: Those that the tool has applied, in that order, with its rows; None where it has
            no row for each.
        verified: How many of them have the checksum that the tool recorded.
        left: What could not be converted, with its place.
        notes: What the user should know, as sentences.
    """

    dialect: Dialect
    table: Table
    state: State
    files: Path
    into: Path
    migrations: tuple[Migration, ...]
    applied: tuple[tuple[Migration, Row | None], ...]
    verified: int
    left: tuple[MigratorError, ...]
    notes: tuple[str, ...]

    @property
    def is_in_place(self) -> bool:
        """Whether the tool's files are used where they are."""
        return self.files == self.into

    @property
    def pending(self) -> tuple[Migration, ...]:
        """What is left to apply, by ascending number."""
        known = {migration.version for migration, _ in self.applied}
        return tuple(each for each in self.migrations if each.version not in known)


def read_state(conn: Connection, dialect: Dialect, place: Table) -> State:
    """Read what a tool's table says."""
    companions = {name: _rows(conn, place.schema, name) for name in dialect.companions}
    return dialect.interpret(_rows(conn, place.schema, place.name), companions)


def _rows(conn: Connection, schema: str, name: str) -> list[dict[str, object]]:
    """Return the rows of a table as JSON; none if it does not exist."""
    identifier = sql.Identifier(schema, name)
    text = identifier.as_string(conn)
    exists = sql.SQL("select pg_catalog.to_regclass({})").format(sql.Literal(text))
    if conn.execute(exists).fetchall()[0][0] is None:
        return []
    query = sql.SQL("set local lock_timeout = {}; select pg_catalog.to_jsonb(t) from {} t")
    cursor = conn.execute(query.format(sql.Literal(locks.TIMEOUT), identifier))
    cursor.nextset()
    return [row for (row,) in cursor.fetchall()]


def plan(
    work: Session, dialect: Dialect, place: Table, files: Path, into: Path, *, partial: bool
) -> Adoption:
    """Decide what to take over; write nothing.

    Args:
        partial: Whether to leave out what cannot be converted.

    Raises:
        HistoryError: There is a history already, or the tool's table is in no state to adopt.
        DirectoryError: A directory cannot be used.
        BlockedError: A file is missing, changed or cannot be converted; it holds all of them.
    """
    refuse_history(work)
    with locks.named(work.conn, place), connection.reported(), locks.permitted(place):
        state = read_state(work.conn, dialect, place)
    if state.stop:
        raise HistoryError(f"{dialect.name} in {place}: {state.stop}", hint=state.hint)
    reading = dialect.files(files)
    if not reading.pieces and not reading.problems:
        raise DirectoryError(
            f'there are no files of {dialect.name} in "{files}"',
            hint="name their directory with --files DIR",
        )
    if reading.is_in_place:
        into = files
    elif into.resolve() == files.resolve():
        raise UsageError(
            f'the files in "{files}" have to be converted, into another directory',
            hint=f"name it: migrator adopt {dialect.name} --files {files} --into DIR",
        )
    return _plan(dialect, place, state, reading, files, into, partial=partial)


def _migrations(reading: Reading, into: Path, left: list[MigratorError]) -> dict[str, Migration]:
    """Return the migrations by key; what cannot be converted is added to `left`."""
    found: dict[str, Migration] = {}
    in_place = reading.is_in_place  # looks at all pieces
    for piece in reading.pieces:
        try:
            found[piece.key] = _migration(piece, into, in_place=in_place)
        except MigratorError as error:
            left += error.errors if isinstance(error, BlockedError) else [error]
    return found


def _plan(
    dialect: Dialect,
    place: Table,
    state: State,
    reading: Reading,
    files: Path,
    into: Path,
    *,
    partial: bool,
) -> Adoption:
    left = list(reading.problems)
    migrations = _migrations(reading, into, left)
    versions = ((migrations[p.key].version, p.path) for p in reading.pieces if p.key in migrations)
    problems: list[MigratorError] = []
    pairs.keys_once(reading.pieces, problems)
    pairs.numbers_once(versions, problems)
    matched = list(_pairs(state, reading))
    left += (missing for piece, missing in matched if isinstance(missing, MissingError))
    found = [(p, row) for p, row in matched if p and not isinstance(row, MissingError)]
    problems += filter(None, (_changed(piece, row) for piece, row in found))
    problems += [] if partial else left
    if problems:
        raise BlockedError.of(problems, "found; nothing was written or recorded")
    applied = tuple((migrations[p.key], row) for p, row in found if p.key in migrations)
    if not (applied or state.is_empty):
        raise HistoryError(
            f"{dialect.name} has applied migrations, but none of its files can be taken over",
            hint="to start with what the database has, run: migrator baseline VERSION",
        )
    ordered = tuple(sorted(migrations.values(), key=_order))
    return Adoption(
        dialect=dialect,
        table=place,
        state=state,
        files=files,
        into=into,
        migrations=ordered,
        applied=applied,
        verified=sum(bool(row and row.checksum and piece.checksums) for piece, row in found),
        left=tuple(left),
        notes=(*state.notes, *reading.notes, *_notes(ordered, applied)),
    )


def _order(migration: Migration) -> tuple[bool, int, str]:
    """Return what sorts versions by number, and then repeatable files by name."""
    if migration.is_repeatable:
        return True, 0, migration.version
    return False, migration.number, migration.version


def _migration(piece: Piece, into: Path, *, in_place: bool) -> Migration:
    """Return what a piece becomes.

    Raises:
        MigrationFileError, BlockedError: It is not one of ours.
    """
    suffix = ".sql" if is_repeatable(piece.version) else ".up.sql"
    up_path = piece.path if in_place else into / f"{piece.version}{suffix}"
    if suffix == ".up.sql" and not names.NAME.fullmatch(up_path.name):
        raise MigrationFileError(f"{piece.path} has a name that migrator cannot use")
    up = read_source(up_path, piece.up.encode())
    down = None
    if piece.down is not None:
        down_path = piece.down_path if in_place else into / f"{piece.version}.down.sql"
        assert down_path, "a file that is used where it is has a path"
        down = read_source(down_path, piece.down.encode())
    migration = Migration(piece.version, up, down)
    problems = [
        p for each in (up, down) if each for p in parser.parse(each.path, each.text).problems
    ]
    if problems:
        raise BlockedError.of(problems, "found")
    return migration


def _pairs(
    state: State, reading: Reading
) -> Iterator[tuple[Piece | None, Row | MissingError | None]]:
    """Yield each applied migration: its files with its row, or the error that they are missing."""
    pieces = reading.pieces
    if state.up_to is not None:
        numbers = {int(piece.key) for piece in pieces}
        if state.up_to not in numbers:
            yield None, _missing(str(state.up_to))
        yield from ((piece, None) for piece in pieces if int(piece.key) <= state.up_to)
    known = {piece.key: piece for piece in pieces}
    rows = {row.key for row in state.rows}
    for piece in pieces:
        if state.below and piece.key not in rows and _is_below(piece, state.below):
            yield piece, None
    for row in state.rows:
        earlier = reading.before.get(row.key, ())
        yield from ((piece, None) for piece in (pieces if earlier else ()) if piece.key in earlier)
        found = known.get(row.key)
        if found and is_repeatable(found.version) and _changed(found, row):
            continue  # the next `up` applies it again
        if found:
            yield found, row
        elif row.key not in reading.unread:
            yield None, _missing(row.key)


def _is_below(piece: Piece, version: str) -> bool:
    """Whether a version is not newer than another, by all of its numbers."""
    one, other = (tuple(map(int, re.findall("[0-9]+", v))) for v in (piece.key, version))
    return not is_repeatable(piece.version) and one <= other


def _missing(key: str) -> MissingError:
    return MissingError(
        f"{key} is applied, but its file is missing",
        hint="restore the file from version control; or leave it out: --partial",
        version=key,
    )


def _changed(piece: Piece, row: Row | None) -> ModifiedError | None:
    if not (row and row.checksum and piece.checksums) or row.checksum in piece.checksums:
        return None
    return ModifiedError(
        f"{piece.path} is not the file that was applied: its checksum differs",
        hint=f"find the version that was applied: git log -p -- {piece.path}\n"
        "or, if the file matches the database, accept it in the other tool first",
        version=piece.version,
    )


def _notes(
    ordered: Sequence[Migration], applied: Sequence[tuple[Migration, Row | None]]
) -> Iterator[str]:
    known = {migration.version for migration, _ in applied}
    pairs = [migration for migration in ordered if not migration.is_repeatable]
    newest = max((m.number for m in pairs if m.version in known), default=-1)
    late = [m.version for m in pairs if m.version not in known and m.number < newest]
    if late:
        yield (
            f"not applied, and older than the newest: {', '.join(late)}; "
            "to apply them, run: migrator up --out-of-order"
        )
    if irreversible := sum(migration.down is None for migration in pairs):
        yield f"without a down script, and irreversible: {counted(irreversible, 'migration')}"


def refuse_to_retire(adoption: Adoption) -> None:
    """Check that no script that can still run uses the tool's table.

    Raises:
        HistoryError: One does.
    """
    name = re.compile(rf"\b{re.escape(adoption.table.name)}\b", re.IGNORECASE)
    scripts = [each.up for each in adoption.pending]
    scripts += [each.down for each in adoption.migrations if each.down]
    # Comments are no tokens.
    using = [s for s in scripts if name.search(s.text) and any(map(name.search, tokens(s.text)))]
    if using:
        raise HistoryError(
            f"{adoption.table} is used by {', '.join(each.path.name for each in using)}",
            hint="keep the table: leave out --retire",
        )


def refuse_history(work: Session) -> None:
    """Check that nothing is in the history.

    Raises:
        HistoryError: Something is.
    """
    if not work.history.exists:
        return
    with connection.reported(work.history.schema):
        if table.has_only(work.conn, work.history.schema, set()):
            return
    raise HistoryError(
        f'the schema "{work.history.schema}" already has a history',
        hint="to see it, run: migrator status",
    )
