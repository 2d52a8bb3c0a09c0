"""Name what the statements of a script create, drop and alter, as far as their text tells."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from . import names, splitter
from .script import Script, Statement

_OF_TABLES = ("trigger", "policy", "rule")
_GROUPS = {
    **dict.fromkeys(("view", "table", "sequence", "index"), "relation"),
    **dict.fromkeys(("function", "procedure", "aggregate", "routine"), "routine"),
    **dict.fromkeys(("type", "domain"), "type"),
    **{kind: kind for kind in _OF_TABLES},
}
"""Names are unique within a group, and those of the last three on a table."""

_OWNED = {*_GROUPS, "schema"}

_ADJECTIVES = frozenset(
    ("or", "replace", "recursive", "unlogged", "materialized", "foreign", "constraint", "unique")
)
_MODES = frozenset(["in", "out", "inout", "variadic"])
_ALIASES = {
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "int2": "smallint",
    "bool": "boolean",
}
_CONTEXT = frozenset(["role", "authorization", "all", "search_path", "schema", "set_config"])
_LONGEST = 1000  # tokens of the statement that are read


@dataclass(frozen=True, slots=True)
class Made:
    """An object that a statement creates or drops.

    Attributes:
        kind: As the statement calls it, such as `view`.
        name: As the catalog has it, with its schema if the statement has it.
        table: The table of a trigger, policy or rule, likewise; empty for others.
        arguments: The tokens of each argument that a routine takes; None if they are not given,
            and for other objects.
    """

    kind: str
    name: tuple[str, ...]
    table: tuple[str, ...] = ()
    arguments: tuple[tuple[str, ...], ...] | None = None

    def __str__(self) -> str:
        on = f" on {names.quoted(self.table)}" if self.table else ""
        return f"{self.kind} {names.quoted(self.name)}{on}"

    @property
    def group(self) -> str:
        """The kinds among which its name is unique, such as `relation`."""
        return _GROUPS.get(self.kind, self.kind)

    def is_same(self, other: Made) -> bool:
        """Whether both are one object; a name without a schema is taken to be in `public`."""
        return (
            self.group == other.group
            and _qualified(self.name) == _qualified(other.name)
            and _qualified(self.table) == _qualified(other.table)
            and _are_alike(self.arguments, other.arguments)
        )


def created(script: Script) -> Iterator[Made]:
    """Yield what a script creates and keeps, in its order; temporary objects are left out."""
    for statement in _statements(script):
        if statement.words[:1] == ("create",):
            yield from _created(list(islice(splitter.tokens(statement.text), _LONGEST)))


def dropped(script: Script) -> Iterator[Made]:
    """Yield what a script drops by name, in its order; not what CASCADE drops besides."""
    for statement in _statements(script):
        if statement.words[:1] == ("drop",):
            yield from _dropped(list(islice(splitter.tokens(statement.text), _LONGEST)))


def changed(script: Script) -> Iterator[tuple[Made, bool]]:
    """Yield what a script alters or drops by name, and whether it drops it.

    What it has created itself is left out, and all that follows a SET ROLE or a search path.
    """
    own: list[Made] = []
    for statement in _statements(script):
        words = statement.words
        if words[:1] in (("set",), ("reset",), ("select",)) and _CONTEXT & set(words):
            return
        tokens = list(islice(splitter.tokens(statement.text), _LONGEST))
        if words[:1] == ("create",):
            own += _created(tokens)
        elif words[:1] in (("drop",), ("alter",)):
            for made in _dropped(tokens, _OWNED):
                if not any(made.is_same(each) for each in own):
                    yield made, words[0] == "drop"


def _statements(script: Script) -> Iterator[Statement]:
    return (statement for unit in script.units for statement in unit.statements)


def _created(tokens: Sequence[str]) -> Iterator[Made]:
    at = 1
    while tokens[at : at + 1] and tokens[at].lower() in _ADJECTIVES:
        at += 1
    kind = tokens[at].lower() if at < len(tokens) else ""
    if kind not in _GROUPS:
        return
    at = _after(tokens, at + 1, "concurrently", "if", "not", "exists")
    name, end = names.read(tokens, at)
    if not name or name == ("on",):
        return
    table = _table(tokens, end, "to" if kind == "rule" else "on") if kind in _OF_TABLES else ()
    arguments, _ = _arguments(tokens, end) if _GROUPS[kind] == "routine" else (None, end)
    yield Made(kind, name, table, arguments)


def _dropped(tokens: Sequence[str], kinds: Collection[str] = _GROUPS) -> Iterator[Made]:
    at = _after(tokens, 1, "materialized", "foreign")
    kind = tokens[at].lower() if at < len(tokens) else ""
    if kind not in kinds:
        return
    at = _after(tokens, at + 1, "concurrently", "if", "exists", "only")
    while True:
        name, at = names.read(tokens, at)
        if not name:
            return
        table = _table(tokens, at, "on") if kind in _OF_TABLES else ()
        made = Made(kind, name, table)
        if made.group == "routine":
            arguments, at = _arguments(tokens, at)
            made = replace(made, arguments=arguments)
        yield made
        if tokens[at : at + 1] != [","]:
            return
        at += 1


def _after(tokens: Sequence[str], at: int, *words: str) -> int:
    while at < len(tokens) and tokens[at].lower() in words:
        at += 1
    return at


def _table(tokens: Sequence[str], at: int, word: str) -> tuple[str, ...]:
    """Return the table after the first `word`; empty without one."""
    for place in range(at, len(tokens)):
        if tokens[place].lower() == word:
            return names.read(tokens, _after(tokens, place + 1, "only"))[0]
    return ()


def _arguments(tokens: Sequence[str], at: int) -> tuple[tuple[tuple[str, ...], ...] | None, int]:
    """Return the arguments in the parentheses that begin here, and where these end."""
    if tokens[at : at + 1] != ["("]:
        return None, at
    depth, found, current = 0, list[tuple[str, ...]](), list[str]()
    for place in range(at, len(tokens)):
        text = tokens[place]
        depth += {"(": 1, ")": -1}.get(text, 0)
        if (text == "," and depth == 1) or not depth:
            found += _argument(current)
            current = []
            if not depth:
                return tuple(found), place + 1
        elif place > at:
            current.append(text)
    return None, len(tokens)


def _argument(tokens: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the name and type of an argument; nothing if it is only a result."""
    folded = list(names.folded(tokens))
    mode = folded[0] if folded and folded[0] in _MODES else "in"
    rest = folded[1:] if folded[:1] == [mode] else folded
    end = next((at for at, token in enumerate(rest) if token in ("default", "=")), len(rest))
    if rest and mode != "out":
        yield tuple(_ALIASES.get(word, word) for word in rest[:end])


def _qualified(name: tuple[str, ...]) -> tuple[str, ...]:
    return ("public", *name) if len(name) == 1 else name


def _are_alike(
    ours: tuple[tuple[str, ...], ...] | None, theirs: tuple[tuple[str, ...], ...] | None
) -> bool:
    """Whether two lists of arguments may be the same; only one of them may have their names."""
    if ours is None or theirs is None:
        return True
    return len(ours) == len(theirs) and all(
        longer[len(longer) - len(shorter) :] == shorter
        or (len(shorter) > 1 and longer[1:] == shorter[1:])
        for shorter, longer in (sorted(pair, key=len) for pair in zip(ours, theirs, strict=True))
    )


def named_in(made: Iterable[Made], text: str) -> tuple[Made, ...]:
    """Return the objects whose name is a word of a text, such as a server's message."""
    found = set(names.names(list(splitter.tokens(text))))
    words = found | {name[-1:] for name in found}
    return tuple(
        each for each in made if all(not n or n[-1:] in words for n in (each.name, each.table))
    )
