"""The effective settings as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .json import Json

HIDDEN = "****"


class Source(StrEnum):
    """Where the value of a setting comes from."""

    OPTION = "option"
    VARIABLE = "variable"
    FILE = "file"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Setting:
    """An effective value.

    Attributes:
        table: A command, `database`, or empty for the program itself.
        value: None if it has none; a password is hidden.
        origin: The option, the variable, or the file and line; None for a default.
    """

    table: str
    key: str
    value: Any
    source: Source
    origin: str | None = None


def settings_text(settings: Iterable[Setting]) -> str:
    """Write a table of settings below the name of each of their tables.

    >>> print(settings_text([Setting("up", "steps", 2, Source.FILE, "migrator.toml:3")]))
    [up]
    steps  2  migrator.toml:3
    """
    parts = []
    for table, rows in groupby(settings, key=lambda setting: setting.table):
        heading = [f"[{table}]"] if table else []
        parts.append("\n".join([*heading, *_lines(tuple(rows))]))
    return "\n\n".join(parts)


def _lines(rows: Sequence[Setting]) -> list[str]:
    cells = [(row.key, _text(row.value), _origin(row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "(none)" if value is None else " ".join(value) if isinstance(value, list) else str(value)


def _origin(row: Setting) -> str:
    if row.source in (Source.OPTION, Source.VARIABLE):
        return f"{row.source} {row.origin}"
    return row.origin or row.source.value


def settings_json(settings: Iterable[Setting]) -> Json:
    """Return every setting, in order."""
    rows = [
        {
            "table": each.table or None,
            "key": each.key,
            "value": each.value,
            "source": each.source.value,
            "origin": each.origin,
        }
        for each in settings
    ]
    return {"settings": rows}
