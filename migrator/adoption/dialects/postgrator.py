"""Read postgrator: a file for each direction, and an MD5 for each version."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import MigratorError
from .. import pairs, texts
from ..dialect import Companions, Dialect, Fields, Reading, Row, State

_FILE = re.compile(
    r"(?P<number>[0-9]+)\.(?P<direction>do|undo)(?:\.(?P<name>.*))?\.(?P<kind>sql|js|mjs|cjs)"
)


def checksums(raw: bytes) -> frozenset[str]:
    """Return the MD5 of a file with each kind of line end, of which the tool may choose one."""
    with_lf = raw.replace(b"\r\n", b"\n")
    variants = (raw, with_lf, with_lf.replace(b"\n", b"\r\n"))
    return frozenset(hashlib.md5(each, usedforsecurity=False).hexdigest() for each in variants)


def _interpret(rows: Sequence[Fields], _companions: Companions) -> State:
    applied = sorted((row for row in rows if row["version"] > 0), key=lambda row: row["version"])
    return State(
        tuple(
            Row(str(row["version"]), row, row["run_at"], checksum=row["md5"] or None)
            for row in applied
        )
    )


def _files(directory: Path) -> Reading:
    problems: list[MigratorError] = []
    found: dict[str, dict[str, texts.Text]] = {}
    sums: dict[Path, frozenset[str]] = {}
    numbers: dict[str, str] = {}
    for match, text in texts.matching(directory, _FILE, problems):
        sums[text.path] = checksums(text.raw)
        is_up = match["direction"] == "do"
        if is_up or match["number"] not in numbers:
            numbers[match["number"]] = match["name"] or ""
        pair = found.setdefault(match["number"], {})
        pairs.put(pair, "up" if is_up else "down", text, problems)
    named = {f"{number}_{numbers[number]}": pair for number, pair in found.items()}
    reading = pairs.by_number(named, problems)
    pieces = tuple(
        replace(
            piece,
            up=texts.as_psql_runs(piece.up),
            down=piece.down and texts.as_psql_runs(piece.down),
            checksums=sums[piece.path],
        )
        for piece in reading.pieces
    )
    return Reading(pieces, reading.problems)


DIALECT = Dialect("postgrator", "postgrator", _interpret, _files)
