"""Read which tables a statement names and writes, also within WITH and in the body of a DO."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from . import names, splitter
from .script import Statement

_FIRST_WORDS = frozenset(["insert", "update", "delete", "merge", "with", "copy", "do"])
_MOST = 20_000  # tokens: the end of a long list of values names no table
_NOT_UPDATE = frozenset(["for", "key", "do", "on", "then", "before", "after", "or", "of"])
_BODY = re.compile(r"(?P<tag>\$[^$]*\$|')(?P<text>.*)(?P=tag)", re.DOTALL)
_END_OF_SET = frozenset(["from", "where", "returning"])
_ALWAYS = (["true"], ["1", "=", "1"])


@dataclass(frozen=True, slots=True)
class Write:
    """One INSERT, UPDATE, DELETE, MERGE or COPY in a statement.

    Attributes:
        verb: `insert`, `update`, `delete`, `copy`, and for MERGE each of the first three.
        name: Of the table, with its schema if that is given, as the catalog has it.
        is_whole: Whether it is an UPDATE or DELETE of all rows, without a condition.
        is_query: Whether it is an INSERT of the rows of a query.
        columns: Those that an UPDATE sets or an INSERT lists; empty if they are not known.
        handles_conflict: Whether it is an INSERT with ON CONFLICT.
    """

    verb: str
    name: tuple[str, ...]
    is_whole: bool = False
    is_query: bool = False
    columns: tuple[str, ...] = ()
    handles_conflict: bool = False

    def is_of(self, relation: str) -> bool:
        """Whether it may be about a relation, given with its schema and quoted as in SQL.

        >>> Write("update", ("t",)).is_of('s."t"'), Write("update", ("a", "t")).is_of("s.t")
        (True, False)
        """
        name, _ = names.read(list(splitter.tokens(relation)))
        return self.name[-2:] in (name, name[-1:])


def writes(statement: Statement) -> tuple[Write, ...]:
    """Return what a statement writes by its text, in its order.

    >>> [w.verb for w in writes(next(splitter.split("with x as (delete from a) update b set c=1")))]
    ['delete', 'update']
    """
    if statement.words[:1] and statement.words[0] not in _FIRST_WORDS:
        return ()
    tokens = list(islice(splitter.tokens(statement.text), _MOST))
    if statement.words[:1] != ("do",):
        return tuple(_writes(tokens))
    bodies = (_BODY.fullmatch(token) for token in tokens)
    return tuple(
        write
        for body in bodies
        if body
        for write in _writes(list(islice(splitter.tokens(body["text"]), _MOST)))
    )


def set_columns(tokens: Sequence[str]) -> frozenset[str] | None:
    """Return the columns that an UPDATE sets, quoted as in SQL; None if they cannot be read.

    >>> sorted(set_columns("update t set a = ( 1 , 2 ) , ( b , c ) = ( 3 , 4 ) where d".split()))
    ['a', 'b', 'c']
    """
    words = [token.lower() for token in tokens]
    start = words.index("set") + 1 if "set" in words else len(words)
    return frozenset(names.quoted([each]) for each in _columns(tokens, words, start)) or None


def _writes(tokens: Sequence[str]) -> Iterator[Write]:
    words = [token.lower() for token in tokens]
    for at, word in enumerate(words):
        before, after = words[at - 1] if at else "", words[at + 1] if at + 1 < len(words) else ""
        match word, after:
            case "update", _ if before not in _NOT_UPDATE:
                yield from _update(tokens, words, at)
            case "delete", "from" if before != "on":
                name, end = _name(tokens, words, at + 2)
                is_whole = _is_whole(words, end) and "using" not in _part(words, end)
                yield Write("delete", name, is_whole)
            case "insert", "into":
                name, end = _name(tokens, words, at + 2)
                part = set(_part(words, end))
                is_query = not {"values", "default"} & part and bool(_QUERY & part)
                columns = tuple(_listed(tokens, words, end))
                handles = ("on", "conflict") in pairwise(_part(words, end))
                yield Write(
                    "insert", name, is_query=is_query, columns=columns, handles_conflict=handles
                )
            case "merge", "into":
                name, end = _name(tokens, words, at + 2)
                verbs = [b for a, b in pairwise(_part(words, end)) if a == "then"]
                yield from (Write(verb, name) for verb in dict.fromkeys(verbs) if verb in _VERBS)
            case "copy", _ if at == 0 and "from" in _part(words, 0):
                yield Write("copy", _name(tokens, words, 1)[0])


_QUERY = {"select", "table", "with", "("}
_VERBS = ("insert", "update", "delete")


def _update(tokens: Sequence[str], words: Sequence[str], at: int) -> Iterator[Write]:
    name, end = _name(tokens, words, at + 1)
    start = next((i for i in range(end, min(end + 4, len(words))) if words[i] == "set"), None)
    if name and start is not None:
        yield Write(
            "update", name, _is_whole(words, end), columns=tuple(_columns(tokens, words, start + 1))
        )


def _name(tokens: Sequence[str], words: Sequence[str], at: int) -> tuple[tuple[str, ...], int]:
    at += words[at : at + 1] == ["only"]
    return names.read(tokens, at)


def _part(words: Sequence[str], start: int) -> list[str]:
    """Return the words from a place to the end of its command, without those in parentheses."""
    found, depth = [], 0
    for word in words[start:]:
        if depth == 0 and word in (")", ";"):
            break
        if depth == 0:
            found.append(word)
        depth += (word == "(") - (word == ")")
    return found


def _is_whole(words: Sequence[str], start: int) -> bool:
    part = _part(words, start)
    if "where" not in part:
        return True
    condition = part[part.index("where") + 1 :]
    if "returning" in condition:
        condition = condition[: condition.index("returning")]
    return condition in _ALWAYS


def _listed(tokens: Sequence[str], words: Sequence[str], at: int) -> Iterator[str]:
    """Yield the columns that an INSERT lists after the name of the table."""
    at += 2 * (words[at : at + 1] == ["as"])
    if words[at : at + 1] != ["("] or words[at + 1 : at + 2] == ["select"]:
        return
    for place, word in enumerate(words[at + 1 :], at + 1):
        if word == ")":
            return
        if words[place - 1] in ("(", ","):
            yield from names.read(tokens, place)[0][:1]


def _columns(tokens: Sequence[str], words: Sequence[str], at: int) -> Iterator[str]:
    """Yield the columns of a SET, from its first token on."""
    depth, is_target = 0, True
    for place in range(at, len(tokens)):
        word = words[place]
        if depth == 0 and (word in _END_OF_SET or word in (")", ";")):
            return
        depth += (word in ("(", "[")) - (word in (")", "]"))
        if depth == 0 and word in ("=", ","):
            is_target = word == ","
        elif is_target and word not in ("(", ")", ","):
            is_first = words[place - 1] in ("set", ",", "(")
            name, _ = names.read(tokens, place)
            if is_first and name:
                yield name[0]
