"""A rehearsal's report as text and as JSON, and the sentences that all its forms share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import counted, duration, listed
from ..hazards.sizes import bytes_text, rows_text, size_text
from ..passwords import without_passwords
from ..rehearsal.locks import held
from ..rehearsal.report import (
    Answer,
    DataCheck,
    DownCheck,
    QueryCheck,
    RehearsedMigration,
    Report,
    TracedStatement,
    Usage,
)
from ..rehearsal.schemas.differences import count, difference_lines, differences_json
from ..rehearsal.schemas.drift import Drift
from ..sql.script import Statement
from ..tracing.trace import to_json
from .backfills import backfill_json, backfill_lines
from .conditions import condition_json
from .findings import finding_json, finding_lines
from .json import Json, of_error
from .progress import trace_lines
from .summary import TITLES, summary
from .text import Style, error_text, line_of

NO_DRIFT = "no drift: the schema matches its history"
DRIFT = "drift: the schema does not match its history"
_LEFT_SIGNS = "+ left over, - not restored, ~ different"
_AGAIN_SIGNS = "+ only the second time, - only the first time, ~ different"
_SQL_WIDTH = 72  # characters of a statement's first line


def report_text(report: Report, style: Style, program: str) -> str:
    """Write a report for a terminal."""
    lines = [*head(report), "", *_summary(report, style), *drift_lines(report)]
    for rehearsed in report.migrations:
        lines += ["", style(rehearsed.step.version, bold=True)]
        lines += [f"  {line}" for line in usage_lines(rehearsed)]
        for each in rehearsed.traced:
            lines.append(f"  {statement_line(each)}")
            lines += [f"      {line}" for line in statement_lines(report, rehearsed, each)]
            lines += [f"    {line}" for line in _findings(rehearsed, each.statement, style)]
        lines += [f"  {line}" for line in checked(rehearsed, None)]
        lines += [f"  {line}" for line in _findings(rehearsed, None, style)]
        if rehearsed.error:
            text = error_text(rehearsed.error, style, program)
            lines += [f"  {line}" for line in text.splitlines()]
        lines += [f"  {line}" for line in down_lines(rehearsed)]
    lines += ["", *not_rehearsed(report)] if report.not_rehearsed else []
    return "\n".join([*lines, "", style(total(report), bold=True)])


def report_json(report: Report) -> Json:
    """Return a report as JSON; the README documents the keys."""
    return {
        "database": report.database,
        "server_version": report.server_version,
        "scratch_version": report.scratch_version,
        "origin": report.origin,
        "missing": list(report.missing),
        "drift": None if report.drift is None else differences_json(report.drift.differences),
        "drift_notes": list(report.drift.notes) if report.drift else [],
        "queries": _query_check(report.queries) if report.queries else None,
        "clean": report.is_clean,
        "not_rehearsed": list(report.not_rehearsed),
        "migrations": [_migration(each) for each in report.migrations],
    }


def _query_check(check: QueryCheck) -> Json:
    return {
        "source": check.queries.source,
        "checked": check.checked,
        "left_out": [
            {
                "query": without_passwords(each.query.text),
                "line": each.query.location.line if each.query.location else None,
                "reason": each.reason,
            }
            for each in check.left_out
        ],
        "unprivileged": check.unprivileged,
        "hidden_roles": check.queries.hidden,
        "cut": check.queries.is_cut,
    }


def _migration(rehearsed: RehearsedMigration) -> Json:
    return {
        "version": rehearsed.step.version,
        "statements": [
            {
                "line": line_of(each.statement),
                "sql": each.statement.text,
                "seconds": round(each.effort.seconds, 6),
                "wal_bytes": each.effort.wal,
                "bytes_rewritten": each.rewritten,
                "rows_changed": None if each.rewritten is None else _rows_changed(each),
                "trace": to_json(each.trace),
            }
            for each in rehearsed.traced
        ],
        "findings": [finding_json(finding) for finding in rehearsed.findings],
        "data_checks": [_check(check) for check in rehearsed.checks],
        "conditions": [*map(condition_json, rehearsed.conditions)],
        "backfills": [*map(backfill_json, rehearsed.backfills)],
        "usage": _usage(rehearsed, rehearsed.usage) if rehearsed.usage else None,
        "down": _down(rehearsed.down) if rehearsed.down else None,
        "error": of_error(rehearsed.error) if rehearsed.error else None,
    }


def _usage(rehearsed: RehearsedMigration, usage: Usage) -> Json:
    return {
        "seconds": round(usage.seconds, 6),
        "temporary_bytes": usage.temporary,
        "locks": [
            {
                "relation": lock.relation.name,
                "mode": lock.mode.sql,
                "line": line_of(rehearsed.traced[lock.first].statement),
                "seconds": None if lock.seconds is None else round(lock.seconds, 6),
            }
            for lock in held(rehearsed)
        ],
    }


def _check(check: DataCheck) -> Json:
    return {
        "line": line_of(check.statement) if check.statement else None,
        "relation": check.relation,
        "what": check.what,
        "answer": check.answer.value,
        "count": check.count,
        "more": check.is_more,
        "examples": list(check.examples),
        "reason": check.reason,
    }


def _down(down: DownCheck) -> Json:
    return {
        "undoes": down.undoes,
        "left": differences_json(down.left),
        "lost": list(down.lost),
        "again": differences_json(down.again),
        "irreversible": down.irreversible,
        "error": of_error(down.error) if down.error else None,
    }


def usage_lines(rehearsed: RehearsedMigration) -> Iterator[str]:
    """Say what a migration used on a copy with rows; nothing for other rehearsals."""
    usage = rehearsed.usage
    if usage:
        wal = [each.effort.wal for each in rehearsed.traced if each.effort.wal is not None]
        used = _written(sum(filter(None, (each.rewritten for each in rehearsed.traced))), sum(wal))
        temporary = f", {bytes_text(usage.temporary)} of temporary files" if usage.temporary else ""
        yield f"{duration(usage.seconds)} on the copy{used}{temporary}"


def statement_lines(
    report: Report, rehearsed: RehearsedMigration, each: TracedStatement
) -> Iterator[str]:
    """Say what a statement used, locked and would cost, and what the target's rows answered."""
    yield from _effort_lines(each)
    yield from locks(report, each)
    for estimate in rehearsed.backfills:
        if estimate.statement is each.statement:
            yield from backfill_lines(estimate)
    yield from checked(rehearsed, each.statement)


def _effort_lines(each: TracedStatement) -> Iterator[str]:
    """Say what a statement used on a copy with rows; nothing for other rehearsals."""
    if each.rewritten is not None:
        rows = _rows_changed(each)
        changed = f", {rows_text(rows)} row{'s' * (rows != 1)} changed" if rows else ""
        used = _written(each.rewritten, each.effort.wal or 0)
        yield f"{duration(each.effort.seconds)}{used}{changed}"


def _written(rewritten: int, wal: int) -> str:
    files = f", {bytes_text(rewritten)} rewritten" if rewritten else ""
    return files + (f", {bytes_text(wal)} of WAL" if wal else "")


def _rows_changed(each: TracedStatement) -> int:
    return sum(t.inserted + t.updated + t.deleted for t in each.trace.touches)


def locks(report: Report, each: TracedStatement) -> Iterator[str]:
    """Say what a statement did to existing tables, with the target's sizes."""
    sizes = {name: size_text(size) for name, size in report.sizes.items()}
    return trace_lines(each.trace, sizes)


def checked(rehearsed: RehearsedMigration, statement: Statement | None) -> Iterator[str]:
    """Say what the rows of the target answered to a statement; findings say what fails.

    Args:
        statement: None for what belongs to no statement.
    """
    yield from (each.text for each in rehearsed.conditions if statement is None)
    for check in rehearsed.checks:
        if check.statement is statement and check.answer is not Answer.FAILS:
            yield check.text


def down_lines(rehearsed: RehearsedMigration) -> Iterator[str]:
    """Say whether the down script undoes the up script."""
    down = rehearsed.down
    if down is None:
        migration = rehearsed.step.migration
        has_down = migration is not None and migration.down is not None
        if not rehearsed.error:
            where = " on a copy" if rehearsed.usage else ""
            not_run = f"down: not run{where}"
            yield not_run if has_down else "no down script: the migration is irreversible"
        return
    if rehearsed.is_repeatable:
        if down.undoes:
            yield "earlier text: can be applied again, and then this one"
        yield from _shortcomings(down, "earlier text")
        return
    if down.irreversible:
        yield f"down: marked irreversible: {down.irreversible}"
    elif down.undoes:
        yield "down: restores the schema, and the up can be applied again (rows are not compared)"
    yield from _shortcomings(down)


def _shortcomings(down: DownCheck, what: str = "down") -> Iterator[str]:
    if down.lost:
        owner = "its" if len(down.lost) == 1 else "their"
        yield f"{what}: restores {', '.join(down.lost)}, but not {owner} data"
    if down.left:
        yield f"{what}: does not restore the schema ({_LEFT_SIGNS}):"
        yield from (f"  {line}" for line in difference_lines(down.left))
    if down.again:
        yield f"{what}: a second up gives a different schema ({_AGAIN_SIGNS}):"
        yield from (f"  {line}" for line in difference_lines(down.again))
    if down.error:
        how = "succeeds, but a second up fails" if down.is_second_up else "fails"
        yield f"{what}: {how}: {down.error}"


def total(report: Report) -> str:
    """Sum up a report in one line."""
    findings = [finding for each in report.migrations for finding in each.findings]
    open_findings = sum(finding.is_open for finding in findings)
    accepted = sum(finding.accepted is not None for finding in findings)
    failed = sum(each.error is not None for each in report.migrations)
    drifted = count(report.drift.differences) if report.drift else 0
    parts = [
        counted(len(report.migrations), "migration"),
        counted(open_findings, "finding"),
        *([f"{accepted} more accepted"] if accepted else []),
        *([f"{failed} failed"] if failed else []),
        *([f"{len(report.not_rehearsed)} not rehearsed"] if report.not_rehearsed else []),
        *([f"drift in {counted(drifted, 'object')}"] if drifted else []),
    ]
    return ", ".join(parts)


def head(report: Report) -> Iterator[str]:
    """Name the database, say where the migrations were rehearsed, and what was missing there."""
    yield (
        f"database {report.database} on {report.server}, PostgreSQL {report.server_version}; "
        f"rehearsed on {report.origin}"
    )
    yield from report.missing
    if report.queries:
        yield from _queries(report.queries)


def _queries(check: QueryCheck) -> Iterator[str]:
    """Say how many queries were checked, and why the others were not."""
    read, left_out = check.queries, len(check.left_out)
    cut = f" (the first {len(read.queries)})" if read.is_cut else ""
    reason = f"; {left_out} left out, because they cannot be prepared" if left_out else ""
    yield f"queries checked: {check.checked} of {read.source}{cut}{reason}"
    if check.unprivileged:
        yield f"queries checked without the privileges of their roles: {check.unprivileged}"
    if read.hidden:
        yield f"roles whose queries are hidden: {read.hidden} (grant pg_read_all_stats to see them)"


def not_rehearsed(report: Report) -> Iterator[str]:
    """Name the migrations that were not rehearsed, and the one that failed before them."""
    if report.not_rehearsed:
        last = report.migrations[-1].step.version
        yield f"not rehearsed, because {last} failed: {listed(report.not_rehearsed)}"


def drift_text(drift: Drift, database: str, written: Iterable[Path] = ()) -> str:
    """Write the differences between a database and its history, and how many there are.

    Args:
        written: The pair of files that brings them into the history; none if it was not asked for.
    """
    notes = [f"note: {note}" for note in drift.notes]
    if not drift.differences:
        return "\n".join([NO_DRIFT, *notes])
    total = counted(count(drift.differences), "difference")
    notes += [f"written: {path}" for path in written]
    return "\n".join([DRIFT, *diff_lines(drift, database), "", *notes, total])


def drift_json(drift: Drift, written: tuple[Path, ...] = ()) -> Json:
    """Return the differences between a database and its history as JSON; `written` as above."""
    return {
        "drift": differences_json(drift.differences),
        "notes": list(drift.notes),
        **dict(zip(("up", "down"), map(str, written), strict=False)),
    }


def diff_lines(drift: Drift, database: str) -> Iterator[str]:
    """Write the differences between the history and a database, in the manner of a diff."""
    yield from ("--- the history", f"+++ the database {database}")
    yield from difference_lines(drift.differences)


def drift_lines(report: Report) -> Iterator[str]:
    """Say how the database differs from its history."""
    if report.drift is None:
        yield "drift: not compared"
        return
    if report.drift.differences:
        yield DRIFT
        yield from (f"  {line}" for line in diff_lines(report.drift, report.database))
    else:
        yield NO_DRIFT
    yield from report.drift.notes


def _findings(
    rehearsed: RehearsedMigration, statement: Statement | None, style: Style
) -> Iterator[str]:
    """Write the findings of one statement; None for those of no traced statement."""
    traced = [each.statement for each in rehearsed.traced]
    for finding in rehearsed.findings:
        where = finding.statement if finding.statement in traced else None
        if where == statement:
            yield from finding_lines(finding, style)


def statement_line(each: TracedStatement) -> str:
    """Write where a statement is, and how it begins."""
    text = " ".join(each.statement.text.split())
    text = text if len(text) <= _SQL_WIDTH else text[: _SQL_WIDTH - 1] + "…"
    sampled = "  (sampled: brief locks may be missing)" if each.trace.sampled else ""
    return f"line {line_of(each.statement)}: {text}{sampled}"


def _summary(report: Report, style: Style) -> Iterator[str]:
    lines = summary(report)
    if not lines:
        return
    table = [TITLES, *((each.version, each.findings, each.lock) for each in lines)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    colours = ["", *("" if each.is_good else "red" for each in lines)]
    for row, colour in zip(table, colours, strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        cells[1] = style(cells[1], fg=colour) if colour else cells[1]
        yield "  ".join(cells).rstrip()
    yield ""
