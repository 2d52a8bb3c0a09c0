"""A finding of a rehearsal, for the forms of its report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..hazards.catalogue import Finding, Severity
from .json import Json
from .text import Style, line_of


def finding_json(finding: Finding) -> Json:
    """Return a finding as JSON."""
    return {
        "hazard": finding.hazard.id,
        "severity": finding.severity.value,
        "line": line_of(finding.statement) if finding.statement else None,
        "relation": finding.relation,
        "message": finding.message,
        "workaround": finding.hazard.workaround,
        "rewritten": finding.rewritten,
        "accepted": finding.accepted,
    }


def finding_lines(finding: Finding, style: Style) -> Iterable[str]:
    """Write a finding for a terminal."""
    colour = "red" if finding.is_open else "yellow"
    where = f" line {line_of(finding.statement)}" if finding.statement else ""
    yield f"{style(mark(finding), fg=colour)}{where}: {message(finding)}"
    if finding.is_open:
        yield f"    instead: {finding.hazard.workaround}"
        yield from rewritten_lines(finding)


def rewritten_lines(finding: Finding) -> Iterator[str]:
    """Write the statement as it runs in batches, if that is the advice."""
    if finding.rewritten:
        yield "    in batches, if its WHERE excludes the rows that it has changed:"
        yield from (f"        {line}" for line in finding.rewritten.splitlines())


def mark(finding: Finding) -> str:
    """Write the severity and the hazard of a finding."""
    if finding.accepted:
        return f"accepted {finding.hazard.id}"
    return (
        f"{'note' if finding.severity is Severity.INFORMATION else 'FINDING'} {finding.hazard.id}"
    )


def message(finding: Finding) -> str:
    """Write what happens, and why it was accepted."""
    return finding.message + (f" (accepted: {finding.accepted})" if finding.accepted else "")
