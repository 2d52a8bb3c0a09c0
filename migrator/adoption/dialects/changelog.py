"""Find the SQL files of Liquibase, in the order in which its changelogs include them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import MigratorError
from .. import texts

_CHANGELOGS = (".xml", ".yaml", ".yml", ".json")
_INCLUDED = re.compile(
    r"(?P<file>[\w./@+-]+\.(?:sql|xml|ya?ml|json))\b"
    r"|includeAll\W+path\W+(?P<folder>[\w.@+-][\w./@+-]*)"
)


def ordered(directory: Path, problems: list[MigratorError]) -> tuple[list[Path], list[str]]:
    """Return the SQL files in the order in which they are included, and notes.

    Where no changelog includes any, that is all of them by their paths.
    """
    paths = texts.listing(directory, deep=True)
    scripts = [path for path in paths if path.suffix == ".sql"]
    changelogs = {
        path: text
        for path in paths
        if path.suffix in _CHANGELOGS and (text := texts.read(path, problems))
    }
    problems += (
        texts.not_sql(path)
        for path, text in changelogs.items()
        if re.search(r"\bchangeSet\b", text.text)
    )
    includes = {path: list(_included(text, paths)) for path, text in changelogs.items()}
    inner = {each for found in includes.values() for each in found}
    chosen = list(dict.fromkeys(_walk([p for p in includes if p not in inner], includes)))
    if not chosen:
        return scripts, []
    left = [str(path) for path in scripts if path not in chosen]
    return chosen, [f"in no changelog, and left out: {', '.join(left)}"] if left else []


def _included(text: texts.Text, paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files that a changelog includes, which it names from one place or another."""
    for match in _INCLUDED.finditer(text.text):
        if match["file"]:
            ending = f"/{match['file'].removeprefix('./').lstrip('/')}"
            beside = text.path.parent / match["file"]
            found = [path for path in paths if path == beside or str(path).endswith(ending)]
            yield from sorted(found, key=lambda path: path != beside)[:1]
        else:
            folder = f"/{match['folder'].removeprefix('./').strip('/')}/"
            yield from (path for path in paths if folder in f"/{path}" and path != text.path)


def _walk(
    changelogs: Sequence[Path],
    includes: dict[Path, list[Path]],
    seen: frozenset[Path] = frozenset(),
) -> Iterator[Path]:
    for path in changelogs:
        if path in includes and path not in seen:
            yield from _walk(includes[path], includes, seen | {path})
        elif path.suffix == ".sql":
            yield path
