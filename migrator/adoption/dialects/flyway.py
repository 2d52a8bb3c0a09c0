"""Read Flyway and dblift: a file for each direction, and a checksum for each version."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import MigratorError
from .. import pairs, texts
from ..dialect import Companions, Dialect, Fields, Piece, Reading, Row, State, Table

_FILE = re.compile(r"(?:(?P<kind>[VU])(?P<version>[0-9][0-9._]*?)|R)__(?P<name>.+)\.sql")
_PLACEHOLDER = re.compile(r"\$\{[\w.:-]+\}")
_LOCK = 77431708279161  # PostgreSQLAdvisoryLockTemplate: the letters of "Flyway"
_UNDONE = ("UNDO_SQL", "UNDO_SCRIPT", "DELETE")
_OUTSIDE = re.compile(r"(?im)^\s*executeInTransaction\s*=\s*false\s*$")
_LINE_END = re.compile(r"\r\n|\r|\n")


def checksum(text: str) -> int:
    r"""Return the CRC32 of the lines of a text without their ends, as a signed integer.

    >>> checksum("ab"), checksum("a\nb") == checksum("ab")
    (-1635563411, True)
    """
    return _checksum(_LINE_END.split(text))


def _checksum(lines: Iterable[str]) -> int:
    total = 0
    for line in lines:
        total = zlib.crc32(line.encode(), total)
    return total - (1 << 32) if total >> 31 else total


def lock_key(schema: str, table: str) -> int:
    """Return the key of its advisory lock, which Java's hash of the table's name is added to.

    >>> lock_key("public", "flyway_schema_history")
    77433833903597
    """
    code = 0
    for character in f'"{schema}"."{table}"':
        code = (code * 31 + ord(character)) % (1 << 32)
    return _LOCK + (code - (1 << 32) if code >> 31 else code)


def _locks(table: Table) -> tuple[int, ...]:
    return (lock_key(table.schema, table.name),)


def _lock_of_dblift(table: Table) -> tuple[int, ...]:
    digest = hashlib.sha256(f"dblift_migration_lock:{table.schema}".encode()).digest()
    return (int.from_bytes(digest[:8], "big", signed=True),)


def _key(version: str) -> str:
    """Return a version by its numbers, as it is compared.

    >>> _key("1_02"), _key("1.2.0")
    ('1.2', '1.2')
    """
    parts = [str(int(part)) for part in re.split(r"[._]", version) if part]
    while len(parts) > 1 and parts[-1] == "0":
        parts.pop()
    return ".".join(parts)


def _order(key: str) -> tuple[int, ...]:
    return tuple(map(int, key.split(".")))


def _interpret(rows: Sequence[Fields], _companions: Companions) -> State:
    applied: dict[str, Row] = {}
    notes = []
    for row in sorted(rows, key=lambda row: row["installed_rank"]):
        if not row["success"]:
            return State(
                stop=f"{row['script']} failed",
                hint="clean up what it left, and run the repair command of that tool",
            )
        if row["type"] in ("SCHEMA", "BASELINE", "SQL_BASELINE"):
            if row["type"] != "SCHEMA":
                notes.append(f"it has a baseline at {row['version']}")
            continue
        key = Path(row["script"]).name if row["version"] is None else _key(row["version"])
        if row["type"] in _UNDONE:
            applied.pop(key, None)
            continue
        total = row["checksum"]
        by, at = row["installed_by"], row["installed_on"]
        applied.pop(key, None)
        applied[key] = Row(key, row, at, by, None if total is None else str(total))
    baseline = [_key(row["version"]) for row in rows if "BASELINE" in row["type"]]
    return State(
        tuple(applied.values()),
        below=max(baseline, key=_order, default=None),
        notes=tuple(notes),
    )


@dataclass(slots=True)
class _Files:
    """The files: the pairs, and the names of the up files, by the key of their version."""

    pairs: dict[str, dict[str, texts.Text]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    repeatables: list[tuple[str, texts.Text]] = field(default_factory=list)
    problems: list[MigratorError] = field(default_factory=list)


def _sorted(directory: Path) -> _Files:
    found = _Files()
    for path in texts.listing(directory, deep=True):
        match = _FILE.fullmatch(path.name)
        text = texts.read(path, found.problems) if match else None
        if not match or not text:
            if path.suffix in (".java", ".kt", ".py") and re.match(r"[VUR][0-9]*_", path.name):
                found.problems.append(texts.not_sql(path))
            continue
        if placeholder := _PLACEHOLDER.search(text.text):
            message = f"the placeholder {placeholder[0]} cannot be converted"
            hint = "write its value into the file"
            found.problems.append(texts.problem(text, placeholder.start(), message, hint))
        elif not match["kind"]:
            found.repeatables.append((match["name"], text))
        else:
            key, is_up = _key(match["version"]), match["kind"] == "V"
            pair = found.pairs.setdefault(key, {})
            pairs.put(pair, "up" if is_up else "down", text, found.problems)
            if is_up:
                found.names[key] = f"{match['version'].replace('_', '.')}_{match['name']}"
    return found


def _script(text: texts.Text) -> str:
    """Return a script, outside a transaction if the tool or its `.conf` says so."""
    settings = text.path.with_name(f"{text.path.name}.conf")
    with suppress(OSError, UnicodeDecodeError):
        if _OUTSIDE.search(settings.read_text(encoding="utf-8")):
            return texts.outside_transaction(text.text)
    return texts.as_psql_runs(text.text)


def _reader(total: Callable[[str], int]) -> Callable[[Path], Reading]:
    def read(directory: Path) -> Reading:
        """Read the files, by version; repeatable files come last."""
        found = _sorted(directory)
        keys = sorted(found.names, key=_order)
        width = max((len(key) for key in keys), default=0)
        if all("." not in key for key in keys):
            versions = [
                texts.named(key.zfill(width), found.names[key].partition("_")[2]) for key in keys
            ]
        else:
            versions = texts.numbered([found.names[key] for key in keys])
        pieces = []
        for key, version in zip(keys, versions, strict=True):
            up, down = found.pairs[key]["up"], found.pairs[key].get("down")
            sums = frozenset([str(total(up.text))])
            text = texts.down(_script(down)) if down else None
            pieces.append(Piece(key, version, up.path, _script(up), text, checksums=sums))
        for name, up in found.repeatables:
            sums = frozenset([str(total(up.text))])
            version = f"R__{texts.named('0', name)[2:]}"
            pieces.append(Piece(up.path.name, version, up.path, up.text, checksums=sums))
        return Reading(tuple(pieces), tuple(found.problems))

    return read


def _by_splitlines(text: str) -> int:
    return _checksum(text.splitlines())


DIALECT = Dialect("flyway", "Flyway", _interpret, _reader(checksum), locks=_locks)
DBLIFT = Dialect("dblift", "dblift", _interpret, _reader(_by_splitlines), locks=_lock_of_dblift)
