"""A rehearsal's report as Markdown, for a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from ..errors import counted
from ..hazards.catalogue import Finding
from ..rehearsal.report import RehearsedMigration, Report
from .findings import mark, message, rewritten_lines
from .report import (
    checked,
    down_lines,
    drift_lines,
    head,
    not_rehearsed,
    statement_line,
    statement_lines,
    total,
    usage_lines,
)
from .summary import TITLES, summary
from .text import error_text, line_of, plain

MARKER = "<!-- migrator rehearse -->"
"""The first line, by which a CI job finds its own comment to replace it."""

_LONGEST = 60_000  # characters; GitHub takes comments of up to 65,536
_MANY = 10  # lines; more are folded


def report_markdown(report: Report, program: str) -> str:
    """Write a report; without the locks of each statement if it would be too long with them."""
    text = _text(report, program, with_locks=True)
    return text if len(text) <= _LONGEST else _text(report, program, with_locks=False)


def _text(report: Report, program: str, *, with_locks: bool) -> str:
    lines = [MARKER, f"## Rehearsal: {total(report)}", "", *map(escaped, head(report)), ""]
    lines += _summary(report)
    lines += _folded("Drift", _listed(drift_lines(report)), len(list(drift_lines(report))))
    for rehearsed in report.migrations:
        lines += ["", f"### {code(rehearsed.step.version)}", ""]
        lines += [each for line in usage_lines(rehearsed) for each in (escaped(line), "")]
        lines += _findings(rehearsed)
        if rehearsed.error:
            lines += ["", *_fenced([error_text(rehearsed.error, plain, program)])]
        lines += ["", *_listed(down_lines(rehearsed))]
        if rehearsed.traced and with_locks:
            lines += _folded("Locks", _fenced(_locks(report, rehearsed)))
    if not with_locks:
        lines += ["", "The locks of each statement would make this too long: use `--html`."]
    lines += ["", *map(escaped, not_rehearsed(report))] if report.not_rehearsed else []
    return "\n".join(lines) + "\n"


def _summary(report: Report) -> Iterator[str]:
    lines = summary(report)
    if lines:
        yield from _table(TITLES, ((code(e.version), e.findings, escaped(e.lock)) for e in lines))
        yield ""


def _findings(rehearsed: RehearsedMigration) -> Iterator[str]:
    """Write a table of the findings, and below it, folded, one of the notes."""
    findings = [each for each in rehearsed.findings if each.is_open]
    others = [each for each in rehearsed.findings if not each.is_open]
    if findings:
        yield from _finding_table(rehearsed, findings)
    for each in findings:
        yield from _fenced(rewritten_lines(each)) if each.rewritten else ()
    if others:
        accepted = sum(each.accepted is not None for each in others)
        notes = len(others) - accepted
        parts = [counted(notes, "note")] if notes else []
        parts += [f"{accepted} accepted"] if accepted else []
        yield from _folded(", ".join(parts), _finding_table(rehearsed, others))


def _finding_table(rehearsed: RehearsedMigration, findings: Iterable[Finding]) -> Iterator[str]:
    rows = (_row(rehearsed, each) for each in findings)
    yield from _table(("", "where", "what", "instead"), rows)


def _row(rehearsed: RehearsedMigration, finding: Finding) -> tuple[str, ...]:
    path, statement = rehearsed.step.script.path, finding.statement
    kind, _, hazard = mark(finding).partition(" ")
    said = escaped(message(finding))
    if finding.relation:
        whole_name = rf"(?<![\w.]){re.escape(escaped(finding.relation))}(?![\w.])"
        said = re.sub(whole_name, lambda _: code(finding.relation or ""), said)
    return (
        f"{kind} {code(hazard)}",
        code(f"{path}:{line_of(statement)}") if statement else "",
        said,
        escaped(finding.hazard.workaround),
    )


def _locks(report: Report, rehearsed: RehearsedMigration) -> Iterator[str]:
    for each in rehearsed.traced:
        yield statement_line(each)
        yield from (f"    {line}" for line in statement_lines(report, rehearsed, each))
    yield from checked(rehearsed, None)


def _table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Write a table; its cells are Markdown."""
    titles = tuple(titles)
    for row in (titles, ("---",) * len(titles), *rows):
        yield f"| {' | '.join(row)} |"


def _folded(title: str, lines: Iterable[str], count: int = _MANY + 1) -> Iterator[str]:
    """Fold lines away under a title; `count` says how many lines they are, if few are not."""
    if count <= _MANY:
        yield from lines
    else:
        yield from ("", f"<details><summary>{title}</summary>", "", *lines, "", "</details>")


def _listed(lines: Iterable[str]) -> Iterator[str]:
    """Write lines as a list, with indented lines as a code block below their item."""
    for is_indented, group in groupby(lines, key=lambda line: line.startswith(" ")):
        if is_indented:
            yield from ("", *_fenced(group, "  "), "")
        else:
            yield from (f"- {escaped(line)}" for line in group)


def escaped(text: str) -> str:
    r"""Write text on one line, whatever it holds.

    >>> print(escaped("a|b `<c>`"))
    a\|b \`&lt;c&gt;\`
    """
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*|\[\]]|~(?=\S))", r"\\\1", line)


def code(text: str) -> str:
    r"""Write text as code, also within a table.

    >>> print(code("a|b"), code("`"))
    `a\|b` `` ` ``
    """
    line = " ".join(text.split()).replace("|", r"\|")
    fence = "`" * (_longest_run(line) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _fenced(lines: Iterable[str], indent: str = "") -> list[str]:
    """Write a code block; its fence is longer than any in the lines."""
    lines = list(lines)
    fence = indent + "`" * max(3, max(map(_longest_run, lines), default=0) + 1)
    return [fence, *lines, fence]


def _longest_run(text: str) -> int:
    """Return the length of the longest run of backticks."""
    return max(map(len, re.findall("`+", text)), default=0)
