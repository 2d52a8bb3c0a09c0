"""Read the `-- migrator:` comments of a script."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import PurePath

from ..errors import MigrationFileError
from . import backfill, conditions, splitter
from .backfill import BATCHED
from .classify import controls_transaction
from .conditions import ENSURE, REQUIRE, Query
from .location import locate
from .script import Allowance, Backfill, Options, Statement, milliseconds

REPLACES = "replaces"
_FILE_OPTIONS = (
    "no-transaction",
    "lock-timeout",
    "statement-timeout",
    "batch-time",
    "role",
    REPLACES,
)
_DURATIONS = {"lock-timeout": "2s", "statement-timeout": "15min", "batch-time": "50ms"}
_DRAFT = "draft"
_AT_TOP = (*_FILE_OPTIONS, REQUIRE)
_OPTIONS = (*_AT_TOP, ENSURE, *BATCHED, "allow", "irreversible", _DRAFT)
_OPTION = re.compile(r"--\s*migrator:\s*(?P<name>[\w-]*)\s*(?P<value>.*?)\s*")
# A comment that is almost an option is an error: it would be ignored silently.
_MALFORMED = re.compile(
    r"(?:-{2,}|/\*+)\s*migrator\s*:\s*"
    rf"(?P<name>{'|'.join(_OPTIONS)})\b",
    re.IGNORECASE,
)
_RANGE = re.compile(r"([0-9]+)\.\.([0-9]+)")
_REPLACED = re.compile(
    r"--\s+(?P<version>[0-9]+_[\w.-]+)\s+(?P<checksum>[0-9a-f]{64})\s*", re.ASCII
)
_MARKS = ("migrator", "Migrator", "MIGRATOR")  # a script without them is not searched


@dataclass(frozen=True, slots=True)
class _Comment:
    """A comment between statements.

    Attributes:
        is_alone: Whether it is a `--` comment on a line of its own.
        is_at_top: Whether it comes before the first statement.
        below: The next statement; None at the end of the script.
    """

    offset: int
    text: str
    is_alone: bool
    is_at_top: bool
    below: Statement | None


def read_options(
    path: PurePath, source: str, statements: Sequence[Statement]
) -> tuple[Options, list[MigrationFileError]]:
    """Return the options of a script, and what is wrong with them, by place."""
    values: dict[str, str] = {}
    allowances: list[Allowance] = []
    queries: list[Query] = []
    replaced: list[tuple[str, str]] = []
    problems: list[MigrationFileError] = []
    for comment in _comments(source, statements):
        option = _OPTION.fullmatch(comment.text) if comment.is_alone else None
        if comment.is_alone and queries and queries[-1].takes(comment.offset, comment.text):
            continue
        if REPLACES in values and (line := _REPLACED.fullmatch(comment.text)):
            replaced.append((line["version"], line["checksum"]))
        elif option and option["name"] == "allow":
            allowances.append(_allowance(comment, option["value"]))
        elif option and option["name"] == "irreversible":
            values["irreversible"] = values.get("irreversible") or option["value"]
        elif complaint := _complaint(comment, option, values):
            message, hint = complaint
            location = locate(source, comment.offset, path)
            problems.append(MigrationFileError(message, location=location, hint=hint))
        elif option and option["name"] in (REQUIRE, ENSURE):
            start, end = (comment.offset + at for at in option.span("value"))
            queries.append(Query(option["name"], source, start, end))
        elif option:
            values[option["name"]] = option["value"]
    problems += (p for query in queries for p in conditions.problems(path, source, query))
    if REPLACES in values and not _is_range_of(values[REPLACES], replaced):
        message = f'option "{REPLACES}" does not list the versions from the first to the last'
        hint = "restore the file: migrator squash has written it"
        location = locate(source, source.index(REPLACES), path)
        problems.append(MigrationFileError(message, location=location, hint=hint))
    found = _options(values, allowances, queries)
    backfills = tuple(_backfills(source, statements))
    return replace(found, replaces=tuple(replaced), backfills=backfills), problems


def _options(
    values: Mapping[str, str], allowances: Iterable[Allowance], queries: Sequence[Query]
) -> Options:
    return Options(
        no_transaction="no-transaction" in values,
        lock_timeout=milliseconds(values.get("lock-timeout", "")),
        statement_timeout=milliseconds(values.get("statement-timeout", "")),
        batch_time=milliseconds(values.get("batch-time", "")),
        role=values.get("role"),
        irreversible=values.get("irreversible") or None,
        allowances=tuple(allowances),
        requires=tuple(each.statement for each in queries if each.option == REQUIRE),
        ensures=tuple(each.statement for each in queries if each.option == ENSURE),
    )


def _is_range_of(text: str, replaced: Sequence[tuple[str, str]]) -> bool:
    numbers = [int(version.partition("_")[0]) for version, _ in replaced]
    found = _RANGE.fullmatch(text)
    assert found, "it is checked where the option is read"
    is_ascending = all(one < other for one, other in pairwise(numbers))
    return is_ascending and numbers[:1] + numbers[-1:] == [int(found[1]), int(found[2])]


def _comments(source: str, statements: Sequence[Statement]) -> Iterator[_Comment]:
    if not any(mark in source for mark in _MARKS):
        return
    start = 0
    for statement in chain(statements, [None]):
        end = statement.offset if statement else len(source)
        for offset, text, is_alone in splitter.comments(source, start, end):
            yield _Comment(offset, text, is_alone, start == 0, statement)
        if statement:
            start = statement.data[1] if statement.data else statement.end


def _backfills(source: str, statements: Sequence[Statement]) -> Iterator[Backfill]:
    for comment in _comments(source, statements):
        option = _OPTION.fullmatch(comment.text) if comment.is_alone else None
        if option and option["name"] in BATCHED:
            yield backfill.read(option["name"], option["value"], comment.offset, comment.below)


def _allowance(comment: _Comment, value: str) -> Allowance:
    hazard, reason, *_ = *value.split(maxsplit=1), "", ""
    below = comment.below
    is_run = below is not None and not controls_transaction(below)
    return Allowance(comment.offset, hazard, reason, below if is_run else None)


def _complaint(
    comment: _Comment, option: re.Match[str] | None, seen: dict[str, str]
) -> tuple[str, str] | None:
    """Return what is wrong with a comment, and what to do; None if it is valid."""
    if not option:
        return _malformed(comment)
    name, value = option["name"], option["value"]
    if name in BATCHED:
        return None
    if name == _DRAFT:
        return "the file is a draft", "write its SQL, then remove this line"
    if name not in (*_AT_TOP, ENSURE):
        return f'unknown option "{name}"', f"valid options: {', '.join(_OPTIONS)}"
    if not comment.is_at_top and name != ENSURE:
        return f'option "{name}" comes after a statement', "move it to the top of the file"
    if name in seen:
        return f'duplicate option "{name}"', "remove one of the lines"
    return _about_value(name, value)


def _about_value(name: str, value: str) -> tuple[str, str] | None:
    if name == "no-transaction" and value:
        return f'option "{name}" takes no value', f"write: -- migrator: {name}"
    if name in _DURATIONS and milliseconds(value) is None:
        example = _DURATIONS[name]
        return f'invalid duration "{value}"', f"use for example: -- migrator: {name} {example}"
    if name == REPLACES and not _RANGE.fullmatch(value):
        return f'invalid range of versions "{value}"', f"write: -- migrator: {name} 01..20"
    if name == "role" and not value:
        return 'option "role" requires a name', "use for example: -- migrator: role app_owner"
    return None


def _malformed(comment: _Comment) -> tuple[str, str] | None:
    match = _MALFORMED.match(comment.text)
    if not match:
        return None
    name = match["name"].lower()
    where = " at the top of the file" if name in _AT_TOP else ""
    value = "" if name in ("no-transaction", _DRAFT) else " …"
    hint = f"write it on a line of its own{where}, in lower case: -- migrator: {name}{value}"
    return f'malformed option "{name}"', hint


def is_draft(source: str) -> bool:
    """Whether a script is an unfinished template.

    >>> is_draft("-- migrator: draft (write the SQL)"), is_draft("select 'migrator: draft';")
    (True, False)
    """
    if _DRAFT not in source:
        return False
    options = (_OPTION.fullmatch(c.text) for c in _comments(source, list(splitter.split(source))))
    return any(option and option["name"] == _DRAFT for option in options)
