"""Write the differences between two schemas, as lines and as JSON."""

from __future__ import annotations

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from .schema import Difference, Sign

_WIDTH = 120  # characters of a definition in a line
_IDENTIFIER = r'(?:"(?:[^"]|"")*"|[^\s."(]+)'
# The name is already in front of it.
_HEAD = re.compile(
    rf"CREATE (UNIQUE |CONSTRAINT )?(?:INDEX|TRIGGER|RULE|STATISTICS) {_IDENTIFIER}"
    rf"(?:\.{_IDENTIFIER})? |CREATE OR REPLACE (?:FUNCTION|PROCEDURE) .*"
)
_WITH_COLON = ("comment", "default privileges", "materialized view", "owner", "privileges", "view")
_CHANGES = {Sign.ADDED: "added", Sign.REMOVED: "removed", Sign.CHANGED: "changed"}


def difference_lines(differences: Iterable[Difference]) -> Iterator[str]:
    """Write differences as lines: a sign, the object and its definition; below it what changed.

    Objects that were added, removed or changed with another one, such as the columns of a table
    or of partitions, are only counted in the line of that one.
    """
    for each, parts in grouped(differences):
        yield f"{each.sign} {each.label}{_definition(each)}{counted_parts(parts)}"
        if each.before is not None and each.after is not None:
            yield from _diff(each.before, each.after)


def grouped(differences: Iterable[Difference]) -> list[tuple[Difference, Counter[str]]]:
    """Return the differences that have a line of their own, with the kinds of their parts."""
    every = tuple(differences)
    by_label = {each.label: each for each in every}
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    shown = []
    for each in every:
        if root := _root(each, by_label):
            counts[root][each.kind] += each.kind != "owner"  # every object has one
        else:
            shown.append(each)
    return [(each, counts[each.label]) for each in shown]


def count(differences: Iterable[Difference]) -> int:
    """Count the objects that have a line of their own."""
    return len(grouped(differences))


def differences_json(differences: Iterable[Difference]) -> list[dict[str, str | None]]:
    """Return all differences as JSON; the README documents the keys."""
    every = tuple(differences)
    by_label = {each.label: each for each in every}
    return [
        {
            "kind": each.kind,
            "name": each.name,
            "change": _CHANGES[each.sign],
            "before": each.before,
            "after": each.after,
            "part_of": _root(each, by_label),
        }
        for each in every
    ]


def _definition(each: Difference) -> str:
    """Write the definition of an object that only one side has.

    >>> _definition(Difference("comment", "on table s.t", None, "of  things"))
    ': of things'
    >>> _definition(Difference("index", "s.i", None, "CREATE UNIQUE INDEX i ON s.t USING gin (a)"))
    ' UNIQUE ON s.t USING gin (a)'
    """
    text = (each.after or each.before or "") if each.sign is not Sign.CHANGED else ""
    text = " ".join(_HEAD.sub(lambda head: head[1] or "", text, count=1).split())
    if not text or text.startswith("{"):  # a row of a catalog
        return ""
    text = text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
    return f": {text}" if each.kind in _WITH_COLON else f" {text}"


def _root(each: Difference, by_label: dict[str, Difference]) -> str | None:
    """Return the outermost difference that includes this one; None if none does."""
    for label in each.parents:
        parent = by_label.get(label)
        if parent and _includes(parent, each):
            return _root(parent, by_label) or label
    return None


def _includes(parent: Difference, each: Difference) -> bool:
    if parent.sign is not each.sign:
        return False
    return parent.sign is not Sign.CHANGED or (
        parent.kind == each.kind and _edit(parent) == _edit(each)
    )


def _edit(changed: Difference) -> tuple[list[str], list[str]]:
    """Return the words that changed, without those that are the same at either end."""
    before, after = (changed.before or "").split(), (changed.after or "").split()
    while before and after and before[0] == after[0]:
        del before[0], after[0]
    while before and after and before[-1] == after[-1]:
        del before[-1], after[-1]
    return before, after


def counted_parts(kinds: Counter[str]) -> str:
    """Write how many parts of each kind an object has; nothing for none."""
    parts = [f"{count} × {kind}" for kind, count in sorted(kinds.items()) if count]
    return f" (with {', '.join(parts)})" if parts else ""


def _diff(before: str, after: str) -> Iterator[str]:
    changes = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1)
    for line in list(changes)[3:]:  # without the header
        yield "  …" if line.startswith("@@") else f"  {line[:1]} {line[1:]}".rstrip()
