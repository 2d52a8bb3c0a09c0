"""Read the queries of `-- migrator: require` and `-- migrator: ensure` comments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from ..errors import MigrationFileError
from . import splitter
from .location import locate
from .script import Statement

REQUIRE, ENSURE = "require", "ensure"

_QUERY = re.compile(r"[(\s]*+(?:select|values|with|table)\b", re.IGNORECASE)
_AN_OPTION = re.compile(r"--\s*migrator\s*:", re.IGNORECASE)
_NEXT_LINE = re.compile(r"[ \t]*+\r?+\n[ \t]*+")
_EXAMPLE = "SELECT count(*) = 0 FROM users WHERE email IS NULL"
_END_IT = "end the query with ;, or leave an empty line after it"


@dataclass(slots=True)
class Query:
    """The query of a comment, which the comments directly below continue.

    Attributes:
        option: `require` or `ensure`.
        source: The script, with blanks for the `--` of continued lines, so that an offset in it
            is one in the script.
        offset: Where the query begins in the source, in characters from 0.
        end: Where it ends.
    """

    option: str
    source: str = field(repr=False)
    offset: int
    end: int

    def takes(self, offset: int, comment: str) -> bool:
        """Whether a `--` comment continues the query; if it does, it is part of it from now on."""
        is_closed = self.source[self.offset : self.end].endswith(";")
        is_next = _NEXT_LINE.fullmatch(self.source, self.end, offset)
        if is_closed or not is_next or _AN_OPTION.match(comment):
            return False
        self.source = f"{self.source[:offset]}  {self.source[offset + 2 :]}"
        self.end = offset + len(comment.rstrip())
        return True

    @property
    def statement(self) -> Statement:
        """The query, without its `;`."""
        text = self.source[self.offset : self.end].removesuffix(";").rstrip()
        return Statement(self.source, self.offset, self.offset + len(text))


def problems(path: PurePath, source: str, query: Query) -> Iterator[MigrationFileError]:
    """Yield why a query cannot be asked."""
    if complaint := _complaint(query.option, query.statement.text):
        message, hint = complaint
        location = locate(source, query.offset, path)
        yield MigrationFileError(message, location=location, hint=hint)


def _complaint(option: str, text: str) -> tuple[str, str] | None:
    if not text:
        return (
            f'option "{option}" requires a query',
            f"use for example: -- migrator: {option} {_EXAMPLE}",
        )
    if not _QUERY.match(text):
        return f'the query of "{option}" is not a SELECT', "write a SELECT that returns one boolean"
    statements = list(splitter.split(text))
    if len(statements) > 1:
        return f'option "{option}" has {len(statements)} statements', f"write one; {_END_IT}"
    if any(each.backslash is not None for each in statements):
        return f'the query of "{option}" contains a psql command', "replace it with SQL"
    if not _is_balanced(text):
        return f'the query of "{option}" has unbalanced parentheses', _END_IT
    return None


def _is_balanced(text: str) -> bool:
    depth = 0
    for each in splitter.tokens(text):
        depth += (each == "(") - (each == ")")
        if depth < 0:
            return False
    return not depth
