"""Read Prisma: a folder with one SQL file for each migration, and its SHA-256."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from ...errors import MigratorError
from .. import order, texts
from ..dialect import Companions, Dialect, Fields, Piece, Reading, Row, State, Table

_FOLDER = re.compile(r"(?P<number>[0-9]+)_(?P<name>.*)")
_LOCK = 72707369


def _interpret(rows: Sequence[Fields], _companions: Companions) -> State:
    ordered = sorted(rows, key=lambda row: (row["started_at"], row["migration_name"]))
    for row in ordered:
        if not row["finished_at"] and not row["rolled_back_at"]:
            name = row["migration_name"]
            return State(
                stop=f"{name} failed, or is running",
                hint=f"resolve it: prisma migrate resolve --applied {name}, or --rolled-back",
            )
    return State(
        tuple(
            Row(row["migration_name"], row, row["finished_at"], checksum=row["checksum"])
            for row in ordered
            if row["finished_at"] and not row["rolled_back_at"]
        )
    )


def _files(directory: Path) -> Reading:
    problems: list[MigratorError] = []
    pieces = []
    for path in texts.listing(directory, deep=True):
        is_direct = path.parent.parent == directory
        match = _FOLDER.fullmatch(path.parent.name) if is_direct else None
        text = texts.read(path, problems) if path.name == "migration.sql" else None
        if not match or not text:
            continue
        beside = path.with_name("down.sql")
        down = texts.read(beside, problems) if beside.is_file() else None
        with_lf = text.raw.replace(b"\r\n", b"\n")
        sums = frozenset(hashlib.sha256(each).hexdigest() for each in (text.raw, with_lf))
        version = texts.named(match["number"], match["name"])
        undo = texts.down(texts.as_psql_runs(down.text)) if down else None
        up = texts.as_psql_runs(text.text)
        pieces.append(Piece(path.parent.name, version, path, up, undo, checksums=sums))
    found, notes = order.growing(sorted(pieces, key=lambda piece: piece.key))
    return Reading(found, tuple(problems), notes=notes)


def _locks(_table: Table) -> tuple[int, ...]:
    return (_LOCK,)


DIALECT = Dialect("prisma", "Prisma", _interpret, _files, locks=_locks)
