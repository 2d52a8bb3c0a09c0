"""Text for people: without passwords, and with every control character made visible."""

from __future__ import annotations

import os
import re

from ..passwords import without_passwords

# Also what changes the direction of a line or ends one.
_CONTROL = re.compile(
    r"\r(?=\n)|[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)
# Stands for the ESC of a colour; no other text can contain it.
_ESCAPE = f"\ufdd0{os.urandom(8).hex()}"


def own(codes: str) -> str:
    """Mark the program's own colours, which `readable` leaves as they are."""
    return codes.replace("\x1b", _ESCAPE)


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
