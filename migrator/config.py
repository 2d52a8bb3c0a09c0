"""Options and environment → `Settings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .errors import ConfigurationError

DEFAULT_DIRECTORY = Path("migrations")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SSL_WORDS = {"true": "require", "false": "disable"} | {mode: mode for mode in _SSL_MODES}
_DATABASE_VARIABLES = {
    "DATABASE_HOST": "host",
    "DATABASE_PORT": "port",
    "DATABASE_NAME": "dbname",
    "DATABASE_USER": "user",
    "DATABASE_PASSWORD": "password",
}
# Those of libpq's variables that say where to connect: any of them configures a database.
_LIBPQ_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")
_EMBEDDED = "embedded:"


@dataclass(frozen=True, slots=True)
class Database:
    """Where to connect; what neither field says, libpq's own variables and defaults say.

    Attributes:
        url: A libpq URI or conninfo string; empty for none.  It may hold a password.
        parameters: libpq parameters by name.
        defaults: The same, for what the URL leaves open.
        embedded: The name of a database of the embedded server; None for any other server.
    """

    url: str = field(default="", repr=False)
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    defaults: Mapping[str, str] = field(default_factory=dict, repr=False)
    embedded: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What a command was told, by options, environment and defaults.

    Attributes:
        database: None if none is configured.
        schema: Where the history is; None for the first schema of the search path.
        lock_timeout: For one lock, in milliseconds.
        statement_timeout: For one statement, in milliseconds; 0 for no limit.
        lock_attempts: How many times a step is tried for the sake of a lock.
        lock_wait: For another runner, in seconds; None for as long as it takes.
        flush_each: Wait for every commit to be on disk, not for the last one of a run alone.
        role: The role that migrations run as; None for the one that connects.
    """

    directory: Path = DEFAULT_DIRECTORY
    database: Database | None = None
    schema: str | None = None
    lock_timeout: int = 2000
    statement_timeout: int = 0
    lock_attempts: int = 10
    lock_wait: float | None = None
    role: str | None = None
    flush_each: bool = False


def database(url: str | None, environ: Mapping[str, str]) -> Database | None:
    """Decide which database is meant: `url`, `DATABASE_URL`, `DATABASE_*` or libpq's `PG*`.

    An empty variable counts as none.

    Returns:
        None if nothing says so.

    Raises:
        ConfigurationError: A value cannot be right.  No message holds a password.
    """
    # Nothing but a password can begin or end in white space; a line of an .env file may.
    environ = {
        name: value if name == "DATABASE_PASSWORD" else value.strip()
        for name, value in environ.items()
        if value.strip()
    }
    ssl = {}
    if "DATABASE_SSL" in environ:
        ssl["sslmode"] = _ssl_mode(environ["DATABASE_SSL"])
    if url := (url or "").strip() or environ.get("DATABASE_URL"):
        return _from_url(url, ssl)
    parameters = ssl | {
        parameter: environ[name]
        for name, parameter in _DATABASE_VARIABLES.items()
        if name in environ
    }
    if not _is_port(parameters.get("port", "5432")):
        raise ConfigurationError(
            f'DATABASE_PORT is "{parameters["port"]}", which is no port',
            hint="give a number from 1 to 65535, such as 5432",
        )
    if parameters or any(name in environ for name in _LIBPQ_VARIABLES):
        return Database(parameters=parameters)
    return None


def _from_url(url: str, defaults: Mapping[str, str]) -> Database:
    if url.startswith(_EMBEDDED):
        return Database(embedded=url.removeprefix(_EMBEDDED).strip("/") or "postgres")
    scheme, separator, _ = url.partition("://")
    if separator and "=" not in scheme and scheme not in ("postgres", "postgresql"):
        driver = f'drop the "+…" of "{scheme}"' if "+" in scheme else "migrator is for PostgreSQL"
        raise ConfigurationError(
            f'the database URL begins with "{scheme}://"',
            hint=f"it begins with postgresql:// ({driver})",
        )
    if not separator and "=" not in url:
        raise ConfigurationError(
            "the database URL is neither a URL nor a libpq connection string",
            hint="write postgresql://user:password@host:5432/name, or host=… dbname=… user=…, "
            "or embedded:",
        )
    return Database(url=url, defaults=defaults)


def _is_port(text: str) -> bool:
    return text.isdecimal() and 0 < int(text) < 1 << 16


def _ssl_mode(word: str) -> str:
    if mode := _SSL_WORDS.get(word.lower()):
        return mode
    raise ConfigurationError(
        f'DATABASE_SSL is "{word}"',
        hint=f"use true, false or one of libpq's words: {', '.join(_SSL_MODES)}",
    )
