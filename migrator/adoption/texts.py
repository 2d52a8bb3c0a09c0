"""Read the files of a tool, and cut those that hold both directions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from ..errors import DirectoryError, MigrationFileError, MigratorError
from ..files.source import read_source
from ..sql import parser
from ..sql.location import locate

_LINE = re.compile(r"[^\n]*\n|[^\n]+")

NO_TRANSACTION = "-- migrator: no-transaction"


@dataclass(frozen=True, slots=True)
class Text:
    """A file of a tool: its bytes, and its text without a BOM."""

    path: Path
    raw: bytes = field(repr=False)
    text: str = field(repr=False)


def listing(directory: Path, *, deep: bool = False) -> list[Path]:
    """Return the files of a directory by name; `deep` also looks into its folders.

    Raises:
        DirectoryError: It cannot be read.
    """
    if not directory.is_dir():
        raise DirectoryError(
            f'the directory "{directory}" does not exist',
            hint="name the directory of the other tool's files with --files DIR",
        )
    found = directory.rglob("*") if deep else directory.iterdir()
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def read(path: Path, problems: list[MigratorError]) -> Text | None:
    """Read a file; None if that failed, which is added to the problems."""
    try:
        raw = path.read_bytes()
        return Text(path, raw, read_source(path, raw).text)
    except OSError as error:
        problems.append(MigrationFileError(f"{path} cannot be read: {error.strerror}"))
    except MigrationFileError as error:
        problems.append(error)
    return None


def matching(
    directory: Path, pattern: re.Pattern[str], problems: list[MigratorError]
) -> Iterator[tuple[re.Match[str], Text]]:
    """Yield the files whose names fit, in the order of their names.

    Those that cannot be read, or whose `kind` in the pattern is not `sql`, are added to the
    problems.

    Raises:
        DirectoryError: The directory cannot be read.
    """
    for path in listing(directory):
        match = pattern.fullmatch(path.name)
        if not match:
            continue
        if match.groupdict().get("kind", "sql") != "sql":
            problems.append(not_sql(path))
        elif text := read(path, problems):
            yield match, text


def lines(text: str) -> list[str]:
    r"""Return the lines of a text with their ends.

    >>> lines("a\r\nb")
    ['a\r\n', 'b']
    """
    return _LINE.findall(text)


def problem(text: Text, offset: int, message: str, hint: str | None = None) -> MigrationFileError:
    """Return the error of a place that cannot be converted."""
    location = locate(text.text, offset, text.path)
    return MigrationFileError(message, location=location, hint=hint)


def not_sql(path: Path) -> MigrationFileError:
    """Return the error of a migration that is a program."""
    return MigrationFileError(
        f"{path} is not SQL and cannot be converted",
        hint="write its SQL as a pair of files by hand, and leave it out here with --partial",
    )


def printed(
    path: Path, problems: list[MigratorError], commands: tuple[str, str]
) -> tuple[Text, Text | None] | None:
    """Return the SQL of a migration that is a program, which its tool has printed beside it.

    Args:
        commands: What prints the up and the down script.

    Returns:
        None if there is none or it cannot be read, which is added to the problems.
    """
    up, down = path.with_suffix(".up.sql"), path.with_suffix(".down.sql")
    if not up.is_file():
        hint = f"print its SQL beside it:\n{commands[0]} > {up}\n{commands[1]} > {down}"
        problems.append(MigrationFileError(f"{path} is not SQL", hint=hint))
        return None
    texts = read(up, problems), read(down, problems) if down.is_file() else None
    return (texts[0], texts[1]) if texts[0] else None


def named(number: str, name: str) -> str:
    """Return a version of a number and of any name.

    >>> named("007", "add phone"), named("7", "")
    ('007_add_phone', '7_migration')
    """
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-")
    return f"{number}_{slug or 'migration'}"


def numbered(names: Sequence[str]) -> list[str]:
    """Return versions for names in order.

    >>> numbered(["users", "posts"])
    ['01_users', '02_posts']
    """
    width = max(2, len(str(len(names))))
    return [named(str(at).zfill(width), name) for at, name in enumerate(names, start=1)]


def outside_transaction(text: str) -> str:
    r"""Begin a text with the option that runs it outside a transaction.

    >>> outside_transaction("vacuum;\r\n")
    '-- migrator: no-transaction\r\nvacuum;\r\n'
    """
    line_end = "\r\n" if text.partition("\n")[0].endswith("\r") else "\n"
    return f"{NO_TRANSACTION}{line_end}{text}"


def as_psql_runs(text: str) -> str:
    r"""Return a script that psql runs statement by statement, with the option if it needs that.

    >>> as_psql_runs("vacuum;\nselect 1;\n")
    '-- migrator: no-transaction\nvacuum;\nselect 1;\n'
    >>> as_psql_runs("begin; select 1; commit;")
    'begin; select 1; commit;'
    """
    outside = outside_transaction(text)
    if not _problems(text) or _problems(outside):
        return text
    return outside


def _problems(text: str) -> bool:
    return bool(parser.parse(PurePath(), text).problems)


def down(text: str | None) -> str | None:
    """Return a down script; None if it has no statement, and so reverts nothing."""
    return text if text is not None and parser.has_sql(text) else None


@dataclass(frozen=True, slots=True)
class Mark:
    """What a line of a tool's own means.

    Attributes:
        section: `up` or `down`, if one begins.
        no_transaction: `section` for the section that begins, `file` for both; None for none.
        ends_statement: Whether a statement ends here, even without a `;`.
        problem: Why the line cannot be converted.
    """

    section: str | None = None
    no_transaction: str | None = None
    ends_statement: bool = False
    problem: str | None = None


@dataclass(slots=True)
class _Sections:
    before: list[str] = field(default_factory=list)
    parts: dict[str, list[str]] = field(default_factory=dict)
    outside: set[str] = field(default_factory=set)
    current: str | None = None

    def text(self, section: str) -> str | None:
        """Return the SQL of `up` or `down`; None if the file has no such section."""
        if section not in self.parts:
            return None
        before = self.before if section == "up" and any(map(str.strip, self.before)) else []
        text = "".join([*before, *self.parts[section]])
        return outside_transaction(text) if section in self.outside else text


def cut(
    text: Text,
    mark: Callable[[str], Mark | None],
    problems: list[MigratorError],
    *,
    first: str | None = None,
) -> tuple[str, str | None] | None:
    """Return the up and the down script of a file that holds both.

    Comments before the first section stay with the up script.

    Args:
        mark: Returns what a line means; None for a line of SQL.
        first: The section that begins with the file; None if a line begins each.

    Returns:
        None if there is no up section, which is added to the problems.
    """
    found = _Sections(parts={first: []} if first else {}, current=first)
    offset = 0
    for line in lines(text.text):
        if meaning := mark(line):
            _apply(found, meaning, line, text, offset, problems)
        else:
            (found.parts[found.current] if found.current else found.before).append(line)
        offset += len(line)
    up = found.text("up")
    if up is None:
        problems.append(problem(text, 0, "the file has no up section"))
        return None
    return up, down(found.text("down"))


def _apply(
    found: _Sections,
    meaning: Mark,
    line: str,
    text: Text,
    offset: int,
    problems: list[MigratorError],
) -> None:
    if meaning.problem:
        problems.append(problem(text, offset, meaning.problem))
    if meaning.section:
        if meaning.section in found.parts:
            message = f"the file has several {meaning.section} sections"
            problems.append(problem(text, offset, message, "split the file"))
        found.current = meaning.section
        found.parts.setdefault(meaning.section, [])
    if meaning.no_transaction:
        both = meaning.no_transaction == "file"
        found.outside |= {"up", "down"} if both else {found.current or "up"}
    if meaning.ends_statement and found.current:
        part = found.parts[found.current]
        if not "".join(part).rstrip().endswith(";"):
            part.append(";" + (line[len(line.rstrip()) :] or "\n"))
