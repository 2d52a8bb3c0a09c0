"""Dump a database's schema with `pg_dump`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ..config import Database
from ..embedded import binaries
from ..errors import DumpError, EmbeddedServerError

_OPTIONS = ("--schema-only", "--no-password", "--encoding=UTF8")


def schema_of(
    database: Database, major: int, options: tuple[str, ...], *, lock_timeout: int
) -> str:
    """Give the schema of a database, as `pg_dump` writes it in a session that can write nothing.

    Args:
        database: One that a connection was made to; a passphrase for the key of a client
            certificate (`sslpassword`) cannot be handed on.
        major: The server's version.
        options: More of them for `pg_dump`, such as `--no-tablespaces`.
        lock_timeout: How long it waits for a table, in milliseconds.

    Raises:
        DumpError: There is no `pg_dump` for the server's version, or it failed.
    """
    program = find_pg_dump(major, os.environ)
    # What the connection itself says it uses, an older pg_dump need not understand.
    parameters: dict[str, Any] = {
        **database.defaults,
        **conninfo_to_dict(database.url),
        **database.parameters,
    }
    # A command line can be read by everybody.
    password = parameters.pop("password", None)
    parameters.pop("sslpassword", None)
    given = parameters.get("options") or os.environ.get("PGOPTIONS", "")
    parameters["options"] = f"{given} -c default_transaction_read_only=on".strip()
    where = f"--dbname={make_conninfo('', **parameters)}"
    secret = {"PGPASSWORD": str(password)} if password else {}
    done = subprocess.run(  # noqa: S603 -- our own command
        (program, *_OPTIONS, *options, f"--lock-wait-timeout={lock_timeout}", where),
        env={**os.environ, **secret, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise DumpError(
            "pg_dump could not read the schema of the database",
            detail=done.stderr.decode(errors="replace").strip() or None,
            hint="let the role read every table (pg_read_all_data, from PostgreSQL 14 on), and "
            "connect to the server itself, past any connection pooler",
        )
    return done.stdout.decode()


def find_pg_dump(major: int, environ: Mapping[str, str]) -> Path:
    """Find a `pg_dump` that can read a server: of its major version, else the next newer one.

    Looked for in `MIGRATOR_PG_BINDIR`, the embedded PostgreSQL, `PATH` and Debian's places.

    Raises:
        DumpError: There is none.
    """
    found: dict[Path, int] = {}
    for folder in _folders(environ):
        if program := shutil.which("pg_dump", path=str(folder)):
            with suppress(OSError, subprocess.CalledProcessError, ValueError):
                found.setdefault(Path(program), _major(Path(program)))
    fitting = [program for program, version in found.items() if version >= major]
    if not fitting:
        known = (f"{program} is of PostgreSQL {version}" for program, version in found.items())
        raise DumpError(
            f"there is no pg_dump that can read PostgreSQL {major}",
            detail="\n".join(known) or None,
            hint="install the client programs of that version, or: "
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


def _major(program: Path) -> int:
    done = subprocess.run(  # noqa: S603 -- our own command
        (program, "--version"), capture_output=True, text=True, check=True
    )
    found = re.search(r"\) (\d+)", done.stdout)
    if not found:
        raise ValueError(done.stdout)
    return int(found[1])
