"""Pair the up and down files, and find files that are the same migration."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import MigrationFileError, MigratorError
from ..model import is_repeatable, number_of
from . import texts
from .dialect import Piece, Reading


def put(
    pair: dict[str, texts.Text], direction: str, text: texts.Text, problems: list[MigratorError]
) -> None:
    """Add a file to a pair; where the pair has one of that direction, that is a problem."""
    if other := pair.get(direction):
        problems.append(twins(other.path, text.path))
    pair[direction] = text


def twins(one: Path, other: Path) -> MigrationFileError:
    """Return the error for two files that are the same migration."""
    message = f"{one} and {other} are both for the same migration"
    return MigrationFileError(message, hint="delete or renumber one of them")


def by_number(found: dict[str, dict[str, texts.Text]], problems: list[MigratorError]) -> Reading:
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


def keys_once(pieces: Iterable[Piece], problems: list[MigratorError]) -> None:
    """Add a problem for each two files that are the same migration of the tool."""
    known: dict[str, Path] = {}
    for piece in pieces:
        if other := known.get(piece.key):
            problems.append(twins(other, piece.path))
        known[piece.key] = piece.path


def numbers_once(pieces: Iterable[tuple[str, Path]], problems: list[MigratorError]) -> None:
    """Add a problem for each number that two files have.

    Args:
        pieces: Versions with their files.
    """
    known: dict[int, Path] = {}
    for version, path in pieces:
        if is_repeatable(version):
            continue
        number = number_of(version)
        if other := known.get(number):
            message = f"{other} and {path} both have number {number}"
            problems.append(MigrationFileError(message, hint="renumber one of them"))
        known[number] = path
