"""Read Pop, and Ory's form of it: a script for each direction, some for one kind of database."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from ...errors import MigratorError
from .. import pairs, texts
from ..dialect import Companions, Dialect, Fields, Reading, Row, State

_FILE = re.compile(
    r"(?P<number>[0-9]+)_(?P<name>[^.]+?)(?:\.(?P<database>[a-z0-9]+?))??(?P<outside>\.autocommit)?"
    r"\.(?P<direction>up|down)\.(?P<kind>sql|fizz)"
)
_DATABASES = ("postgres", "postgresql", "pg")
_TEMPLATE = re.compile(r"\{\{")


def _interpret(rows: Sequence[Fields], _companions: Companions) -> State:
    known = sorted(str(row["version"]) for row in rows)
    # Ory made longer numbers of its own, and left the rows of the old ones.
    old = {one for one, other in pairwise(known) if other.startswith(one)}
    found = [Row(str(int(row["version"])), row) for row in rows if row["version"] not in old]
    return State(tuple(sorted(found, key=lambda row: int(row.key))))


def _files(directory: Path) -> Reading:
    problems: list[MigratorError] = []
    # A file for PostgreSQL counts instead of one for all databases.
    found: dict[bool, dict[str, dict[str, texts.Text]]] = {False: {}, True: {}}
    is_changed = False
    for match, text in texts.matching(directory, _FILE, problems):
        if match["database"] not in (None, *_DATABASES):
            continue
        if template := _TEMPLATE.search(text.text):
            message = "templates cannot be converted"
            hint = "write the SQL that the template renders to"
            problems.append(texts.problem(text, template.start(), message, hint))
            continue
        script = text
        if match["outside"]:
            is_changed = True
            script = replace(text, text=texts.outside_transaction(text.text))
        stem = f"{match['number']}_{match['name']}"
        pair = found[match["database"] is not None].setdefault(stem, {})
        pairs.put(pair, match["direction"], script, problems)
    stems = found[False].keys() | found[True].keys()
    chosen = {s: found[False].get(s, {}) | found[True].get(s, {}) for s in sorted(stems)}
    reading = pairs.by_number(chosen, problems)
    return Reading(reading.pieces, reading.problems, is_changed=is_changed)


DIALECT = Dialect("pop", "Pop", _interpret, _files)
