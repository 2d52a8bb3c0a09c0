"""Parse the text of a file into a script: options, statements, and what is refused."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath

from ..errors import MigrationFileError, MigratorError
from . import foreign, splitter
from .classify import (
    NON_TRANSACTIONAL,
    TRANSACTION_CONTROL,
    begins_transaction,
    commits_transaction,
    controls_transaction,
    non_transactional,
)
from .location import locate
from .options import read_options
from .script import Script, Statement, Unit

# pg_dump writes these psql commands around a dump as a guard.
_SKIPPED = frozenset(["\\restrict", "\\unrestrict"])

_BEFORE_SQL = re.compile(r"(?:\s++|--[^\n]*+)*+")
_PSQL_COMMAND = re.compile(r"\\(?:\w+|.)?")
# A script without these words and without a backslash has no options and no problems.
_SUSPECT = (
    TRANSACTION_CONTROL
    | {command[-1] for command in NON_TRANSACTIONAL}
    | {"prepare", "cluster", "set", "copy", "migrator"}
)


def parse(path: PurePath, source: str) -> Script:
    """Parse a script.  Its `problems` are returned with it, by place, rather than raised."""
    statements = tuple(s for s in splitter.split(source) if _SKIPPED.isdisjoint(s.words[:1]))
    options, problems = read_options(path, source, statements)
    body, begin = (
        (statements[1:-1], statements[0]) if _is_wrapped(statements) else (statements, None)
    )
    is_single = len(body) == 1 and not begin and non_transactional(body[0])
    transactional = not (options.no_transaction or is_single)
    if transactional:
        units: tuple[Unit, ...] = (Unit(body, begin=begin),)
        problems += _refused_in_transaction(path, body)
    else:
        units, misplaced = _blocks(path, statements)
        problems += misplaced
    problems += _refused_anywhere(path, statements)
    problems += foreign.problems(path, source, statements)
    return Script(path, source, units, options, transactional, tuple(sorted(problems, key=_place)))


def is_plain(source: str) -> bool:
    """Whether a script surely has no problems: a check ten times as fast as `parse`.

    >>> is_plain("drop table users;"), is_plain("drop table users; commit;")
    (True, False)

    Returns:
        False for a script that may have problems: only `parse` can tell.
    """
    if "\\" in source or foreign.may_be_foreign(source):
        return False
    return _SUSPECT.isdisjoint(re.findall(r"[a-z]++", source.lower()))


def has_sql(source: str) -> bool:
    r"""Whether a script has a statement; fast for one that begins with it.

    >>> has_sql("-- why\nselect 1;"), has_sql("-- why\n;")
    (True, False)
    """
    before = _BEFORE_SQL.match(source)
    begin = source[before.end() : before.end() + 5].lower() if before else ""
    if begin.isalpha() and begin not in ("begin", "start"):
        return True
    return any(unit.statements for unit in parse(PurePath(), source).units)


def same_statements(one: str, other: str) -> bool:
    """Whether two scripts differ only in comments, white space and a BEGIN … COMMIT around them."""
    return one == other or _tokens(one) == _tokens(other)


def _tokens(source: str) -> list[list[str]]:
    statements = tuple(splitter.split(source))
    body = statements[1:-1] if _is_wrapped(statements) else statements
    return [statement_tokens(statement) for statement in body]


def statement_tokens(statement: Statement) -> list[str]:
    """Return what gives a statement its meaning: its tokens and the checksum of its COPY data."""
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


def _is_wrapped(statements: Sequence[Statement]) -> bool:
    """Whether one BEGIN … COMMIT surrounds all other statements."""
    return (
        len(statements) >= 2
        and begins_transaction(statements[0])
        and commits_transaction(statements[-1])
        and not any(begins_transaction(s) or commits_transaction(s) for s in statements[1:-1])
    )


def _refused_in_transaction(
    path: PurePath, statements: Iterable[Statement]
) -> Iterator[MigrationFileError]:
    for statement in statements:
        if controls_transaction(statement):
            yield _problem(
                path,
                statement,
                f"{statement.words[0].upper()} cannot run inside the migration's transaction",
                "remove it, split the file, or begin it with: -- migrator: no-transaction",
            )
        elif command := non_transactional(statement):
            yield _problem(
                path,
                statement,
                f"{command} cannot run inside a transaction",
                "move it to a file of its own, or begin the file with: -- migrator: no-transaction",
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
                message = "standard_conforming_strings must be on"
                hint = "remove the statement, and write E'…' where a backslash is an escape"
                yield _problem(path, statement, message, hint)
            case ("copy", *rest) if "stdout" in rest or ("to" in rest and "stdin" in rest):
                message = "COPY … TO STDOUT is not supported: its output would be discarded"
                yield _problem(path, statement, message, "remove it")
            case ("copy", *rest) if "stdin" in rest and statement.data is None:
                message = "COPY … FROM STDIN is not followed by data"
                hint = "end the statement with ;, and begin the data on the next line"
                yield _problem(path, statement, message, hint)
            case ("set", "transaction", *_):
                message = "SET TRANSACTION is too late: the transaction has already begun"
                hint = "put it around the file: BEGIN ISOLATION LEVEL SERIALIZABLE; … COMMIT;"
                yield _problem(path, statement, message, hint)


def _psql_command(path: PurePath, statement: Statement, offset: int) -> MigrationFileError:
    command = _PSQL_COMMAND.match(statement.source, offset)
    assert command, "the text at the offset is a backslash"
    return MigrationFileError(
        f"{command[0]} is a psql command, not SQL",
        location=locate(statement.source, offset, path),
        hint="replace it with SQL",
    )


def _blocks(
    path: PurePath, statements: Iterable[Statement]
) -> tuple[tuple[Unit, ...], list[MigrationFileError]]:
    """Group the statements of a no-transaction script: BEGIN … COMMIT blocks, single statements."""
    units: list[Unit] = []
    problems: list[MigrationFileError] = []
    begin: Statement | None = None
    block: list[Statement] = []
    for statement in statements:
        if begin and commits_transaction(statement):
            problems += _refused_in_transaction(path, block)
            units.append(Unit(tuple(block), begin=begin))
            begin, block = None, []
        elif begin:
            block.append(statement)
        elif begins_transaction(statement):
            begin = statement
        elif controls_transaction(statement):
            message = f"{statement.words[0].upper()} without a BEGIN"
            problems.append(_problem(path, statement, message, "remove it, or add the BEGIN"))
        else:
            units.append(Unit((statement,), transactional=not non_transactional(statement)))
    if begin:
        hint = "add COMMIT after the last statement of the block"
        problems.append(_problem(path, begin, "BEGIN without a COMMIT", hint))
    return tuple(units), problems
