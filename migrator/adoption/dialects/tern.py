"""Read tern: one file for both directions, and a table with the newest version only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...errors import MigratorError
from .. import texts
from ..dialect import Companions, Dialect, Fields, Piece, Reading, State, Table

_FILE = re.compile(r"(?P<number>[0-9]+)_(?P<name>.+)\.sql")
_SPLIT = re.compile(r"----\s*create above / drop below\s*----", re.IGNORECASE)
_OUTSIDE = re.compile(r"----\s*tern:\s*disable-tx\s*----", re.IGNORECASE)
_TEMPLATE = re.compile(r"\{\{")
_LOCK = 9628173550095224  # migrate/migrate.go: lockNum


def _interpret(rows: Sequence[Fields], _companions: Companions) -> State:
    version = max((int(row["version"]) for row in rows), default=0)
    return State(up_to=version) if version > 0 else State()


def _mark(line: str) -> texts.Mark | None:
    if _SPLIT.fullmatch(line.strip()):
        return texts.Mark("down")
    return texts.Mark(no_transaction="section") if _OUTSIDE.fullmatch(line.strip()) else None


def _files(directory: Path) -> Reading:
    problems: list[MigratorError] = []
    pieces = []
    for match, text in texts.matching(directory, _FILE, problems):
        if template := _TEMPLATE.search(text.text):
            message = "Go templates cannot be converted"
            hint = "write the SQL that the template renders to"
            problems.append(texts.problem(text, template.start(), message, hint))
            continue
        if scripts := texts.cut(text, _mark, problems, first="up"):
            version = texts.named(match["number"], match["name"])
            pieces.append(Piece(str(int(match["number"])), version, text.path, *scripts))
    pieces.sort(key=lambda piece: int(piece.key))
    return Reading(tuple(pieces), tuple(problems))


def _locks(_table: Table) -> tuple[int, ...]:
    return (_LOCK,)


DIALECT = Dialect("tern", "tern", interpret=_interpret, files=_files, locks=_locks)
