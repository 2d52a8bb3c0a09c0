"""Read the names of files: which are migrations, and what others should be called."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from .. import model
from ..model import number_of

NAME = re.compile(r"(?P<version>[0-9]+_[A-Za-z0-9_.-]+)\.(?P<direction>up|down)\.sql", re.ASCII)
"""What the file of a migration is called."""

REPEATABLE = re.compile(
    rf"(?P<version>{model.REPEATABLE}[A-Za-z0-9_.-]+)(?<!\.up)(?<!\.down)\.sql", re.ASCII
)
"""What a repeatable file is called."""

DIRECTED_REPEATABLE = re.compile(
    rf"{model.REPEATABLE}(?P<name>.+)\.(?P<direction>up|down)\.sql", re.IGNORECASE
)
"""A name that makes a pair of a repeatable file."""

_SQL = re.compile(r"\.(?:sql|pgsql|psql|postgres|postgresql|ddl)$", re.IGNORECASE)
_ALMOST_SQL = re.compile(
    r"(?P<stem>[0-9]+[_. -].+\.(?:up|down))(?:\.?(?:s+q+l+|slq|qsl|sq|sl|ql|sql\w))?",
    re.IGNORECASE,
)
_PACKED = re.compile(r"(?:\.(?:gz|bz2|xz|zst|zip|txt))+$", re.IGNORECASE)
_NUMBERED = re.compile(
    r"(?P<letter>[vu])?(?P<number>[0-9]+)(?!\.?[0-9])[_. -]+(?P<rest>.+)", re.IGNORECASE
)
_REPEATABLE = re.compile(r"r__?(?P<name>.+?)(?:\.(?P<direction>up|down))?", re.IGNORECASE)
_UP, _DOWN = ("up", "do", "deploy"), ("down", "undo", "rollback", "revert")
_DIRECTION = rf"(?P<direction>{'|'.join(_UP + _DOWN)})"
_LAST = re.compile(rf"(?P<name>.+?)[._-]{_DIRECTION}", re.IGNORECASE)
_FIRST = re.compile(rf"{_DIRECTION}\.(?P<name>.+)", re.IGNORECASE)


def suggestion(name: str) -> str | None:
    """Return what a file that looks like a migration should be called; None for other files.

    >>> [suggestion(name) for name in ("V1__a.sql", "01_a.UP.sql", "7.undo.b.sql", "seed.sql.gz")]
    ['1_a.up.sql', '01_a.up.sql', '7_b.down.sql', None]
    >>> [suggestion(name) for name in ("01_a.up.sqll", "01_a.down", "01_a.up.sql~")]
    ['01_a.up.sql', '01_a.down.sql', None]
    >>> [suggestion(name) for name in ("r__v.sql", "R_v.pgsql", "R__v.up.sql", "R__v.down.sql")]
    ['R__v.sql', 'R__v.sql', 'R__v.sql', None]
    """
    if mistyped := _ALMOST_SQL.fullmatch(name):
        name = f"{mistyped['stem']}.sql"
    unpacked = _PACKED.sub("", name)
    stem = _SQL.sub("", unpacked)
    if stem != unpacked and (repeatable := _REPEATABLE.fullmatch(stem)):
        slug = _slug(repeatable["name"])
        is_up = (repeatable["direction"] or "up").lower() == "up"
        return f"{model.REPEATABLE}{slug}.sql" if slug and is_up and name == unpacked else None
    numbered = _NUMBERED.fullmatch(stem)
    if stem == unpacked or not numbered:
        return None
    rest = numbered["rest"]
    directed = _LAST.fullmatch(rest) or _FIRST.fullmatch(rest)
    if not directed and name != unpacked:
        return None  # a packed file without a direction may be any dump
    is_down = (numbered["letter"] or "").lower() == "u"
    if directed:
        is_down, rest = directed["direction"].lower() in _DOWN, directed["name"]
    slug = _slug(rest)
    return f"{numbered['number']}_{slug}.{'down' if is_down else 'up'}.sql" if slug else None


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_.-")


def renames(names: Iterable[str]) -> dict[str, str]:
    """Return what misnamed files should be called, where only one name is possible.

    These are the names that differ in letter case, and a down file whose number has a single
    up file, and that without a down file.
    """
    names = frozenset(names)
    wanted = {
        name: new for name in names if (new := suggestion(name)) and _differ_in_case(name, new)
    }
    known = names | set(wanted.values())
    ups, downs = _versions(known, "up"), _versions(known, "down")
    for down in downs - ups:
        others = [up for up in ups if number_of(up) == number_of(down)]
        rivals = [each for each in downs - ups if number_of(each) == number_of(down)]
        if len(others) == len(rivals) == 1 and others[0] not in downs:
            wanted[f"{down}.down.sql"] = f"{others[0]}.down.sql"
    counts = Counter(wanted.values())
    return {
        old: new
        for old, new in sorted(wanted.items())
        if old in names and new not in names and counts[new] == 1
    }


def orphans(names: Collection[str]) -> Iterator[str]:
    """Yield the versions that have a down file and no up file, not even a misnamed one."""
    meant = {new for name in names if not NAME.fullmatch(name) and (new := suggestion(name))}
    yield from sorted(_versions(names, "down") - _versions({*names, *meant}, "up"))


def look_alikes(names: Collection[str]) -> dict[str, str]:
    """Return the files that are ignored and look like migrations, with what to call them.

    Files that end in `.sql` are left out: they are errors, not ignored.
    """
    return {
        name: new
        for name in sorted(names)
        if not name.lower().endswith(".sql") and (new := suggestion(name)) and new not in names
    }


def _differ_in_case(name: str, other: str) -> bool:
    return name != other and name.lower() == other.lower()


def _versions(names: Iterable[str], direction: str) -> set[str]:
    found = (NAME.fullmatch(name) for name in names)
    return {match["version"] for match in found if match and match["direction"] == direction}
