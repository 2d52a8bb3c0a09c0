"""Read Knex: migrations in JavaScript, their SQL where it could be printed, and a row for each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...errors import MigratorError
from .. import order, texts
from ..dialect import Companions, Dialect, Fields, Piece, Reading, Row, State

_PROGRAM = re.compile(r".+(?<!\.d)\.(?:js|cjs|mjs|ts)")
_OUTSIDE = re.compile(r"\bconfig\s*=\s*\{\s*transaction\s*:\s*false\b")
_PRINT = (
    """node -e 'console.log(require("{path}").{side}(require("knex")({{client: "pg"}})) + ";")'"""
)


def _interpret(rows: Sequence[Fields], companions: Companions) -> State:
    if any(row["is_locked"] for row in companions["knex_migrations_lock"]):
        return State(
            stop="Knex is running, or was killed", hint="if it was killed, run: knex migrate:unlock"
        )
    ordered = sorted(rows, key=lambda row: row["id"])
    return State(tuple(Row(_key(row["name"]), row, row["migration_time"]) for row in ordered))


def _key(name: str) -> str:
    """Return a name without its extension, which changes with the language that runs it."""
    return Path(name).stem


def _files(directory: Path) -> Reading:
    problems: list[MigratorError] = []
    programs = [path for path in texts.listing(directory) if _PROGRAM.fullmatch(path.name)]
    pieces = []
    for path, version in zip(programs, order.versions([p.stem for p in programs]), strict=True):
        source = texts.read(path, problems)
        place = path if path.is_absolute() else f"./{path}"
        commands = tuple(_PRINT.format(path=place, side=side) for side in ("up", "down"))
        found = texts.printed(path, problems, (commands[0], commands[1]))
        if not source or not found:
            continue
        outside = _OUTSIDE.search(source.text)
        up, down = (each and _script(each.text, outside=bool(outside)) for each in found)
        pieces.append(Piece(path.stem, version, path, up or "", texts.down(down or None)))
    unread = {path.stem for path in programs} - {piece.key for piece in pieces}
    return Reading(tuple(pieces), tuple(problems), unread=frozenset(unread))


def _script(text: str, *, outside: bool) -> str:
    return texts.outside_transaction(text) if outside else text


DIALECT = Dialect("knex", "Knex", _interpret, _files, companions=("knex_migrations_lock",))
