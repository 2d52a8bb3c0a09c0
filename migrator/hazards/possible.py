"""Tell which hazards a statement cannot have, by its text alone.

Only a rehearsal tells which ones it has.  Code that a statement runs may do anything, and so
nothing is said about a statement that may run some.  Event triggers are left out of account.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from ..sql import classify, splitter
from ..sql.script import Allowance, Script, Statement, Unit

_RUNS_NO_CODE = {
    *("alter", "analyze", "cluster", "comment", "create", "drop", "grant", "lock", "reindex"),
    *("reset", "revoke", "set", "truncate", "vacuum"),
}
_OF_DOWN = frozenset(["down-loses-data", "down-does-not-undo"])
# Only the rows and queries of a database tell whether they exist.
_OF_TARGET = frozenset(["breaks-on-data", "lock-too-long", "query-broken", "query-slower"])
_REBUILDS = ("alter", "cluster", "create", "reindex", "truncate", "vacuum")
_CAUSES: dict[str, tuple[str, ...]] = {
    "table-rewrite": _REBUILDS,
    "blocking-scan": (*_REBUILDS, "drop"),
    "index-built-blocking": _REBUILDS,
    "constraint-builds-index": _REBUILDS,
    "index-dropped-blocking": ("alter", "drop"),
    "foreign-key-added-valid": ("alter", "create"),
    "check-added-valid": ("alter", "create"),
    "validated-at-once": ("alter",),
    "not-null-unproven": ("alter", "create"),
    "required-column-added": ("alter", "create"),
    "table-dropped": ("drop",),
    "table-truncated": ("truncate",),
    "rows-deleted": ("truncate",),  # by its triggers
    "large-update": ("truncate",),
    "large-insert-select": ("truncate",),
    "column-dropped": ("alter", "drop"),
    "default-dropped": ("alter", "drop"),
    "constraint-dropped": ("alter", "drop"),
    "object-dropped": ("alter", "drop"),
    "table-renamed": ("alter",),
    "column-renamed": ("alter",),
    "foreign-key-without-index": ("alter", "create"),
}
"""First words of the statements that can have a hazard without running code."""


def needless(script: Script) -> Iterator[Allowance]:
    """Yield the comments of an up script that accept what their statement cannot have."""
    units = {each.offset: unit for unit in script.units for each in unit.statements}
    for allowance in script.options.allowances:
        statement = allowance.statement
        if statement and not may_have(statement, units[statement.offset], allowance.hazard):
            yield allowance


def needless_in_down(script: Script) -> Iterator[Allowance]:
    """Yield the comments of a down script that accept what no down script is examined for."""
    known = {*_OF_DOWN, *_OF_TARGET}
    return (each for each in script.options.allowances if each.hazard not in known)


def may_have(statement: Statement, unit: Unit, hazard: str) -> bool:
    """Whether a statement may have a hazard.

    >>> (statement,) = splitter.split("create index concurrently i on t (a)")
    >>> may_have(statement, Unit((statement,), transactional=False), "index-built-blocking")
    False
    """
    if hazard == "outside-transaction":
        return not unit.transactional
    if hazard == "lock-held":
        return unit.transactional and statement.offset != unit.statements[-1].offset
    if hazard not in _CAUSES or _may_run_code(statement):
        return True
    if statement.words[0] not in _CAUSES[hazard]:
        return False
    if hazard in ("index-built-blocking", "index-dropped-blocking"):
        return not classify.is_concurrent(statement)
    is_added = hazard in ("foreign-key-added-valid", "check-added-valid")
    return not (is_added and _adds_only_not_valid(statement))


def _may_run_code(statement: Statement) -> bool:
    words = statement.words
    if not words or words[0] not in _RUNS_NO_CODE or "extension" in words[:2]:
        return True
    return words[0] == "create" and "as" in _outside_parentheses(statement)


def _adds_only_not_valid(statement: Statement) -> bool:
    tokens = _outside_parentheses(statement)
    return ("not", "valid") in pairwise(tokens) and "," not in tokens


def _outside_parentheses(statement: Statement) -> list[str]:
    found, depth = [], 0
    for each in splitter.tokens(statement.text):
        depth -= each == ")"
        if depth == 0:
            found.append(each.lower())
        depth += each == "("
    return found
