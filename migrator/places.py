"""Turn an offset in a text into line and column, and show the place."""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import lru_cache
from pathlib import PurePath

from .script import Location

_LINE_END = re.compile(r"\r\n?|\n")


def locate(source: str, offset: int, path: PurePath) -> Location:
    r"""Turn a character offset into a line and column, both from 1.

    LF, CRLF and a lone CR end a line alike (libpq's reportErrorPosition counts so).

    >>> str(locate("a\r\nbc", 4, PurePath("x.sql")))
    'x.sql:2:2'
    """
    line = line_number(source, offset)
    return Location(path, line, 1 + offset - _line_starts(source, offset)[line - 1])


def line_number(source: str, offset: int) -> int:
    r"""Return the line of a character offset, from 1; cheap for many offsets of one source.

    >>> line_number("a\nbc", 3)
    2
    """
    return bisect_right(_line_starts(source, offset), offset)


class _Lines:
    """Where the lines of a text begin, as far as it has been looked at."""

    __slots__ = ("seen", "starts")

    def __init__(self) -> None:
        self.starts, self.seen = [0], 0


def _line_starts(source: str, offset: int) -> list[int]:
    """Return where the lines begin, up to that of an offset at least."""
    lines = _known_lines(source)
    if lines.seen < offset:
        end = offset + (source[offset - 1] == "\r")  # CRLF is not to be cut
        lines.starts += [match.end() for match in _LINE_END.finditer(source, lines.seen, end)]
        lines.seen = end
    return lines.starts


@lru_cache(maxsize=2)
def _known_lines(_source: str) -> _Lines:
    return _Lines()


def excerpt(source: str, location: Location, *, width: int = 100) -> str:
    """Show a place: its line and up to two before it, numbered, and a caret under the column.

    No line shows more than `width` characters of the text: around the caret, or else from the
    line's start.  Tabs and control characters are shown as spaces.
    """
    starts = _line_starts(source, len(source))[max(0, location.line - 3) : location.line]
    caret = location.column - 1
    gutter = len(str(location.line))
    first = max(0, caret - width // 2) if caret >= width else 0
    lines = []
    for number, start in enumerate(starts, start=location.line - len(starts) + 1):
        left = first if number == location.line else 0
        lines.append(f"{number:>{gutter}} | {_part_of_line(source, start, left, width)}".rstrip())
    indent = len(_printable("…" * (first > 0) + source[starts[-1] + first : starts[-1] + caret]))
    return "\n".join([*lines, f"{'':{gutter}} | {'':{indent}}^"])


def _part_of_line(source: str, start: int, left: int, width: int) -> str:
    ends = _LINE_END.search(source, start)
    end = ends.start() if ends else len(source)
    cut = min(end, start + left + width)
    return _printable("…" * (left > 0) + source[start + left : cut] + "…" * (cut < end))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text.expandtabs(4))
