"""Read the options that stand in a script's own comments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from ..errors import MigrationFileError
from . import splitter
from .location import locate
from .script import Options, Statement, milliseconds

_OPTION = re.compile(r"--\s*migrator:\s*(?P<name>[\w-]*)\s*(?P<value>.*?)\s*")
# What somebody took for one: it would be ignored without a word.
_MISTAKEN = re.compile(
    r"(?:-{2,}|/\*+)\s*migrator\s*:\s*"
    r"(?P<name>no-transaction|lock-timeout|statement-timeout|role|allow|irreversible)\b",
    re.IGNORECASE,
)
_NAMES = ("migrator", "Migrator", "MIGRATOR")  # spares files without options the search
_REVIEW_OPTIONS = ("allow", "irreversible")  # said to who reviews; they change nothing that runs


def read(
    path: PurePath, source: str, statements: Sequence[Statement]
) -> tuple[Options, bool, list[MigrationFileError]]:
    """Return the options, whether the script is transactional, and what is wrong with them."""
    values: dict[str, str] = {}
    problems: list[MigrationFileError] = []
    for offset, comment, is_alone, is_at_top in _comments(source, statements):
        option = _OPTION.fullmatch(comment) if is_alone else None
        if option:
            name, value = option["name"], option["value"]
            complaint = _complaint(name, value, values, is_at_top=is_at_top)
            values |= {} if complaint else {name: value}
        else:
            complaint = _mistake(comment)
        if complaint:
            message, hint = complaint
            location = locate(source, offset, path)
            problems.append(MigrationFileError(message, location=location, hint=hint))
    options = Options(
        lock_timeout=milliseconds(values.get("lock-timeout", "")),
        statement_timeout=milliseconds(values.get("statement-timeout", "")),
        role=values.get("role"),
    )
    return options, "no-transaction" not in values, problems


def _comments(
    source: str, statements: Sequence[Statement]
) -> Iterator[tuple[int, str, bool, bool]]:
    """Yield what `splitter.comments` tells of each, and whether it stands before all SQL."""
    if not any(word in source for word in _NAMES):
        return
    starts = [0, *(s.data[1] if s.data else s.end for s in statements)]
    ends = [*(s.offset for s in statements), len(source)]
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        for offset, comment, is_alone in splitter.comments(source, start, end):
            yield offset, comment, is_alone, index == 0


def _mistake(comment: str) -> tuple[str, str] | None:
    """Return what is wrong with a comment that was meant for an option; None if it was not."""
    if mistaken := _MISTAKEN.match(comment):
        name = mistaken["name"].lower()
        hint = f"write it so, on a line of its own: -- migrator: {name} …"
        return f'option "{name}" is not read where and as it is written', hint
    return None


def _complaint(
    name: str, value: str, seen: dict[str, str], *, is_at_top: bool
) -> tuple[str, str] | None:
    """Return what is wrong with an option, and what to do; None if nothing is."""
    if name in _REVIEW_OPTIONS:
        return None
    if name not in ("no-transaction", "lock-timeout", "statement-timeout", "role"):
        known = "no-transaction, lock-timeout, statement-timeout, role"
        return f'unknown option "{name}"', f"the options of a file are {known}"
    if not is_at_top:
        return f'option "{name}" stands behind a statement', "move it to the top of the file"
    if name in seen:
        return f'option "{name}" is given twice', "remove one of the two lines"
    if name == "no-transaction" and value:
        return f'option "{name}" takes no value', f"write: -- migrator: {name}"
    if name.endswith("-timeout") and milliseconds(value) is None:
        example = "2s" if name == "lock-timeout" else "15min"
        return f'"{value}" is no duration', f"write, for example: -- migrator: {name} {example}"
    if name == "role" and not value:
        return 'option "role" names no role', "write, for example: -- migrator: role app_owner"
    return None
