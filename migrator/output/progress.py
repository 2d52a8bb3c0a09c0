"""Tell of what happens while it happens: a line an event, and a bar for a long statement."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TextIO

from ..events import (
    Event,
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
from .json import of_event
from .text import DOING, DONE, Style, counted, duration, line_of

_BAR = 20  # columns
_OFTEN = 30.0  # seconds between two lines about one phase
_CLEAR = "\x1b[K"  # to the end of the line


def event_text(event: Event, style: Style, *, verbose: bool) -> str | None:
    """Write an event as a line or two; None for one that is only of interest with `--verbose`."""
    match event:
        case StepStarted(step):
            return f"{DOING[step.direction]} {step.version}" if verbose else None
        case StepFinished(step, seconds):
            done = style(DONE[step.direction].ljust(8), fg="green")
            return f"{done} {step.version} ({duration(seconds)})"
        case StatementFinished() if not verbose:
            return None
        case StatementFinished(step, statement, seconds, command):
            place = f"{step.script.path.name}:{line_of(statement)}"
            return f"  {place}  {command}  ({duration(seconds)})"
        case Traced(trace=trace):
            return "\n".join(f"    {line}" for line in trace_lines(trace, {})) or None
        case Noticed(step, statement, notice):
            place = f"{step.script.path}:{line_of(statement)}: " if statement else ""
            text = f"{place}{notice.severity}: {notice.message}"
            more = (("detail", notice.detail), ("hint", notice.hint))
            lines = (text, *(f"  {name}: {value}" for name, value in more if value))
            return "\n".join(f"  {line}" for line in lines)
        case Progressed():
            return None  # told by a `Ticker`
        case Waiting() | Retrying():
            return _held_up(event, style)
        case Remarked(text):
            return text


def _held_up(event: Waiting | Retrying, style: Style) -> str:
    match event:
        case Waiting(what, blockers, seconds):
            head = f"waiting for {what}, for {duration(seconds)} so far"
            lines = [f"  {blocker}" for blocker in blockers]
        case Retrying(step, attempt, attempts, delay, reason, blockers):
            again = f"try {attempt} of {attempts} at {step.version} failed: {reason}"
            head = f"{again}; the next in {duration(delay)}"
            lines = [f"  held up by {blocker}" for blocker in blockers]
    return "\n".join([style(head, fg="yellow"), *lines])


def trace_lines(trace: Trace, sizes: Mapping[str, str]) -> Iterator[str]:
    """Say what a statement did to existing tables: rewrites, scans, rows, locks."""
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
    yield from (f"{counted(count, 'row')} {what}" for count, what in counts if count)
    if touch.mode and touch.is_stronger and touch.mode > LockMode.ROW_EXCLUSIVE:
        blocked = "reads and writes" if touch.mode.blocks_reads else "writes"
        effect = f" (blocks {blocked})" if touch.mode.blocks_writes else ""
        yield f"{touch.mode.sql} lock{effect}"


def progressed_text(event: Progressed) -> str:
    """Say on one line how far a statement has come."""
    place = f"{event.step.script.path.name}:{line_of(event.statement)}"
    # What moves stands first: a narrow terminal cuts the rest.
    return f"{progress_text(event.progress)}  ({duration(event.seconds)} so far, {place})"


def progress_text(progress: Progress) -> str:
    """Say how far a command has come, with a bar where that is known.

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
class Ticker:
    """A line that says how far a long statement has come.

    It moves in place on a terminal.  Elsewhere, as in the log of a deployment, each line
    stays: there is one for each phase, and one for each half minute.

    Attributes:
        stream: Where it is written; None for nowhere.
        width: In columns; None for what is no terminal.
    """

    stream: TextIO | None
    width: int | None = None
    _last: Progressed | None = None
    _is_shown: bool = False

    def show(self, event: Progressed) -> None:
        """Say how far a statement has come, if it is worth a line."""
        if self.stream is None:
            return
        if self.width:
            self.stream.write(f"\r{progressed_text(event)[: self.width - 1]}{_CLEAR}")
            self.stream.flush()
            self._is_shown = True
        elif self.is_due(event):
            self.stream.write(f"  {progressed_text(event)}\n")

    def clear(self) -> None:
        """Make place for something else."""
        if self._is_shown and self.stream:
            self.stream.write(f"\r{_CLEAR}")
            self._is_shown = False

    def is_due(self, event: Progressed) -> bool:
        """Whether an event says something that the last one that was due has not said."""
        last, self._last = self._last, event
        if last and last.statement is event.statement:
            is_same = last.progress.phase == event.progress.phase
            if is_same and event.seconds - last.seconds < _OFTEN:
                self._last = last
                return False
        return True


@dataclass(slots=True)
class Teller:
    """Where it is told, and how much.

    Attributes:
        stream: None for nowhere.
        is_verbose: Whether each step and statement is worth a line.
        events: What was told as JSON, in order; it grows.
    """

    stream: TextIO | None
    style: Style
    as_json: bool
    is_verbose: bool
    events: list[Event] = field(default_factory=list)
    _ticker: Ticker = field(init=False)

    def __post_init__(self) -> None:
        is_terminal = self.stream is not None and self.stream.isatty()
        width = shutil.get_terminal_size().columns if is_terminal else None
        self._ticker = Ticker(self.stream, width)

    def tell(self, event: Event) -> None:
        """Tell of an event."""
        match event:
            case StepStarted() | StatementFinished() if not (self.as_json or self.is_verbose):
                return  # seeds have millions of these
            case Progressed() if self.as_json:
                if self._ticker.is_due(event):
                    self._write(json.dumps(of_event(event)))
            case Progressed():
                self._ticker.show(event)
            case _ if self.as_json:
                self.events.append(event)
                self._write(json.dumps(of_event(event)))
            case _:
                self.clear()
                if text := event_text(event, self.style, verbose=self.is_verbose):
                    self._write(text)

    def clear(self) -> None:
        """Make place for something else."""
        self._ticker.clear()

    def _write(self, text: str) -> None:
        if self.stream:
            self.stream.write(f"{text}\n")
            self.stream.flush()
