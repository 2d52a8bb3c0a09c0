"""Read sql-migrate: one file for both directions, and a row for each file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...errors import MigrationFileError, MigratorError
from .. import order, texts
from ..dialect import Companions, Dialect, Fields, Piece, Reading, Row, State

_FILE = re.compile(r"(?P<number>[0-9]*)[_-]?(?P<name>.*)\.sql")
_MARK = re.compile(r"--\s*\+migrate\s+(?P<words>.*)", re.IGNORECASE)
_MARKS = {
    "up": texts.Mark("up"),
    "down": texts.Mark("down"),
    "up notransaction": texts.Mark("up", no_transaction="section"),
    "down notransaction": texts.Mark("down", no_transaction="section"),
    "statementbegin": texts.Mark(),
    "statementend": texts.Mark(ends_statement=True),
}


def _mark(line: str) -> texts.Mark | None:
    match = _MARK.fullmatch(line.rstrip())
    if not match:
        return None
    words = " ".join(match["words"].lower().split())
    return _MARKS.get(words) or texts.Mark(problem=f"unknown command: +migrate {match['words']}")


def _interpret(rows: Sequence[Fields], _companions: Companions) -> State:
    ordered = sorted(rows, key=lambda row: (row["applied_at"] or "", _order(row["id"])))
    return State(tuple(Row(row["id"], row, at=row["applied_at"]) for row in ordered))


def _order(name: str) -> tuple[int, str]:
    digits = re.match(r"[0-9]+", name)
    return (int(digits[0]) if digits else 0, name)


def _files(directory: Path) -> Reading:
    problems: list[MigratorError] = []
    pieces = []
    for match, text in texts.matching(directory, _FILE, problems):
        if not match["number"]:
            message = f"{text.path} has no number at its start"
            problems.append(MigrationFileError(message, hint="its place in the order is unclear"))
        elif scripts := texts.cut(text, _mark, problems):
            version = texts.named(match["number"], match["name"])
            pieces.append(Piece(text.path.name, version, text.path, *scripts))
    pieces.sort(key=lambda piece: _order(piece.key))
    found, notes = order.growing(pieces)
    return Reading(found, tuple(problems), notes=notes)


DIALECT = Dialect("sql-migrate", "sql-migrate", interpret=_interpret, files=_files)
