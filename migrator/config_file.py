"""Read `migrator.toml`: its values, the line of each, and who else may write it."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from .errors import ConfigurationError, Location

_LONGEST = 1 << 16  # bytes
_SECRET = re.compile(r"(?i)(?:^|[?&\s])(?:ssl)?password\s*=")
_HOSTS = re.compile(r"(?:(?:\[[^\]]*\]|[^:,\[\]]*)(?::[0-9]*)?(?:,|$))*")
_SOURCES = (
    "passwords come from DATABASE_PASSWORD or PGPASSWORD, a passfile (~/.pgpass), a service file\n"
    'or a program: password-command = ["PROGRAM", "ARGUMENT", …]'
)

Keys = tuple[str, ...]
"""A key and the tables that hold it, such as `("env", "staging", "dir")`."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file that was read.

    Attributes:
        values: As TOML has them, without passwords.
        unsafe: Who else may write the file, and what to do about it; None if only the user and
            root may.
    """

    path: Path
    values: Mapping[str, Any]
    unsafe: tuple[str, str] | None
    _text: str = field(repr=False)

    def place(self, keys: Keys) -> Location:
        """Return where a key is given.

        The longest run of whole lines that is valid TOML without the key ends before it.
        """
        lines = self._text.split("\n")
        low, high = 0, len(lines)  # the first `low` lines are valid without it, `high` have it
        while high - low > 1:
            middle = (low + high) // 2
            end = next((n for n in range(middle, high) if _parsed(lines[:n]) is not None), high)
            if end < high and not _has(_parsed(lines[:end]), keys):
                low = end
            else:
                high = middle if end == high else end
        while not lines[low].strip() or lines[low].lstrip().startswith("#"):
            low += 1
        return Location(self.path, low + 1, len(lines[low]) - len(lines[low].lstrip()) + 1)


def _parsed(lines: list[str]) -> dict[str, Any] | None:
    try:
        return tomllib.loads("\n".join(lines))
    except ValueError:
        return None


def _has(values: Any, keys: Keys) -> bool:
    for key in keys:
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


def read(path: Path) -> ConfigFile:
    """Read a file.

    Raises:
        ConfigurationError: It cannot be read, is not valid TOML, or has a password in it.
    """
    data, owner = _bytes(path)
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is 0x{data[error.start]:02X}"
        raise _error(f"{path} is not UTF-8: {byte}", "save it as UTF-8") from None
    file = ConfigFile(path, _loads(path, text), _unsafe(path, owner), text)
    for keys, value in _strings(file.values):
        if is_password_key(keys[-1]) or has_password(value):
            raise _error(
                "a password does not belong in this file",
                f"remove it; {_SOURCES}",
                file.place(keys),
            )
    return file


def _bytes(path: Path) -> tuple[bytes, os.stat_result]:
    """Return the content of a file, and its owner and mode."""
    try:
        with open(path, "rb", opener=_opener) as stream:
            found = os.fstat(stream.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise _error(f"{path} is not a file", "name the file: --config FILE")
            data = stream.read(_LONGEST + 1)
    except OSError as error:
        hint = "name the file with --config or MIGRATOR_CONFIG, or let this user read it"
        raise _error(f"cannot read {path}: {error.strerror}", hint) from error
    if len(data) > _LONGEST:
        raise _error(
            f"{path} is larger than 64 kB", "check its name: a configuration file is smaller"
        )
    return data, found


def _opener(path: str, flags: int) -> int:
    # So that a FIFO does not block, and a terminal does not become our controlling one.
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _loads(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, _, place = str(error).rpartition(" (at ")
        found = re.fullmatch(r"line (\d+), column (\d+)\)", place)
        last = text.rstrip("\n").split("\n")
        line, column = (int(found[1]), int(found[2])) if found else (len(last), len(last[-1]) + 1)
        where = Location(path, line, column)
        raise _error(f"invalid TOML: {message[:1].lower()}{message[1:]}", None, where) from None
    except (ValueError, RecursionError):
        raise _error(f"{path} has a value that is too long or nested too deeply", None) from None


def _unsafe(path: Path, found: os.stat_result) -> tuple[str, str] | None:
    if found.st_uid not in (0, os.geteuid()):
        return (
            f"it belongs to another user (uid {found.st_uid})",
            f"if you trust what is in it: sudo chown {os.geteuid()} {path}",
        )
    shared = stat.S_IWOTH if _is_private(found.st_gid) else stat.S_IWGRP | stat.S_IWOTH
    if found.st_mode & shared:
        return "other users may write to it", f"chmod go-w {path}"
    return None


def _is_private(gid: int) -> bool:
    """Whether a group has one member, the user: where users have such a group, it may write."""
    import grp  # noqa: PLC0415  (start-up time)
    import pwd  # noqa: PLC0415  (start-up time)

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    is_own = user.pw_gid == gid and group.gr_name == user.pw_name
    return is_own and set(group.gr_mem) <= {user.pw_name}


def _strings(values: Any, keys: Keys = ()) -> Iterator[tuple[Keys, str]]:
    """Yield every text with its keys, also those in an array; of other values, only the keys."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _strings(value, (*keys, key))
    elif isinstance(values, list):
        for value in values:
            yield from _strings(value, keys)
    else:
        yield keys, values if isinstance(values, str) else ""


def is_password_key(key: str) -> bool:
    """Whether a key is one that would hold a password.

    >>> is_password_key("sslpassword"), is_password_key("DATABASE_PASSWORD")
    (True, True)
    >>> is_password_key("password-command")
    False
    """
    return key.lower().endswith("password")


def has_password(value: str) -> bool:
    """Whether a URL or a connection string has a password in it.

    >>> has_password("postgresql://app:secret@db/shop"), has_password("host=db password=secret")
    (True, True)
    >>> has_password("postgresql://app@db:5432/shop?sslmode=require"), has_password("embedded:")
    (False, False)
    """
    scheme, _, rest = value.partition("://")
    if not rest:
        return _SECRET.search(value) is not None
    authority, path = re.fullmatch(r"([^/?#]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]  # it fits every text
    before, at, _ = authority.rpartition("@")
    if at:
        return bool(before.partition(":")[2]) or _SECRET.search(unquote(path)) is not None
    # A password may itself have a "/", after which libpq takes it for the name of a database.
    is_cut = "@" in path and not _HOSTS.fullmatch(authority)
    return is_cut or _SECRET.search(unquote(f"{scheme}?{path}")) is not None


def _error(message: str, hint: str | None, place: Location | None = None) -> ConfigurationError:
    return ConfigurationError(message, place, hint=hint)
