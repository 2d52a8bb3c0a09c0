"""Read goose: one file for both directions, and a row for each version."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...errors import MigratorError
from .. import texts
from ..dialect import Companions, Dialect, Fields, Piece, Reading, Row, State, Table

_FILE = re.compile(r"(?P<number>[0-9]+)_(?P<name>.*)\.(?P<kind>sql|(?<!_test\.)go)")
_MARK = re.compile(r"\s*--\s*\+goose\s+(?P<words>.*)", re.IGNORECASE)
_MARKS = {
    "up": texts.Mark("up"),
    "down": texts.Mark("down"),
    "statementbegin": texts.Mark(),
    "statementend": texts.Mark(ends_statement=True),
    "no transaction": texts.Mark(no_transaction="file"),
    "envsub on": texts.Mark(problem="ENVSUB puts variables into the text, which migrator does not"),
    "envsub off": texts.Mark(),
}
_LOCK = 4097083626  # crc32 of "goose"; lock/postgres.go


def _mark(line: str) -> texts.Mark | None:
    match = _MARK.fullmatch(line.rstrip())
    if not match:
        return None
    words = " ".join(match["words"].lower().split())
    return _MARKS.get(words) or texts.Mark(problem=f"unknown directive: +goose {match['words']}")


def _interpret(rows: Sequence[Fields], companions: Companions) -> State:
    if any(row["locked"] for row in companions["goose_lock"]):
        return State(
            stop="goose is running, or was killed: goose_lock has a lock",
            hint="if it was killed, run: update goose_lock set locked = false",
        )
    newest = {row["version_id"]: row for row in sorted(rows, key=lambda row: row["id"])}
    applied = [row for row in newest.values() if row["is_applied"] and row["version_id"] > 0]
    applied.sort(key=lambda row: row["id"])
    return State(tuple(Row(str(row["version_id"]), row, at=row["tstamp"]) for row in applied))


def _files(directory: Path) -> Reading:
    problems: list[MigratorError] = []
    pieces = []
    for match, text in texts.matching(directory, _FILE, problems):
        if scripts := texts.cut(text, _mark, problems):
            version = texts.named(match["number"], match["name"])
            pieces.append(Piece(str(int(match["number"])), version, text.path, *scripts))
    pieces.sort(key=lambda piece: int(piece.key))
    return Reading(tuple(pieces), tuple(problems))


def _locks(_table: Table) -> tuple[int, ...]:
    return (_LOCK,)


DIALECT = Dialect("goose", "goose", _interpret, _files, locks=_locks, companions=("goose_lock",))
