"""Read one file's text as a script: its options, its statements, what is refused."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath

from ..errors import MigrationFileError, MigratorError
from . import splitter
from .location import locate
from .options import read as read_options
from .script import Script, Statement, Unit

# psql reads these two as a guard that pg_dump puts around a dump; they are no SQL.
_SKIPPED = frozenset(["\\restrict", "\\unrestrict"])

_COMMAND = re.compile(r"\\(?:\w+|.)?")
_CONTROL = frozenset(
    ["abort", "begin", "commit", "end", "release", "rollback", "savepoint", "start"]
)

# PostgreSQL's own list, by the callers of PreventInTransactionBlock(): 13 to 18.
_OUTSIDE = (
    ("create", "database"),
    ("drop", "database"),
    ("create", "tablespace"),
    ("drop", "tablespace"),
    ("alter", "system"),
    ("vacuum",),
    ("create", "index", "concurrently"),
    ("create", "unique", "index", "concurrently"),
    ("drop", "index", "concurrently"),
    ("reindex", "schema"),
    ("reindex", "system"),
    ("reindex", "database"),
    ("commit", "prepared"),
    ("rollback", "prepared"),
    ("discard", "all"),
)
# Without one of these words, or a backslash, nothing in a script is an option or refused.
_TELLING = (
    _CONTROL
    | {command[-1] for command in _OUTSIDE}
    | {"prepare", "cluster", "set", "copy", "migrator"}
)
# What most statements of a long file are: no need to look any further.
_HARMLESS = frozenset([("insert",), ("update",), ("delete",), ("select",)])


def parse(path: PurePath, source: str) -> Script:
    """Read a script.  What forbids to run it is in its `problems`, by place, not raised."""
    statements = tuple(s for s in splitter.split(source) if _SKIPPED.isdisjoint(s.words[:1]))
    options, transactional, problems = read_options(path, source, statements)
    body, begin = (
        (statements[1:-1], statements[0]) if _is_wrapped(statements) else (statements, None)
    )
    if transactional and len(body) == 1 and _outside(body[0]) and not begin:
        transactional = False
    if transactional:
        units: tuple[Unit, ...] = (Unit(body, begin=begin),)
        problems += _refused_in_transaction(path, body)
    else:
        units, misplaced = _blocks(path, statements)
        problems += misplaced
    problems += _refused_anywhere(path, statements)
    return Script(path, source, units, options, transactional, tuple(sorted(problems, key=_place)))


def is_plain(source: str) -> bool:
    """Tell by the words alone, ten times as fast as `parse`, that a script has no problem.

    >>> is_plain("drop table users;"), is_plain("drop table users; commit;")
    (True, False)

    Returns:
        False also for many scripts that have none: who wants to know has to parse them.
    """
    return "\\" not in source and _TELLING.isdisjoint(re.findall(r"[a-z]++", source.lower()))


def same_statements(one: str, other: str) -> bool:
    """Whether two texts of a script differ in comments, white space and its BEGIN … COMMIT only."""
    return one == other or _tokens(one) == _tokens(other)


def is_concurrent(statement: Statement) -> bool:
    """Whether a statement takes its time so as to block nobody: `… CONCURRENTLY`."""
    return "concurrently" in _head(statement) or _last(statement) == "concurrently"


def sets_session(statement: Statement) -> bool:
    """Whether a statement is there to change settings, and may be repeated at will."""
    words = statement.words
    is_call = "set_config" in words and set(words) <= {"select", "pg_catalog", "set_config"}
    return words[:1] in (("set",), ("reset",)) or is_call


def _tokens(source: str) -> list[list[str]]:
    statements = tuple(splitter.split(source))
    body = statements[1:-1] if _is_wrapped(statements) else statements
    return [statement_tokens(statement) for statement in body]


def statement_tokens(statement: Statement) -> list[str]:
    """Return what of a statement has a meaning: its tokens, and the checksum of its COPY data."""
    data = [_data_checksum(statement)] if statement.data else []
    return [*splitter.tokens(statement.text.removesuffix(";")), *data]


def _data_checksum(statement: Statement) -> str:
    if statement.block:
        return statement.block.checksum
    return hashlib.sha256(statement.source[slice(*statement.data or ())].encode()).hexdigest()


def _place(problem: MigratorError) -> tuple[int, int]:
    return (problem.location.line, problem.location.column) if problem.location else (0, 0)


def _problem(path: PurePath, statement: Statement, message: str, hint: str) -> MigrationFileError:
    location = locate(statement.source, statement.offset, path)
    return MigrationFileError(message, location=location, hint=hint)


def _outside(statement: Statement) -> str | None:
    """Return the command's name if PostgreSQL never runs it in a transaction, else None."""
    words = statement.words
    if words[:1] in _HARMLESS:
        return None
    for command in _OUTSIDE:
        if words[: len(command)] == command:
            return " ".join(command).upper()
    match words:
        case ("alter", "database", *rest) if "tablespace" in rest:
            return "ALTER DATABASE SET TABLESPACE"
        case ("cluster",) | ("cluster", "verbose"):
            return "CLUSTER of all tables"
        case ("reindex", *_) if "concurrently" in list(_head(statement)):
            return "REINDEX CONCURRENTLY"
        case ("alter", "table", *rest) if "detach" in rest and _last(statement) == "concurrently":
            return "DETACH PARTITION CONCURRENTLY"
    return None


def _head(statement: Statement) -> Iterator[str]:
    tokens = splitter.tokens(statement.text)
    return (token.lower() for token, _ in zip(tokens, range(16), strict=False))


def _last(statement: Statement) -> str:
    *_, last = "", *splitter.tokens(statement.text.removesuffix(";"))
    return last.lower()


def _is_control(statement: Statement) -> bool:
    words = statement.words
    if words[:1] == ("prepare",):
        return words[1:2] == ("transaction",)
    return not _CONTROL.isdisjoint(words[:1]) and words[1:2] != ("prepared",)


def _is_begin(statement: Statement) -> bool:
    return statement.words[:1] in (("begin",), ("start",))


def _is_commit(statement: Statement) -> bool:
    words = statement.words
    return words[:1] in (("commit",), ("end",)) and not {"prepared", "chain"} & set(words)


def _is_wrapped(statements: Sequence[Statement]) -> bool:
    """Whether one BEGIN … COMMIT stands around everything."""
    return (
        len(statements) >= 2
        and _is_begin(statements[0])
        and _is_commit(statements[-1])
        and not any(_is_begin(s) or _is_commit(s) for s in statements[1:-1])
    )


def _refused_in_transaction(
    path: PurePath, statements: Iterable[Statement]
) -> Iterator[MigrationFileError]:
    for statement in statements:
        if _is_control(statement):
            yield _problem(
                path,
                statement,
                f"{statement.words[0].upper()} would break up the migration's own transaction",
                "remove it, or split the file, or begin the file with: -- migrator: no-transaction",
            )
        elif command := _outside(statement):
            yield _problem(
                path,
                statement,
                f"{command} cannot run inside a transaction",
                "put it into a migration of its own, "
                "or begin the file with: -- migrator: no-transaction",
            )


def _refused_anywhere(
    path: PurePath, statements: Iterable[Statement]
) -> Iterator[MigrationFileError]:
    for statement in statements:
        if statement.backslash is not None:
            yield _psql_command(path, statement, statement.backslash)
        match statement.words:
            case (command, *_) if command.startswith("\\"):
                yield _psql_command(path, statement, statement.offset)
            case ("set", *rest) if "standard_conforming_strings" in rest and "on" not in rest:
                message = "the file is read with standard_conforming_strings = on"
                hint = "remove it, and write E'…' where a backslash is to be an escape"
                yield _problem(path, statement, message, hint)
            case ("copy", *rest) if "stdout" in rest or ("to" in rest and "stdin" in rest):
                message = "COPY … TO STDOUT has nowhere to go"
                yield _problem(path, statement, message, "remove it")
            case ("copy", *rest) if "stdin" in rest and statement.data is None:
                message = "the data of this COPY do not begin on the next line"
                hint = "end the statement with ;, and begin the data on the line below"
                yield _problem(path, statement, message, hint)
            case ("set", "transaction", *_):
                message = "SET TRANSACTION comes too late: the transaction has begun"
                hint = "wrap the whole file: BEGIN ISOLATION LEVEL SERIALIZABLE; … COMMIT;"
                yield _problem(path, statement, message, hint)


def _psql_command(path: PurePath, statement: Statement, offset: int) -> MigrationFileError:
    command = _COMMAND.match(statement.source, offset)
    assert command, "it begins with a backslash"
    return MigrationFileError(
        f"{command[0]} is a command of psql, not SQL",
        location=locate(statement.source, offset, path),
        hint="write what it does as SQL in this file",
    )


def _blocks(
    path: PurePath, statements: Iterable[Statement]
) -> tuple[tuple[Unit, ...], list[MigrationFileError]]:
    """Cut a no-transaction script into units: its BEGIN … COMMIT blocks, and single statements."""
    units: list[Unit] = []
    problems: list[MigrationFileError] = []
    begin: Statement | None = None
    block: list[Statement] = []
    for statement in statements:
        if begin and _is_commit(statement):
            problems += _refused_in_transaction(path, block)
            units.append(Unit(tuple(block), begin=begin))
            begin, block = None, []
        elif begin:
            block.append(statement)
        elif _is_begin(statement):
            begin = statement
        elif _is_control(statement):
            message = f"{statement.words[0].upper()} without a BEGIN before it"
            problems.append(_problem(path, statement, message, "remove it, or add the BEGIN"))
        else:
            units.append(Unit((statement,), transactional=not _outside(statement)))
    if begin:
        hint = "add the COMMIT behind the last statement of the block"
        problems.append(_problem(path, begin, "this BEGIN has no COMMIT", hint))
    return tuple(units), problems
