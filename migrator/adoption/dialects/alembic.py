"""Read Alembic: a chain of revisions in Python, their SQL as it prints it, and the newest one."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import DirectoryError, MigrationFileError, MigratorError
from .. import order, texts
from ..dialect import Companions, Dialect, Fields, Piece, Reading, Row, State

# What Alembic does to its own table, which may have another name.
_OWN = re.compile(
    r"^(?:CREATE TABLE \S+ \(\s+version_num [^;]*"
    r"|INSERT INTO \S+ \(version_num\) VALUES [^;]*"
    r"|UPDATE \S+ SET version_num='[^;]*"
    r"|DELETE FROM \S+ WHERE \S+\.version_num = [^;]*"
    r"|DROP TABLE alembic_version);\n*",
    re.MULTILINE,
)
_EMPTY_BLOCK = re.compile(r"^BEGIN;\s+COMMIT;\n*", re.MULTILINE)


def _interpret(rows: Sequence[Fields], _companions: Companions) -> State:
    heads = sorted(row["version_num"] for row in rows)
    if len(heads) > 1:
        return State(
            stop=f"there are several heads: {', '.join(heads)}",
            hint="merge them: alembic merge heads, then: alembic upgrade head",
        )
    return State(tuple(Row(row["version_num"], row) for row in rows))


@dataclass(frozen=True, slots=True)
class _Revision:
    """A revision, and those that come before it: those that it revises are the first."""

    name: str
    revises: tuple[str, ...]
    depends_on: tuple[str, ...]
    path: Path
    is_empty: bool

    @property
    def needs(self) -> tuple[str, ...]:
        """The revisions that are applied before it."""
        return self.revises + self.depends_on


def _files(directory: Path) -> Reading:
    folder = directory / "versions"
    problems: list[MigratorError] = []
    known: dict[str, _Revision] = {}
    for path in texts.listing(folder if folder.is_dir() else directory):
        text = texts.read(path, problems) if path.suffix == ".py" else None
        if text and (revision := _revision(text)):
            if revision.name in known:
                message = f"{known[revision.name].path} and {path} are both {revision.name}"
                problems.append(MigrationFileError(message, hint="delete one of them"))
            known[revision.name] = revision
    _refuse_gaps(known)
    names = order.by_dependency({name: each.needs for name, each in known.items()})
    versions = texts.numbered([known[name].path.stem for name in names])
    before: dict[str, frozenset[str]] = {}
    pieces = []
    for name, version in zip(names, versions, strict=True):
        needs = known[name].needs
        before[name] = frozenset(needs).union(*(before[each] for each in needs))
        if scripts := _scripts(known[name], problems):
            pieces.append(Piece(name, version, known[name].path, *scripts))
    unread = known.keys() - {piece.key for piece in pieces}
    return Reading(tuple(pieces), tuple(problems), unread=frozenset(unread), before=before)


def _refuse_gaps(known: Mapping[str, _Revision]) -> None:
    """Check that the files are one chain, without which no order is certain.

    Raises:
        DirectoryError: A revision has no file, or there are several heads.
    """
    for revision in known.values():
        for name in revision.needs:
            if name not in known:
                raise DirectoryError(
                    f"{revision.path} comes after {name}, which has no file",
                    hint="restore the file from version control",
                )
    heads = sorted(known.keys() - {each for r in known.values() for each in r.needs})
    if len(heads) > 1:
        raise DirectoryError(
            f"the files have several heads: {', '.join(heads)}",
            hint="merge them: alembic merge heads",
        )


def _revision(text: texts.Text) -> _Revision | None:
    """Return what a file of Python says of its revision, which is not run; None if it has none."""
    try:
        tree = ast.parse(text.raw)
    except (SyntaxError, ValueError):
        return None
    values = dict(_assigned(tree))
    name = values.get("revision")
    if not isinstance(name, str):
        return None
    revises, depends_on = (_names(values.get(key)) for key in ("down_revision", "depends_on"))
    return _Revision(name, revises, depends_on, text.path, _is_empty(tree))


def _assigned(tree: ast.Module) -> list[tuple[str, object]]:
    found = []
    for line in tree.body:
        match line:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case _:
                continue
        try:
            found.append((name, ast.literal_eval(value)))
        except ValueError:
            continue
    return found


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(map(str, value)) if isinstance(value, list | tuple | set) else ()


def _is_empty(tree: ast.Module) -> bool:
    """Whether its upgrade does nothing, as that of a merge."""
    functions = [line for line in tree.body if isinstance(line, ast.FunctionDef)]
    bodies = [each.body for each in functions if each.name == "upgrade"]
    return not any(_does_something(line) for body in bodies for line in body)


def _does_something(line: ast.stmt) -> bool:
    is_docstring = isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
    return not (is_docstring or isinstance(line, ast.Pass))


def _scripts(revision: _Revision, problems: list[MigratorError]) -> tuple[str, str | None] | None:
    """Return the printed SQL without what it does to Alembic's table; None if there is none."""
    if len(revision.revises) > 1 and revision.is_empty:
        return f"-- {revision.name} merges {' and '.join(revision.revises)}\n", None
    name, down = revision.name, revision.revises[0] if revision.revises else "base"
    commands = (
        f"alembic upgrade {down}:{name} --sql",
        f"alembic downgrade {name}:{down} --sql",
    )
    found = texts.printed(revision.path, problems, commands)
    if not found:
        return None
    up, undo = (_without_own(each.text) if each else None for each in found)
    return (up or "", texts.down(undo))


def _without_own(text: str) -> str:
    return texts.as_psql_runs(_EMPTY_BLOCK.sub("", _OWN.sub("", text)))


DIALECT = Dialect("alembic", "Alembic", _interpret, _files)
