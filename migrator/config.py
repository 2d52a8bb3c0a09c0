"""Read options and environment variables into `Settings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from .errors import ConfigurationError

DEFAULT_DIRECTORIES = (Path("migrations"),)
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SSL_WORDS = {"true": "require", "false": "disable"} | {mode: mode for mode in _SSL_MODES}
DATABASE_VARIABLES = {
    "DATABASE_HOST": "host",
    "DATABASE_PORT": "port",
    "DATABASE_NAME": "dbname",
    "DATABASE_USER": "user",
    "DATABASE_PASSWORD": "password",
}
"""libpq's parameter of each variable; that of `DATABASE_SSL` is `sslmode`."""
# Variables of libpq that say where to connect: any of them configures a database.
_LIBPQ_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")
_EMBEDDED = "embedded:"


@dataclass(frozen=True, slots=True)
class Command:
    """A program that the configuration file names.

    Attributes:
        words: The program and its arguments; at least one word.
        directory: That of the configuration file, where it is run.
    """

    words: tuple[str, ...]
    directory: Path


@dataclass(frozen=True, slots=True)
class Database:
    """Where to connect; libpq's own variables and defaults apply to the rest.

    Attributes:
        url: A libpq URI or conninfo string, possibly with a password; empty for none.
        parameters: libpq parameters by name.
        defaults: libpq parameters that the URL overrides.
        embedded: The name of a database on the embedded server; None for any other server.
        password_command: Run for each new connection, unless there is a password.
    """

    url: str = field(default="", repr=False)
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    defaults: Mapping[str, str] = field(default_factory=dict, repr=False)
    embedded: str | None = None
    password_command: Command | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a command, from options, environment and defaults.

    Attributes:
        directories: Of the migrations, at least one; new files are written into the first.
        database: None if none is configured.
        schema: Of the history; None for the first schema of the search path.
        trust_history_of: A role that may own the history; None for us and superusers only.
        lock_timeout: For each lock, in milliseconds.
        statement_timeout: For each statement, in milliseconds; 0 for no limit.
        lock_attempts: How often a migration is attempted if it cannot get a lock.
        lock_wait: How long to wait for another runner, in seconds; None for no limit.
        flush_each: Wait until each commit is on disk, not only the last one of a run.
        override_read_only: Write to a database that is read-only by default.
        allow_empty: Accept a directory without migrations.
        connect_wait: How long to wait for a database that does not answer yet, in seconds.
        role: The role that runs the migrations; None for the role that connects.
        batch_time: What a batch of a backfill is to take, in milliseconds.
        batch_load: The share of the time that batches work, in percent; the rest is pauses.
        max_lag: How far a standby may be behind before a backfill waits, in milliseconds; 0 for
            no limit.
        max_active: With more sessions at work, a backfill waits; 0 for no limit.
    """

    directories: tuple[Path, ...] = DEFAULT_DIRECTORIES
    database: Database | None = None
    schema: str | None = None
    trust_history_of: str | None = None
    lock_timeout: int = 2000
    statement_timeout: int = 0
    lock_attempts: int = 10
    lock_wait: float | None = None
    role: str | None = None
    flush_each: bool = False
    override_read_only: bool = False
    allow_empty: bool = False
    connect_wait: float = 0.0
    batch_time: int = 100
    batch_load: int = 50
    max_lag: int = 10_000
    max_active: int = 0


def database(
    url: str | None, environ: Mapping[str, str], written: str | None = None
) -> Database | None:
    """Choose the database: `url`, else `DATABASE_URL`, else `DATABASE_*`, else libpq's `PG*`.

    An empty variable counts as unset.

    Args:
        url: That of the option.
        environ: The variables of the environment.
        written: The URL of the configuration file: `DATABASE_URL` replaces it, each other
            `DATABASE_*` a part of it.

    Returns:
        None if none of them is set.

    Raises:
        ConfigurationError: A value is invalid.  No message holds a password.
    """
    environ = _set(environ)
    ssl = {}
    if "DATABASE_SSL" in environ:
        ssl["sslmode"] = _ssl_mode(environ["DATABASE_SSL"])
    if url := (url or "").strip() or environ.get("DATABASE_URL"):
        return _from_url(url, ssl)
    parameters = ssl | {
        parameter: environ[name]
        for name, parameter in DATABASE_VARIABLES.items()
        if name in environ
    }
    # Several, for as many hosts, are tried in turn.
    if not all(map(_is_port, parameters.get("port", "5432").split(","))):
        raise ConfigurationError(
            f'invalid DATABASE_PORT "{parameters["port"]}"',
            hint="use a number from 1 to 65535, for example 5432",
        )
    if written and (chosen := _from_url(written, {})):
        if chosen.embedded is None:
            return replace(chosen, parameters=parameters)
        if not naming(environ):
            return chosen
    if parameters or any(name in environ for name in _LIBPQ_VARIABLES):
        return Database(parameters=parameters)
    return None


def _set(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that have a value."""
    # A line of an .env file may end in white space, which only a password can contain.
    return {
        name: value if name == "DATABASE_PASSWORD" else value.strip()
        for name, value in environ.items()
        if value.strip()
    }


def naming(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the variables that name a different database than the configuration file."""
    given = _set(environ)
    parts = (name for name in DATABASE_VARIABLES if name != "DATABASE_PASSWORD")
    return ("DATABASE_URL",) if "DATABASE_URL" in given else tuple(n for n in parts if n in given)


def has_password(environ: Mapping[str, str]) -> bool:
    """Whether a variable gives the password."""
    return any(environ.get(name) for name in ("DATABASE_PASSWORD", "PGPASSWORD"))


def _from_url(url: str, defaults: Mapping[str, str]) -> Database:
    if url.startswith(_EMBEDDED):
        return Database(embedded=url.removeprefix(_EMBEDDED).strip("/") or "postgres")
    if url[:1] in ("'", '"'):
        raise ConfigurationError(
            "the database URL is in quotes",
            hint="remove them: a shell strips quotes, but what reads an .env file may not",
        )
    scheme, separator, _ = url.partition("://")
    if separator and "=" not in scheme and scheme not in ("postgres", "postgresql"):
        is_driver = scheme.startswith(("postgresql+", "postgres+"))
        raise ConfigurationError(
            f'the database URL starts with "{scheme}://"',
            hint="start it with postgresql://"
            + ("" if is_driver else "; migrator works with PostgreSQL only"),
        )
    if not separator and "=" not in url:
        raise ConfigurationError(
            "the database URL is neither a URL nor a libpq connection string",
            hint="use postgresql://user:password@host:5432/name, host=… dbname=… user=…, "
            "or embedded:",
        )
    return Database(url=url, defaults=defaults)


def _is_port(text: str) -> bool:
    return text.isdecimal() and 0 < int(text) < 1 << 16


def _ssl_mode(word: str) -> str:
    if mode := _SSL_WORDS.get(word.lower()):
        return mode
    raise ConfigurationError(
        f'invalid DATABASE_SSL "{word}"',
        hint=f"use true, false or one of libpq's modes: {', '.join(_SSL_MODES)}",
    )
