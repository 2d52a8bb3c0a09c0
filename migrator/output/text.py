"""Results as text for people."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..errors import BlockedError, MigratorError, StatementError, counted, duration, listed
from ..model import (
    BatchProgress,
    Direction,
    Entry,
    Freshness,
    Plan,
    Repeatable,
    Status,
    is_repeatable,
)
from ..planning.problems import ahead_of_files
from ..sql import effects
from ..sql.location import line_number
from .invocation import as_called, is_next_step

if TYPE_CHECKING:
    from ..events import Losing, Outcome
    from ..history.overview import LogEntry, Overview
    from ..planning.planner import Request
    from ..sql.script import Statement, Unit

Style = Callable[..., str]
"""Takes a text and `fg=` or `bold=`, as `click.style` does; returns it coloured or as it is."""

DONE = {Direction.UP: "applied", Direction.DOWN: "reverted"}
"""What a step has done to its version."""

DOING = {Direction.UP: "applying", Direction.DOWN: "reverting"}
"""What a step is doing to its version."""

_COLOURS = {
    Status.PENDING: "yellow",
    Status.APPLIED: "green",
    Status.INTERRUPTED: "red",
    Status.MODIFIED: "red",
    Status.RENAMED: "red",
    Status.MISSING: "red",
    Status.OUT_OF_ORDER: "red",
    Status.SQUASHED: "yellow",
    Status.INCOMPLETE: "red",
}
_FRESHNESS = {
    Freshness.UP_TO_DATE: "green",
    Freshness.CHANGED: "yellow",
    Freshness.NEVER_APPLIED: "yellow",
    Freshness.FILE_GONE: "yellow",
}
_TITLES = ("version", "state", "applied at", "by", "took", "down")
_LAST_TITLES = ("repeatable file", *_TITLES[1:5], "")
_DROPPED_FIRST = (3, 4, 5, 2)  # columns that a narrow terminal does without
_NARROWEST = 16  # columns for a version


def plain(text: str, **_style: object) -> str:
    """Leave a text uncoloured."""
    return text


def line_of(statement: Statement) -> int:
    """Return the line that a statement begins in, from 1."""
    return line_number(statement.source, statement.offset)


# A run


def intent_text(plan: Plan, request: Request) -> str:
    """Say how many migrations a run is about, and of how many."""
    if not request.reverts:
        files = sum(entry.migration is not None for entry in plan.entries)
        changed = sum(each.is_pending for each in plan.repeatables)
        more = f" and {changed} of {counted(len(plan.repeatables), 'repeatable file')}"
        counts = f"{len(_pending(plan))} of {counted(files, 'migration')}"
        return f"{counts}{more if changed else ''} pending"
    applied = sum(entry.applied is not None for entry in plan.entries)
    versions = len({step.version for step in plan.steps})
    again = any(step.direction is Direction.UP for step in plan.steps)
    what = f"{versions} of {counted(applied, 'applied migration')} to revert"
    return f"{what} and apply again" if again else what


def _pending(plan: Plan) -> list[Entry]:
    states = (Status.PENDING, Status.OUT_OF_ORDER, Status.INTERRUPTED)
    return [entry for entry in plan.entries if entry.status in states]


def outcome_text(outcome: Outcome, request: Request, seconds: float, style: Style) -> str:
    """Say what a run did, how long it took, and which version the database is at."""
    steps = outcome.finished
    if not steps:
        squashed = [entry.version for entry in outcome.plan.squashed]
        if squashed:
            return f"nothing was run; {listed(squashed)} is recorded in place of what it replaces"
        return nothing_text(outcome.plan, request)
    numbered = [step for step in steps if not is_repeatable(step.version)]
    counts = [(d, sum(step.direction is d for step in numbered)) for d in reversed(Direction)]
    did = [f"{DONE[d]} {counted(count, 'migration')}" for d, count in counts if count]
    if repeated := len(steps) - len(numbered):
        did.append(f"{'' if did else 'applied '}{counted(repeated, 'repeatable file')}")
    state = {e.version: e.status is not Status.PENDING for e in outcome.plan.entries if e.applied}
    state |= {step.version: step.direction is Direction.UP for step in numbered}
    current = [e.version for e in outcome.plan.entries if state.get(e.version)]
    where = f"the database is at {current[-1]}" if current else "no migration is applied now"
    return style(f"{' and '.join(did)} in {duration(seconds)}; {where}", bold=True)


def nothing_text(plan: Plan, request: Request) -> str:
    """Say why a plan has no steps."""
    bound = "" if request.target is None else f" after {request.target}"
    if request.reverts:
        return f"nothing to do: no migration{bound} is applied"
    files = sum(entry.migration is not None for entry in plan.entries)
    if pending := len(_pending(plan)):
        later = counted(pending, "later migration") + (" is" if pending == 1 else " are")
        return f"nothing to do: all up to {request.target} are applied, {later} pending"
    if not files:
        return "nothing to do: there are no migration files"
    known = f"all {files} migrations are" if files > 1 else "the migration is"
    return f"nothing to do: {known} applied"


def plan_text(plan: Plan, removed: Iterable[Losing] = ()) -> str:
    """Write a plan as an SQL script, as `--dry-run` shows it, with what its downs remove."""
    removed = tuple(removed)
    lines = [f"-- note: {note}" for note in plan.notes]
    for step in plan.steps:
        script = step.script
        how = "in one transaction" if script.transactional else "statement by statement"
        lines += ["", f"-- {DOING[step.direction]} {step.version}, {how}: {script.path}"]
        lines += [f"-- {each.text}" for each in removed if each.step is step]
        units = script.units[step.start_at :]
        lines += [line for unit in units for line in _unit_lines(unit)]
    total = f"-- dry run of {counted(len(plan.steps), 'step')}; nothing was run"
    return "\n".join([*lines, "", total]).lstrip("\n")


def _unit_lines(unit: Unit) -> Iterator[str]:
    if begin := effects.begin_text(unit):
        yield f"-- {begin}"
    for statement in unit.statements:
        yield statement.text
        if statement.data:
            block, data = statement.block, statement.source[slice(*statement.data)]
            lines = block.lines if block else data.count("\n")
            yield f"-- and {counted(lines, 'line')} of data"


# Status


def reversible(entry: Entry) -> str:
    """Say where a version's down script is: `yes` (a file), `stored` (no file), or `no file`."""
    if entry.down_file:
        return "yes"
    return "stored" if entry.applied and entry.applied.has_down else "no file"


def status_text(overview: Overview, style: Style, *, width: int | None, program: str) -> str:
    """Write the table of all versions.

    Args:
        width: Of the terminal, in columns; no line is wider.  None cuts nothing.
        program: What it was called as.
    """
    head = (
        f"database {overview.database}, PostgreSQL {overview.server_version}, "
        f"history in schema {overview.schema}"
    )
    if width is not None:
        head = textwrap.fill(head, width, break_long_words=False, break_on_hyphens=False)
    entries, repeatables = overview.entries, overview.repeatables
    if not (entries or repeatables):
        return f"{head}\n\nno migration files, and none applied"
    versions = [_TITLES, *map(_row, entries)] if entries else []
    others = [_LAST_TITLES, *map(_repeatable_row, repeatables)] if repeatables else []
    widths = _widths([*versions, *others], width)
    sections = [
        _table(versions, [_COLOURS[entry.status] for entry in entries], widths, style),
        _table(others, [_FRESHNESS[each.status] for each in repeatables], widths, style),
        [
            *(as_called(line, program) for line in _remarks(overview)),
            "; ".join(filter(None, (_totals(entries), _repeatable_totals(repeatables)))),
        ],
    ]
    return "\n\n".join([head, *("\n".join(section) for section in sections if section)])


def _table(
    rows: Sequence[tuple[str, ...]], colours: Iterable[str], widths: list[int], style: Style
) -> list[str]:
    """Write the lines of a table; the first row has the titles, and no colour."""
    return [
        _line(row, colour, widths, style)
        for row, colour in zip(rows, ["", *colours][: len(rows)], strict=True)
    ]


def _row(entry: Entry) -> tuple[str, ...]:
    applied = entry.applied
    state = entry.status.value + (" *" if entry.reformatted else "")
    if entry.status is Status.RENAMED:
        state = f"renamed to {entry.new_name}"
    if not applied:
        return entry.version, state, "", "", "", reversible(entry)
    at, took = applied.applied_at, applied.duration_ms
    return (
        entry.version,
        state,
        at.astimezone().strftime("%Y-%m-%d %H:%M") if at else "",
        applied.applied_by,
        duration(took / 1000) if took is not None else "",
        reversible(entry),
    )


def _repeatable_row(repeatable: Repeatable) -> tuple[str, ...]:
    state, applied = repeatable.status.value + " *" * repeatable.reformatted, repeatable.applied
    if not applied:
        return repeatable.name, state, "", "", "", ""
    took = "" if applied.duration_ms is None else duration(applied.duration_ms / 1000)
    at = applied.applied_at.astimezone().strftime("%Y-%m-%d %H:%M")
    return repeatable.name, state, at, applied.applied_by, took, ""


def _widths(table: Iterable[tuple[str, ...]], width: int | None) -> list[int]:
    """Return the width of each column; 0 for one that is left out."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    if width is None:
        return widths
    for column in _DROPPED_FIRST:
        others = sum(each + 2 for each in widths[1:] if each)
        if width - others >= min(widths[0], _NARROWEST):
            break
        widths[column] = 0
    others = sum(each + 2 for each in widths[1:] if each)
    widths[0] = max(1, min(widths[0], width - others))
    return widths


def _line(row: tuple[str, ...], colour: str, widths: list[int], style: Style) -> str:
    cells = [_cut(cell, width).ljust(width) for cell, width in zip(row, widths, strict=True)]
    if colour:
        cells[1] = style(cells[1], fg=colour)
    return "  ".join(cell for cell, width in zip(cells, widths, strict=True) if width).rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def _remarks(overview: Overview) -> Iterator[str]:
    entries, repeatables = overview.entries, overview.repeatables
    ahead = ahead_of_files(entries)
    if ahead:
        yield f"the database is ahead of these files by {counted(len(ahead), 'migration')}"
    if any(e.reformatted for e in entries) or any(e.reformatted for e in repeatables):
        yield "* edited since it was applied, in comments, white space or letter case only"
    for entry in entries:
        if entry.applied and entry.applied.progress:
            yield f"{entry.version}: {_how_far(entry.applied.progress)}"
    if overview.runners:
        pids = " and ".join(map(str, overview.runners))
        yield f"a run is under way (pid {pids}): wait until it ends"
    if any(entry.status is Status.SQUASHED for entry in entries):
        yield "squashed: what the file replaces is applied; to record the file, run: migrator up"
    known = {Status.APPLIED, Status.PENDING, Status.SQUASHED}
    if overview.runners:
        known.add(Status.INTERRUPTED)
    if any(e.status not in known and e not in ahead for e in entries):
        yield "for the reasons and what to do, run: migrator verify"


def _how_far(progress: BatchProgress) -> str:
    """Say how far a backfill has come.

    >>> _how_far(BatchProgress(Direction.UP, 0, "", "public.t", done=250, end=1000, rows=9000))
    'backfill of public.t: 25 % of pass 1, 9,000 rows so far'
    """
    what = f"backfill of {progress.table}" if progress.table else "repeated statement"
    share = f"{progress.done * 100 // progress.end} % of " if progress.end else ""
    where = f"{share}pass {progress.turn}" if progress.table else f"{progress.done} times"
    return f"{what}: {where}, {counted(progress.rows, 'row')} so far"


def _totals(entries: Iterable[Entry]) -> str:
    statuses = [entry.status for entry in entries]
    counts = ((statuses.count(status), status) for status in Status)
    return ", ".join(f"{count} {status}" for count, status in counts if count)


def _repeatable_totals(repeatables: Iterable[Repeatable]) -> str:
    statuses = [each.status for each in repeatables]
    counts = ((statuses.count(status), status) for status in Freshness)
    text = ", ".join(f"{count} {status}" for count, status in counts if count)
    return f"repeatable files: {text}" if text else ""


def verified_text(
    entries: Iterable[Entry], repeatables: Iterable[Repeatable], *, offline: bool
) -> str:
    """Say that the files are valid, and whether they were compared with the history."""
    numbered = sum(each.migration is not None for each in entries)
    others = sum(each.migration is not None for each in repeatables)
    counts = ((numbered, "migration"), (others, "repeatable file"))
    if not (what := " and ".join(counted(number, noun) for number, noun in counts if number)):
        return "no migration files"
    verbs = ("is", "matches") if numbered + others == 1 else ("are", "match")
    against = "" if offline else f" and {verbs[1]} the history"
    return f"{what} {verbs[0]} valid{against}"


def log_text(rows: Iterable[LogEntry]) -> str:
    """Write the log, one line for each row, with its message or reason below."""
    lines = []
    for row in rows:
        when = row.logged_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        took = f" in {duration(row.duration_ms / 1000)}" if row.duration_ms is not None else ""
        who = f"{row.db_user}, {row.os_user or '?'}@{row.host or '?'}, {row.tool_version}"
        what = f"{row.action} {row.version}".rstrip()
        lines.append(f"{when}  {what}: {row.outcome}{took}  ({who})")
        kind = "error" if row.outcome == "failed" else "note"
        is_backup = row.action == "backup"
        said = ((kind, row.message), ("made" if is_backup else "reason", row.reason))
        code = f" (SQLSTATE {row.sqlstate})" if row.sqlstate else ""
        lines += [f"    {name}: {text}{code}" for name, text in said if text]
    return "\n".join(lines) or "the log is empty"


# Errors


def error_text(error: MigratorError, style: Style, program: str) -> str:
    """Write an error: what, where, PostgreSQL's details, what was kept, what to do next.

    Args:
        program: What it was called as.
    """
    if isinstance(error, BlockedError):
        parts = [error_text(each, style, program) for each in error.errors]
        return "\n\n".join([*parts, style(error.message, bold=True)])
    lines = [f"{style('error:', fg='red', bold=True)} {error}"]
    if isinstance(error, StatementError):
        lines += _statement_lines(error)
    elif error.detail:
        lines += _indented(error.detail)
    return "\n".join([*lines, *_hint_lines(error.hint or "", style, program)])


def _hint_lines(hint: str, style: Style, program: str) -> Iterator[str]:
    """Label what to do: `next:` for a command to go on with, `hint:` for everything else."""
    last = None
    for line in hint.splitlines():
        label = "next:" if is_next_step(line) else "hint:"
        shown = style(label, bold=True) if label != last else " " * len(label)
        yield f"{shown} {as_called(line, program)}"
        last = label


def _statement_lines(error: StatementError) -> Iterator[str]:
    yield from _indented(error.excerpt or "")
    is_ours = (error.detail or "").startswith("blocked by")
    detail = "" if is_ours else "DETAIL: "
    for name, value in (
        ("SQLSTATE ", error.sqlstate),
        (detail, error.detail),
        ("HINT: ", error.server_hint),
        ("CONTEXT: ", error.context),
    ):
        if value:
            yield from _indented(f"{name}{value}")
    if error.outcome:
        yield error.outcome


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]
