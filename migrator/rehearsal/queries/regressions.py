"""Report the queries of the running release that a migration breaks or slows down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from ...errors import counted
from ...hazards import catalogue
from ...hazards.catalogue import Finding
from ...model import Step
from ...passwords import without_passwords
from ...sql.script import Statement
from ..report import RehearsedMigration
from .runnable import Runnable

BROKEN = "query-broken"
"""The hazard of a query that can no longer be planned."""

SLOWER = "query-slower"
"""The hazard of a query whose plan has become more expensive."""

_SHOWN = 160  # characters of a query
_MOST = 20  # findings of a statement

Found = Mapping[tuple[Runnable, str], tuple[str, Statement | None]]
"""By query and hazard: what is wrong after a migration, and the statement that causes it."""


@dataclass(frozen=True, slots=True)
class Regression:
    """A query that a migration breaks or slows down.

    Attributes:
        hazard: `BROKEN` or `SLOWER`.
        text: PostgreSQL's message, or how the plan changed.
        statement: The one that causes it; None if that is not known.
        repaired_by: The version after which it is as before; None if there is none.
    """

    runnable: Runnable
    step: Step
    hazard: str
    text: str
    statement: Statement | None
    repaired_by: str | None = None


class Regressions:
    """What successive migrations have broken or slowed down."""

    def __init__(self) -> None:
        self.found: tuple[Regression, ...] = ()
        """All so far, by migration."""

        self._now: frozenset[tuple[Runnable, str]] = frozenset()

    def add(self, step: Step, found: Found) -> None:
        """Compare what is wrong after a migration with what was wrong before it."""
        broken = {query for query, hazard in found if hazard == BROKEN}
        # The plan of a broken query is not known.
        kept = {key for key in self._now if key[0] in broken and key[1] != BROKEN}
        now = kept | found.keys()
        repaired = self._now - now
        self.found = tuple(_repaired(each, step, repaired) for each in self.found) + tuple(
            Regression(query, step, hazard, text, statement)
            for (query, hazard), (text, statement) in found.items()
            if (query, hazard) not in self._now
        )
        self._now = frozenset(now)


def _repaired(
    regression: Regression, step: Step, repaired: frozenset[tuple[Runnable, str]]
) -> Regression:
    is_repaired = (regression.runnable, regression.hazard) in repaired
    if is_repaired and regression.repaired_by is None:
        return replace(regression, repaired_by=step.version)
    return regression


def with_findings(
    rehearsed: RehearsedMigration, regressions: Iterable[Regression]
) -> RehearsedMigration:
    """Add a finding for each query that a migration breaks or slows down."""
    by_cause: dict[tuple[str, Statement | None], list[Regression]] = {}
    for each in regressions:
        if each.step.version == rehearsed.step.version:
            by_cause.setdefault((each.hazard, each.statement), []).append(each)
    found: list[Finding] = []
    for (hazard, statement), alike in by_cause.items():
        accepted = catalogue.accepted(rehearsed.step.script, statement, hazard)
        found += (catalogue.of_query(hazard, statement, text, accepted) for text in _texts(alike))
    return replace(rehearsed, findings=(*rehearsed.findings, *found))


def _texts(regressions: Iterable[Regression]) -> Iterator[str]:
    """Say which queries they are, each in one line; those that several roles run once."""
    merged: dict[tuple[str, str], list[Regression]] = {}
    for each in regressions:
        query = " ".join(without_passwords(each.runnable.query.text).split())
        shown = query if len(query) <= _SHOWN else query[: _SHOWN - 1] + "…"
        merged.setdefault((each.text, shown), []).append(each)
    for (text, query), alike in islice(merged.items(), _MOST):
        yield f"{text}: {query}{_notes(alike)}"
    if len(merged) > _MOST:
        does = "fail" if alike[0].hazard == BROKEN else "are slower"
        yield f"{len(merged) - _MOST} more queries {does} after it"


def _notes(alike: Sequence[Regression]) -> str:
    first, queries = alike[0], [each.runnable.query for each in alike]
    calls = [query.calls for query in queries if query.calls is not None]
    roles = sorted({each.runnable.role for each in alike if each.runnable.role})
    notes = [
        *([str(first.runnable.query.location)] if first.runnable.query.location else []),
        *([counted(sum(calls), "call")] if calls else []),
        *([f"as {', '.join(roles)}"] if roles else []),
        *([f"repaired by {first.repaired_by}"] if first.repaired_by else []),
    ]
    return f" ({', '.join(notes)})" if notes else ""
