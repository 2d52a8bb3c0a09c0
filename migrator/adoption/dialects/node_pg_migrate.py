"""Read node-pg-migrate: SQL files for both directions, and a row for each name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...errors import MigrationFileError, MigratorError
from .. import order, pairs, texts
from ..dialect import Companions, Dialect, Fields, Piece, Reading, Row, State, Table

_FILE = re.compile(
    r"(?P<stem>[0-9]+[_-].+?)(?:\.(?P<direction>up|down)(?=\.sql))?\.(?P<kind>sql|js|cjs|mjs|ts)"
)
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
    found: dict[str, dict[str, texts.Text]] = {}
    for match, text in texts.matching(directory, _FILE, problems):
        pair = found.setdefault(match["stem"], {})
        pairs.put(pair, match["direction"] or "both", text, problems)
        if "both" in pair and len(pair) > 1:
            problems.append(pairs.twins(*(each.path for each in pair.values())))
    pieces = [p for name, pair in found.items() if (p := _piece(name, pair, problems))]
    pieces.sort(key=lambda piece: (int(piece.version.partition("_")[0]), piece.key))
    ordered, notes = order.growing(pieces)
    is_changed = any("both" in pair for pair in found.values())
    return Reading(ordered, tuple(problems), is_changed=is_changed, notes=notes)


def _piece(
    name: str, pair: Mapping[str, texts.Text], problems: list[MigratorError]
) -> Piece | None:
    number, rest = re.split("[_-]", name, maxsplit=1)
    version = texts.named(number, rest)
    if text := pair.get("both"):
        # Without marks, the file goes up.
        first = None if any(map(_mark, text.text.splitlines())) else "up"
        scripts = texts.cut(text, _mark, problems, first=first)
        return Piece(name, version, text.path, *scripts) if scripts else None
    up, down = pair.get("up"), pair.get("down")
    if not up:
        problems += [MigrationFileError(f"{each.path} has no up file") for each in pair.values()]
        return None
    undo = texts.down(down.text) if down else None
    return Piece(name, version, up.path, up.text, undo, down.path if undo and down else None)


def _locks(_table: Table) -> tuple[int, ...]:
    return (_LOCK,)


DIALECT = Dialect("node-pg-migrate", "node-pg-migrate", _interpret, _files, locks=_locks)
