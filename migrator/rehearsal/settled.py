"""Leave out the findings that later migrations settle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ..hazards import pending
from ..hazards.catalogue import Facts, Finding
from ..tracing.trace import Trace
from .report import RehearsedMigration


def traces(rehearsed: Iterable[RehearsedMigration]) -> list[Trace]:
    """Return the traces of the statements of some migrations, in their order."""
    return [traced.trace for each in rehearsed for traced in each.traced]


def leave_out(done: Sequence[RehearsedMigration]) -> Iterator[RehearsedMigration]:
    """Leave out the missing indexes that a later migration creates or makes unnecessary."""
    last = [Facts(), *(each.facts for each in done if not each.error)][-1]
    for number, each in enumerate(done):
        rest = done[number + 1 :]
        findings = (f for f in each.findings if not _is_settled(f, [each, *rest], last))
        yield replace(each, findings=tuple(findings))


def _is_settled(finding: Finding, since: Sequence[RehearsedMigration], last: Facts) -> bool:
    if not finding.missing_index or finding.statement is None:
        return False
    own, *rest = since
    at = [traced.statement for traced in own.traced].index(finding.statement)
    later = [*(traced.trace for traced in own.traced[at + 1 :]), *traces(rest)]
    return not pending.needs_index(finding, later, last)
