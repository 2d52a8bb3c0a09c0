"""Read Liquibase: changesets in SQL files, and a row for each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ...errors import MigrationFileError, MigratorError
from .. import order, texts
from ..dialect import Companions, Dialect, Fields, Piece, Reading, Row, State
from . import changelog

_HEADER = re.compile(r"\s*--\s*liquibase\s+formatted\s+sql\b(?P<options>.*)", re.IGNORECASE)
_CHANGESET = re.compile(
    r"\s*--\s*changeset\s+(?P<author>\"[^\"]+\"|[^\s:]+):(?P<id>\"[^\"]+\"|\S+)(?P<options>.*)",
    re.IGNORECASE,
)
_OPTION = re.compile(r"(?P<name>\w+):(?P<value>\"[^\"]*\"|\S+)")
_ROLLBACK = re.compile(r"\s*--\s*rollback\b ?(?P<sql>.*)", re.IGNORECASE | re.DOTALL)
_BLOCK = re.compile(r"\s*/\*\s*liquibase\s+rollback\s*", re.IGNORECASE)
_NO_ROLLBACK = re.compile(r"\s*(?:empty|not\s+required)\s*;?\s*", re.IGNORECASE)
_REFERENCE = re.compile(r"\s*changesetid\s*:", re.IGNORECASE)
_DIRECTIVE = re.compile(r"\s*--\s*(?P<name>precondition|property|ignoreLines)", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\$\{[\w.:-]+\}")
_HARMLESS = {"splitstatements", "stripcomments", "logicalfilepath", "validchecksum", "dbms"}
_READ = {"runintransaction", "runonchange"}
_DEFAULTS = {"enddelimiter": ";", "failonerror": "true", "runalways": "false"}


def _interpret(rows: Sequence[Fields], companions: Companions) -> State:
    if any(row["locked"] for row in companions["databasechangeloglock"]):
        return State(
            stop="Liquibase is running, or was killed",
            hint="if it was killed, run: liquibase release-locks",
        )
    ordered = sorted(rows, key=lambda row: row["orderexecuted"])
    if failed := [row for row in ordered if row["exectype"] == "FAILED"]:
        return State(
            stop=f"changeset {failed[0]['id']} of {failed[0]['filename']} failed",
            hint="clean up what it left, then run: liquibase update",
        )
    marked = [row["id"] for row in ordered if row["exectype"] == "MARK_RAN"]
    note = f"marked as applied without being run: {', '.join(marked)}"
    return State(
        tuple(
            Row(_key(row["id"], row["author"], row["filename"]), row, row["dateexecuted"])
            for row in ordered
            if row["exectype"] in ("EXECUTED", "RERAN", "MARK_RAN")
        ),
        notes=(note,) if marked else (),
    )


def _key(name: str, author: str, filename: str) -> str:
    """Return what a changeset is known by; its path depends on where Liquibase is called."""
    return f"{PurePosixPath(filename).name}::{name}::{author}"


@dataclass(slots=True)
class _Changeset:
    """A changeset, and its two scripts by line."""

    text: texts.Text
    offset: int
    author: str
    name: str
    filename: str
    options: Mapping[str, str]
    up: list[str] = field(default_factory=list)
    down: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """What identifies the row of the changeset."""
        return _key(self.name, self.author, self.filename)

    @property
    def is_for_postgres(self) -> bool:
        """Whether Liquibase runs it on PostgreSQL."""
        names = self.options.get("dbms", "postgresql").lower().replace(" ", "").split(",")
        return "postgresql" in names or "all" in names or any(n[:1] == "!" for n in names)

    def problems(self) -> Iterator[str]:
        """Yield what cannot be converted."""
        for name, value in self.options.items():
            if name in ("context", "contexts", "contextfilter", "labels"):
                yield f"{name} chooses which changesets run, which migrator does not"
            elif name not in _HARMLESS | _READ and value.lower() != _DEFAULTS.get(name):
                yield f"{name}:{value} cannot be converted"
        if placeholder := _PLACEHOLDER.search("".join([*self.up, *self.down])):
            yield f"the placeholder {placeholder[0]} cannot be converted"
        if any(map(_REFERENCE.match, self.down)):
            yield "the rollback names another changeset"

    def script(self, lines: Iterable[str]) -> str:
        """Return lines as a script, outside a transaction if the changeset is."""
        text = "".join(lines)
        outside = self.options.get("runintransaction", "").lower() == "false"
        return texts.outside_transaction(text) if outside and text else text


def _options(text: str) -> dict[str, str]:
    return {m["name"].lower(): m["value"].strip('"') for m in _OPTION.finditer(text)}


def _changesets(text: texts.Text, problems: list[MigratorError]) -> list[_Changeset]:
    """Return the changesets of a file in their order; none if it is not in that format."""
    header, *lines = texts.lines(text.text) or [""]
    match = _HEADER.match(header)
    if not match:
        message = "the file does not begin with: -- liquibase formatted sql"
        problems.append(texts.problem(text, 0, message))
        return []
    path = _options(match["options"]).get("logicalfilepath", text.path.name)
    found: list[_Changeset] = []
    offset, in_block = len(header), False
    for line in lines:
        if match := _CHANGESET.match(line):
            author, name = match["author"].strip('"'), match["id"].strip('"')
            options = _options(match["options"])
            filename = options.get("logicalfilepath", path)
            found.append(_Changeset(text, offset, author, name, filename, options))
        elif directive := _DIRECTIVE.match(line):
            message = f"{directive['name']} cannot be converted"
            hint = "write a precondition as: -- migrator: require QUERY"
            problems.append(texts.problem(text, offset, message, hint))
        elif found:
            in_block = _add(found[-1], line, in_block=in_block)
        offset += len(line)
    return found


def _add(changeset: _Changeset, line: str, *, in_block: bool) -> bool:
    """Add a line to one of the scripts; return whether a block of a rollback goes on."""
    if in_block:
        before, end, _ = line.partition("*/")
        changeset.down += [before] if before.strip() else []
        return not end
    if block := _BLOCK.match(line):
        return _add(changeset, line[block.end() :], in_block=True)
    if not (rollback := _ROLLBACK.match(line)):
        changeset.up.append(line)
    elif not _NO_ROLLBACK.fullmatch(rollback["sql"]):
        changeset.down.append(rollback["sql"])
    return False


def _files(directory: Path) -> Reading:
    problems: list[MigratorError] = []
    found: dict[str, _Changeset] = {}
    counts: dict[Path, int] = {}
    paths, notes = changelog.ordered(directory, problems)
    for path in paths:
        text = texts.read(path, problems)
        changesets = _changesets(text, problems) if text else []
        counts[path] = len(changesets)
        for each in changesets:
            if each.key in found:
                message = f"{found[each.key].text.path} and {path} both have {each.key}"
                problems.append(MigrationFileError(message))
            found[each.key] = each
    others = [each.key for each in found.values() if not each.is_for_postgres]
    if others:
        notes.append(f"for other databases, and left out: {', '.join(others)}")
    ours = [each for each in found.values() if each.is_for_postgres]
    good = [each for each in ours if _is_convertible(each, problems)]
    pieces = _pieces(good, counts)
    unread = found.keys() - {piece.key for piece in pieces}
    return Reading(tuple(pieces), tuple(problems), notes=tuple(notes), unread=frozenset(unread))


def _is_convertible(changeset: _Changeset, problems: list[MigratorError]) -> bool:
    messages = list(changeset.problems())
    problems += (texts.problem(changeset.text, changeset.offset, each) for each in messages)
    return not messages


def _pieces(changesets: Sequence[_Changeset], counts: Mapping[Path, int]) -> list[Piece]:
    """Return changesets by number: that of the file, if it has one of each; repeatables last."""
    once = [each for each in changesets if not _is_repeatable(each)]
    versions = order.versions([_name(each, counts) for each in once])
    pieces = [
        Piece(c.key, version, c.text.path, c.script(c.up), texts.down(c.script(c.down)))
        for c, version in zip(once, versions, strict=True)
    ]
    again = [(each, texts.named("0", _name(each, counts))[2:]) for each in changesets]
    return pieces + [
        Piece(c.key, f"R__{name}", c.text.path, c.script(c.up))
        for c, name in again
        if _is_repeatable(c)
    ]


def _is_repeatable(changeset: _Changeset) -> bool:
    return changeset.options.get("runonchange", "").lower() == "true"


def _name(changeset: _Changeset, counts: Mapping[Path, int]) -> str:
    path = changeset.text.path
    return path.stem if counts[path] == 1 else f"{path.stem}_{changeset.name}"


DIALECT = Dialect(
    "liquibase", "Liquibase", _interpret, _files, companions=("databasechangeloglock",)
)
