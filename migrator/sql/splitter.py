"""Cut SQL text into statements as PostgreSQL's own parser would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, pairwise

from .lexing import (
    COMMENTS,
    IGNORED,
    LINE_COMMENT,
    MARK,
    OUTER_TOKEN,
    RUN,
    SPACES,
    WORD,
    fine_tokens,
    lex,
    pattern,
    reach,
)
from .script import Statement

_LAST_DATA_LINE = r"\n\\\.\r?+(?:\n|\Z)"
_MOST_WORDS = 8
_INSERT = ("insert",)
_INSERT_BEGINS = rf"[{SPACES}]*+([iI][nN][sS][eE][rR][tT])[{SPACES}]"


def split(source: str) -> Iterator[Statement]:
    r"""Cut a text into its statements, in order.

    Comments before a statement are left out, empty statements are skipped, and the last may lack
    its `;`.  A quote, comment or parenthesis that is never closed reaches to the end of the text.
    A psql meta-command where a statement would begin is a statement to the end of its line, and
    its one word is the command (`\restrict`).

    The data of `COPY … FROM stdin;` begin on the next line, as in psql (copy.c, handleCopyIn):
    what else stands on the line of its `;` is SQL to run after it, and ends with that line at
    the latest.  The data end with a line `\.` or with the text; only LF ends a line of data.
    """
    start, stop, resume = 0, len(source), len(source)
    while start < len(source):
        for statement in _statements(source, start, stop):
            start = statement.end
            if _reads_data(statement):
                if stop == len(source):
                    stop = resume = source.find("\n", start) + 1 or len(source)
                data, resume = _data(source, resume)
                yield replace(statement, data=data)
                break
            yield statement
            if is_meta_command(statement):
                break
        else:
            start, stop, resume = resume, len(source), len(source)


def is_meta_command(statement: Statement) -> bool:
    """Tell whether a statement is for psql, not for the server."""
    return bool(statement.words) and statement.words[0][0] == "\\"


def _reads_data(statement: Statement) -> bool:
    words = statement.words
    if not words or words[0] != "copy" or statement.source[statement.end - 1] != ";":
        return False
    return ("from", "stdin") in pairwise(words)


def _data(source: str, first: int) -> tuple[tuple[int, int], int]:
    """Find where the lines of data from an offset on end, and where SQL goes on."""
    closing = pattern(_LAST_DATA_LINE).search(source, first - 1)
    if closing is None:
        return (first, len(source)), len(source)
    return (first, closing.start() + 1), closing.end()


def _statements(source: str, start: int, stop: int) -> Iterator[Statement]:
    """Cut a part of a text that holds no data; none after a meta-command."""
    reader, begins = None, pattern(_INSERT_BEGINS).match
    for kind, at, end in lex(source, start, stop):
        if kind in IGNORED:
            continue
        if reader is None:
            if kind == RUN and source[end - 1] == ";" and (insert := begins(source, at, end)):
                yield Statement(source, insert.start(1), end, _INSERT)  # seeds have millions
                continue
            if source[at] == "\\":
                yield _meta_command(source, at, stop)
                return
            if source[at] == ";":
                continue
            reader = _Reader(source, at)
        if reader.take(kind, at, end):
            yield reader.statement()
            reader = None
    if reader is not None:
        yield reader.statement()


def _meta_command(source: str, at: int, stop: int) -> Statement:
    command = reach(r"\\[^\s\\]*+", source, at, stop)
    return Statement(source, at, reach(r"[^\n\r]++", source, at, stop), (source[at:command],))


class _Reader:
    """A statement while it is read: its first words, and what keeps a `;` from ending it."""

    __slots__ = ("_backslash", "_body", "_depth", "_end", "_offset", "_source", "_words")

    def __init__(self, source: str, at: int) -> None:
        while source[at] in SPACES:
            at += 1
        self._source, self._offset, self._end = source, at, at
        self._words: list[str] = []
        self._backslash: int | None = None
        self._depth = 0  # of parentheses
        self._body: _Body | None = None

    def take(self, kind: str, at: int, end: int) -> bool:
        """Take the next token, and tell whether it ends the statement."""
        self._end = end
        first = self._source[at]
        if kind == RUN:
            if not self._depth:
                self._read(at, end)
            return self._source[end - 1] == ";" and self._ends(end)
        if kind == MARK and first == ";":
            return self._ends(at + 1)
        if self._body:
            self._body.take(first)
        if first == "\\" and self._backslash is None:
            self._backslash = at
        if first == "(" and kind == MARK:
            self._depth += end - at
        elif first == ")" and kind == MARK:
            self._depth = max(0, self._depth - (end - at))
        return False

    def _ends(self, end: int) -> bool:
        if self._depth:
            return False
        if self._body:
            self._body.take(";")
            if self._body.depth:
                return False
        self._end = end
        return True

    def _read(self, at: int, end: int) -> None:
        words = self._words
        if len(words) < _MOST_WORDS and words[:1] != ["insert"]:
            found = pattern(WORD).finditer(self._source, at, end)
            words += [word[1].lower() for word in islice(found, 1) if word[1]]
            if words[:1] != ["insert"]:
                more = islice(found, _MOST_WORDS - len(words))
                words += [word[1].lower() for word in more if word[1]]
        if words and words[0] == "create" and _may_have_body(words):
            self._body = self._body or _Body()
            for token in pattern(OUTER_TOKEN).finditer(self._source, at, end):
                self._body.take(token[0].lower())

    def statement(self) -> Statement:
        """Give what was read, without white space at its end."""
        while self._source[self._end - 1] in SPACES:
            self._end -= 1
        words = _INSERT if self._words == ["insert"] else tuple(self._words)  # one for millions
        return Statement(self._source, self._offset, self._end, words, None, self._backslash)


def _may_have_body(words: list[str]) -> bool:
    match words:
        case ["create", "or", "replace", "function" | "procedure", *_]:
            return True
        case ["create", "function" | "procedure" | "schema", *_]:
            return True
        case ["create"] | ["create", "or"] | ["create", "or", "replace"]:
            return True  # so far
    return False


class _Body:
    """How deep in the `BEGIN ATOMIC … END` of routines we are (gram.y, routine_body_stmt)."""

    __slots__ = ("_before", "_routine", "depth")

    def __init__(self) -> None:
        self.depth = 0
        self._before: tuple[str, ...] = ()
        self._routine = False  # is a routine being created, whose body may begin?

    def take(self, word: str) -> None:
        """Take the next token outside parentheses, in lower case."""
        before = self._before
        if word in ("function", "procedure"):
            self._routine |= before[-1:] == ("create",) or before == ("create", "or", "replace")
        elif word == "atomic" and self._routine and before[-1:] == ("begin",):
            self.depth += 1
            word = ";"  # END may follow at once
        elif word == "end" and before[-1:] == (";",):
            self.depth = max(0, self.depth - 1)
        if word == ";":
            self._routine = False
        self._before = (*before[-2:], word)


def tokens(source: str) -> Iterator[str]:
    """Give what PostgreSQL reads of a text, in order, without white space and comments.

    Texts with the same tokens mean the same; of those that mean the same, some have other tokens
    (`'a'` continued on the next line).  Literals, COPY data and meta-commands are as written.
    """
    for statement in split(source):
        if is_meta_command(statement):
            yield statement.text
        else:
            yield from fine_tokens(source, statement.offset, statement.end)
        if statement.data:
            yield source[slice(*statement.data)]


def comments(source: str, start: int, end: int) -> Iterator[tuple[int, str, bool]]:
    """Find the comments between two statements.

    `start` is where a statement, or its COPY data, ends; `end` is where the next one begins.
    Gives offset, text without the line end, and whether it is a `--` comment with a line to
    itself, in order.
    """
    for kind, at, stop in lex(source, start, end):
        if kind in COMMENTS:
            yield at, source[at:stop], kind == LINE_COMMENT and _begins_line(source, at)


def _begins_line(source: str, at: int) -> bool:
    while at and source[at - 1] in " \t\f\v":
        at -= 1
    return not at or source[at - 1] in "\r\n"
