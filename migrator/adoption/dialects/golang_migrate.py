"""Read golang-migrate: pairs like ours, and a table with the newest version only."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from ...errors import MigrationFileError, MigratorError
from .. import pairs, texts
from ..dialect import Companions, Dialect, Fields, Reading, State, Table

# database/util.go: GenerateAdvisoryLockId
_SALT = 1486364155
_FILE = re.compile(r"(?:(?P<number>[0-9]+)_(?P<name>.*)\.(?P<direction>up|down)|.*)\.sql")


def lock_key(schema: str, table: str, database: str) -> int:
    """Return the key of its advisory lock.

    >>> lock_key("public", "schema_migrations", "app")
    1787120056
    """
    name = "\0".join((schema, table, database)).encode()
    return zlib.crc32(name) * _SALT % (1 << 32)


def _locks(table: Table) -> tuple[int, ...]:
    # The command line takes the path of the URL for the database's name, the library the name.
    names = (table.database, f"/{table.database}")
    return tuple(lock_key(table.schema, table.name, name) for name in names)


def _interpret(rows: Sequence[Fields], _companions: Companions) -> State:
    if not rows:
        return State()
    version = rows[-1]["version"]
    if rows[-1]["dirty"]:
        return State(
            up_to=version,
            stop=f"version {version} is dirty: it failed, or is running",
            hint="repair the schema by hand, then run: migrate force VERSION",
        )
    return State() if version < 0 else State(up_to=version)


def _files(directory: Path) -> Reading:
    problems: list[MigratorError] = []
    found: dict[str, dict[str, texts.Text]] = {}
    for match, text in texts.matching(directory, _FILE, problems):
        if not match["direction"]:
            message = f"{text.path} is not named NN_name.up.sql or NN_name.down.sql"
            problems.append(MigrationFileError(message, hint="rename it, or move it elsewhere"))
            continue
        stem = f"{match['number']}_{match['name']}"
        found.setdefault(stem, {})[match["direction"]] = text
    return pairs.by_number(found, problems)


DIALECT = Dialect(
    "golang-migrate", "golang-migrate", interpret=_interpret, files=_files, locks=_locks
)
