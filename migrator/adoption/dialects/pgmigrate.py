"""Read pgmigrate: files that only go up, and a row for each version."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...errors import MigratorError
from .. import texts
from ..dialect import Companions, Dialect, Fields, Piece, Reading, Row, State

_FILE = re.compile(r"V(?P<number>[0-9]+)__(?P<name>.+)\.sql")
_OUTSIDE = "NONTRANSACTIONAL"


def _interpret(rows: Sequence[Fields], _companions: Companions) -> State:
    ordered = sorted(rows, key=lambda row: row["version"])
    manual = [row["version"] for row in ordered if row["type"] == "manual"]
    return State(
        tuple(
            Row(str(row["version"]), row, row["installed_on"], row["installed_by"])
            for row in ordered
            if row["type"] != "manual"
        ),
        below=str(max(manual)) if manual else None,
        notes=(f"it has a baseline at {max(manual)}",) if manual else (),
    )


def _files(directory: Path) -> Reading:
    folder = directory / "migrations"
    problems: list[MigratorError] = []
    pieces = []
    place = folder if folder.is_dir() else directory
    for match, text in texts.matching(place, _FILE, problems):
        outside = _OUTSIDE in match["name"]
        up = texts.outside_transaction(text.text) if outside else text.text
        version = texts.named(match["number"], match["name"])
        pieces.append(Piece(str(int(match["number"])), version, text.path, up))
    pieces.sort(key=lambda piece: int(piece.key))
    return Reading(tuple(pieces), tuple(problems))


DIALECT = Dialect("pgmigrate", "pgmigrate", _interpret, _files)
