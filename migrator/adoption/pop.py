"""Read Pop, and Ory's form of it: a script for each direction, some for one kind of database."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from ..errors import MigratorError
from . import golang_migrate, texts
from .dialect import Companions, Dialect, Fields, Reading, Row, State

_FILE = re.compile(
    r"(?P<number>[0-9]+)_(?P<name>[^.]+?)(?:\.(?P<kind>[a-z0-9]+?))??(?P<outside>\.autocommit)?"
    r"\.(?P<direction>up|down)\.(?P<language>sql|fizz)"
)
_KINDS = ("postgres", "postgresql", "pg")
_TEMPLATE = re.compile(r"\{\{")


def _interpret(rows: Sequence[Fields], _companions: Companions) -> State:
    known = sorted(str(row["version"]) for row in rows)
    # Ory made longer numbers of its own, and left the rows of the old ones.
    old = {one for one, other in pairwise(known) if other.startswith(one)}
    found = [Row(str(int(row["version"])), row) for row in rows if row["version"] not in old]
    return State(tuple(sorted(found, key=lambda row: int(row.key))))


def _files(directory: Path) -> Reading:
    problems: list[MigratorError] = []
    found: dict[str, dict[str, texts.Text]] = {}
    is_changed = False
    matches = ((_FILE.fullmatch(path.name), path) for path in texts.listing(directory))
    wanted = [(m, path) for m, path in matches if m and m["kind"] in (None, *_KINDS)]
    # A file for PostgreSQL counts instead of one for all databases.
    for match, path in sorted(wanted, key=lambda each: each[0]["kind"] is not None):
        if match["language"] == "fizz":
            problems.append(texts.not_sql(path))
            continue
        text = texts.read(path, problems)
        if not text:
            continue
        if template := _TEMPLATE.search(text.text):
            message = "templates cannot be converted"
            hint = "write the SQL that the template renders to"
            problems.append(texts.problem(text, template.start(), message, hint))
            continue
        if match["outside"]:
            is_changed = True
            text = replace(text, text=texts.outside_transaction(text.text))
        stem = f"{match['number']}_{match['name']}"
        found.setdefault(stem, {})[match["direction"]] = text
    pairs = golang_migrate.reading_of_pairs(found, problems)
    return Reading(pairs.pieces, pairs.problems, is_changed=is_changed)


DIALECT = Dialect("pop", "Pop", _interpret, _files)
