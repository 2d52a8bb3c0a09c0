"""Judge a down script: what it leaves, breaks, or cannot bring back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ..hazards import assess, catalogue
from ..hazards.catalogue import Finding
from .report import DownCheck, RehearsedMigration
from .schemas.differences import difference_lines
from .schemas.schema import Difference

_MOST_NAMED = 3  # differences


def find(rehearsed: RehearsedMigration, down: DownCheck) -> Iterator[Finding]:
    """Yield the findings on a down script; `rehearsed` has those on the up script."""
    yield from _not_undone(rehearsed, down)
    if not down.irreversible:
        yield from _losses(rehearsed, down)


def with_unused(rehearsed: RehearsedMigration) -> RehearsedMigration:
    """Add a note for each comment, in either file, that accepts no finding."""
    found, down = rehearsed.findings, rehearsed.down
    ran = [each.statement for each in rehearsed.traced]
    of_up = assess.unused_allowances(rehearsed.step.script, ran, found)
    of_down = assess.unused_in_down(down.script, found) if down and down.script else ()
    return replace(rehearsed, findings=(*found, *of_up, *of_down))


def _not_undone(rehearsed: RehearsedMigration, down: DownCheck) -> Iterator[Finding]:
    comments = [
        *rehearsed.step.script.options.allowances,
        *(down.script.options.allowances if down.script else ()),
    ]
    reasons = (each.reason for each in comments if each.hazard == "down-does-not-undo")
    accepted = down.irreversible or next(filter(None, reasons), None)
    if down.left:
        text = f"after the down, the schema is not as before: {_named(down.left)}"
        yield catalogue.not_undone(text, accepted)
    if down.again:
        text = f"a second up gives a different schema: {_named(down.again)}"
        yield catalogue.not_undone(text, accepted)
    if down.error:
        what = "the down script fails"
        if rehearsed.is_repeatable:
            what = "the earlier text cannot be applied again"
        if down.is_second_up:
            what = "after the down, a second up fails"
            if rehearsed.is_repeatable:
                what = "it cannot be applied a second time"
        yield catalogue.not_undone(f"{what}: {down.error.message}", accepted)


def _named(differences: Iterable[Difference]) -> str:
    lines = [line for line in difference_lines(differences) if not line.startswith(" ")]
    more = [f"{len(lines) - _MOST_NAMED} more"] if len(lines) > _MOST_NAMED else []
    return "; ".join([*lines[:_MOST_NAMED], *more])


def _losses(rehearsed: RehearsedMigration, down: DownCheck) -> Iterator[Finding]:
    """Yield what the down script cannot bring back, unless it writes to the table itself."""
    written = {
        touch.relation.name for each in down.traced for touch in each.trace.touches if touch.written
    }
    for finding in rehearsed.findings:
        if finding.lost and finding.relation not in written:
            yield catalogue.rows_lost(finding)
    yield from map(catalogue.data_lost, down.lost)
