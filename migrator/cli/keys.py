"""The keys that `migrator.toml` may have: those of the options, with their types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ..errors import BlockedError, ConfigurationError

if TYPE_CHECKING:
    from ..config_file import ConfigFile, Keys

ENVIRONMENTS = "env"
"""The table that holds a table for each environment."""

PROTECTED, REQUIRE_BACKUP = "protected", "require-backup"
PASSWORD_COMMAND, BACKUP_COMMAND = "password-command", "backup-command"
BEFORE_UP, AFTER_UP, ON_FAILURE = "before-up", "after-up", "on-failure"
DATABASE_URL = "database-url"
DUMP = "dump"
"""The file that takes the schema; the command of that name has no table."""

Key = tuple[str, str]
"""A key by its table, the name of a command or empty for the top, and its name."""

# They choose the file, or answer a question of the program, so they cannot come from the file.
_NEVER = ("config", "env", "output", "sql", "yes")
_FLAG, _NUMBER, _TEXT, _TEXTS = "true or false", "an integer", "a string", "an array of strings"
_PATHS = "a string or an array of strings"
_BITS = 64  # of an integer, as in TOML
COMMANDS = (PASSWORD_COMMAND, BACKUP_COMMAND, BEFORE_UP, AFTER_UP, ON_FAILURE)
"""The keys that name a program and its arguments."""

ALONE = {PROTECTED: _FLAG, REQUIRE_BACKUP: _FLAG, **dict.fromkeys(COMMANDS, _TEXTS), DUMP: _TEXT}
"""The keys that are not options, with what they take."""

_CHECKS = {
    _FLAG: lambda value: isinstance(value, bool),
    _NUMBER: lambda value: (
        isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < _BITS
    ),
    _TEXT: lambda value: isinstance(value, str),
    _TEXTS: lambda value: (
        isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)
    ),
}
_CHECKS[_PATHS] = lambda value: _CHECKS[_TEXT](value) or _CHECKS[_TEXTS](value)
_NAMES = {bool: "a boolean", int: "an integer", float: "a float", str: "a string"} | {
    list: "an array",
    dict: "a table",
}


def variable_of(prefix: str, option: str) -> str:
    """Name the environment variable of an option.

    >>> variable_of("MIGRATOR_UP", "--dry-run")
    'MIGRATOR_UP_DRY_RUN'
    """
    return prefix + option.removeprefix("-").replace("-", "_").upper()


def name_of(option: click.Option) -> str:
    """Return the name of an option, as the file has it."""
    return max(option.opts, key=len).removeprefix("--")


def options_of(command: click.Command) -> list[click.Option]:
    """Return the options of a command, or of the program, that the file may give."""
    found = [each for each in command.params if isinstance(each, click.Option)]
    return [each for each in found if name_of(each) not in _NEVER and not each.is_eager]


def is_at_top(option: click.Option) -> bool:
    """Whether an option is given at the top: the program's, and those of several commands."""
    return option.hidden or option.envvar == variable_of("MIGRATOR", max(option.opts, key=len))


def known_keys(program: click.Group) -> dict[Key, str]:
    """Return every key that a file may have, with what it takes."""
    found = {("", name_of(each)): _expected(each) for each in options_of(program)}
    for name, command in program.commands.items():
        for option in options_of(command):
            if is_at_top(option):
                found["", name_of(option)] = _expected(option)
            if not option.hidden and name != DUMP:
                found[name, name_of(option)] = _expected(option)
    return found | {("", name): kind for name, kind in ALONE.items()}


def _expected(option: click.Option) -> str:
    if option.multiple:
        return _PATHS if isinstance(option.type, click.Path) else _TEXTS
    if option.count or isinstance(option.type, click.types.IntParamType):
        return _NUMBER
    return _FLAG if option.is_flag else _TEXT


def check(program: click.Group, file: ConfigFile) -> dict[Keys, Key]:
    """Check every key of a file, in all environments; return the value of each.

    Raises:
        ConfigurationError: A key is unknown, or its value has the wrong type.
        BlockedError: Several of them.
    """
    known = known_keys(program)
    checked = _Checked(file, known, frozenset(table for table, _ in known) - {""}, {}, [])
    checked.top(file.values, ())
    if len(checked.problems) == 1:
        raise checked.problems[0]
    if checked.problems:
        raise BlockedError.of(checked.problems, f"found in {file.path}")
    return checked.found


@dataclass(frozen=True, slots=True)
class _Checked:
    """The check of the tables of a file."""

    file: ConfigFile
    known: Mapping[Key, str]
    tables: frozenset[str]
    found: dict[Keys, Key]
    problems: list[ConfigurationError]

    def top(self, values: Mapping[str, Any], prefix: Keys) -> None:
        """Check the top of the file, or an environment."""
        for name, value in values.items():
            keys = (*prefix, name)
            if name == ENVIRONMENTS and not prefix:
                hint = f"choose an environment with --env NAME; its table is [{ENVIRONMENTS}.NAME]"
                for each, table in self._table(keys, value, hint).items():
                    self.top(self._table((*keys, each), table, hint), (*keys, each))
            elif name in self.tables:
                hint = f"it holds the options of the command: [{'.'.join(keys)}]"
                for option, given in self._table(keys, value, hint).items():
                    self._value((*keys, option), (name, option), given)
            else:
                self._value(keys, ("", name), value)

    def _table(self, keys: Keys, value: Any, hint: str) -> Mapping[str, Any]:
        if isinstance(value, dict):
            return value
        self._refuse(keys, f'"{keys[-1]}" takes a table, not {_kind(value)}', hint)
        return {}

    def _value(self, keys: Keys, key: Key, value: Any) -> None:
        expected = self.known.get(key)
        if expected is None:
            kind = "table" if isinstance(value, dict) else "key"
            self._refuse(keys, f'unknown {kind} "{key[1]}"', self._instead(key, kind))
        elif _CHECKS[expected](value):
            self.found[keys] = key
        else:
            self._refuse(
                keys,
                f'"{key[1]}" takes {expected}, not {_kind(value)}',
                _as_expected(key[1], expected, value),
            )

    def _refuse(self, keys: Keys, message: str, hint: str | None) -> None:
        self.problems.append(ConfigurationError(message, self.file.place(keys), hint=hint))

    def _instead(self, key: Key, kind: str) -> str:
        import difflib

        table, name = key
        if name in _NEVER:
            variable = variable_of(f"MIGRATOR_{table}".rstrip("_").upper(), f"--{name}")
            return f"it cannot be set in a file: pass --{name}, or set {variable}"
        if ("", name) in self.known:
            return "put it at the top of the file or of an environment, not in a command's table"
        if tables := kind == "key" and [f"[{each}]" for each, other in self.known if other == name]:
            return f"it is an option of a command: put it into the table {' or '.join(tables)}"
        is_table = kind == "table" and not table
        here = self.tables if is_table else {other for each, other in self.known if each == table}
        if near := difflib.get_close_matches(name.replace("_", "-"), here, n=1):
            return f"did you mean {near[0]}?"
        return f"the {kind}s are {', '.join(sorted(here))}" if here else f"{table} has no options"


def _kind(value: Any) -> str:
    if isinstance(value, list) and not value:
        return "an empty array"
    if isinstance(value, int) and value.bit_length() >= _BITS:
        return "a number of more than 64 bits"
    return _NAMES.get(type(value), "a date or time")


def _as_expected(name: str, expected: str, value: Any) -> str | None:
    """Return how to write a value that has the wrong type; None if that is not clear."""
    if expected in (_TEXT, _PATHS) and _CHECKS[_NUMBER](value):
        return f'write: {name} = "{value}"'
    if not isinstance(value, str):
        return None
    if expected == _NUMBER and value.isdecimal():
        return f"write: {name} = {value}"
    if expected == _FLAG and value.lower() in ("true", "false"):
        return f"write: {name} = {value.lower()}"
    if name in COMMANDS:
        words = ", ".join(f'"{word}"' for word in value.split())
        return f"there is no shell; write: {name} = [{words}]"
    return f'write: {name} = ["{value}"]' if expected == _TEXTS else None
