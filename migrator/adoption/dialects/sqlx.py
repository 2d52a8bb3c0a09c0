"""Read sqlx: files like ours, or one without a direction, and a checksum for each version."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import MigratorError
from .. import pairs, texts
from ..dialect import Companions, Dialect, Fields, Reading, Row, State, Table

_FILE = re.compile(r"(?P<number>[0-9]+)_(?P<name>.*?)(?:\.(?P<direction>up|down))?\.sql")
_NO_TRANSACTION = "-- no-transaction"
_LOCK = 0x3D32AD9E  # sqlx-postgres/src/migrate.rs: generate_lock_id


def checksum(raw: bytes) -> str:
    r"""Return SHA-384 as `to_jsonb` writes a bytea.

    >>> checksum(b"")[:12]
    '\\x38b060a751'
    """
    return "\\x" + hashlib.sha384(raw).hexdigest()


def _interpret(rows: Sequence[Fields], _companions: Companions) -> State:
    ordered = sorted(rows, key=lambda row: row["version"])
    if failed := [row for row in ordered if not row["success"]]:
        version = failed[0]["version"]
        return State(
            stop=f"version {version} was not completed",
            hint="finish it by hand and set success to true, or undo it and delete its row",
        )
    return State(
        tuple(
            Row(str(row["version"]), row, at=row["installed_on"], checksum=row["checksum"])
            for row in ordered
        )
    )


def _files(directory: Path) -> Reading:
    problems: list[MigratorError] = []
    found: dict[str, dict[str, texts.Text]] = {}
    sums: dict[Path, frozenset[str]] = {}
    is_changed = False
    for match, text in texts.matching(directory, _FILE, problems):
        with_lf = text.raw.replace(b"\r\n", b"\n")
        variants = (text.raw, with_lf, with_lf.replace(b"\n", b"\r\n"))
        sums[text.path] = frozenset(map(checksum, variants))
        script = text
        if text.text.startswith(_NO_TRANSACTION):
            is_changed = True
            script = replace(text, text=texts.outside_transaction(text.text))
        pair = found.setdefault(f"{match['number']}_{match['name']}", {})
        pairs.put(pair, match["direction"] or "up", script, problems)
    reading = pairs.by_number(found, problems)
    pieces = tuple(replace(piece, checksums=sums[piece.path]) for piece in reading.pieces)
    return Reading(pieces, reading.problems, is_changed=is_changed)


def lock_key(database: str) -> int:
    """Return the key of its advisory lock, which applications take and its command line does not.

    >>> lock_key("zone")
    2771974297191923538
    """
    return _LOCK * zlib.crc32(database.encode())


def _locks(table: Table) -> tuple[int, ...]:
    return (lock_key(table.database),)


DIALECT = Dialect("sqlx", "sqlx", interpret=_interpret, files=_files, locks=_locks)
