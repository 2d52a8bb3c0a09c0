"""Read node-pg-migrate: SQL files for both directions, and a row for each name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import MigratorError
from . import order, texts
from .dialect import Companions, Dialect, Fields, Piece, Reading, Row, State, Table

_FILE = re.compile(r"(?P<number>[0-9]+)[_-](?P<name>.+)\.(?P<kind>sql|js|cjs|mjs|ts)")
_MARK = re.compile(r"\s*--[\s-]*(?P<section>up|down)\s+migration.*", re.IGNORECASE)
_LOCK = 7241865325823964  # runner.ts: PG_MIGRATE_LOCK_ID


def _mark(line: str) -> texts.Mark | None:
    match = _MARK.fullmatch(line.rstrip())
    return texts.Mark(match["section"].lower()) if match else None


def _interpret(rows: Sequence[Fields], _companions: Companions) -> State:
    ordered = sorted(rows, key=lambda row: (row["run_on"], row["id"]))
    return State(tuple(Row(row["name"], row, row["run_on"]) for row in ordered))


def _files(directory: Path) -> Reading:
    problems: list[MigratorError] = []
    pieces = []
    for path in texts.listing(directory):
        match = _FILE.fullmatch(path.name)
        if not match:
            continue
        if match["kind"] != "sql":
            problems.append(texts.not_sql(path))
            continue
        text = texts.read(path, problems)
        # Without marks, the file goes up.
        first = None if text and any(map(_mark, text.text.splitlines())) else "up"
        if text and (scripts := texts.cut(text, _mark, problems, first=first)):
            version = texts.named(match["number"], match["name"])
            pieces.append(Piece(path.stem, version, path, *scripts))
    pieces.sort(key=lambda piece: int(piece.version.partition("_")[0]))
    found, notes = order.growing(pieces)
    return Reading(found, tuple(problems), notes=notes)


def _locks(_table: Table) -> tuple[int, ...]:
    return (_LOCK,)


DIALECT = Dialect("node-pg-migrate", "node-pg-migrate", _interpret, _files, locks=_locks)
