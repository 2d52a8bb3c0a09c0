"""Tell whether two paths lead to the same directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import DirectoryError


def refuse_same(directories: Sequence[Path]) -> None:
    """Check that no directory is given twice.

    Raises:
        DirectoryError: One is.
    """
    known: dict[object, Path] = {}
    for directory in directories:
        found = identity(directory)
        if found in known:
            raise DirectoryError(
                f'the migrations directories "{known[found]}" and "{directory}" are the same',
                hint="specify it once (with --dir, MIGRATOR_DIR, or dir in migrator.toml)",
            )
        known[found] = directory


def identity(path: Path) -> object:
    """Return what all paths of a file have in common, whatever links lead to it."""
    try:
        found = path.stat()
    except OSError:
        return path  # not absolute(): the current directory may have been removed
    return found.st_dev, found.st_ino
