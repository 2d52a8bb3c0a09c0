"""Read graphile-migrate: committed files that only go up, chained by their hashes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from ...errors import MigratorError
from .. import texts
from ..dialect import Companions, Dialect, Fields, Piece, Reading, Row, State, Table

_FILE = re.compile(r"(?P<number>[0-9]+)(?:-(?P<name>.+))?\.sql")
_HEADER = re.compile(r"--! *(?P<name>[A-Za-z][A-Za-z0-9-]*)(?:: *(?P<value>.*))?")
_PLACEHOLDER = re.compile(r":[A-Z][A-Z0-9_]+\b")
_LOCK = 4727445306447283


def checksum(previous: str | None, body: str) -> str:
    """Return the hash of a body, given that of the file before.

    >>> checksum(None, "select 1;")
    'sha1:005c6eb7364156e6b0d158d8b2767a24f1ce6611'
    """
    text = f"{previous or ''}\n{body.strip()}".strip() + "\n"
    return f"sha1:{hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()}"


def _interpret(rows: Sequence[Fields], _companions: Companions) -> State:
    ordered = sorted(rows, key=lambda row: row["filename"])
    return State(
        tuple(Row(_key(row["filename"]), row, row["date"], checksum=row["hash"]) for row in ordered)
    )


def _key(name: str) -> str:
    """Return the number of a file: the table has `000001.sql` for `000001-users.sql`."""
    return name.removesuffix(".sql").partition("-")[0]


def _files(directory: Path) -> Reading:
    committed = directory / "committed"
    problems: list[MigratorError] = []
    pieces = []
    place = committed if committed.is_dir() else directory
    for match, text in texts.matching(place, _FILE, problems):
        headers, body, outside = _parts(text.text)
        if placeholder := _PLACEHOLDER.search(re.sub(r"'[^']*'|::\w+|--.*", _blank, body)):
            message = f"the placeholder {placeholder[0]} cannot be converted"
            at = len(text.text) - len(body) + placeholder.start()
            problems.append(texts.problem(text, at, message, "write its value into the file"))
            continue
        previous = headers.get("previous")
        sums = frozenset([checksum(None if previous in (None, "-") else previous, body)])
        up = texts.outside_transaction(_without_header(body)) if outside else body
        version = texts.named(match["number"], match["name"] or headers.get("message") or "")
        pieces.append(Piece(match["number"], version, text.path, up, checksums=sums))
    return Reading(tuple(pieces), tuple(problems))


def _blank(found: re.Match[str]) -> str:
    return " " * len(found[0])


def _parts(text: str) -> tuple[dict[str, str], str, bool]:
    """Return the headers, the body, and whether the body runs outside a transaction."""
    headers: dict[str, str] = {}
    rest = text
    while True:
        line, _, after = rest.partition("\n")
        match = _HEADER.fullmatch(line)
        if not match or match["value"] is None:
            break
        headers[match["name"].lower()] = match["value"].strip()
        rest = after
    body = rest.lstrip("\n")
    return headers, body, body.lstrip().startswith("--! no-transaction")


def _without_header(body: str) -> str:
    return body.lstrip().partition("\n")[2]


def _locks(_table: Table) -> tuple[int, ...]:
    return (_LOCK,)


DIALECT = Dialect("graphile-migrate", "graphile-migrate", _interpret, _files, locks=_locks)
