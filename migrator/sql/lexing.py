"""Read SQL text as tokens, by PostgreSQL's lexical rules (scan.l of 14 to 18).

sqlparse's lexer does the reading, with a rule table of our own.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Possessive throughout: one pass, and no memory kept for ways back.  Where a repeated group can
# fail half-way, its last branch is `(?!)`: Python before 3.11.5 forgets where the group began.
SPACES = " \t\n\r\f\v"
_LETTER = r"[^\x00-@\[-\^`{-\x7f]"  # ASCII letters, _ and all that is not ASCII
_INNER = r"[^\x00-#%-/:-@\[-\^`{-\x7f]"  # further on in an identifier: digits and $ as well
_TAG = rf"\$(?:{_LETTER}[^\x00-/:-@\[-\^`{{-\x7f]*+)?+\$"
_NUMBER = rf"\.?+[0-9](?:(?<=[eE])[+-](?=[0-9])|\.|{_INNER}|(?!))*+"
_CONTINUED = (  # between two pieces of one literal: white space with a line end in it
    rf"[ \t\f\v]*+(?:--[^\n\r]*+)?+[\n\r](?:[{SPACES}]++|--[^\n\r]*+[\n\r]|(?!))*+"
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

RUN, MARK, _SPACE, LINE_COMMENT = "Run", "Mark", "Space", "LineComment"
_ESCAPE, _DOLLAR, _QUOTE, _COMMENT = "Escape", "Literal", "Quote", "Multiline"
_OTHER = "Other"  # a character that fits no rule, such as a backslash
_RULES = (
    (
        rf"[{SPACES}]*+(?![{SPACES}]|\$(?![0-9])|[eE]')(?:{_PIECE}|{_GROUP}|(?!))++;?+",
        RUN,
    ),
    (rf";[;{SPACES}]*+|\(++|\)++", MARK),
    (rf"[{SPACES}]++", _SPACE),
    (r"--[^\n\r]*+", LINE_COMMENT),
    (_ESCAPED, _ESCAPE),
    # what opens here and is closed by _close
    (rf"\$\$[^$]*+\$\$|{_TAG}|\$", _DOLLAR),
    (r"/\*", _COMMENT),
    (r"[eE]?+'|\"", _QUOTE),
)
_OPENERS = frozenset({_ESCAPE, _DOLLAR, _QUOTE, _COMMENT})
COMMENTS = frozenset({LINE_COMMENT, _COMMENT})
IGNORED = COMMENTS | {_SPACE}

_TOKEN = (  # the finest view; the first group is to be ignored, the others open something
    rf"([{SPACES}]++|--[^\n\r]*+)|(/\*|{_TAG}|[eE]')"
    rf"|(?:[bBnNxX]|[uU]&)?+{_LITERAL}|(?:[uU]&)?+\"[^\"]*+(?:\"\"[^\"]*+|(?!))*+\"|(['\"])"
    rf"|{_LETTER}{_INNER}*+|{_NUMBER}|\$[0-9]++"
    r"|(?:[~!@#^&|`?+%<>=*]|-(?!-)|/(?!\*)|(?!))++|:++|\.++|[\s\S]"
)
OUTER_TOKEN = (
    rf"{_LETTER}{_INNER}*+|{_GROUP}|[eE]{_BACKSLASH}|'[^']*+'|\"[^\"]*+\"|{_NUMBER}|[^{SPACES}]"
)
WORD = (  # the next word outside parentheses and quotes; none at the end
    rf"(?:[\x00-!#-&)-/:-@\[-\^`{{-\x7f]++|{_GROUP}|[bBnNxX]?+'[^']*+'|[uU]&(?=['\"])"
    rf"|\"[^\"]*+\"|[eE]{_BACKSLASH}|{_NUMBER}|(?!))*+(?:({_LETTER}{_INNER}*+)|\Z|[\s\S])"
)


@cache
def pattern(rule: str) -> re.Pattern[str]:
    """Compile a rule."""
    return re.compile(rule)  # on first use: start-up does not pay for it


@cache
def _rules() -> tuple[tuple[Callable[[str, int, int], re.Match[str] | None], str], ...]:
    """Give the rules as sqlparse's lexer holds them: what matches, and the kind of token."""
    # Start-up time pays for this import: 30 ms, and not every command reads SQL.
    from sqlparse.lexer import Lexer  # noqa: PLC0415
    from sqlparse.tokens import Token  # noqa: PLC0415

    lexer: Any = Lexer()
    lexer.clear()
    # sqlparse compiles with IGNORECASE, which confuses tags and makes character classes slow
    lexer.set_SQL_REGEX([(f"(?-i:{rule})", getattr(Token, kind)) for rule, kind in _RULES])
    return tuple((match, kinds[-1]) for match, kinds in lexer._SQL_REGEX)


def lex(source: str, start: int, stop: int) -> Iterator[tuple[str, int, int]]:
    """Give the tokens of a part of a text: kind, offset, end; what ends no statement is one.

    This is the loop of sqlparse's `Lexer.get_tokens`, which copies every token and counts its
    characters one by one: that takes as long as the reading.
    """
    rules = _rules()
    at = start
    while at < stop:
        begin, kind = at, _OTHER
        for match, of_kind in rules:
            if found := match(source, begin, stop):
                kind, at = of_kind, found.end()
                break
        else:
            at += 1
        if kind in _OPENERS:
            closed = _close(source, begin, stop)
            if closed is None:
                kind = _QUOTE  # not to be ignored: the server shall complain of a comment, too
            at = closed or stop
        yield kind, begin, at


def reach(rule: str, source: str, at: int, stop: int) -> int:
    """Return where a match of a rule ends that begins here; `stop` if there is none."""
    found = pattern(rule).match(source, at, stop)
    return found.end() if found else stop


def _close(source: str, at: int, stop: int) -> int | None:
    """Find the end of the literal, identifier or comment that opens here; None if it has none."""
    opener = source[at]
    if opener == "/":
        return _close_comment(source, at, stop)
    if opener in "eE":
        literal = pattern(_ESCAPED).match(source, at, stop)
        return literal.end() if literal else None
    if opener == "$":
        tag = pattern(_TAG).match(source, at, stop)
        if tag is None:
            return at + 1  # it opens nothing
        opener = tag[0]
    end = source.find(opener, at + len(opener), stop)
    return end + len(opener) if end >= 0 else None


def _close_comment(source: str, at: int, stop: int) -> int | None:
    depth = 0
    for mark in pattern(r"/\*|\*/").finditer(source, at, stop):
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return mark.end()
    return None


def fine_tokens(source: str, at: int, stop: int) -> Iterator[str]:
    """Give the tokens of a part of a text one by one, without white space and comments."""
    match = pattern(_TOKEN).match
    while found := match(source, at, stop):
        opens = found[2] or found[3]
        closed = _close(source, at, stop) if opens else found.end()
        if not found[1] and (opens != "/*" or closed is None):
            yield source[at : closed or stop]
        at = closed or stop
