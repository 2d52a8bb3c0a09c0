"""Suggest a command for a mistyped one, or for one of another tool."""

from __future__ import annotations

from collections.abc import Iterable

_ELSEWHERE = {
    "up": "apply deploy migrate run update upgrade",
    "down": "back downgrade revert rollback undo",
    "redo": "refresh reset",
    "status": "current info list ls show",
    "create": "add gen generate make new revision",
    "verify": "check lint validate",
    "rehearse": "plan preview test",
    "drift": "compare diff",
    "doctor": "diagnose examine health inspect",
    "baseline": "fake init mark stamp",
    "adopt": "import takeover",
    "repair": "fix force resolve",
    "log": "history",
    "config": "configuration env settings",
}
"""What other tools call a command."""


def suggest(typed: str, commands: Iterable[str]) -> str | None:
    """Return the command that was meant; None if no guess is good.

    >>> suggest("rollback", ["up", "down"]), suggest("staus", ["up", "status"])
    ('down', 'status')
    """
    for command, others in _ELSEWHERE.items():
        if typed.lower() in others.split():
            return command
    import difflib

    return next(iter(difflib.get_close_matches(typed.lower(), commands, n=1)), None)
