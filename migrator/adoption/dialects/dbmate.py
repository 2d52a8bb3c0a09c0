"""Read dbmate: one file for both directions, and a row for each version."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...errors import MigratorError
from .. import order, texts
from ..dialect import Companions, Dialect, Fields, Piece, Reading, Row, State, Table

_FILE = re.compile(r"(?P<number>[0-9]+)_?(?P<name>.*)\.sql")
_MARK = re.compile(r"--\s*migrate:(?P<section>up|down)(?P<options>\s.*)?", re.DOTALL)
_LOCK = 48372615  # taken with --migration-lock
_NO_TRANSACTION = re.compile(r"\btransaction:\s*false\b")


def _mark(line: str) -> texts.Mark | None:
    match = _MARK.fullmatch(line.rstrip("\r\n"))
    if not match:
        return None
    outside = _NO_TRANSACTION.search(match["options"] or "")
    return texts.Mark(match["section"], no_transaction="section" if outside else None)


def interpret(rows: Sequence[Fields], _companions: Companions) -> State:
    """Return the versions of a table whose only column has their digits."""
    known = [row for row in rows if re.match(r"[0-9]+", str(row["version"]))]
    known.sort(key=lambda row: str(row["version"]))
    return State(tuple(Row(str(_number(row["version"])), row) for row in known))


def _number(version: object) -> int:
    digits = re.match(r"[0-9]+", str(version))
    assert digits, "it was checked"
    return int(digits[0])


def _files(directory: Path) -> Reading:
    problems: list[MigratorError] = []
    pieces = []
    for match, text in texts.matching(directory, _FILE, problems):
        if scripts := texts.cut(text, _mark, problems):
            version = texts.named(match["number"], match["name"])
            pieces.append(Piece(str(int(match["number"])), version, text.path, *scripts))
    found, notes = order.growing(pieces)
    return Reading(found, tuple(problems), notes=notes)


def _locks(_table: Table) -> tuple[int, ...]:
    return (_LOCK,)


DIALECT = Dialect("dbmate", "dbmate or Rails", interpret, _files, locks=_locks)
