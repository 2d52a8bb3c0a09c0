r"""Read the names in SQL as PostgreSQL does.

A name is a word, whose ASCII letters are folded; `"…"` with doubled quotes; or `U&"\0061"` with an
escape of its own (`UESCAPE '!'`).  Up to two qualifiers come before it: `database.schema.name`.
See "Identifiers and Key Words" in the chapter on SQL syntax of PostgreSQL's manual.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

_LONGEST = 63  # bytes: NAMEDATALEN - 1
_ASCII_CAPITALS = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_WORD = re.compile(r"[^\x00-@\[-\^`{-\x7f][^\x00-#%-/:-@\[-\^`{-\x7f]*")
_PREFIX = re.compile(r"(?:[bBeEnNxX]|[uU]&)(?=['\"])")
_SIMPLE = re.compile(r"[a-z_][a-z0-9_$]*")


def names(tokens: Sequence[str]) -> Iterator[tuple[str, ...]]:
    r"""Yield every name among the tokens of a statement, keywords included, as the catalog has it.

    A qualified name is a tuple of its parts.

    >>> list(names(["On", "s", ".", 'U&"\\0061""b"']))
    [('on',), ('s', 'a"b')]
    """
    at = 0
    while at < len(tokens):
        name, end = read(tokens, at)
        if name:
            yield name
        at = max(end, at + 1)


def read(tokens: Sequence[str], at: int = 0) -> tuple[tuple[str, ...], int]:
    """Return the name that begins at a token, as the catalog has it, and where it ends.

    The name is empty if none begins there.
    """
    parts: list[str] = []
    while (part := _part(tokens, at)) is not None:
        parts.append(part)
        at += 3 if _escape(tokens, at) else 1
        if tokens[at : at + 1] != ["."] or _part(tokens, at + 1) is None:
            break
        at += 1
    return tuple(parts), at


def quoted(name: Iterable[str]) -> str:
    """Write a name in SQL, quoted where that is needed.

    >>> quoted(("s", "A b"))
    's."A b"'
    """
    return ".".join(part if _SIMPLE.fullmatch(part) else in_quotes(part) for part in name)


def in_quotes(name: str) -> str:
    """Write a name in SQL, quoted in any case: it may be a keyword.

    >>> in_quotes('a"b')
    '"a""b"'
    """
    return '"' + name.replace('"', '""') + '"'


def folded(tokens: Iterable[str]) -> Iterator[str]:
    """Yield the tokens of a statement without differences of letter case that have no meaning.

    Quoted names, literals and the bodies of functions stay as they are.

    >>> list(folded(["SELECT", "E'A'", '"A"', "É"]))
    ['select', "e'A'", '"A"', 'É']
    """
    before, is_body = "", False
    for token in tokens:
        same = token if is_body else _folded(token)
        is_body = is_body or (before, same) == ("begin", "atomic")
        yield same
        before = same


def _folded(token: str) -> str:
    if prefix := _PREFIX.match(token):
        return prefix[0].lower() + token[prefix.end() :]
    return token.translate(_ASCII_CAPITALS) if _WORD.fullmatch(token) else token


def _part(tokens: Sequence[str], at: int) -> str | None:
    token = tokens[at] if at < len(tokens) else ""
    if token[:3].lower() == 'u&"':
        part = _unescaped(token[3:-1].replace('""', '"'), _escape(tokens, at) or "\\")
    elif token[:1] == '"':
        part = token[1:-1].replace('""', '"')
    elif _WORD.fullmatch(token):
        # PostgreSQL folds letters beyond ASCII in encodings of one byte only.
        part = token.translate(_ASCII_CAPITALS)
    else:
        return None
    return part.encode(errors="replace")[:_LONGEST].decode(errors="ignore")


def _escape(tokens: Sequence[str], at: int) -> str | None:
    """Return the escape character that follows a name with escapes; None if none does."""
    after = tokens[at + 1 : at + 3]
    is_given = len(after) == 2 and after[0].lower() == "uescape"
    return after[1][1:2] if is_given and tokens[at][:2].lower() == "u&" else None


def _unescaped(text: str, escape: str) -> str:
    mark = re.escape(escape)
    code = re.compile(rf"{mark}(?:([0-9a-fA-F]{{4}})|\+([0-9a-fA-F]{{6}})|{mark})")

    def character(found: re.Match[str]) -> str:
        number = int(found[1] or found[2] or "0", 16)
        return escape if found[0] == escape * 2 else chr(min(number, 0x10FFFF))

    # A character beyond the first plane may be written as two surrogates.
    units = code.sub(character, text).encode("utf-16-le", "surrogatepass")
    return units.decode("utf-16-le", "replace")
