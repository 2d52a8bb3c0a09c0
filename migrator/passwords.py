"""Hide the passwords in SQL."""

from __future__ import annotations

import re
from collections.abc import Iterator

HIDDEN = "****"

_WORD = re.compile(
    r"(?i)(?<![a-z0-9_$])(?:ssl)?password(?![a-z0-9_$])(?:\"(?=\s*:|\s+(?:e|n|u&)?'|\s+\$))?"
)
_COMMENT = r"/\*.*?\*/|--[^\n]*\n"
_BETWEEN = re.compile(rf"(?:\s|{_COMMENT})*(?:(?::=|=>|=|:)(?:\s|{_COMMENT})*)?", re.DOTALL)
_PREFIX = re.compile(r"(?i)(?:e|n|u&)(?=')")
_OPENING = re.compile(r"\$(?:[^\W\d]\w*)?\$|\\\\?'|\"(?=[^\"]*\")")
_QUOTES = re.compile("'+")
_EMPTY = re.compile(r"''(?=[\s;,)]|$)")
# A literal ends with its line at the latest: only a part of it may be there.
_PLAIN, _ESCAPED = re.compile(r"(?:[^'\n]|'')*"), re.compile(r"(?:[^'\\\n]|''|\\.)*")
# The literal that contains the word ends here, so its value is something else.
_ENDING = re.compile(r"'+\s*[,)]")
# A value without quotes belongs to a connection string, where it ends with white space.
_BARE = re.compile(r"[^\s'\"();,$%|]+(?![\w(])")
# The value is an argument of `format` or of a function, or what a string is joined with.
_ARGUMENT = re.compile(r"'*%[\d$]*-?[LIs][^'$]*(?:'+|\$\w*\$)?|'+\s*\|\|")
_CALL = re.compile(r"[\w.]+\s*\(")
_LITERAL = re.compile(r"'((?:[^'\n]|'')*)(?:'|$)|(\$(?:[^\W\d]\w*)?\$)(.*?)(?:\2|$)", re.MULTILINE)
_URL = re.compile(r"(?<=://)[^\s:/@'\"]*:(?!password@)[^\s@'\"]+(?=@)")


def without_passwords(text: str, *, aligned: bool = False) -> str:
    r"""Replace every value that follows the word `password` by asterisks.

    The value may be a literal of any kind, in a literal itself, in a connection string or in the
    arguments of `format`.  The end of a text may be missing.

    Args:
        aligned: Put as many asterisks as the value has characters.

    >>> without_passwords("alter role r password 'x'; select 1")
    "alter role r password '****'; select 1"
    >>> without_passwords("execute 'alter role r password ''x'''")
    "execute 'alter role r password ''****'''"
    >>> without_passwords("execute format('create role r password %L', 'x'); select 'y'")
    "execute format('create role r password %L', '****'); select 'y'"
    >>> without_passwords("connection 'host=h password=x user=u'")
    "connection 'host=h password=**** user=u'"
    >>> without_passwords("options (user 'u', \"password\" 'x')")
    'options (user \'u\', "password" \'****\')'
    >>> without_passwords("insert into users (password) values ($1)")
    'insert into users (password) values ($1)'
    """
    if "://" in text:
        text = _URL.sub(lambda url: _hidden(url[0], aligned=aligned), text)
    if not _WORD.search(text):
        return text
    parts, done = [], 0
    for start, end in _values(text):
        if start >= done:
            value = text[start:end]
            is_hidden = not value.strip("*")
            parts += [text[done:start], value if is_hidden else _hidden(value, aligned=aligned)]
            done = end
    return "".join([*parts, text[done:]])


def _hidden(value: str, *, aligned: bool) -> str:
    return "*" * len(value) if aligned else HIDDEN


def _values(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each password begins and ends."""
    for word in _WORD.finditer(text):
        between = _BETWEEN.match(text, word.end())
        start = between.end() if between else word.end()
        is_assigned = between is not None and between[0].rstrip()[-1:] in ("=", ">", ":")
        if prefix := _PREFIX.match(text, start):
            start = prefix.end()
        if (argument := _ARGUMENT.match(text, start)) or (
            is_assigned and (argument := _CALL.match(text, start))
        ):
            yield from _literals(text, argument.end())
        elif _ENDING.match(text, start):
            yield start + 1, _find(text, ";", start)
        elif text.startswith("'", start):
            yield from _quoted(text, start, escapes=prefix is not None)
        elif opening := _OPENING.match(text, start):
            yield opening.end(), _find(text, opening[0], opening.end())
        elif is_assigned and (bare := _BARE.match(text, start)):
            yield bare.span()


def _quoted(text: str, start: int, *, escapes: bool) -> Iterator[tuple[int, int]]:
    """Yield where the value of a literal begins and ends; one in a literal has two quotes."""
    quotes = _QUOTES.match(text, start)
    number = len(quotes[0]) if quotes else 1
    if number % 2 == 0:
        if not _EMPTY.match(text, start):
            yield start + number, _find(text, "'" * number, start + number)
        return
    rest = _ESCAPED if escapes else _PLAIN
    found = rest.match(text, start + 1)
    yield start + 1, found.end() if found else len(text)


def _literals(text: str, start: int) -> Iterator[tuple[int, int]]:
    """Yield where the literals between a place and the end of its statement begin and end."""
    last = start
    for found in _LITERAL.finditer(text, start):
        if ";" in text[last : found.start()]:
            return
        yield found.span(1 if found[1] is not None else 3)
        last = found.end()


def _find(text: str, what: str, start: int) -> int:
    end = text.find("\n", start)
    end = end if end >= 0 else len(text)
    found = text.find(what, start, end)
    return found if found >= 0 else end
