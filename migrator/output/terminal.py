"""Text for people: without passwords, and with every control character made visible."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from unicodedata import combining, east_asian_width

from ..passwords import without_passwords

# Also what changes the direction of a line or ends one.
_CONTROL = re.compile(
    r"\r(?=\n)|[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)
# Stands for the ESC of a colour; no other text can contain it.
_ESCAPE = f"\ufdd0{os.urandom(8).hex()}"
_COLOUR = re.compile(rf"{_ESCAPE}\[[0-9;]*m")
_EXCERPT = re.compile(r" *\d* \| ")
_FURTHER = 4  # columns


def own(codes: str) -> str:
    """Mark the program's own colours, which `readable` leaves as they are."""
    return codes.replace("\x1b", _ESCAPE)


def wrapped(text: str, width: int) -> str:
    r"""Break lines between words, so that none is wider; the rest of a line is indented further.

    Words that are wider stay whole, and so do the lines of an excerpt, which a caret points into.

    >>> print(wrapped("  line 1: alter table users\n  1 | a very long line\ndone", 16))
      line 1: alter
          table
          users
      1 | a very long line
    done
    """
    return "\n".join(part for line in text.split("\n") for part in _parts(line, width))


def _parts(line: str, width: int) -> Iterator[str]:
    if _width(line) <= width or _EXCERPT.match(line):
        yield line
        return
    indent = len(line) - len(line.lstrip())
    part = ""
    for word in re.findall(r"\s*\S+", line):
        if part and _width(part + word) > width:
            yield part
            part = " " * (indent + _FURTHER) + word.lstrip()
        else:
            part += word
    yield part


def _width(text: str) -> int:
    """Count the columns of a text; East Asian characters take two, combining ones none."""
    text = _COLOUR.sub("", text)
    if text.isascii():
        return len(text)
    wide = sum(east_asian_width(each) in "WF" for each in text)
    return len(text) + wide - sum(combining(each) > 0 for each in text)


def readable(text: str) -> str:
    r"""Hide passwords, and write control characters as `\x1b`.

    >>> print(readable("a\x1b[2Jb\u202e") + readable(own("\x1b")).replace("\x1b", " ESC"))
    a\x1b[2Jb\u202e ESC
    """
    return _CONTROL.sub(_visible, without_passwords(text)).replace(_ESCAPE, "\x1b")


def _visible(found: re.Match[str]) -> str:
    code = ord(found[0])
    if found[0] == "\r" and found.string.startswith("\n", found.end()):
        return ""  # a line end of CR LF
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
