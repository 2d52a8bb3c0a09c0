"""Tell of what happens on stderr, as lines for people or as JSON."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from typing import TextIO

from ..events import Event, Progressed, StatementFinished, StepStarted
from .progress import Ticker, event_text
from .protocol import of_event
from .text import Style


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
