"""Check the names of repeatable files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import MigrationFileError
from ..model import REPEATABLE, Migration


def not_a_pair(path: Path, name: str, direction: str) -> MigrationFileError:
    """Return the error of a repeatable file that is named as one of a pair."""
    if direction == "up":
        hint = f"rename it to {REPEATABLE}{name}.sql"
    else:
        hint = "remove it: to undo a change, put the earlier text back into the repeatable file"
    return MigrationFileError(f"{path}: a repeatable file has no {direction} file", hint=hint)


def alike(repeatables: Sequence[Migration]) -> Iterable[MigrationFileError]:
    """Yield an error for names that are one file on some systems; the names are sorted."""
    known: dict[str, Migration] = {}
    for each in repeatables:
        other = known.setdefault(each.version.lower(), each)
        if other is not each:
            is_same = other.version == each.version
            what = "have the same name" if is_same else "differ only in letter case"
            why = "" if is_same else ": on some systems they are the same file"
            message = f"{other.up.path} and {each.up.path} {what}"
            yield MigrationFileError(message, hint=f"rename one of them{why}")
