"""A rehearsal's report as text, as Markdown and as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from ..errors import counted, listed
from ..hazards.assess import size_text
from ..hazards.catalogue import Finding, Severity
from ..rehearsal.report import DownCheck, RehearsedMigration, Report, TracedStatement
from ..rehearsal.schema import Difference, difference_lines
from ..sql.script import Statement
from ..tracing.trace import to_json
from .json import Json, of_error
from .progress import trace_lines
from .text import Style, error_text, line_of, plain

NO_DRIFT = "no drift: the schema matches its history"
DRIFT = "drift: the schema does not match its history"
_DRIFT_SIGNS = "+ only in the database, - only in the history, ~ different"
_LEFT_SIGNS = "+ left over, - not restored, ~ different"
_AGAIN_SIGNS = "+ only the second time, - only the first time, ~ different"
_SQL_WIDTH = 72  # characters of a statement's first line


def report_text(report: Report, style: Style, program: str) -> str:
    """Write a report for a terminal."""
    lines = [*head(report), "", *_drift(report)]
    for rehearsed in report.migrations:
        lines += ["", style(rehearsed.step.version, bold=True)]
        for each in rehearsed.traced:
            lines.append(f"  line {line_of(each.statement)}: {_first_line(each)}{_sampled(each)}")
            lines += [f"      {lock}" for lock in locks(report, each)]
            lines += [f"    {line}" for line in _findings(rehearsed, each.statement, style)]
        lines += [f"  {line}" for line in _findings(rehearsed, None, style)]
        if rehearsed.error:
            text = error_text(rehearsed.error, style, program)
            lines += [f"  {line}" for line in text.splitlines()]
        lines += [f"  {line}" for line in down_lines(rehearsed)]
    lines += ["", *not_rehearsed(report)] if report.not_rehearsed else []
    return "\n".join([*lines, "", style(total(report), bold=True)])


def report_markdown(report: Report, program: str) -> str:
    """Write a report for a pull request."""
    lines = [f"## Rehearsal: {total(report)}", "", *map(_escaped, head(report)), ""]
    lines += _listed(_drift(report))
    for rehearsed in report.migrations:
        lines += ["", f"### `{rehearsed.step.version}`", ""]
        if rehearsed.findings:
            lines += ["| | line | what | instead |", "|---|---|---|---|"]
        for finding in rehearsed.findings:
            where = line_of(finding.statement) if finding.statement else ""
            cells = (_mark(finding), where, _accepted(finding), finding.hazard.workaround)
            lines.append("| " + " | ".join(_escaped(str(cell)) for cell in cells) + " |")
        if rehearsed.error:
            lines += ["", *_fenced([error_text(rehearsed.error, plain, program)])]
        lines += ["", *_listed(down_lines(rehearsed))]
        if not rehearsed.traced:
            continue
        shown = []
        for each in rehearsed.traced:
            shown.append(f"line {line_of(each.statement)}: {_first_line(each)}{_sampled(each)}")
            shown += [f"    {lock}" for lock in locks(report, each)]
        lines += ["", "<details><summary>Locks</summary>", "", *_fenced(shown), "", "</details>"]
    lines += ["", *map(_escaped, not_rehearsed(report))] if report.not_rehearsed else []
    return "\n".join(lines) + "\n"


def _listed(lines: Iterable[str]) -> Iterator[str]:
    """Write lines as a Markdown list, with indented lines as a code block below their item."""
    for is_indented, group in groupby(lines, key=lambda line: line.startswith(" ")):
        if is_indented:
            yield from ("", *_fenced(group, "  "), "")
        else:
            yield from (f"- {_escaped(line)}" for line in group)


def _escaped(text: str) -> str:
    r"""Write text on one line of Markdown, whatever it holds.

    >>> print(_escaped("a|b `<c>`"))
    a\|b \`&lt;c&gt;\`
    """
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*|\[\]]|~(?=\S))", r"\\\1", line)


def _fenced(lines: Iterable[str], indent: str = "") -> list[str]:
    """Write a code block; its fence is longer than any in the lines."""
    lines = list(lines)
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = indent + "`" * max(3, longest + 1)
    return [fence, *lines, fence]


def report_json(report: Report) -> Json:
    """Return a report as JSON; the README documents the keys."""
    return {
        "database": report.database,
        "server_version": report.server_version,
        "scratch_version": report.scratch_version,
        "origin": report.origin,
        "missing": list(report.missing),
        "drift": None if report.drift is None else list(difference_lines(report.drift)),
        "clean": report.is_clean,
        "not_rehearsed": list(report.not_rehearsed),
        "migrations": [_migration(each) for each in report.migrations],
    }


def _migration(rehearsed: RehearsedMigration) -> Json:
    return {
        "version": rehearsed.step.version,
        "statements": [
            {
                "line": line_of(each.statement),
                "sql": each.statement.text,
                "seconds": round(each.seconds, 6),
                "trace": to_json(each.trace),
            }
            for each in rehearsed.traced
        ],
        "findings": [_finding(finding) for finding in rehearsed.findings],
        "down": _down(rehearsed.down) if rehearsed.down else None,
        "error": of_error(rehearsed.error) if rehearsed.error else None,
    }


def _finding(finding: Finding) -> Json:
    return {
        "hazard": finding.hazard.id,
        "severity": finding.severity.value,
        "line": line_of(finding.statement) if finding.statement else None,
        "relation": finding.relation,
        "message": finding.message,
        "workaround": finding.hazard.workaround,
        "accepted": finding.accepted,
    }


def _down(down: DownCheck) -> Json:
    return {
        "undoes": down.undoes,
        "left": list(difference_lines(down.left)),
        "lost": list(down.lost),
        "again": list(difference_lines(down.again)),
        "irreversible": down.irreversible,
        "error": of_error(down.error) if down.error else None,
    }


def locks(report: Report, each: TracedStatement) -> Iterator[str]:
    """Say what a statement did to existing tables, with the target's sizes."""
    sizes = {name: size_text(size) for name, size in report.sizes.items()}
    return trace_lines(each.trace, sizes)


def down_lines(rehearsed: RehearsedMigration) -> Iterator[str]:
    """Say whether the down script undoes the up script."""
    down = rehearsed.down
    if down is None:
        migration = rehearsed.step.migration
        has_down = migration is not None and migration.down is not None
        if not rehearsed.error:
            yield "down: not run" if has_down else "no down script: the migration is irreversible"
        return
    if down.irreversible:
        yield f"down: marked irreversible: {down.irreversible}"
    elif down.undoes:
        yield "down: restores the schema, and the up can be applied again (rows are not compared)"
    yield from _shortcomings(down)


def _shortcomings(down: DownCheck) -> Iterator[str]:
    if down.lost:
        owner = "its" if len(down.lost) == 1 else "their"
        yield f"down: restores {', '.join(down.lost)}, but not {owner} data"
    if down.left:
        yield f"down: does not restore the schema ({_LEFT_SIGNS}):"
        yield from (f"  {line}" for line in difference_lines(down.left))
    if down.again:
        yield f"down: a second up gives a different schema ({_AGAIN_SIGNS}):"
        yield from (f"  {line}" for line in difference_lines(down.again))
    if down.error:
        what = "succeeds, but a second up fails" if down.is_second_up else "fails"
        yield f"down: {what}: {down.error}"


def total(report: Report) -> str:
    """Sum up a report in one line."""
    findings = [finding for each in report.migrations for finding in each.findings]
    open_findings = sum(finding.is_open for finding in findings)
    accepted = sum(finding.accepted is not None for finding in findings)
    failed = sum(each.error is not None for each in report.migrations)
    parts = [
        counted(len(report.migrations), "migration"),
        counted(open_findings, "finding"),
        *([f"{accepted} more accepted"] if accepted else []),
        *([f"{failed} failed"] if failed else []),
        *([f"{len(report.not_rehearsed)} not rehearsed"] if report.not_rehearsed else []),
        *([f"drift in {counted(_objects(report.drift), 'object')}"] if report.drift else []),
    ]
    return ", ".join(parts)


def head(report: Report) -> Iterator[str]:
    """Name the database, say where the migrations were rehearsed, and what was missing there."""
    yield (
        f"database {report.database}, PostgreSQL {report.server_version}; "
        f"rehearsed on {report.origin}"
    )
    yield from report.missing


def not_rehearsed(report: Report) -> Iterator[str]:
    """Name the migrations that were not rehearsed, and the one that failed before them."""
    if report.not_rehearsed:
        last = report.migrations[-1].step.version
        yield f"not rehearsed, because {last} failed: {listed(report.not_rehearsed)}"


def drift_text(differences: Iterable[Difference]) -> str:
    """Write the differences between a database and its history, and how many there are."""
    differences = tuple(differences)
    if not differences:
        return NO_DRIFT
    total = counted(_objects(differences), "difference")
    lines = difference_lines(differences)
    return "\n".join([f"{DRIFT} ({_DRIFT_SIGNS})", "", *lines, "", total])


def _objects(differences: Iterable[Difference]) -> int:
    """Count the objects that are shown; their parts are in the same line."""
    return sum(not line.startswith(" ") for line in difference_lines(differences))


def _drift(report: Report) -> Iterator[str]:
    if report.drift is None:
        yield "drift: not compared"
    elif not report.drift:
        yield NO_DRIFT
    else:
        yield f"{DRIFT} ({_DRIFT_SIGNS})"
        yield from (f"  {line}" for line in difference_lines(report.drift))


def _findings(
    rehearsed: RehearsedMigration, statement: Statement | None, style: Style
) -> Iterator[str]:
    """Write the findings of one statement; None for those of no traced statement."""
    traced = [each.statement for each in rehearsed.traced]
    for finding in rehearsed.findings:
        where = finding.statement if finding.statement in traced else None
        if where == statement:
            yield from _finding_lines(finding, style)


def _finding_lines(finding: Finding, style: Style) -> Iterable[str]:
    colour = "red" if finding.is_open else "yellow"
    where = f" line {line_of(finding.statement)}" if finding.statement else ""
    yield f"{style(_mark(finding), fg=colour)}{where}: {_accepted(finding)}"
    if finding.is_open:
        yield f"    instead: {finding.hazard.workaround}"


def _mark(finding: Finding) -> str:
    if finding.accepted:
        return f"accepted {finding.hazard.id}"
    return (
        f"{'note' if finding.severity is Severity.INFORMATION else 'FINDING'} {finding.hazard.id}"
    )


def _accepted(finding: Finding) -> str:
    return finding.message + (f" (accepted: {finding.accepted})" if finding.accepted else "")


def _sampled(each: TracedStatement) -> str:
    return "  (sampled: brief locks may be missing)" if each.trace.sampled else ""


def _first_line(each: TracedStatement) -> str:
    line = " ".join(each.statement.text.split())
    return line if len(line) <= _SQL_WIDTH else line[: _SQL_WIDTH - 1] + "…"
