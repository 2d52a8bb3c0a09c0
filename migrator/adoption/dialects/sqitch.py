"""Read sqitch: a plan with the order, a script for each direction, and a SHA-1 for each change."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import DirectoryError, MigrationFileError, MigratorError
from .. import texts
from ..dialect import Companions, Dialect, Fields, Piece, Reading, Row, State, Table

_LOCK = 75474063  # App::Sqitch::Engine::pg
_LINE = re.compile(r"\s*(?P<sign>[+-])?\s*(?P<tag>@)?(?P<name>[^\s#\[%@][^\s]*)")


def _interpret(rows: Sequence[Fields], _companions: Companions) -> State:
    projects = sorted({row["project"] for row in rows})
    if len(projects) > 1:
        return State(
            stop=f"several projects are deployed: {', '.join(projects)}",
            hint="bring their files into pairs, and run: migrator baseline VERSION",
        )
    seen: Counter[str] = Counter()
    found = []
    for row in sorted(rows, key=lambda row: row["committed_at"]):
        seen[row["change"]] += 1
        key = f"{row['change']}#{seen[row['change']]}"
        by = f"{row.get('committer_name')} <{row.get('committer_email')}>"
        found.append(Row(key, row, row["committed_at"], by, row["script_hash"]))
    return State(tuple(found))


@dataclass(slots=True)
class _Change:
    name: str
    instance: int
    suffix: str = ""
    is_reworked: bool = False


def changes(plan: str) -> list[_Change]:
    r"""Return the changes of a plan; one that is reworked later has the tag before that.

    >>> [(c.name, c.suffix) for c in changes("%project=x\n\na 2026\n@v1 2026\na [a@v1] 2026\n")]
    [('a', '@v1'), ('a', '')]
    """
    found: list[_Change] = []
    untagged: list[_Change] = []
    latest: dict[str, _Change] = {}
    tags: dict[int, str] = {}
    for line in plan.splitlines():
        match = _LINE.match(line)
        if not match or line.lstrip().startswith(("%", "#")):
            continue
        if match["tag"]:
            tags |= {id(each): f"@{match['name']}" for each in untagged}
            untagged.clear()
            continue
        before = latest.get(match["name"])
        if before:
            before.suffix, before.is_reworked = tags.get(id(before), ""), True
        change = _Change(match["name"], before.instance + 1 if before else 1)
        latest[change.name] = change
        found.append(change)
        untagged.append(change)
    return found


def _files(directory: Path) -> Reading:
    plan = directory / "sqitch.plan"
    if not plan.is_file():
        raise DirectoryError(
            f'there is no sqitch.plan in "{directory}"',
            hint="name the directory that has sqitch.plan, deploy/ and revert/ with --files DIR",
        )
    problems: list[MigratorError] = []
    text = texts.read(plan, problems)
    ordered = changes(text.text) if text else []
    for change in ordered:
        if change.is_reworked and not change.suffix:
            message = f"{plan} has {change.name} twice without a tag in between"
            problems.append(MigrationFileError(message, hint="add a tag between them"))
    versions = texts.numbered([f"{each.name}{each.suffix}" for each in ordered])
    pieces = []
    for change, version in zip(ordered, versions, strict=True):
        name = f"{change.name}{change.suffix}.sql"
        deploy, revert = directory / "deploy" / name, directory / "revert" / name
        up = texts.read(deploy, problems)
        down = texts.read(revert, problems) if revert.is_file() else None
        if up:
            sums = frozenset([hashlib.sha1(up.raw, usedforsecurity=False).hexdigest()])
            undo = texts.down(texts.as_psql_runs(down.text)) if down else None
            key = f"{change.name}#{change.instance}"
            pieces.append(
                Piece(key, version, deploy, texts.as_psql_runs(up.text), undo, checksums=sums)
            )
    return Reading(tuple(pieces), tuple(problems))


def _locks(_table: Table) -> tuple[int, ...]:
    return (_LOCK,)


DIALECT = Dialect("sqitch", "sqitch", _interpret, _files, locks=_locks)
