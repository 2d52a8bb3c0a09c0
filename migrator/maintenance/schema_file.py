"""Write the schema of a database as a text that is the same from run to run: `schema.sql`."""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

from .. import programs
from ..config import Database
from ..errors import SchemaFileError, UsageError
from ..history import layout
from ..sql import splitter
from ..sql.names import in_quotes
from ..sql.script import Statement

# These replace the settings of pg_dump, which differ from version to version.
_PREAMBLE = """\
set client_encoding = 'UTF8';
set standard_conforming_strings = on;
set check_function_bodies = off;
set xmloption = content;
set row_security = off;
select pg_catalog.set_config('search_path', '', false);"""
_HEAD = """\
-- The schema of the database, written by: migrator dump
-- Newest migration: {newest}"""
_ENTRY = re.compile(r"^-- Name: (.*); Type: (.*?); Schema: (.*?); Owner: ", re.MULTILINE)
# Objects of one kind that need none of the same kind.  A pg_dump of before August 2025 leaves some
# in the order in which they were created.
_UNORDERED = frozenset(
    {
        "ACL",
        "CAST",
        "COMMENT",
        "CONSTRAINT",
        "DEFAULT ACL",
        "FK CONSTRAINT",
        "INDEX",
        "POLICY",
        "PUBLICATION TABLE",
        "PUBLICATION TABLES IN SCHEMA",
        "RULE",
        "STATISTICS",
        "TRIGGER",
    }
)
# Settings that show in constants and names, and that pg_dump does not set itself.
_SETTINGS = {
    "timezone": "UTC",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
}
_DIFF_LINES = 60


@dataclass(frozen=True, slots=True)
class _Entry:
    """An object of a dump, with its statements; text between two objects has no kind."""

    name: str
    kind: str
    schema: str
    statements: Sequence[Statement]

    @property
    def text(self) -> str:
        texts: list[str] = []
        for is_grant, run in groupby(self.statements, lambda each: each.words[:1] == ("grant",)):
            found = (each.text for each in run)
            # In the catalog they are in the order in which they were granted.
            texts += sorted(found) if is_grant else found
        return "\n".join(texts)


def read(
    database: Database,
    major: int,
    history: str,
    *,
    newest: str | None,
    lock_timeout: int,
    role: str | None,
) -> str:
    """Return the schema of a database, without the tables of the history.

    User mappings and subscriptions are left out, because they may have passwords; owners and
    tablespaces, because they differ from server to server.

    Args:
        major: The server's version.
        history: The schema of the history.
        newest: The newest version that is applied, to be named at the top; None for none.
        lock_timeout: How long to wait for a table, in milliseconds.
        role: To read as; None for the login.

    Raises:
        DumpError: No `pg_dump` can read the server's version, or it failed.
    """
    schema = in_quotes(history)
    without = (f"--exclude-table={schema}.{name}" for name in layout.NAMES)
    dump = programs.dump_schema(
        database,
        major,
        lock_timeout=lock_timeout,
        role=role,
        options=("--no-owner", *without),
        settings=_SETTINGS,
    )
    return normalised(dump, newest)


def normalised(dump: str, newest: str | None) -> str:
    """Return a dump without what differs between two dumps of one schema.

    Args:
        newest: As for `read`.
    """
    texts = (each.text for each in _ordered(filter(_is_kept, _entries(dump))))
    return "\n\n".join([_HEAD.format(newest=newest or "none"), _PREAMBLE, *texts]) + "\n"


def _entries(dump: str) -> Iterator[_Entry]:
    """Cut a dump into its objects; what is before the first one is left out."""
    head: tuple[str, str, str] | None = None
    end = 0
    statements: list[Statement] = []
    for each in splitter.split(dump):
        heads = _ENTRY.findall(dump, end, each.offset)
        is_setting = each.words[:2] == ("set", "default_table_access_method")
        if heads or is_setting:
            if head and statements:
                yield _Entry(*head, statements)
            # What is only a comment in the dump is an object without statements.
            head, statements = heads[-1] if heads else ("", "", ""), []
        if head and not splitter.is_meta_command(each):
            statements.append(each)
        end = each.end
    if head and statements:
        yield _Entry(*head, statements)


def _is_kept(entry: _Entry) -> bool:
    # The comment on an extension is that of its version on this server.
    is_of_extension = entry.kind == "COMMENT" and entry.name.startswith("EXTENSION ")
    return not is_of_extension and entry.kind != "USER MAPPING"


def _ordered(entries: Iterable[_Entry]) -> Iterator[_Entry]:
    for kind, run in groupby(entries, lambda each: each.kind):
        if kind in _UNORDERED:
            yield from sorted(run, key=lambda each: (each.schema, each.name, each.text))
        else:
            yield from run


def write(path: Path, text: str) -> bool:
    """Write a file at once: it has the old text or the new one, whatever happens.

    It keeps its mode and, as far as we may, its owner.  A link stays one.

    Returns:
        Whether it had another text.

    Raises:
        UsageError: It cannot be written.
    """
    try:
        return _write(Path(os.path.realpath(path)), text.encode())
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def _write(path: Path, data: bytes) -> bool:
    old = path.stat() if path.exists() else None
    if old and not stat.S_ISREG(old.st_mode):
        path.write_bytes(data)  # a device or a pipe
        return True
    if old and path.read_bytes() == data:
        return False
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with unfinished.open("xb") as stream:
            if old:
                os.fchmod(stream.fileno(), stat.S_IMODE(old.st_mode))
                with suppress(PermissionError):
                    os.fchown(stream.fileno(), old.st_uid, old.st_gid)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return True


def check(path: Path, expected: str) -> None:
    """Check that a file has the schema that the migrations make.

    Raises:
        SchemaFileError: It has another text; `detail` is the difference.
        UsageError: It cannot be read.
    """
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {path}: byte {error.start} is not UTF-8") from error
    text = text.replace("\r\n", "\n")  # a checkout on Windows
    if text != expected:
        raise SchemaFileError(
            f"{path} does not match the schema that the migrations produce",
            detail=_difference(path, text, expected),
            hint="apply the migrations to a database, then write it again: "
            f"migrator dump --output {path}",
        )


def _difference(path: Path, text: str, expected: str) -> str:
    import difflib  # noqa: PLC0415  (only a difference needs it)

    lines = difflib.unified_diff(
        text.splitlines(), expected.splitlines(), str(path), "the migrations", lineterm=""
    )
    shown = list(islice(lines, _DIFF_LINES + 1))
    return "\n".join([*shown[:_DIFF_LINES], *(["…"] if len(shown) > _DIFF_LINES else [])])
