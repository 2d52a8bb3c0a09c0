"""Cut SQL text into statements as PostgreSQL's own parser would, and find places in it.

sqlparse's lexer reads the text by a table of PostgreSQL's lexical rules (scan.l of 14 to 18);
what ends a statement is decided here.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from dataclasses import replace
from functools import cache, lru_cache
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

from .model import Location, Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import PurePath

# Possessive throughout: one pass, and no memory kept for ways back.  Where a repeated group can
# fail half-way, its last branch is `(?!)`: Python before 3.11.5 forgets where the group began.
_SPACES = " \t\n\r\f\v"
_LETTER = r"[^\x00-@\[-\^`{-\x7f]"  # ASCII letters, _ and all that is not ASCII
_INNER = r"[^\x00-#%-/:-@\[-\^`{-\x7f]"  # further on in an identifier: digits and $ as well
_TAG = rf"\$(?:{_LETTER}[^\x00-/:-@\[-\^`{{-\x7f]*+)?+\$"
_NUMBER = rf"\.?+[0-9](?:(?<=[eE])[+-](?=[0-9])|\.|{_INNER}|(?!))*+"
_CONTINUED = (  # between two pieces of one literal: white space with a line end in it
    rf"[ \t\f\v]*+(?:--[^\n\r]*+)?+[\n\r](?:[{_SPACES}]++|--[^\n\r]*+[\n\r]|(?!))*+"
)
_PLAIN = r"'[^']*+(?:''[^']*+|(?!))*+'"
_BACKSLASH = r"'(?:[^'\\]++|\\[\s\S]|''|(?!))*+'"
_LITERAL = rf"{_PLAIN}(?:{_CONTINUED}{_PLAIN}|(?!))*+"
_ESCAPED = rf"[eE]{_BACKSLASH}(?:{_CONTINUED}{_BACKSLASH}|(?!))*+"

# Text in which nothing can end a statement: words, operators, closed quotes.  An E literal is
# here only if what follows shows that it is not continued.
_PIECE = (
    r"[^eE'\"()$;/\\-]++|'[^']*+'|\"[^\"]*+\""
    rf"|[eE](?:(?!')|(?<={_INNER}[eE]))|[eE]{_BACKSLASH}(?=[ \t]*+[^ \t\f\v\n\r'-])"
    rf"|-(?!-)|/(?!\*)|\$(?=[0-9])|(?<={_INNER})\$"
)
_GROUP = r"\)"
for _ in range(5):  # levels of parentheses that are read in one piece
    _GROUP = rf"\((?:{_PIECE}|{_GROUP}|(?!))*+\)"

_RUN, _MARK, _SPACE, _LINE_COMMENT = "Run", "Mark", "Space", "LineComment"
_ESCAPE, _DOLLAR, _QUOTE, _COMMENT, _HINT = "Escape", "Literal", "Quote", "Multiline", "Hint"
_RULES = (
    (
        rf"[{_SPACES}]*+(?![{_SPACES}]|\$(?![0-9])|[eE]')(?:{_PIECE}|{_GROUP}|(?!))++;?+",
        _RUN,
    ),
    (rf";[;{_SPACES}]*+|\(++|\)++", _MARK),
    (rf"[{_SPACES}]++", _SPACE),
    (r"--[^\n\r]*+", _LINE_COMMENT),
    (_ESCAPED, _ESCAPE),
    # what opens here and is closed by _close; sqlparse from 0.6 pairs the first two by itself
    (rf"\$\$[^$]*+\$\$|{_TAG}|\$", _DOLLAR),
    (r"/\*", _COMMENT),
    (r"[eE]?+'|\"", _QUOTE),
)
_RULE_OF = {kind: rule for rule, kind in _RULES}
_OPENERS = frozenset({_ESCAPE, _DOLLAR, _QUOTE, _COMMENT, _HINT})
_IGNORED = frozenset({_SPACE, _LINE_COMMENT, _COMMENT, _HINT})

_TOKEN = (  # the finest view; the first group is to be ignored, the others open something
    rf"([{_SPACES}]++|--[^\n\r]*+)|(/\*|{_TAG}|[eE]')"
    rf"|(?:[bBnNxX]|[uU]&)?+{_LITERAL}|(?:[uU]&)?+\"[^\"]*+(?:\"\"[^\"]*+|(?!))*+\"|(['\"])"
    rf"|{_LETTER}{_INNER}*+|{_NUMBER}|\$[0-9]++"
    r"|(?:[~!@#^&|`?+%<>=*]|-(?!-)|/(?!\*)|(?!))++|:++|\.++|[\s\S]"
)
_OUTER_TOKEN = (
    rf"{_LETTER}{_INNER}*+|{_GROUP}|[eE]{_BACKSLASH}|'[^']*+'|\"[^\"]*+\"|{_NUMBER}|[^{_SPACES}]"
)
_WORD = (  # the next word outside parentheses and quotes; none at the end
    rf"(?:[\x00-!#-&)-/:-@\[-\^`{{-\x7f]++|{_GROUP}|[bBnNxX]?+'[^']*+'|[uU]&(?=['\"])"
    rf"|\"[^\"]*+\"|[eE]{_BACKSLASH}|{_NUMBER}|(?!))*+(?:({_LETTER}{_INNER}*+)|\Z|[\s\S])"
)
_LINE_END = r"\r\n?+|\n"
_LAST_DATA_LINE = r"\n\\\.\r?+(?:\n|\Z)"
_MOST_WORDS = 8
# How much the lexer is given at once: before its first token it collects every `$` and `/*` in
# the whole of it.
_NARROW, _WIDE = 1 << 7, 1 << 14


@cache
def _pattern(rule: str) -> re.Pattern[str]:
    return re.compile(rule)  # on first use: start-up does not pay for it


@cache
def _lexer() -> Callable[[str], Iterator[tuple[tuple[str, ...], str]]]:
    # Start-up time pays for this import: 30 ms, and not every command reads SQL.
    from sqlparse.lexer import Lexer  # noqa: PLC0415
    from sqlparse.tokens import Token  # noqa: PLC0415

    lexer: Any = Lexer()
    lexer.clear()
    # sqlparse compiles with IGNORECASE, which confuses tags and makes character classes slow
    lexer.set_SQL_REGEX([(f"(?-i:{rule})", getattr(Token, kind)) for rule, kind in _RULES])
    tokenize: Callable[[str], Iterator[tuple[tuple[str, ...], str]]] = lexer.get_tokens
    return tokenize


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
    closing = _pattern(_LAST_DATA_LINE).search(source, first - 1)
    if closing is None:
        return (first, len(source)), len(source)
    return (first, closing.start() + 1), closing.end()


def _statements(source: str, start: int, stop: int) -> Iterator[Statement]:
    """Cut a part of a text that holds no data; none after a meta-command."""
    reader = None
    for kind, at, end in _lex(source, start, stop):
        if kind in _IGNORED:
            continue
        if reader is None:
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
    command = _reach(r"\\[^\s\\]*+", source, at, stop)
    return Statement(source, at, _reach(r"[^\n\r]++", source, at, stop), (source[at:command],))


class _Reader:
    """A statement while it is read: its first words, and what keeps a `;` from ending it."""

    __slots__ = ("_body", "_depth", "_end", "_offset", "_source", "_words")

    def __init__(self, source: str, at: int) -> None:
        while source[at] in _SPACES:
            at += 1
        self._source, self._offset, self._end = source, at, at
        self._words: list[str] = []
        self._depth = 0  # of parentheses
        self._body: _Body | None = None

    def take(self, kind: str, at: int, end: int) -> bool:
        """Take the next token, and tell whether it ends the statement."""
        self._end = end
        first = self._source[at]
        if kind == _RUN:
            if not self._depth:
                self._read(at, end)
            return self._source[end - 1] == ";" and self._ends(end)
        if kind == _MARK and first == ";":
            return self._ends(at + 1)
        if self._body:
            self._body.take(first)
        if first == "(" and kind == _MARK:
            self._depth += end - at
        elif first == ")" and kind == _MARK:
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
        if missing := _MOST_WORDS - len(words):
            found = _pattern(_WORD).finditer(self._source, at, end)
            words += [word[1].lower() for word in islice(found, missing) if word[1]]
        if words and words[0] == "create" and _may_have_body(words):
            self._body = self._body or _Body()
            for token in _pattern(_OUTER_TOKEN).finditer(self._source, at, end):
                self._body.take(token[0].lower())

    def statement(self) -> Statement:
        """Give what was read, without white space at its end."""
        while self._source[self._end - 1] in _SPACES:
            self._end -= 1
        return Statement(self._source, self._offset, self._end, tuple(self._words))


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


def _lex(source: str, start: int, stop: int) -> Iterator[tuple[str, int, int]]:
    """Give the tokens of a part of a text: kind, offset, end."""
    base, width = start, _NARROW
    while base < stop:
        limit = min(base + width, stop)
        at = base
        for kinds, value in _lexer()(source[base:limit]):
            kind, begin, seen = kinds[-1], at, at + len(value)
            if kind in _OPENERS:
                closed = _close(source, begin, stop)
                if closed is None:
                    kind = _QUOTE  # not to be ignored: the server shall complain of a comment, too
                at = closed or stop
            elif seen < limit or limit == stop:
                at = seen
            elif begin > base:
                break  # the window may have cut it
            else:
                at = _reach(_RULE_OF[kind], source, begin, stop)
            yield kind, begin, at
            if at != seen:
                break
        width = min(max(2 * (at - base), _NARROW), _WIDE)  # in proportion to what was gained
        base = at


def _reach(rule: str, source: str, at: int, stop: int) -> int:
    found = _pattern(rule).match(source, at, stop)
    return found.end() if found else stop


def _close(source: str, at: int, stop: int) -> int | None:
    """Find the end of the literal, identifier or comment that opens here; None if it has none."""
    opener = source[at]
    if opener == "/":
        return _close_comment(source, at, stop)
    if opener in "eE":
        literal = _pattern(_ESCAPED).match(source, at, stop)
        return literal.end() if literal else None
    if opener == "$":
        tag = _pattern(_TAG).match(source, at, stop)
        if tag is None:
            return at + 1  # it opens nothing
        opener = tag[0]
    end = source.find(opener, at + len(opener), stop)
    return end + len(opener) if end >= 0 else None


def _close_comment(source: str, at: int, stop: int) -> int | None:
    depth = 0
    for mark in _pattern(r"/\*|\*/").finditer(source, at, stop):
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return mark.end()
    return None


def tokens(source: str) -> Iterator[str]:
    """Give what PostgreSQL reads of a text, in order, without white space and comments.

    Texts with the same tokens mean the same; of those that mean the same, some have other tokens
    (`'a'` continued on the next line).  Literals, COPY data and meta-commands are as written.
    """
    for statement in split(source):
        if is_meta_command(statement):
            yield statement.text
        else:
            yield from _fine_tokens(source, statement.offset, statement.end)
        if statement.data:
            yield source[slice(*statement.data)]


def _fine_tokens(source: str, at: int, stop: int) -> Iterator[str]:
    match = _pattern(_TOKEN).match
    while found := match(source, at, stop):
        opens = found[2] or found[3]
        closed = _close(source, at, stop) if opens else found.end()
        if not found[1] and (opens != "/*" or closed is None):
            yield source[at : closed or stop]
        at = closed or stop


def comments(source: str, start: int, end: int) -> Iterator[tuple[int, str]]:
    """Find the `--` comments that have a line to themselves between two statements.

    `start` is where a statement, or its COPY data, ends; `end` is where the next one begins.
    Gives offset and text, without the line end, in order.
    """
    for kind, at, stop in _lex(source, start, end):
        if kind == _LINE_COMMENT and _begins_line(source, at):
            yield at, source[at:stop]


def _begins_line(source: str, at: int) -> bool:
    while at and source[at - 1] in " \t\f\v":
        at -= 1
    return not at or source[at - 1] in "\r\n"


def locate(source: str, offset: int, path: PurePath) -> Location:
    r"""Turn a character offset into a line and column, both from 1.

    LF, CRLF and a lone CR end a line alike (libpq's reportErrorPosition counts so).

    >>> from pathlib import PurePath
    >>> str(locate("a\r\nbc", 4, PurePath("x.sql")))
    'x.sql:2:2'
    """
    inside = source[max(0, offset - 1) : offset + 1] == "\r\n"  # the LF is on the CR's line
    before = offset - inside
    ends = source.count("\n", 0, before) + source.count("\r", 0, before)
    line = 1 + ends - source.count("\r\n", 0, before)
    begin = 1 + max(source.rfind("\n", 0, before), source.rfind("\r", 0, before))
    return Location(path, line, 1 + offset - begin)


def line_number(source: str, offset: int) -> int:
    r"""Return the line of a character offset, from 1; cheap for many offsets of one source.

    >>> line_number("a\nbc", 3)
    2
    """
    return bisect_right(_line_ends(source), offset) + 1


@lru_cache(maxsize=2)
def _line_ends(source: str) -> list[int]:
    return [match.end() for match in re.finditer("\n", source)]


def excerpt(source: str, location: Location, *, width: int = 100) -> str:
    """Show a place: its line and up to two before it, numbered, and a caret under the column.

    No line shows more than `width` characters of the text: around the caret, or else from the
    line's start.  Tabs and control characters are shown as spaces.
    """
    ends = islice(_pattern(_LINE_END).finditer(source), location.line - 1)
    starts = deque([0], maxlen=3)
    starts.extend(end.end() for end in ends)
    caret = location.column - 1
    gutter = len(str(location.line))
    first = max(0, caret - width // 2) if caret >= width else 0
    lines = []
    for number, start in enumerate(starts, start=location.line - len(starts) + 1):
        left = first if number == location.line else 0
        lines.append(f"{number:>{gutter}} | {_part_of_line(source, start, left, width)}".rstrip())
    indent = len(_printable("…" * (first > 0) + source[starts[-1] + first : starts[-1] + caret]))
    return "\n".join([*lines, f"{'':{gutter}} | {'':{indent}}^"])


def _part_of_line(source: str, start: int, left: int, width: int) -> str:
    end = start + left + width
    cut = _reach(r"[^\r\n]*+", source, start + left, end)
    more = cut == end and source[end : end + 1] not in ("", "\r", "\n")
    return _printable("…" * (left > 0) + source[start + left : cut] + "…" * more)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text.expandtabs(4))
