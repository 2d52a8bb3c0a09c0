"""A rehearsal's report as one HTML page, without scripts and without links to other files."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources

from ..hazards.assess import size_text
from ..hazards.catalogue import Finding, Severity
from ..passwords import without_passwords
from ..rehearsal.report import RehearsedMigration, Report, TracedStatement
from ..rehearsal.schema import difference_lines
from ..tracing.trace import LockMode
from .progress import lock_text
from .report import DRIFT, NO_DRIFT, down_lines, head, locks, not_rehearsed, total
from .text import error_text, line_of, plain

_MANY = 25  # line numbers fit beside each other


@dataclass(frozen=True, slots=True)
class Bar:
    """A lock on a table, and the first and last statement during which it is held, from 0."""

    relation: str
    mode: LockMode
    first: int
    last: int


def report_html(report: Report, program: str) -> str:
    """Write the page."""
    title = escape(f"Rehearsal for {report.database}")
    tone = "good" if report.is_clean else "bad"
    style = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    parts = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{style}</style></head><body>",
        f"<h1>{title}</h1>",
        f'<p class="total {tone}">{escape(total(report))}</p>',
        *(f'<p class="soft">{escape(line)}</p>' for line in head(report)),
        *_drift(report),
        *(part for each in report.migrations for part in _migration(report, each, program)),
        *(f'<p class="bad">{escape(line)}</p>' for line in not_rehearsed(report)),
        "</body></html>",
    )
    return "\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Write text as HTML, without passwords."""
    return html.escape(without_passwords(text))


def bars(rehearsed: RehearsedMigration) -> tuple[Bar, ...]:
    """Return the locks on existing tables, by the time they begin.

    A lock is held to the end of its transaction.
    """
    found: list[Bar] = []
    ends = _ends(rehearsed)
    for index, each in enumerate(rehearsed.traced):
        for touch in each.trace.touches:
            mode = touch.mode
            if mode is None or touch.is_ours or not touch.is_stronger:
                continue
            if mode < LockMode.SHARE_UPDATE_EXCLUSIVE or touch.relation.kind in "iIt":
                continue
            found.append(Bar(touch.relation.name, mode, index, ends[index]))
    return tuple(found)


def _ends(rehearsed: RehearsedMigration) -> list[int]:
    """Return for each statement the index of the last one in its transaction."""
    units = rehearsed.step.script.units
    ends: list[int] = []
    for unit in units:
        first = len(ends)
        ends += [first + len(unit.statements) - 1] * len(unit.statements)
    return [min(end, len(rehearsed.traced) - 1) for end in ends]


def _drift(report: Report) -> Iterator[str]:
    if report.drift is None:
        yield '<p class="soft">Drift was not compared.</p>'
    elif not report.drift:
        yield f'<p class="good">{NO_DRIFT}</p>'
    else:
        yield f'<h2 class="bad">{DRIFT}</h2>'
        yield f"<pre>{escape(chr(10).join(difference_lines(report.drift)))}</pre>"


def _migration(report: Report, rehearsed: RehearsedMigration, program: str) -> Iterator[str]:
    yield f"<h2>{escape(rehearsed.step.version)}</h2>"
    script = rehearsed.step.script
    how = "one transaction" if script.transactional else "statement by statement"
    yield f'<p class="soft">{escape(str(script.path))}, {how}</p>'
    if rehearsed.error:
        yield f'<pre class="bad">{escape(error_text(rehearsed.error, plain, program))}</pre>'
    yield from _timeline(report, rehearsed)
    if rehearsed.traced:
        yield '<table class="sql"><tr><th>line</th><th>SQL</th><th>what it does</th></tr>'
        yield from (_row(report, rehearsed, each) for each in rehearsed.traced)
        yield "</table>"
    traced = {each.statement for each in rehearsed.traced}
    yield from (_finding(each) for each in rehearsed.findings if each.statement not in traced)
    tone = "good" if rehearsed.down and rehearsed.down.undoes else "warn"
    yield from (f'<pre class="{tone}">{escape(line)}</pre>' for line in down_lines(rehearsed))


def _timeline(report: Report, rehearsed: RehearsedMigration) -> Iterator[str]:
    rows = bars(rehearsed)
    if not rows:
        return
    count = len(rehearsed.traced)
    yield "<h3>Locks, from statement to statement</h3>"
    columns = f"grid-template-columns: minmax(6rem, 14rem) repeat({count}, minmax(0, 1fr))"
    dense = " dense" if count > _MANY else ""
    yield f'<div class="timeline{dense}" style="{columns}">'
    yield '<span class="name soft">line</span>'
    every = -(-count // _MANY)  # as many numbers as fit
    for index, each in enumerate(rehearsed.traced):
        number = line_of(each.statement) if index % every == 0 else ""
        yield f'<span class="head">{number}</span>'
    for place, bar in enumerate(rows, 2):
        size = report.sizes.get(bar.relation)
        weight = f'<br><span class="soft">{size_text(size)}</span>' if size else ""
        name = f"{escape(bar.relation)}{weight}"
        yield f'<span class="name" style="grid-row: {place}; grid-column: 1">{name}</span>'
        span = f"grid-row: {place}; grid-column: {bar.first + 2} / {bar.last + 3}"
        what = lock_text(bar.mode)
        yield f'<span class="bar m{bar.mode.value}" style="{span}" title="{what}">{what}</span>'
    yield "</div>"


def _row(report: Report, rehearsed: RehearsedMigration, each: TracedStatement) -> str:
    did = "<br>".join(escape(line) for line in locks(report, each))
    seen = "".join(
        _finding(finding) for finding in rehearsed.findings if finding.statement is each.statement
    )
    sampled = (
        '<p class="soft">sampled: brief locks may be missing</p>' if each.trace.sampled else ""
    )
    return (
        f"<tr><td>{line_of(each.statement)}</td><td><pre>{escape(each.statement.text)}</pre></td>"
        f"<td>{did}{sampled}{seen}</td></tr>"
    )


def _finding(finding: Finding) -> str:
    kind = "note" if finding.severity is Severity.INFORMATION else ""
    kind = "accepted" if finding.accepted else kind
    lines: Iterable[str] = (
        f"<strong>{escape(finding.hazard.title)}</strong>: {escape(finding.message)}",
        f"accepted: {escape(finding.accepted)}" if finding.accepted else "",
        f'<span class="soft">Instead: {escape(finding.hazard.workaround)}</span>',
    )
    return f'<div class="finding {kind}">' + "<br>".join(filter(None, lines)) + "</div>"
