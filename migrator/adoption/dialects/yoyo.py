"""Read yoyo: SQL files with their rollbacks, and a row for each name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...errors import MigratorError
from .. import order, texts
from ..dialect import Companions, Dialect, Fields, Piece, Reading, Row, State

_ROLLBACK = ".rollback"
_DEPENDS = re.compile(r"(?m)^--[ \t]*depends[ \t]*:[ \t]*(?P<names>.*)$")
_OUTSIDE = re.compile(
    r"(?m)^--[ \t]*transactional[ \t]*:[ \t]*(?:false|no|0)[ \t]*$", re.IGNORECASE
)


def _interpret(rows: Sequence[Fields], companions: Companions) -> State:
    if any(row["locked"] for row in companions["yoyo_lock"]):
        return State(
            stop="yoyo is running, or was killed", hint="if it was killed, run: yoyo break-lock"
        )
    ordered = sorted(rows, key=lambda row: (row["applied_at_utc"], row["migration_id"]))
    return State(
        tuple(Row(row["migration_id"], row, f"{row['applied_at_utc']}Z") for row in ordered)
    )


def _files(directory: Path) -> Reading:
    problems: list[MigratorError] = []
    found: dict[str, texts.Text] = {}
    for path in texts.listing(directory):
        if path.suffix == ".py" and path.name != "__init__.py":
            problems.append(texts.not_sql(path))
        elif path.suffix == ".sql" and (text := texts.read(path, problems)):
            found[path.stem] = text
    ups = {name: text for name, text in found.items() if not name.endswith(_ROLLBACK)}
    names = order.by_dependency({name: _depends(text.text) for name, text in ups.items()})
    pieces = []
    for name, version in zip(names, order.versions(names), strict=True):
        text, down = ups[name], found.get(f"{name}{_ROLLBACK}")
        up, undo = text.text, texts.down(down.text) if down else None
        if _OUTSIDE.search(up):  # it holds for both
            up, undo = texts.outside_transaction(up), undo and texts.outside_transaction(undo)
        pieces.append(Piece(name, version, text.path, up, undo))
    return Reading(tuple(pieces), tuple(problems))


def _depends(text: str) -> set[str]:
    return {name for match in _DEPENDS.finditer(text) for name in match["names"].split()}


DIALECT = Dialect("yoyo", "yoyo", _interpret, _files, companions=("yoyo_lock",))
