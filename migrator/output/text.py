"""Results as text for people."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from ..errors import BlockedError, MigratorError, StatementError
from ..model import Direction, Entry, Plan, Status
from ..planning.problems import newest_file
from ..sql.location import line_number

if TYPE_CHECKING:
    from ..events import Outcome
    from ..history.overview import LogEntry, Overview
    from ..sql.script import Statement, Unit

Style = Callable[..., str]
"""Takes a text and `fg=` or `bold=`, as `click.style` does; returns it coloured or as it is."""

DONE = {Direction.UP: "applied", Direction.DOWN: "reverted"}
"""What has become of a version that went in a direction."""

DOING = {Direction.UP: "applying", Direction.DOWN: "reverting"}
"""The same, of one that is under way."""

_COLOURS = {
    Status.PENDING: "yellow",
    Status.APPLIED: "green",
    Status.INTERRUPTED: "red",
    Status.MODIFIED: "red",
    Status.MISSING: "red",
    Status.OUT_OF_ORDER: "red",
}
_NARROWEST = 16  # columns for a version


def plain(text: str, **_style: object) -> str:
    """Leave a text uncoloured."""
    return text


def duration(seconds: float) -> str:
    """Write a time as a person reads it.

    >>> [duration(seconds) for seconds in (0.0123, 1.25, 95, 7300)]
    ['12 ms', '1.2 s', '1 min 35 s', '2 h 1 min']
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"


def line_of(statement: Statement) -> int:
    """Return the line that a statement begins in, from 1."""
    return line_number(statement.source, statement.offset)


# Results


def outcome_text(outcome: Outcome, style: Style) -> str:
    """Sum a run up in a line, after the notes on its plan."""
    steps = outcome.finished
    if not steps:
        return nothing_text(outcome.plan)
    notes = [f"note: {note}" for note in outcome.plan.notes]
    counts = {
        direction: sum(step.direction is direction for step in steps) for direction in Direction
    }
    parts = [
        f"{counted(counts[d], 'migration')} {DONE[d]}" for d in reversed(Direction) if counts[d]
    ]
    return "\n".join([*notes, style(", ".join(parts), bold=True)])


def nothing_text(plan: Plan) -> str:
    """Say that a plan has no steps, after the notes on it."""
    return "\n".join([*(f"note: {note}" for note in plan.notes), "nothing to do"])


def plan_text(plan: Plan) -> str:
    """Write a plan and its SQL, as `--dry-run` shows it."""
    if not plan.steps:
        return nothing_text(plan)
    lines = [f"note: {note}" for note in plan.notes]
    for step in plan.steps:
        script = step.script
        how = "in one transaction" if script.transactional else "statement by statement"
        lines += ["", f"-- {DOING[step.direction]} {step.version}, {how}: {script.path}"]
        units = script.units[step.start_at :]
        lines += [line for unit in units for line in _unit_lines(unit)]
    text = "\n".join([*lines, "", f"-- {counted(len(plan.steps), 'step')}; nothing was run"])
    return text.lstrip("\n")


def _unit_lines(unit: Unit) -> Iterator[str]:
    if unit.begin:
        yield f"-- {unit.begin.text}"
    for statement in unit.statements:
        yield statement.text
        if statement.data:
            block, data = statement.block, statement.source[slice(*statement.data)]
            lines = block.lines if block else data.count("\n")
            yield f"-- and {counted(lines, 'line')} of data"


def counted(number: int, noun: str) -> str:
    """Write a number of things.

    >>> counted(1, "row"), counted(2, "row")
    ('1 row', '2 rows')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# Status


def reversible(entry: Entry) -> str:
    """Say whether a version can be taken back: `yes`, `stored` (without a file), or `no file`."""
    if entry.down_file:
        return "yes"
    return "stored" if entry.applied and entry.applied.has_down else "no file"


def status_text(overview: Overview, style: Style, width: int) -> str:
    """Write the table of all versions; no line is wider than `width`, in columns."""
    head = textwrap.fill(
        f"database {overview.database}, PostgreSQL {overview.server_version}, "
        f"history in schema {overview.schema}",
        width,
        break_long_words=False,
        break_on_hyphens=False,
    )
    if not overview.entries:
        return f"{head}\n\nno migrations, neither as files nor applied"
    rows = [_row(entry) for entry in overview.entries]
    titles = ("version", "state", "applied at", "by", "took", "down")
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    left = width - sum(widths[1:]) - 2 * (len(widths) - 1)
    widths[3] -= max(0, _NARROWEST - left)  # whose name it was is not what one looks for first
    widths[0] = max(_NARROWEST, min(widths[0], left))
    lines = [_line_of(titles, widths).rstrip()]
    for entry, row in zip(overview.entries, rows, strict=True):
        line = _line_of(row, widths).rstrip()
        state = f"  {row[1].ljust(widths[1])}"
        lines.append(line.replace(state, style(state, fg=_COLOURS[entry.status]), 1))
    return "\n".join([head, "", *lines, "", *_remarks(overview.entries), _totals(overview.entries)])


def _row(entry: Entry) -> tuple[str, ...]:
    applied = entry.applied
    state = entry.status.value + (" *" if entry.reformatted else "")
    when = (
        applied.applied_at.astimezone().strftime("%Y-%m-%d %H:%M")
        if (applied and applied.applied_at)
        else ""
    )
    took = applied.duration_ms if applied else None
    return (
        entry.version,
        state,
        when,
        _cut(applied.applied_by, 12) if applied else "",
        duration(took / 1000) if took is not None else "",
        reversible(entry),
    )


def _line_of(cells: Iterable[str], widths: Iterable[int]) -> str:
    return "  ".join(_cut(c, w).ljust(w) for c, w in zip(cells, widths, strict=True))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _remarks(entries: Iterable[Entry]) -> Iterator[str]:
    entries = tuple(entries)
    newest = newest_file(entries)
    ahead = sum(_is_ahead(e, newest) for e in entries)
    if ahead:
        yield f"the database is ahead of these files by {counted(ahead, 'migration')}"
    if any(entry.reformatted for entry in entries):
        yield "* edited since in comments and white space only"
    known = (Status.APPLIED, Status.PENDING)
    if any(e.status not in known and not _is_ahead(e, newest) for e in entries):
        yield "what to do about it: migrator verify"


def _is_ahead(entry: Entry, newest: int) -> bool:
    return entry.status is Status.MISSING and entry.number > newest


def verified(entries: Iterable[Entry], *, offline: bool) -> str:
    """Say that everything is in order, and what was looked at."""
    files = sum(entry.migration is not None for entry in entries)
    against = "" if offline else ", and the history agrees with them"
    return f"{counted(files, 'migration')} can be read and run{against}"


def _totals(entries: Iterable[Entry]) -> str:
    statuses = [entry.status for entry in entries]
    counts = ((statuses.count(status), status) for status in Status)
    return ", ".join(f"{count} {status}" for count, status in counts if count)


def log_text(rows: Iterable[LogEntry]) -> str:
    """Write the log, a row a line, and what was said of it below."""
    lines = []
    for row in rows:
        when = row.logged_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        took = f" in {duration(row.duration_ms / 1000)}" if row.duration_ms is not None else ""
        who = f"{row.db_user}, {row.os_user or '?'}@{row.host or '?'}, {row.tool_version}"
        lines.append(f"{when}  {row.action} {row.version}: {row.outcome}{took}  ({who})")
        said = (("error", row.message), ("reason", row.reason))
        code = f" (SQLSTATE {row.sqlstate})" if row.sqlstate else ""
        lines += [f"    {name}: {text}{code}" for name, text in said if text]
    return "\n".join(lines) or "the log is empty"


# Errors


def error_text(error: MigratorError, style: Style) -> str:
    """Write an error: what, where, what PostgreSQL adds, what became of it, what to do."""
    if isinstance(error, BlockedError):
        parts = [error_text(each, style) for each in error.errors]
        total = f"{error.message}: {counted(len(error.errors), 'problem')}"
        return "\n\n".join([*parts, style(total, bold=True)])
    lines = [f"{style('error:', fg='red', bold=True)} {error}"]
    if isinstance(error, StatementError):
        lines += _statement_lines(error)
    elif error.detail:
        lines += _indented(error.detail)
    if error.hint:
        first, *rest = error.hint.splitlines()
        lines += [f"{style('next:', bold=True)} {first}", *(f"      {line}" for line in rest)]
    return "\n".join(lines)


def _statement_lines(error: StatementError) -> Iterator[str]:
    yield from _indented(error.excerpt or "")
    for name, value in (
        ("SQLSTATE", error.sqlstate),
        ("detail:", error.detail),
        ("hint:", error.server_hint),
        ("context:", error.context),
    ):
        if value:
            yield from _indented(f"{name} {value}")
    if error.outcome:
        yield error.outcome


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]
