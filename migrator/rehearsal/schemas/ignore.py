"""Read the patterns of what a comparison ignores, and match them with objects.

A pattern is a label as `drift` prints it, or a part of one:

    public.events_*                 what has this name, of any kind
    table public.events_*           … of this kind
    index                           everything of this kind
    schema partman                  a schema, and everything in it
    function public.f(integer, *)   without the parentheses: with any arguments
    owner [of OBJECT]               OBJECT is one of the above
    comment [on OBJECT]
    privileges [of ROLE] [on OBJECT]

It also leaves out what belongs to an object: columns, constraints, indexes, triggers, sequences,
owner, comments, privileges.  `*` is any characters of one part of a name, `?` is one character.
Names are folded to lower case unless they are quoted; in quotes, `*` and `?` are literal.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass

_DEFAULTS = ("default privileges", "privileges")
_ATTRIBUTES = {"owner": "of", "comment": "on", "privileges": "on"}
_WITHOUT_SCHEMA = frozenset(
    (
        *("access method", "cast", "default privileges", "event trigger", "extension"),
        *("foreign-data wrapper", "language", "publication", "publication namespace", "schema"),
        *("server", "subscription", "transform", "user mapping"),
    )
)
_WITH_SCHEMA = frozenset(
    (
        *("aggregate", "collation", "column", "column order", "constraint", "conversion"),
        *("domain", "foreign table", "function", "index", "materialized view", "operator"),
        *("operator class", "operator family", "policy", "procedure", "publication relation"),
        *("rule", "sequence", "statistics", "table", "text search configuration"),
        *("text search dictionary", "text search parser", "text search template", "trigger"),
        *("type", "view"),
    )
)
_WITH_ARGUMENTS = (None, "aggregate", "cast", "function", "operator", "procedure")
_WITH_REST = frozenset(
    (
        *("default privileges", "operator class", "operator family", "publication namespace"),
        *("publication relation", "transform", "user mapping"),
    )
)
KINDS = _WITHOUT_SCHEMA | _WITH_SCHEMA
"""The kinds of objects that a pattern may name."""

_KIND = re.compile(
    rf"({'|'.join(sorted(KINDS, key=len, reverse=True))})(?=\s|$)".replace(" ", r"\s+")
)
_PART = re.compile(r'"((?:[^"]|"")*)"|([^\s."()]+)')
_IN_SCHEMA = re.compile(r' in schema ("(?:[^"]|"")*"|\S+)')


class PatternError(ValueError):
    """A pattern that cannot be read; the message says why, and where."""


@dataclass(frozen=True, slots=True)
class _Name:
    """A name in a label or a pattern.

    Attributes:
        parts: Each part, and whether it was quoted; none for `(a AS b)`, a cast.
        arguments: The text between the parentheses; None without them.
        rest: What follows, such as `USING btree`.
    """

    parts: tuple[tuple[str, bool], ...]
    arguments: str | None
    rest: str


@dataclass(frozen=True, slots=True)
class _Object:
    """A pattern of objects; None is any."""

    kind: str | None
    name: _Name | None

    def matches(self, kind: str, name: _Name) -> bool:
        if self.kind == "schema" and kind != "schema":
            return self.name is not None and _is_in_schema(self.name, kind, name)
        if self.kind not in (kind, None) or (self.kind is None and kind not in _WITH_SCHEMA):
            return False
        return self.name is None or _matches(self.name, name)


@dataclass(frozen=True, slots=True)
class Pattern:
    """What to leave out.

    Attributes:
        text: As it was given.
        attribute: `owner`, `comment` or `privileges`; None for objects.
        role: Whose privileges, and whether it was quoted; None for those of all roles.
        target: The objects, or those with the attribute; None for all.
    """

    text: str
    attribute: str | None = None
    role: tuple[str, bool] | None = None
    target: _Object | None = None

    def matches(self, chain: Iterable[tuple[str, str]]) -> bool:
        """Whether an object is ignored.

        Args:
            chain: Kind and name of the object, then of those that it belongs to.
        """
        (kind, name), *others = chain
        if self.attribute:
            is_it = kind == self.attribute or (kind, self.attribute) == _DEFAULTS
            if not is_it or (self.role and not self._is_role(name)):
                return False
            return self.target is None or any(self._is_target(*each) for each in others)
        return self._is_target(kind, name) or any(self._is_target(*each) for each in others)

    def _is_target(self, kind: str, name: str) -> bool:
        return self.target is not None and self.target.matches(kind, _of_label(name))

    def _is_role(self, name: str) -> bool:
        role = _PART.match(name, len("of "))
        is_owner = name.startswith("of its owner ")
        found = "its owner" if is_owner or role is None else _text_of(role)[0]
        return self.role is not None and _same(self.role, found)


def parse(text: str) -> Pattern:
    """Read a pattern.

    Raises:
        PatternError: It cannot be read.
    """
    reader = _Reader(text)
    if reader.is_at_end():
        raise PatternError("it is empty")
    attribute = next((each for each in _ATTRIBUTES if reader.word(each)), None)
    if attribute is None:
        return Pattern(text, target=reader.object())
    role = reader.role() if attribute == "privileges" and reader.word("of") else None
    if reader.word(_ATTRIBUTES[attribute]):
        return Pattern(text, attribute, role, reader.object())
    if not reader.is_at_end():
        reader.fail(f'expected "{_ATTRIBUTES[attribute]}"')
    return Pattern(text, attribute, role)


class _Reader:
    """Reads a pattern from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._skip()

    def is_at_end(self) -> bool:
        return self._at == len(self._text)

    def fail(self, why: str) -> None:
        raise PatternError(f"{why} at character {self._at + 1}")

    def word(self, word: str) -> bool:
        """Read a word if it comes next."""
        pattern = word.replace(" ", r"\s+")
        found = re.compile(rf"{pattern}(?=\s|$)").match(self._text, self._at)
        if found:
            self._at = found.end()
            self._skip()
        return found is not None

    def role(self) -> tuple[str, bool]:
        if self.word("its owner"):
            return "its owner", True
        role = self._part()
        self._skip()
        return role

    def object(self) -> _Object:
        kind = _KIND.match(self._text, self._at)
        if kind:
            self._at = kind.end()
            self._skip()
        found = " ".join(kind[1].split()) if kind else None
        if self.is_at_end():
            if found is None or found == "schema":
                self.fail("expected a name")
            return _Object(found, None)
        return _Object(found, self._name(found))

    def _name(self, kind: str | None) -> _Name:
        start = self._at
        parts = [] if kind == "cast" else [self._part()]
        while self._text.startswith(".", self._at):
            self._at += 1
            parts.append(self._part())
        if kind is None and len(parts) < 2:
            self._at = start
            self._fail_kindless(parts[0][0])
        has_arguments = kind in _WITH_ARGUMENTS and self._text.startswith("(", self._at)
        arguments = self._arguments() if has_arguments else None
        rest = self._text[self._at :]
        self._skip()
        if not self.is_at_end() and (kind not in _WITH_REST or not rest[0].isspace()):
            self.fail(f'unexpected "{self._text[self._at :].split()[0]}"')
        return _Name(tuple(parts), arguments, rest)

    def _part(self) -> tuple[str, bool]:
        part = _PART.match(self._text, self._at)
        if part is None:
            is_open = self._text.startswith('"', self._at)
            self.fail("unterminated quoted name" if is_open else "expected a name")
        assert part is not None
        self._at = part.end()
        return _text_of(part)

    def _arguments(self) -> str:
        end = self._text.rfind(")")
        if end < self._at:
            self.fail('"(" is not closed')
        arguments = self._text[self._at + 1 : end]
        self._at = end + 1
        return arguments

    def _fail_kindless(self, word: str) -> None:
        close = difflib.get_close_matches(word, [*KINDS, *_ATTRIBUTES], n=1)
        self.fail(
            f'"{word}" is neither a kind of object{f" (did you mean {close[0]}?)" if close else ""}'
            " nor a name with its schema, such as public.orders,"
        )

    def _skip(self) -> None:
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1


def _text_of(part: re.Match[str]) -> tuple[str, bool]:
    """Return the text of a part, and whether it was quoted."""
    if part[1] is not None:
        return part[1].replace('""', '"'), True
    return part[2].lower(), False


def _of_label(text: str) -> _Name:
    """Read the name in a label, as far as it goes."""
    parts = []
    at = 0
    while part := _PART.match(text, at):
        parts.append(_text_of(part))
        at = part.end()
        if not text.startswith(".", at):
            break
        at += 1
    arguments = None
    if text.startswith("(", at):
        end = text.rfind(")")
        arguments, at = text[at + 1 : end], end + 1
    return _Name(tuple(parts), arguments, text[at:])


def _matches(pattern: _Name, name: _Name) -> bool:
    return (
        len(pattern.parts) == len(name.parts)
        and all(
            _same(one, other) for one, (other, _) in zip(pattern.parts, name.parts, strict=True)
        )
        and (pattern.arguments is None or _same_text(pattern.arguments, name.arguments or ""))
        and (not pattern.rest.strip() or _same_text(pattern.rest, name.rest))
    )


def _is_in_schema(pattern: _Name, kind: str, name: _Name) -> bool:
    inner = _IN_SCHEMA.search(name.rest)
    if inner and kind == "default privileges":
        schema = _of_label(inner[1]).parts[0][0]
    elif kind in _WITH_SCHEMA or kind == "publication namespace":
        schema = name.parts[0][0]
    else:
        return False
    return len(pattern.parts) == 1 and _same(pattern.parts[0], schema)


def _same(pattern: tuple[str, bool], text: str) -> bool:
    expected, is_quoted = pattern
    return expected == text if is_quoted else _glob(expected, text)


def _same_text(pattern: str, text: str) -> bool:
    one, other = (
        re.sub(r"\s*,\s*", ",", " ".join(each.lower().split())) for each in (pattern, text)
    )
    return one == other or _glob(one, other)


def _glob(pattern: str, text: str) -> bool:
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))
