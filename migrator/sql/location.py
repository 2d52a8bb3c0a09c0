"""Turn offsets into lines and columns, and show the source around them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from pathlib import PurePath

from ..errors import Location
from ..passwords import without_passwords
from .script import Abridged

_LINE_END = re.compile(r"\r\n?|\n")


def locate(source: str, offset: int, path: PurePath) -> Location:
    r"""Turn a character offset into a line and column, both from 1.

    LF, CRLF and a lone CR each end a line, as in libpq's reportErrorPosition().

    >>> str(locate("a\r\nbc", 4, PurePath("x.sql")))
    'x.sql:2:2'
    """
    starts = _line_starts(source, offset)
    start = starts[bisect_right(starts, offset) - 1]
    return Location(path, line_number(source, offset), 1 + offset - start)


def line_number(source: str, offset: int) -> int:
    r"""Return the line of a character offset, from 1; fast for many offsets of one source.

    >>> line_number("a\nbc", 3)
    2
    """
    skipped = source.skipped(offset) if isinstance(source, Abridged) else 0
    return bisect_right(_line_starts(source, offset), offset) + skipped


class _Lines:
    """The offsets at which the lines of a text begin, as far as it was searched."""

    __slots__ = ("seen", "starts")

    def __init__(self) -> None:
        self.starts, self.seen = [0], 0


def _line_starts(source: str, offset: int) -> list[int]:
    """Return the offsets at which lines begin, at least up to the line of `offset`."""
    lines = _known_lines(source)
    if lines.seen < offset:
        end = offset + (source[offset - 1 : offset + 1] == "\r\n")  # CRLF is one line end
        lines.starts += [match.end() for match in _LINE_END.finditer(source, lines.seen, end)]
        lines.seen = end
    return lines.starts


@lru_cache(maxsize=2)
def _known_lines(_source: str) -> _Lines:
    return _Lines()


def excerpt_at(source: str, location: Location, *, width: int = 100) -> str:
    """Return a line and up to two before it, numbered, and a caret under the column.

    Each line is cut to `width` characters: around the caret, or from its start.  Passwords are
    hidden, and what cannot be seen is written as Python does.  COPY data that were left in their
    file are not shown.
    """
    starts = _line_starts(source, len(source))
    last = bisect_right(starts, location.line, key=lambda start: line_number(source, start))
    shown = [(line_number(source, start), start) for start in starts[max(0, last - 3) : last]]
    return _drawn(source, shown, location.column - 1, width)


def excerpt_of(lines: Sequence[str], location: Location, *, width: int = 100) -> str:
    """Return an excerpt as `excerpt_at` does, from its lines; the last is that of the location."""
    text = "\n".join(lines)
    starts = _line_starts(text, len(text))
    first = location.line - len(lines) + 1
    return _drawn(text, list(enumerate(starts, first)), location.column - 1, width)


def _drawn(source: str, shown: Sequence[tuple[int, int]], caret: int, width: int) -> str:
    """Draw lines, each given by number and offset, and a caret under the last."""
    last, last_start = shown[-1]
    gutter = len(str(last))
    first = max(0, caret - width // 2) if caret >= width else 0
    lines = []
    for number, start in shown:
        left = first if number == last else 0
        lines.append(f"{number:>{gutter}} | {_part_of_line(source, start, left, width)}".rstrip())
    indent = len(_printable("…" * (first > 0) + source[last_start + first : last_start + caret]))
    return "\n".join([*lines, f"{'':{gutter}} | {'':{indent}}^"])


def _part_of_line(source: str, start: int, left: int, width: int) -> str:
    ends = _LINE_END.search(source, start)
    end = ends.start() if ends else len(source)
    cut = min(end, start + left + width)
    line = without_passwords(source[start:end], aligned=True)[left : cut - start]
    return _printable("…" * (left > 0) + line + "…" * (cut < end))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else _escape(c) for c in text.expandtabs(4))


def _escape(character: str) -> str:
    return repr(character)[1:-1]
