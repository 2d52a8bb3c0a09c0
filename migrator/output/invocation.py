"""Write the commands in messages in the way the user called the program."""

from __future__ import annotations

import re

MAKE = "make"
"""What the program was called as where the Makefile called it (`MIGRATOR_CALLED_AS`)."""

# The Makefile is that of a checkout, which has the program here.
_NO_TARGET = ".venv/bin/migrator"
_TAKES_VALUE = (
    "config|env|database-url|dir|schema|trust-history-of|to|steps|reason|role|plan|html|save|small|version"
    "|limit|files|into|table|scratch-url|lock-timeout|lock-attempts|lock-wait|statement-timeout"
)
_WORD = r"""(?:"[^"]*"|'[^']*'|[^\s,;()]+)"""
_OPTION = rf"--(?:(?:{_TAKES_VALUE})\ {_WORD}|[a-z][a-z-]*)"
_COMMAND = re.compile(
    rf"""
    (?<![\w/.-]) (?<!-m\ ) migrator
    (?P<before> (?:\ {_OPTION})* )
    (?:
        \ (?P<command>
            up|down|redo|status|rehearse|drift|dump|verify|renumber|squash|doctor|log|config
        )
        |
        \ (?P<naming> create|adopt|baseline|repair|help|completion )
        (?P<name> (?:\ (?!--){_WORD})? )
        |
        \ (?P<help> --help )
    )
    (?![\w-])
    (?P<after> (?:\ {_OPTION})* )
    """,
    re.VERBOSE,
)


_NAMED = {"create": "name", "adopt": "tool"}
"""What make calls the argument of a command, unless it is a version."""


def is_next_step(text: str) -> bool:
    """Whether a hint names a command of the program to go on with.

    >>> is_next_step("fix the file, then run: migrator up"), is_next_step("restore the file")
    (True, False)
    >>> is_next_step("did you mean: migrator up"), is_next_step("see: migrator up --help")
    (False, False)
    """
    found = _COMMAND.search(text)
    is_suggestion = text.startswith("did you mean")
    return found is not None and not is_suggestion and not found[0].endswith("--help")


def as_called(text: str, program: str) -> str:
    r"""Write the commands of a message for the caller of `program`, which may be `make`.

    >>> as_called("fix the file, then run: migrator up", "python -m migrator")
    'fix the file, then run: python -m migrator up'
    >>> as_called("fix the down file, then run: migrator down --from-files", "make")
    'fix the down file, then run: make migrate-down from-files=1'
    >>> as_called("see: migrator log; then run: migrator --database-url URL up --to 05", "make")
    'see: make migrate-log; then run: make migrate-up to=05 DATABASE_URL=URL'
    >>> as_called('migrator repair 05 --accept --reason "see OPS-12"', "make")
    'make migrate-repair version=05 accept=1 reason="see OPS-12"'
    >>> as_called("migrator up --env production --yes", "make")
    'make migrate-up env=production yes=1'
    >>> as_called("migrator --dir a --dir b up", "make")
    'make migrate-up dir=a:b'
    >>> as_called("see: migrator help hazards", "make")
    'see: .venv/bin/migrator help hazards'
    >>> as_called("see: migrator --help", "make")
    'see: make help'
    """
    if program != MAKE:
        return _COMMAND.sub(lambda found: program + found[0].removeprefix("migrator"), text)
    return _COMMAND.sub(_for_make, text)


def _for_make(found: re.Match[str]) -> str:
    if found["help"]:
        return f"{MAKE} help"
    command = found["command"] or found["naming"]
    if command in ("help", "completion"):
        return _NO_TARGET + found[0].removeprefix("migrator")
    words = [MAKE, f"migrate-{command}"]
    if name := (found["name"] or "").strip():
        words.append(f"{_NAMED.get(command, 'version')}={name}")
    given: dict[str, str] = {}
    for option in re.findall(_OPTION, found["after"] + found["before"], re.VERBOSE):
        key, _, value = option.removeprefix("--").partition(" ")
        if key == "help":
            key, value = "args", "--help"
        name = "DATABASE_URL" if key == "database-url" else key
        # Several directories are one option of make; else the last value counts.
        given[name] = f"{given[name]}:{value}" if key == "dir" and key in given else value or "1"
    return " ".join([*words, *(f"{name}={value}" for name, value in given.items())])
