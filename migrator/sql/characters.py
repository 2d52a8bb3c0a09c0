"""Find the characters in SQL that an editor does not show, or that look like other ones."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from . import splitter
from .script import Statement

_BLANKS = " \t\n\r\f\v"
_UNSEEN = frozenset(["Cc", "Cf", "Zs", "Zl", "Zp"])
# Dashes, quotes, other punctuation, mathematical signs, accents without a letter.
_ALIKE = frozenset(["Pd", "Pi", "Pf", "Ps", "Pe", "Po", "Sm", "Sk"])
_QUOTES = {"‘": "'", "’": "'", "‚": "'", "‛": "'", "“": '"', "”": '"', "„": '"', "‟": '"'}
_DASHES = frozenset("‐‑‒–—―−")
_LITERAL = re.compile(r"(?:[bBeEnNxX]|[uU]&)?'|\$(?![0-9])")
_FULL_WIDTH = range(0xFF01, 0xFF5F)
_OTHER_ALPHABETS = ("CYRILLIC ", "GREEK ")


def find(statement: Statement, near: int) -> tuple[int, str] | None:
    """Return the suspicious character of a statement that is nearest to a place; None without one.

    Those in comments, and in literals that the place is not in, are meant.

    Args:
        near: An offset in the statement's source.

    Returns:
        Its offset in the source, and the character.
    """
    found = [
        (at + offset, character)
        for at, token in code(statement)
        for offset, character in _suspects(token, near - at)
    ]
    return min(found, key=lambda each: abs(each[0] - near), default=None)


def code(statement: Statement) -> Iterator[tuple[int, str]]:
    """Yield the tokens of a statement, without its comments, with their offsets in the source."""
    text, start = statement.text, statement.offset
    for at, comment, _ in splitter.comments(statement.source, start, statement.end):
        blank = " " * len(comment)
        text = text[: at - start] + blank + text[at - start + len(comment) :]
    at = 0
    for token in splitter.tokens(statement.text):
        if (found := text.find(token, at)) >= 0:
            yield start + found, token
            at = found + len(token)


def describe(character: str) -> str:
    r"""Name a character by its code point, and say what to write in its place.

    >>> describe("\u00a0"), describe("\u200b")
    ('U+00A0 (no-break space): write a space', 'U+200B (zero width space): remove it')
    >>> describe("；")
    'U+FF1B (fullwidth semicolon): write ;'
    """
    name = unicodedata.name(character, "control character").lower()
    return f"U+{ord(character):04X} ({name}): {_remedy(character)}"


def _remedy(character: str) -> str:
    plain = _QUOTES.get(character) or unicodedata.normalize("NFKC", character)
    if character in _DASHES:
        plain = "-"
    category = unicodedata.category(character)
    if category in ("Zl", "Zp"):
        return "write a line end"
    if plain == " " or category == "Zs":
        return "write a space"
    if len(plain) == 1 and plain.isascii() and plain.isprintable():
        return f"write {plain}"
    if category in _UNSEEN:
        return "remove it"
    return "write the character of your keyboard that looks like it"


def _suspects(token: str, near: int) -> Iterator[tuple[int, str]]:
    start, end, categories = 0, len(token), _UNSEEN | _ALIKE
    if _LITERAL.match(token):
        if not 0 <= near < len(token) or token[0] != "$":
            return
        start, end = near, near + len(re.split(rf"[{_BLANKS}]", token[near:], maxsplit=1)[0])
    elif token.startswith('"'):
        categories = _UNSEEN
    is_mixed = bool(re.search("[A-Za-z]", token[start:end]))
    for offset in range(start, end):
        if _is_suspect(token[offset], categories, is_mixed=is_mixed):
            yield offset, token[offset]


def _is_suspect(character: str, categories: frozenset[str], *, is_mixed: bool) -> bool:
    category = unicodedata.category(character)
    if character.isascii():
        return category == "Cc" and character not in _BLANKS
    is_foreign = is_mixed and unicodedata.name(character, "").startswith(_OTHER_ALPHABETS)
    return category in categories or ord(character) in _FULL_WIDTH or is_foreign
