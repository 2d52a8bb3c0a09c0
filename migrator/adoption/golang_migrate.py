"""Read golang-migrate: pairs like ours, and a table with the newest version only."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from ..errors import MigrationFileError, MigratorError
from . import texts
from .dialect import Companions, Dialect, Fields, Piece, Reading, State, Table

# database/util.go: GenerateAdvisoryLockId
_SALT = 1486364155
_FILE = re.compile(r"(?P<number>[0-9]+)_(?P<name>.*)\.(?P<direction>up|down)\.sql")


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
    for path in texts.listing(directory):
        match = _FILE.fullmatch(path.name)
        if match and (text := texts.read(path, problems)):
            stem = f"{match['number']}_{match['name']}"
            found.setdefault(stem, {})[match["direction"]] = text
        elif path.suffix == ".sql" and not match:
            message = f"{path} is not named NN_name.up.sql or NN_name.down.sql"
            problems.append(MigrationFileError(message, hint="rename it, or move it elsewhere"))
    return reading_of_pairs(found, problems)


def reading_of_pairs(
    found: dict[str, dict[str, texts.Text]], problems: list[MigratorError]
) -> Reading:
    """Return pairs, whose text is not changed, by number.

    Args:
        found: Files by the stem of their names, and by direction.
    """
    pieces = []
    for stem, pair in found.items():
        number, _, name = stem.partition("_")
        if "up" not in pair:
            problems.append(MigrationFileError(f"{pair['down'].path} has no up file"))
            continue
        up, down = pair["up"], pair.get("down")
        pieces.append(
            Piece(
                key=str(int(number)),
                version=texts.named(number, name),
                path=up.path,
                up=up.text,
                down=down.text if down else None,
                down_path=down.path if down else None,
            )
        )
    pieces.sort(key=lambda piece: int(piece.key))
    return Reading(tuple(pieces), tuple(problems), is_changed=False)


DIALECT = Dialect(
    "golang-migrate", "golang-migrate", interpret=_interpret, files=_files, locks=_locks
)
