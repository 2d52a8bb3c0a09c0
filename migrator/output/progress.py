"""Show what happens while it happens: lines on stderr, as text or JSON, and a progress bar."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TextIO

from ..errors import counted, duration
from ..events import (
    Batches,
    Event,
    Losing,
    Noticed,
    Progress,
    Progressed,
    Remarked,
    Retrying,
    StatementFinished,
    StepFinished,
    StepStarted,
    Traced,
    Waiting,
)
from ..tracing.trace import LockMode, Touch, Trace
from .invocation import as_called
from .json import dumps, of_event
from .terminal import readable
from .text import DOING, DONE, Style, line_of

_BAR = 20  # columns
_OFTEN = 30.0  # seconds between two lines about one phase
_CLEAR = "\x1b[K"  # to the end of the line
_COUNTS = re.compile(r"( [0-9]+)+$")  # of a command tag, such as INSERT 0 3


def event_text(event: Event, style: Style, *, verbose: bool) -> str | None:
    """Write an event as lines; None for an event that only `--verbose` shows."""
    match event:
        case StepStarted(step):
            return f"{DOING[step.direction]} {step.version}" if verbose else None
        case StepFinished(step, seconds):
            done = style(DONE[step.direction].ljust(8), fg="green")
            return f"{done} {step.version} ({duration(seconds)})"
        case StatementFinished():
            return _statement_text(event) if verbose else None
        case Traced(trace=trace):
            return "\n".join(f"    {line}" for line in trace_lines(trace, {})) or None
        case Noticed(step, statement, notice):
            place = f"{step.script.path}:{line_of(statement)}: " if statement else ""
            text = f"{place}{notice.severity}: {notice.message}"
            more = (("DETAIL", notice.detail), ("HINT", notice.hint))
            lines = (text, *(f"  {name}: {value}" for name, value in more if value))
            # The lines of a text of several lines are below its first one.
            return "\n".join("  " + line.replace("\n", "\n    ") for line in lines)
        case Progressed():
            return None  # shown by a `ProgressLine`
        case Waiting():
            return _waiting_text(event, style)
        case Retrying():
            return _retrying_text(event, style)
        case Losing() | Remarked():
            return _announced(event, style)


def _announced(event: Losing | Remarked, style: Style) -> str:
    if isinstance(event, Remarked):
        return event.text
    line = line_of(event.statement)
    return style(f"{event.step.version}: {event.text} (line {line})", fg="yellow")


def _statement_text(event: StatementFinished) -> str:
    place = f"{event.step.script.path.name}:{line_of(event.statement)}"
    command = event.command
    if event.count > 1:
        command = f"{event.count:,} × {_COUNTS.sub('', command)}"
    return f"  {place}  {command}  ({duration(event.seconds)})"


def _waiting_text(event: Waiting, style: Style) -> str:
    if event.what == "another runner":
        head = "waiting for another migrator to finish"
    else:
        relation = f" on {event.relation}" if event.relation else ""
        lock = f"{event.lock}{relation}" if event.lock else "a lock"
        line = f" (line {line_of(event.statement)})" if event.statement else ""
        head = f"{event.what} is waiting for {lock}{line}, {_tenths(event.seconds)} so far"
    head += "; blocked by" if event.blockers else ""
    return "\n".join([style(head, fg="yellow"), *(f"  {each}" for each in event.blockers)])


def _retrying_text(event: Retrying, style: Style) -> str:
    again = f"attempt {event.attempt} of {event.attempts} failed: {event.reason}"
    head = f"{event.step.version}: {again}; retrying in {_tenths(event.delay)}"
    lines = (f"  blocked by {each}" for each in event.blockers)
    return "\n".join([style(head, fg="yellow"), *lines])


def _tenths(seconds: float) -> str:
    """Write a time to wait, which needs no milliseconds.

    >>> _tenths(0.494), _tenths(95)
    ('0.5 s', '1 min 35 s')
    """
    return f"{seconds:.1f} s" if seconds < 1 else duration(seconds)


def trace_lines(trace: Trace, sizes: Mapping[str, str]) -> Iterator[str]:
    """Describe what a statement did to existing tables: rewrites, scans, rows, locks."""
    for touch in trace.touches:
        if touch.is_ours or touch.relation.kind in "iIt":
            continue
        if did := "; ".join(_did(touch)):
            name = touch.renamed_from or touch.relation.name
            size = sizes.get(name)
            yield f"{name}{f' ({size})' if size else ''}: {did}"


def _did(touch: Touch) -> Iterator[str]:
    facts = (
        (touch.dropped, "dropped"),
        (touch.renamed_from, f"renamed to {touch.relation.name}"),
        (touch.rewritten, "rewritten"),
        (touch.scans, "full scan"),
    )
    yield from (what for is_so, what in facts if is_so)
    counts = (
        (touch.inserted, "inserted"),
        (touch.updated, "updated"),
        (touch.deleted, "deleted"),
    )
    rows = [f"{counted(count, 'row')} {what}" for count, what in counts if count]
    yield from rows or ["written"] * touch.written
    if touch.mode and touch.is_stronger and touch.mode > LockMode.ROW_EXCLUSIVE:
        yield lock_text(touch.mode)


def lock_text(mode: LockMode) -> str:
    """Name a lock, and what it blocks.

    >>> lock_text(LockMode.SHARE), lock_text(LockMode.SHARE_UPDATE_EXCLUSIVE)
    ('SHARE lock (blocks writes)', 'SHARE UPDATE EXCLUSIVE lock')
    """
    blocked = "reads and writes" if mode.blocks_reads else "writes"
    return f"{mode.sql} lock" + (f" (blocks {blocked})" if mode.blocks_writes else "")


def progressed_text(event: Progressed) -> str:
    """Describe the progress of a statement on one line."""
    place = f"{event.step.script.path.name}:{line_of(event.statement)}"
    # A narrow terminal cuts the end of the line, so what changes comes first.
    what, batches = progress_text(event.progress), event.progress.batches
    if batches:
        what = f"{what}; {batches_text(batches, event.progress.unit)}"
    return f"{what}  ({duration(event.seconds)} so far, {place})"


def batches_text(batches: Batches, unit: str) -> str:
    """Say how the batches of a statement go.

    >>> batches_text(Batches(1200, 400.0, 65.0, 64, 0.09), "blocks")
    '1,200 rows, 400 rows/s, 1 min 5 s left, 64 blocks in 90 ms'
    """
    size = f"{counted(batches.size, 'block')} in " if unit == "blocks" else "the last batch took "
    parts = (
        f"waiting for {batches.waits_for}" if batches.waits_for else None,
        counted(batches.rows, "row"),
        f"{batches.rate:,.0f} rows/s",
        None if batches.left is None else f"{duration(batches.left)} left",
        f"{size}{duration(batches.seconds)}" if batches.seconds else None,
    )
    return ", ".join(filter(None, parts))


def progress_text(progress: Progress) -> str:
    """Describe the progress of a command, with a bar if its size is known.

    >>> progress_text(Progress("VACUUM", "scanning heap", 250, 1000, "blocks"))
    '[█████               ]  25 %  VACUUM, scanning heap'
    >>> progress_text(Progress("CREATE INDEX", "waiting for old snapshots", 0, 2, "sessions"))
    'CREATE INDEX, waiting for old snapshots: 0 of 2 sessions'
    """
    what, share = f"{progress.command}, {progress.phase}", progress.share
    if progress.unit == "sessions" and progress.total:
        return f"{what}: {progress.done} of {progress.total} sessions"
    if share is None:
        return f"{what}: {progress.done} {progress.unit}" if progress.done else what
    bar = "█" * int(share * _BAR)
    return f"[{bar:{_BAR}}] {share * 100:3.0f} %  {what}"


@dataclass(slots=True)
class ProgressLine:
    """A line that says how far a long statement is.

    On a terminal it is rewritten in place.  Elsewhere, as in the log of a deployment, there is
    a line for each phase and for each half minute.

    Attributes:
        stream: None writes nothing.
        width: In columns; None if the stream is not a terminal.
    """

    stream: TextIO | None
    width: int | None = None
    _last: Progressed | None = None
    _is_shown: bool = False

    def show(self, event: Progressed) -> None:
        """Show an event, if it is due."""
        if self.stream is None:
            return
        if self.width:
            self.rewrite(progressed_text(event))
        elif self.is_due(event):
            self.stream.write(f"  {readable(progressed_text(event))}\n")

    def rewrite(self, text: str) -> None:
        """Put another text on the line of a terminal."""
        if self.width and self.stream:
            self.stream.write(f"\r{readable(text)[: self.width - 1]}{_CLEAR}")
            self.stream.flush()
            self._is_shown = True

    def clear(self) -> None:
        """Remove the line from a terminal, before something else is written."""
        if self._is_shown and self.stream:
            self.stream.write(f"\r{_CLEAR}")
            self._is_shown = False

    def is_due(self, event: Progressed) -> bool:
        """Whether an event begins a statement, a phase or a half minute; remember it if so."""
        last = self._last
        if (
            last
            and last.statement is event.statement
            and last.progress.phase == event.progress.phase
            and event.seconds - last.seconds < _OFTEN
        ):
            return False
        self._last = event
        return True


@dataclass(slots=True)
class EventWriter:
    """Writes events to a stream.

    Attributes:
        stream: None writes nothing.
        is_verbose: Show each step that starts, each statement and repeated notices.
        program: What it was called as.
        events: What was written as JSON, in order; it grows.
    """

    stream: TextIO | None
    style: Style
    as_json: bool
    is_verbose: bool
    program: str
    events: list[Event] = field(default_factory=list)
    _line: ProgressLine = field(init=False)

    def __post_init__(self) -> None:
        is_terminal = self.stream is not None and self.stream.isatty()
        width = shutil.get_terminal_size().columns if is_terminal else None
        self._line = ProgressLine(self.stream, width)

    def write(self, event: Event) -> None:
        """Write an event, if it is to be shown."""
        match event:
            case StepStarted() | StatementFinished() if not (self.as_json or self.is_verbose):
                return  # a seed has millions of these
            case Noticed(is_repeated=True) if not self.is_verbose:
                return
            case Progressed() if self.as_json:
                if self._line.is_due(event):
                    self._write(dumps(of_event(event)))
            case Progressed():
                self._line.show(event)
            case _ if self.as_json:
                self.events.append(event)
                self._write(dumps(of_event(event)))
            case _:
                self.clear()
                if text := event_text(event, self.style, verbose=self.is_verbose):
                    is_remark = isinstance(event, Remarked)
                    text = as_called(text, self.program) if is_remark else text
                    self._write(readable(text))

    def progress(self, text: str) -> None:
        """Show progress on the progress line of a terminal."""
        if not self.as_json:
            self._line.rewrite(text)

    def clear(self) -> None:
        """Remove the progress line, before something else is written."""
        self._line.clear()

    def _write(self, text: str) -> None:
        if self.stream:
            self.stream.write(f"{text}\n")
            self.stream.flush()
