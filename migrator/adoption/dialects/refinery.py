"""Read refinery: files that only go up, and a row for each version."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...errors import MigratorError
from .. import texts
from ..dialect import Companions, Dialect, Fields, Piece, Reading, Row, State

_FILE = re.compile(r"[VU](?P<number>[0-9]+)__(?P<name>\w+)\.(?P<kind>sql|rs)")


def _interpret(rows: Sequence[Fields], _companions: Companions) -> State:
    ordered = sorted(rows, key=lambda row: row["version"])
    # Its checksums are SipHash of Rust's own structures: they are not compared.
    return State(tuple(Row(str(row["version"]), row, row["applied_on"]) for row in ordered))


def _files(directory: Path) -> Reading:
    problems: list[MigratorError] = []
    pieces = []
    for match, text in texts.matching(directory, _FILE, problems):
        version = texts.named(match["number"], match["name"])
        pieces.append(Piece(str(int(match["number"])), version, text.path, text.text))
    pieces.sort(key=lambda piece: int(piece.key))
    return Reading(tuple(pieces), tuple(problems))


DIALECT = Dialect("refinery", "refinery", _interpret, _files)
