"""What `migrator.toml` gives to the options of a command."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..config import Command
from ..errors import ConfigurationError, Location
from .keys import (
    DATABASE_URL,
    DUMP,
    ENVIRONMENTS,
    PROTECTED,
    REQUIRE_BACKUP,
    Key,
    check,
    is_at_top,
    name_of,
    options_of,
)

if TYPE_CHECKING:
    from ..config_file import ConfigFile, Keys

DEFAULT_FILE = Path("migrator.toml")


@dataclass(frozen=True, slots=True)
class Configuration:
    """The values of a file, as the chosen environment overlays them.

    Attributes:
        file: None if there is none; then there are no values.
        env: The chosen environment; None for none.
        found: Where in the file each effective value is.
    """

    file: ConfigFile | None = None
    env: str | None = None
    found: Mapping[Key, Keys] = field(default_factory=dict)

    def get(self, key: Key) -> Any:
        """Return the value of a key; None if the file does not give it."""
        if self.file is None or key not in self.found:
            return None
        value: Any = self.file.values
        for name in self.found[key]:
            value = value[name]
        return value

    def place(self, key: Key) -> Location | None:
        """Return where a key is given; None if it is not."""
        return self.file.place(self.found[key]) if self.file and key in self.found else None

    def key(self, command: click.Command, option: click.Option) -> Key | None:
        """Return the key that sets an option of a command; None if there is none."""
        name = name_of(option)
        own, shared = (command.name or "", name), ("", name)
        of_table = self.found.get(own)
        of_top = self.found.get(shared) if is_at_top(option) else None
        # [env.NAME] overlays the file; within each, the table of the command overlays its top.
        if of_table and not (of_top and len(of_top) > len(of_table)):
            return own
        return shared if of_top else None

    def defaults(self, command: click.Command) -> dict[str, Any]:
        """Return the values for click's `default_map` of a command."""
        if self.file is None:
            return {}
        given: dict[str, Any] = {}
        for option in options_of(command):
            if (key := self.key(command, option)) and option.name:
                value = self.get(key)
                if option.multiple and isinstance(value, str):
                    value = [value]
                if isinstance(option.type, click.Path):
                    value = _below(self.file.path.parent, value)
                given[option.name] = value
        return given

    @property
    def is_protected(self) -> bool:
        """Whether what changes the database has to be confirmed."""
        return bool(self.get(("", PROTECTED)))

    def command(self, name: str) -> Command | None:
        """Return the program of a key, such as `password-command`; None for none.

        Raises:
            ConfigurationError: Someone else could have written it.
        """
        key = ("", name)
        if self.file is None or not (words := self.get(key)):
            return None
        self._trust(key, f"{name} is not run", "run programs as you")
        return Command(tuple(words), self.file.path.parent)

    @property
    def requires_backup(self) -> bool:
        """Whether `up` has to make a backup first."""
        return bool(self.get(("", REQUIRE_BACKUP)))

    @property
    def dump(self) -> Path | None:
        """The file that the schema is written to; None for none.

        Raises:
            ConfigurationError: Someone else could have written it.
        """
        key = ("", DUMP)
        if self.file is None or not (path := self.get(key)):
            return None
        self._trust(key, "no file is overwritten", "overwrite your files")
        return self.file.path.parent / str(path)

    def trust_url(self) -> None:
        """Check that a password of the environment may be sent where the file says.

        Raises:
            ConfigurationError: Someone else could have written it.
        """
        named = f"or name the file, if you trust it: --config {self.file.path}" if self.file else ""
        what = "the password of the environment is not sent to this server"
        self._trust(("", DATABASE_URL), what, "get your password", named)

    def _trust(self, key: Key, what: str, risk: str, otherwise: str = "") -> None:
        if self.file and self.file.unsafe:
            reason, hint = self.file.unsafe
            raise ConfigurationError(
                f"{what}: {reason}",
                self.place(key),
                detail=f"Anyone who can write to this file could {risk}.",
                hint="\n".join(filter(None, (hint, otherwise))),
            )


def _below(folder: Path, value: str | list[str]) -> str | list[str]:
    """Return one or several paths of the file, which are relative to its own folder."""
    return str(folder / value) if isinstance(value, str) else [str(folder / v) for v in value]


def load(program: click.Command, path: str | None, env: str | None) -> Configuration:
    """Read the file, check all of it, and choose an environment.

    Args:
        program: The group of all commands, whose options are the keys.
        path: That of `--config`; None for `migrator.toml`, which need not exist.
        env: That of `--env`; None for none.

    Raises:
        ConfigurationError: The file cannot be read, or something in it is wrong; or it does not
            have the environment.
        BlockedError: Several keys are wrong.
    """
    if not path and not os.path.lexists(DEFAULT_FILE):  # a link that leads nowhere is an error
        if env:
            raise ConfigurationError(
                f'there is no environment "{env}": there is no {DEFAULT_FILE} here',
                hint=f"change to the directory of {DEFAULT_FILE}, or name it with --config",
            )
        return Configuration()
    from ..config_file import read

    assert isinstance(program, click.Group), "the program is a group of commands"
    file = read(Path(path) if path else DEFAULT_FILE)
    given = check(program, file)
    known = file.values.get(ENVIRONMENTS, {})
    if env and env not in known:
        raise ConfigurationError(
            f'{file.path} has no environment "{env}"',
            hint=f"the environments are {', '.join(known)}"
            if known
            else f"it has none; add a table: [{ENVIRONMENTS}.{env}]",
        )
    at_top = {key: keys for keys, key in given.items() if keys[0] != ENVIRONMENTS}
    of_env = {key: keys for keys, key in given.items() if env and keys[:2] == (ENVIRONMENTS, env)}
    return Configuration(file, env, at_top | of_env)


def environments(path: str | None) -> list[str]:
    """Return the environments of a file; none if it cannot be read."""
    from ..config_file import read

    try:
        return list(read(Path(path) if path else DEFAULT_FILE).values.get(ENVIRONMENTS, {}))
    except ConfigurationError:
        return []
