r"""Cut SQL text into statements, tokens and comments, as PostgreSQL and psql do.

sqlparse's lexer reads the text, by a rule table that replaces its own; this module puts the
tokens together.  The rules are those of PostgreSQL 14 to 18:

- Block comments nest.  `--` and `/*` begin a comment even inside a run of operator characters
  (scan.l).
- A backslash is an escape in `E'…'` only.  A literal is continued by white space that has a line
  end in it, followed by another quote (scan.l).
- `$tag$` is closed by the first identical tag.  In a name, `$` is an ordinary character (scan.l).
- A `;` ends a statement unless it is in parentheses (psqlscan.l) or in the `BEGIN ATOMIC … END`
  of a routine (gram.y, routine_body_stmt).
- The data of `COPY … FROM stdin` are lines, not SQL (psql's copy.c, handleCopyIn).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import islice, pairwise
from typing import Any, TypeAlias

from .script import Statement

# Every repetition is possessive: a rule reads its text once, and remembers no other way to match.
# A repeated group that can fail half-way has `(?!)` as its last branch, because Python before
# 3.11.5 forgets where such a group began.
_BLANKS = " \t\n\r\f\v"
_BLANK = rf"[{_BLANKS}]"
_LETTER = r"[^\x00-@\[-\^`{-\x7f]"  # ASCII letters, _ and all that is not ASCII
_WORD = rf"{_LETTER}[^\x00-#%-/:-@\[-\^`{{-\x7f]*+"  # a letter, then letters, digits and $
_NAME = rf"(?![bBeEnNxX]'|[uU]&['\"]){_WORD}"  # not the prefix of a literal
_NUMBER = rf"[0-9][0-9.]*+(?:[eE][+-][0-9]++)?+(?:{_WORD})?+"
_PARAMETER = rf"\$[0-9]++(?:{_WORD})?+"
_TAG = rf"\$(?:{_LETTER}[^\x00-/:-@\[-\^`{{-\x7f]*+)?+"  # without its second $

_QUOTED = r"\"[^\"]*+(?:\"\"[^\"]*+|(?!))*+\""
_PLAIN = r"'[^']*+(?:''[^']*+|(?!))*+'"
_BACKSLASHED = r"'(?:[^'\\]++|\\[\s\S]|''|(?!))*+'"
_CONTINUED = (  # what may separate two pieces of one literal
    rf"[ \t\f\v]*+(?:--[^\n\r]*+)?+[\n\r](?:{_BLANK}++|--[^\n\r]*+[\n\r]|(?!))*+"
)
_LITERAL = rf"(?:[bBnNxX]|[uU]&)?+{_PLAIN}(?:{_CONTINUED}{_PLAIN}|(?!))*+"
_ESCAPED = rf"[eE]{_BACKSLASHED}(?:{_CONTINUED}{_BACKSLASHED}|(?!))*+"
_NOT_CONTINUED = rf"(?={_BLANK}*+[^{_BLANKS}'-])"  # the next token is in view, and is another one

_SPACE, _COMMENT, _OPENING, _RUN = "Whitespace", "Comment", "Opening", "Run"
_TOKENS = (  # sqlparse 0.6 pairs `/* */` and most `$tag$` by itself, before it tries the rules
    (rf"{_BLANK}{{1,99}}+", _SPACE),
    (r"--[^\n\r]*+(?=[\n\r])", _COMMENT),
    (_NAME, "Name"),
    (rf"\.?+{_NUMBER}|{_PARAMETER}", "Number"),
    (rf"(?:{_LITERAL}|{_ESCAPED}){_NOT_CONTINUED}|(?:[uU]&)?+{_QUOTED}", "Literal"),
    (rf"({_TAG}\$)(?:[^$]++|(?!\1)\$|(?!))*+\1", "Literal"),
    (r"(?:[~!@#^&|`?+%<>=*]|-(?!-)|/(?!\*)|(?!))++|:++|\.++", "Operator"),
    (r"[(),;]", "Punctuation"),
    # What begins here and does not end in view.  At the end of the view, a tag may be cut off.
    (rf"(?:[bBeEnNxX]|[uU]&)?+'|(?:[uU]&)?+\"|--|/\*|{_TAG}(?:\$|\Z)", _OPENING),
)

# For statements, a run of tokens that cannot end one, and the `;` after it, are read as a single
# token, which is several times faster.  The counts limit how much of the text is copied at once.
_TEXT, _QUOTED_TEXT = r"'[^']*+'", r"\"[^\"]*+\""  # a doubled quote makes two of it
_NAMELESS = (
    rf"[\x00-!#%&*+,.:<=>?@\[\]^`{{|}}~\x7f]{{1,99}}+|{_TEXT}|{_QUOTED_TEXT}|[bBnNxX]{_TEXT}"
    rf"|[uU]&(?:{_TEXT}|{_QUOTED_TEXT})|[eE]{_BACKSLASHED}{_NOT_CONTINUED}"
    rf"|{_NUMBER}|{_PARAMETER}|-(?!-)|/(?!\*)"
)
_PARENTHESES = r"(?!)"
for _ in range(3):  # levels; deeper parentheses are read token by token
    _PARENTHESES = rf"\((?:{_NAMELESS}|{_NAME}|{_PARENTHESES}|(?!))*+\)"
_NAMELESS += f"|{_PARENTHESES}"
_RUNS = (
    (rf"{_BLANK}{{0,99}}+(?!{_BLANK})(?:{_NAMELESS}|{_NAME}|(?!)){{1,64}}+;?+", _RUN),
    (r"\({1,99}+|\){1,99}+", "Punctuation"),
)
_NEXT_NAME = rf"(?:{_NAMELESS}|[eE]{_BACKSLASHED}|(?!))*+(?:({_NAME})|;?\Z)"
_NAME_OR_NOT = rf"{_NAME}|{_NAMELESS}|[eE]{_BACKSLASHED}"

_NARROW, _FIRST, _WIDE = 1 << 7, 1 << 9, 1 << 14  # characters in a window of the lexer
_LOOKAHEAD = 2  # characters that a rule may have to see after a token to be sure of its end

_LAST_DATA_LINE = r"\n\\\.\r?+(?:\n|\Z)"
_MOST_WORDS = 8
_INSERT = ("insert",)
_INSERT_BEGINS = rf"{_BLANK}*+([iI][nN][sS][eE][rR][tT]){_BLANK}"

# Yields token types, which are tuples of names, and the texts of the tokens.
_Tokenizer: TypeAlias = Callable[[str], Iterator[tuple[tuple[str, ...], str]]]


def split(source: str) -> Iterator[Statement]:
    r"""Cut a text into its statements, in order.

    Comments before a statement are left out, empty statements are skipped, and the last one may
    lack its `;`.  A quote, comment or parenthesis that is never closed reaches to the end of the
    text.  A psql meta-command where a statement would begin is a statement to the end of its
    line, and its one word is the command (`\restrict`).

    The data of `COPY … FROM stdin;` begin on the line after its `;`, as in psql.  The rest of the
    line with the `;` is SQL, which runs after the COPY and ends with that line at the latest.
    The data end with a line `\.` or with the text.  Only LF ends a line of data.
    """
    # After a COPY, `line_end` is where its line ends, and `resume` where the data end.
    start, line_end, resume = 0, None, len(source)
    while start < len(source):
        stop = len(source) if line_end is None else line_end
        for statement in _statements(source, start, stop):
            start = statement.end
            if _reads_data(statement):
                if line_end is None:
                    line_end = resume = source.find("\n", start) + 1 or len(source)
                data, resume = _data(source, resume)
                yield replace(statement, data=data)
                break
            yield statement
            if is_meta_command(statement):
                break
        else:
            start, line_end, resume = resume, None, len(source)


def tokens(source: str) -> Iterator[str]:
    """Yield the tokens of a text, in order, without white space and comments.

    Texts with the same tokens mean the same.  Texts that mean the same may differ in tokens
    (`'a'` continued on the next line).  Literals, COPY data and meta-commands are as written.
    """
    for statement in split(source):
        if is_meta_command(statement):
            yield statement.text
        else:
            for kind, at, end in _lex(_TOKENS, source, statement.offset, statement.end):
                if kind not in (_SPACE, _COMMENT):
                    yield source[at:end]
        if statement.data:
            yield source[slice(*statement.data)]


def comments(source: str, start: int, end: int) -> Iterator[tuple[int, str, bool]]:
    """Yield the comments between two statements, in order.

    `start` is where a statement or its COPY data end, and `end` is where the next one begins.
    A comment is its offset, its text without the line end, and whether it is a `--` comment
    that has a line to itself.
    """
    for kind, at, stop in _lex(_TOKENS, source, start, end):
        if kind == _COMMENT:
            yield at, source[at:stop], source.startswith("--", at) and _begins_line(source, at)


def is_meta_command(statement: Statement) -> bool:
    """Tell whether a statement is for psql, not for the server."""
    return bool(statement.words) and statement.words[0][0] == "\\"


def _begins_line(source: str, at: int) -> bool:
    while at and source[at - 1] in " \t\f\v":
        at -= 1
    return not at or source[at - 1] in "\r\n"


def _reads_data(statement: Statement) -> bool:
    words = statement.words
    if not words or words[0] != "copy" or statement.source[statement.end - 1] != ";":
        return False
    return ("from", "stdin") in pairwise(words)


def _data(source: str, first: int) -> tuple[tuple[int, int], int]:
    """Return where the data that begin at `first` begin and end, and where SQL resumes."""
    closing = _pattern(_LAST_DATA_LINE).search(source, first - 1)
    if closing is None:
        return (first, len(source)), len(source)
    return (first, closing.start() + 1), closing.end()


def _statements(source: str, start: int, stop: int) -> Iterator[Statement]:
    """Cut a part of a text that has no COPY data in it; stop after a meta-command."""
    reading: _Reading | None = None
    begins_insert = _pattern(_INSERT_BEGINS).match
    for kind, at, end in _lex(_RUNS + _TOKENS, source, start, stop):
        if kind in (_SPACE, _COMMENT):
            continue
        if reading is None:
            if source[at] == ";":
                continue
            if source[at] == "\\":
                yield _meta_command(source, at, stop)
                return
            if kind == _RUN and source[end - 1] == ";" and (begin := begins_insert(source, at)):
                yield Statement(source, begin.start(1), end, _INSERT)  # short: seeds have millions
                continue
            reading = _Reading(source, at)
        if reading.ends_with(kind, at, end):
            yield reading.statement()
            reading = None
    if reading is not None:
        yield reading.statement()


def _meta_command(source: str, at: int, stop: int) -> Statement:
    command = _end_of(r"\\[^\s\\]*+", source, at, stop)
    return Statement(source, at, _end_of(r"[^\n\r]++", source, at, stop), (source[at:command],))


class _Reading:
    """The statement that is being read: its first words, and what keeps a `;` from ending it."""

    __slots__ = ("_backslash", "_body", "_depth", "_end", "_offset", "_source", "_words")

    def __init__(self, source: str, at: int) -> None:
        while source[at] in _BLANKS:
            at += 1
        self._source, self._offset, self._end = source, at, at
        self._words: list[str] = []
        self._backslash: int | None = None
        self._depth = 0  # of parentheses
        self._body: _Body | None = None

    def ends_with(self, kind: str, at: int, end: int) -> bool:
        """Take the next token, and tell whether it ends the statement."""
        self._end = end
        first = self._source[at]
        if kind == _RUN:
            if not self._depth:
                self._read(self._source[at:end])
            return self._source[end - 1] == ";" and self._ends()
        if first == ";":
            return self._ends()
        if self._body:
            self._body.read(first)
        if first == "\\" and self._backslash is None:
            self._backslash = at
        elif first == "(":
            self._depth += end - at
        elif first == ")":
            self._depth = max(0, self._depth - (end - at))
        return False

    def statement(self) -> Statement:
        """Return what was read, without white space at its end."""
        while self._source[self._end - 1] in _BLANKS:
            self._end -= 1
        words = _INSERT if self._words[:1] == ["insert"] else tuple(self._words)
        return Statement(self._source, self._offset, self._end, words, None, self._backslash)

    def _ends(self) -> bool:
        if self._depth:
            return False
        if self._body:
            self._body.read(";")
            return not self._body.depth
        return True

    def _read(self, run: str) -> None:
        words = self._words
        if len(words) < _MOST_WORDS and words[:1] != ["insert"]:
            names = islice(_pattern(_NEXT_NAME).finditer(run), _MOST_WORDS - len(words))
            words += [name[1].lower() for name in names if name[1]]
        if words and words[0] == "create" and _may_have_body(words):
            self._body = self._body or _Body()
            for token in _pattern(_NAME_OR_NOT).findall(run):
                if token.strip(_BLANKS):
                    self._body.read(token.lower())


def _may_have_body(words: list[str]) -> bool:
    match words:
        case ["create", "or", "replace", "function" | "procedure", *_]:
            return True
        case ["create", "function" | "procedure" | "schema", *_]:
            return True
        case ["create"] | ["create", "or"] | ["create", "or", "replace"]:
            return True  # the words that decide have not been read
    return False


class _Body:
    """How deep a statement is in the `BEGIN ATOMIC … END` of routines.

    `CASE … END` needs no counting: only the END of a body comes directly after a `;`.
    """

    __slots__ = ("_before", "_creates_routine", "depth")

    def __init__(self) -> None:
        self.depth = 0
        self._before: tuple[str, ...] = ()
        self._creates_routine = False  # CREATE SCHEMA can create several, one after another

    def read(self, word: str) -> None:
        """Take the next token outside parentheses, in lower case."""
        before = self._before
        if word in ("function", "procedure"):
            if before[-1:] == ("create",) or before == ("create", "or", "replace"):
                self._creates_routine = True
        elif word == "atomic" and self._creates_routine and before[-1:] == ("begin",):
            self.depth += 1
            word = ";"  # END may follow at once
        elif word == "end" and before[-1:] == (";",):
            self.depth = max(0, self.depth - 1)
        if word == ";":
            self._creates_routine = False
        self._before = (*before[-2:], word)


def _lex(
    rules: tuple[tuple[str, str], ...], source: str, start: int, stop: int
) -> Iterator[tuple[str, int, int]]:
    """Yield the tokens of a part of a text, in order: kind, offset and end.

    The lexer is given the text in windows, because sqlparse 0.6 searches all of its text for `$`
    and `/*` before it yields the first token.  A new window begins where the lexer may be wrong:

    - at a token near the end of the window, which may be longer than it can see;
    - after a quote or comment whose end is outside the window;
    - after a nested comment, which sqlparse ends at the first `*/`.

    The width follows what the last window yielded, so that the work is linear in the text.
    """
    tokenize, width = _tokenizer(rules), _FIRST
    while start < stop:
        at, border = start, min(start + width, stop)
        certain = border - _LOOKAHEAD if border < stop else stop
        for kinds, text in tokenize(source[start:border]):
            kind, begin, at = kinds[0], at, at + len(text)
            if at > certain:
                at = begin
                break
            seen = at
            if kind == _OPENING or (kind == _COMMENT and "/*" in text[2:]):
                kind, at = _close(source, begin, stop)
            yield kind, begin, at
            if at != seen:
                break
        gained = at - start
        width = min(max(2 * gained, _NARROW), _WIDE) if gained else 2 * width
        start = at


@cache
def _tokenizer(rules: tuple[tuple[str, str], ...]) -> _Tokenizer:
    # The import takes 15 ms, and not every command reads SQL.
    from sqlparse.lexer import Lexer  # noqa: PLC0415
    from sqlparse.tokens import Token  # noqa: PLC0415

    lexer: Any = Lexer()
    lexer.clear()
    # sqlparse compiles the rules with IGNORECASE: `$a$` would close `$A$`.
    lexer.set_SQL_REGEX([(f"(?-i:{rule})", getattr(Token, kind)) for rule, kind in rules])
    tokenizer: _Tokenizer = lexer.get_tokens
    return tokenizer


def _close(source: str, at: int, stop: int) -> tuple[str, int]:
    """Return the kind and the end of the literal, name or comment that begins here.

    What is never closed reaches to `stop`.  An unclosed comment does not count as a comment, so
    that it is sent, and the server reports it.
    """
    match source[at]:
        case "-":
            return _COMMENT, _end_of(r"[^\n\r]++", source, at, stop)
        case "/":
            return _close_comment(source, at, stop)
        case "$":
            return "Literal", _close_tag(source, at, stop)
    return "Literal", _end_of(rf"{_LITERAL}|{_ESCAPED}|(?:[uU]&)?+{_QUOTED}", source, at, stop)


def _close_comment(source: str, at: int, stop: int) -> tuple[str, int]:
    depth = 0
    for mark in _pattern(r"/\*|\*/").finditer(source, at, stop):
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return _COMMENT, mark.end()
    return "Error", stop


def _close_tag(source: str, at: int, stop: int) -> int:
    tag = _pattern(rf"{_TAG}\$").match(source, at, stop)
    if tag is None:
        return at + 1  # a single $, at the end of the text
    end = source.find(tag[0], tag.end(), stop)
    return end + len(tag[0]) if end >= 0 else stop


def _end_of(rule: str, source: str, at: int, stop: int) -> int:
    """Return where a match of a rule that begins here ends; `stop` if there is none."""
    found = _pattern(rule).match(source, at, stop)
    return found.end() if found else stop


@cache
def _pattern(rule: str) -> re.Pattern[str]:
    return re.compile(rule)  # on first use, to keep the start fast
