"""Read yoyo: SQL files with their rollbacks, and a row for each name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from ..errors import DirectoryError, MigratorError
from . import texts
from .dialect import Companions, Dialect, Fields, Piece, Reading, Row, State

_ROLLBACK = ".rollback"
_DEPENDS = re.compile(r"(?m)^--[ \t]*depends[ \t]*:[ \t]*(?P<names>.*)$")
_OUTSIDE = re.compile(
    r"(?m)^--[ \t]*transactional[ \t]*:[ \t]*(?:false|no|0)[ \t]*$", re.IGNORECASE
)


def _interpret(rows: Sequence[Fields], companions: Companions) -> State:
    if any(row["locked"] for row in companions["yoyo_lock"]):
        return State(stop="yoyo is running, or was killed", hint="if it was: yoyo break-lock")
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
    names = _ordered(ups, directory)
    pieces = []
    for name, version in zip(names, _versions(names), strict=True):
        text, down = ups[name], found.get(f"{name}{_ROLLBACK}")
        up, undo = text.text, texts.down(down.text) if down else None
        if _OUTSIDE.search(up):  # it holds for both
            up, undo = texts.outside_transaction(up), undo and texts.outside_transaction(undo)
        pieces.append(Piece(name, version, text.path, up, undo))
    return Reading(tuple(pieces), tuple(problems))


def _ordered(ups: Mapping[str, texts.Text], directory: Path) -> list[str]:
    """Return the names in an order that keeps to the dependencies, else by name."""
    needs = {name: _depends(text.text) & ups.keys() for name, text in sorted(ups.items())}
    sorter = TopologicalSorter(needs)
    try:
        sorter.prepare()
    except CycleError as error:
        raise DirectoryError(f'the migrations in "{directory}" depend on each other') from error
    names: list[str] = []
    ready: list[str] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()])
        name = ready.pop(0)
        names.append(name)
        sorter.done(name)
    return names


def _depends(text: str) -> set[str]:
    return {name for match in _DEPENDS.finditer(text) for name in match["names"].split()}


def _versions(names: Sequence[str]) -> list[str]:
    """Return versions: the numbers of the names, if they grow in this order; else new ones."""
    parts = [re.match(r"(?P<number>[0-9]+)[_.-]?(?P<name>.*)", name) for name in names]
    numbers = [int(part["number"]) for part in parts if part]
    if len(numbers) == len(names) and numbers == sorted(set(numbers)):
        return [texts.named(part["number"], part["name"]) for part in parts if part]
    return texts.numbered(names)


DIALECT = Dialect("yoyo", "yoyo", _interpret, _files, companions=("yoyo_lock",))
