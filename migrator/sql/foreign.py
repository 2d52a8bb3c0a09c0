"""Recognise files in the formats of other tools, which hold both directions of a migration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from ..errors import MigrationFileError
from . import splitter
from .location import locate
from .script import Statement

_END = r"[ \t]*+(?=[\r\n]|\Z)"  # of a line
# The comment that begins a section, without its dashes, by the name of the tool.  The group is
# the direction.
_TOOLS = {
    "dbmate": rf"migrate:(up|down)(?:[ \t]+\w+:\w+)*+{_END}",
    "goose": rf"\+goose[ \t]+(up|down){_END}",
    "sql-migrate": rf"\+migrate[ \t]+(up|down)(?:[ \t]+notransaction)?+{_END}",
    "micrate": rf"\+micrate[ \t]+(up|down){_END}",
    "rambler": rf"rambler[ \t]+(up|down){_END}",
    "node-pg-migrate": rf"(up|down)[ \t]+migration{_END}",
    "shmig": rf"=+[ \t]*(up|down)[ \t]*=+{_END}",
    "Play": rf"!(up|down)s{_END}",
    "tern": rf"create above / (drop) below[ \t]*-*+{_END}",
    "MyBatis": rf"(?://)?+[ \t]*+@(undo){_END}",
    # The mark is the word alone, so it counts only if the file begins with that of the up script.
    "another tool": rf"(?:[@+:#]|\+duck)?+(up|down)[ \t]*+:?{_END}",
}
_MARK = re.compile(rf"--[ \t-]*+(?:{'|'.join(_TOOLS.values())})", re.IGNORECASE)
_OUTSIDE_TRANSACTION = re.compile(r"transaction:false|notransaction|no transaction", re.IGNORECASE)
_GRAPHILE = re.compile(r"--![ \t]*(?:Previous|Hash):")
_CHANGESET = re.compile(r"--[ \t]*(?:liquibase formatted sql|changeset[ \t]+\S+:\S)", re.IGNORECASE)
_NO_TRANSACTION = "-- migrator: no-transaction"
_ROLLBACK = re.compile(
    r"(?:--[ \t]*|/\*\s*liquibase[ \t]+)rollback\b(?![ \t]+(?:empty|not required))", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Section:
    """The part of a file that belongs to one direction."""

    tool: str
    offset: int
    end: int
    is_down: bool


def problems(
    path: PurePath, source: str, statements: Sequence[Statement]
) -> Iterator[MigrationFileError]:
    """Yield the error of a file in another tool's format.

    A file with the marks of such a tool that holds only its own direction is not refused.
    """
    if not may_be_foreign(source):
        return
    is_down_file = ".down.sql" in path.name
    for section in _sections(source, statements):
        if section.is_down != is_down_file and _has_statement(section, statements):
            yield _both_directions(path, source, section)
            return
    if (at := _comment(_GRAPHILE, source, statements)) is not None:
        message = "the header of graphile-migrate has no effect here"
        hint = "remove the lines that begin with --!; for --! no-transaction, begin the file with: "
        location = locate(source, at, path)
        yield MigrationFileError(message, location=location, hint=f"{hint}{_NO_TRANSACTION}")
    elif (
        _comment(_CHANGESET, source, statements) is not None
        and (at := _comment(_ROLLBACK, source, statements)) is not None
    ):
        message = "the file holds both directions, in the format of Liquibase"
        hint = f"move the SQL of the rollback comments to {_named(path, 'down')}"
        yield MigrationFileError(message, location=locate(source, at, path), hint=hint)


def may_be_foreign(source: str) -> bool:
    """Whether a file may be refused here, by a fast search for the marks."""
    return "--" in source and any(p.search(source) for p in (_MARK, _GRAPHILE, _CHANGESET))


def _both_directions(path: PurePath, source: str, section: _Section) -> MigrationFileError:
    if section.is_down:
        hint = f"move the down script, which begins here, to {_named(path, 'down')}"
    else:
        hint = "remove the up script, which begins here, from the down file"
    if _OUTSIDE_TRANSACTION.search(source):
        hint += f"\nto run it outside a transaction, begin the file with: {_NO_TRANSACTION}"
    return MigrationFileError(
        f"the file holds both directions, in the format of {section.tool}; both would run",
        location=locate(source, section.offset, path),
        hint=hint,
    )


def _named(path: PurePath, direction: str) -> str:
    name = path.name.partition(" ")[0]
    return f"{name.removesuffix('.up.sql').removesuffix('.down.sql')}.{direction}.sql"


def _sections(source: str, statements: Sequence[Statement]) -> Iterator[_Section]:
    found = _MARK.finditer(source)
    marks = [m for m in found if _is_comment(m, source, statements) and _is_first(m, source)]
    if marks and not _is_header(marks[0], statements):
        marks = [mark for mark in marks if mark.lastindex != len(_TOOLS)]
    ends = [*(mark.start() for mark in marks), len(source)][1:]
    for mark, end in zip(marks, ends, strict=True):
        number = next(n for n, word in enumerate(mark.groups()) if word)
        tool, is_down = list(_TOOLS)[number], mark[number + 1].lower() != "up"
        if mark is marks[0] and is_down:
            yield _Section(tool, 0, mark.start(), is_down=False)
        yield _Section(tool, mark.start(), end, is_down)


def _is_header(mark: re.Match[str], statements: Sequence[Statement]) -> bool:
    """Whether a mark begins the up script above all statements."""
    is_up = mark[mark.lastindex or 0].lower() == "up"
    return is_up and not any(each.offset < mark.start() for each in statements)


def _is_first(mark: re.Match[str], source: str) -> bool:
    """Whether a mark begins its line."""
    return not source[source.rfind("\n", 0, mark.start()) + 1 : mark.start()].strip()


def _has_statement(section: _Section, statements: Sequence[Statement]) -> bool:
    return any(s.offset < section.end and s.end > section.offset for s in statements)


def _comment(pattern: re.Pattern[str], source: str, statements: Sequence[Statement]) -> int | None:
    """Return the offset of the first match that is a comment; None if there is none."""
    found = pattern.finditer(source)
    return next((m.start() for m in found if _is_comment(m, source, statements)), None)


def _is_comment(mark: re.Match[str], source: str, statements: Sequence[Statement]) -> bool:
    """Whether a mark is a comment, and neither in a literal, a routine nor COPY data."""
    at, start, end = mark.start(), 0, len(source)
    for statement in statements:
        if at < statement.offset:
            end = statement.offset
            break
        if at < statement.end:
            if not {"function", "procedure"}.isdisjoint(statement.words[:4]):
                return False
            start, end = statement.offset, statement.end
            break
        start = statement.data[1] if statement.data else statement.end
        if at < start:
            return False
    return any(offset == at for offset, _, _ in splitter.comments(source, start, end))
