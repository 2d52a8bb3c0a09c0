"""A rehearsal's report as one HTML page, without scripts and without links to other files."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from importlib import resources
from itertools import zip_longest

from ..errors import duration
from ..hazards.catalogue import Finding, Severity
from ..hazards.sizes import size_text
from ..history.recorder import tool_version
from ..passwords import without_passwords
from ..rehearsal.locks import Held, held
from ..rehearsal.report import RehearsedMigration, Report, TracedStatement
from ..tracing.trace import LockMode
from .progress import lock_text
from .report import (
    DRIFT,
    NO_DRIFT,
    checked,
    diff_lines,
    down_lines,
    head,
    not_rehearsed,
    statement_lines,
    total,
    usage_lines,
)
from .summary import TITLES, summary
from .text import error_text, line_of, plain

_NARROWEST = 0.02  # of the longest statement: the least that can be seen and pointed at
_NARROW = 0.03  # of the width: a number needs as much
_MANY = 25  # line numbers fit beside each other
_BLOCKS = {4: "nothing but other DDL", 5: "writes", 6: "writes", 7: "writes", 8: "reads and writes"}


def report_html(report: Report, program: str, when: datetime) -> str:
    """Write the page; `when` is the time of the rehearsal."""
    title = escape(f"Rehearsal for {report.database}")
    tone = "good" if report.is_clean else "bad"
    style = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    numbered = enumerate(report.migrations, 1)
    parts = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{title}</title><style>{style}</style></head><body>",
        f"<h1>{title}</h1>",
        f'<p class="total {tone}">{escape(total(report))}</p>',
        f'<p class="soft">{when:%Y-%m-%d %H:%M %Z}, migrator {escape(tool_version())}</p>',
        *(f'<p class="soft">{escape(line)}</p>' for line in head(report)),
        *_summary(report),
        *_drift(report),
        *(part for place, each in numbered for part in _migration(report, each, place, program)),
        *(f'<p class="bad">{escape(line)}</p>' for line in not_rehearsed(report)),
        *_legend(),
        "</body></html>",
    )
    return "\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Write text as HTML, without passwords."""
    return html.escape(without_passwords(text))


def _summary(report: Report) -> Iterator[str]:
    lines = summary(report)
    if not lines:
        return
    yield '<table class="summary"><tr>' + "".join(f"<th>{each}</th>" for each in TITLES) + "</tr>"
    for place, line in enumerate(lines, 1):
        is_shown = place <= len(report.migrations)
        name = escape(line.version)
        name = f'<a href="#migration-{place}">{name}</a>' if is_shown else name
        tone = "good" if line.is_good else "bad"
        cells = (name, f'<span class="{tone}">{escape(line.findings)}</span>', escape(line.lock))
        yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    yield "</table>"


def _legend() -> Iterator[str]:
    yield '<h2>Legend</h2><p class="legend">'
    for number, blocks in _BLOCKS.items():
        mode = LockMode(number).sql
        yield f'<span><span class="bar m{number}">{mode}</span> blocks {blocks}</span>'
    yield "</p>"
    yield (
        '<p class="soft">A bar begins at the statement that takes the lock and ends with its '
        "transaction. A finding fails the rehearsal; a note does not.</p>"
    )


def _drift(report: Report) -> Iterator[str]:
    if report.drift is None:
        yield '<p class="soft">Drift was not compared.</p>'
        return
    if report.drift.differences:
        yield f'<h2 class="bad">{DRIFT}</h2>'
        lines = diff_lines(report.drift, report.database)
        yield f"<pre>{escape(chr(10).join(lines))}</pre>"
    else:
        yield f'<p class="good">{NO_DRIFT}</p>'
    yield from (f'<p class="soft">{escape(note)}</p>' for note in report.drift.notes)


def _migration(
    report: Report, rehearsed: RehearsedMigration, place: int, program: str
) -> Iterator[str]:
    yield f'<h2 id="migration-{place}">{escape(rehearsed.step.version)}</h2>'
    script = rehearsed.step.script
    how = "one transaction" if script.transactional else "statement by statement"
    yield f'<p class="soft">{escape(str(script.path))}, {how}</p>'
    yield from (f'<p class="soft">{escape(line)}</p>' for line in usage_lines(rehearsed))
    if rehearsed.error:
        yield f'<pre class="bad">{escape(error_text(rehearsed.error, plain, program))}</pre>'
    yield from _timeline(report, rehearsed)
    if rehearsed.traced:
        yield '<table class="sql"><tr><th>line</th><th>SQL</th><th>what it does</th></tr>'
        yield from (_row(report, rehearsed, each) for each in rehearsed.traced)
        yield "</table>"
    traced = {each.statement for each in rehearsed.traced}
    yield from (_finding(each) for each in rehearsed.findings if each.statement not in traced)
    yield from (f'<p class="soft">{escape(line)}</p>' for line in checked(rehearsed, None))
    tone = "good" if rehearsed.down and rehearsed.down.undoes else "warn"
    yield from (f'<pre class="{tone}">{escape(line)}</pre>' for line in down_lines(rehearsed))


def _timeline(report: Report, rehearsed: RehearsedMigration) -> Iterator[str]:
    """Draw one row for each table, with a bar for each lock."""
    tables: dict[str, list[Held]] = {}
    for lock in held(rehearsed):
        tables.setdefault(lock.relation.name, []).append(lock)
    if not tables:
        return
    count = len(rehearsed.traced)
    how = "in time" if rehearsed.usage else "from statement to statement"
    yield f"<h3>Locks, {how}</h3>"
    if rehearsed.usage:
        shares = _shares(rehearsed)
        widths = " ".join(f"minmax(0, {100 * each:.3f}fr)" for each in shares)
    else:
        shares, widths = [1.0] * count, f"repeat({count}, minmax(0, 1fr))"
    columns = f"grid-template-columns: minmax(6rem, 14rem) {widths}"
    dense = " dense" if count > _MANY else ""
    yield f'<div class="timeline{dense}" style="{columns}">'
    yield '<span class="name soft">line</span>'
    every = -(-count // _MANY)  # as many numbers as fit
    for index, each in enumerate(rehearsed.traced):
        is_shown = index % every == 0 and shares[index] >= _NARROW
        number = line_of(each.statement) if is_shown else ""
        yield f'<span class="head">{number}</span>'
    for place, (relation, locks_held) in enumerate(tables.items(), 2):
        size = report.sizes.get(relation)
        weight = f'<br><span class="soft">{size_text(size)}</span>' if size else ""
        name = f"{escape(relation)}{weight}"
        yield f'<span class="name" style="grid-row: {place}; grid-column: 1">{name}</span>'
        yield from (_bar(each, place) for each in _one_after_another(locks_held))
    yield "</div>"


def _shares(rehearsed: RehearsedMigration) -> list[float]:
    """Return the share of the width for each statement: by the time that it took on a copy."""
    times = [each.effort.seconds for each in rehearsed.traced]
    least = max(times) * _NARROWEST
    shown = [max(each, least) for each in times]
    return [each / (sum(shown) or 1) for each in shown]


def _one_after_another(locks_held: list[Held]) -> Iterator[Held]:
    """Cut each lock where a stronger one on the same table begins."""
    for each, following in zip_longest(locks_held, locks_held[1:]):
        is_upgraded = following and each.first < following.first <= each.last
        yield replace(each, last=following.first - 1) if is_upgraded else each


def _bar(lock: Held, place: int) -> str:
    span = f"grid-row: {place}; grid-column: {lock.first + 2} / {lock.last + 3}"
    seconds = "" if lock.seconds is None else f", {duration(lock.seconds)}"
    what = f"{lock_text(lock.mode)}{seconds}"
    return f'<span class="bar m{lock.mode.value}" style="{span}" title="{what}">{what}</span>'


def _row(report: Report, rehearsed: RehearsedMigration, each: TracedStatement) -> str:
    lines = statement_lines(report, rehearsed, each)
    did = "<br>".join(escape(line) for line in lines)
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
        f"<strong>{escape(finding.hazard.title)}</strong> <code>{finding.hazard.id}</code>: "
        f"{escape(finding.message)}",
        f"accepted: {escape(finding.accepted)}" if finding.accepted else "",
        f'<span class="soft">Instead: {escape(finding.hazard.workaround)}</span>',
        f"<pre>{escape(finding.rewritten)}</pre>" if finding.rewritten and finding.is_open else "",
    )
    return f'<div class="finding {kind}">' + "<br>".join(filter(None, lines)) + "</div>"
