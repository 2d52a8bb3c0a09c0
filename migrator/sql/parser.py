"""Parse the text of a file into a script: options, statements, and what is refused."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import PurePath

from ..errors import MigrationFileError, MigratorError
from . import backfill, effects, foreign, names, splitter
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
    body, begin = _unwrapped(statements)
    is_single = len(body) == 1 and not begin and non_transactional(body[0])
    transactional = not (options.no_transaction or is_single)
    if transactional:
        units: tuple[Unit, ...] = (_unit(body, begin),)
        has_blocks = not _blocks(path, statements)[1]
        problems += _refused_in_transaction(
            path, units[0], _IF_BLOCKS if has_blocks else _IF_NO_BLOCKS
        )
    else:
        units, misplaced = _blocks(path, statements)
        problems += misplaced
        problems += _without_effect(path, units)
    problems += _refused_anywhere(path, statements)
    problems += foreign.problems(path, source, statements)
    batches = options.backfills
    problems += backfill.problems(path, source, batches, units, is_transactional=transactional)
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
    """Whether two scripts differ only in what has no meaning.

    That is comments, white space, the letter case outside quotes, and a BEGIN … COMMIT around them.
    """
    return one == other or _tokens(one) == _tokens(other)


def meaning(source: str) -> tuple[tuple[str, ...], ...]:
    """Return what `same_statements` compares; empty for a script without SQL."""
    return tuple(map(tuple, _tokens(source)))


def _tokens(source: str) -> list[list[str]]:
    body, _ = _unwrapped(tuple(splitter.split(source)))
    return [statement_tokens(statement) for statement in body]


def statement_tokens(statement: Statement) -> list[str]:
    """Return what gives a statement its meaning: its tokens and the checksum of its COPY data.

    The letter case of keywords and of names without quotes has no meaning.
    """
    data = [_data_checksum(statement)] if statement.data else []
    return [*names.folded(splitter.tokens(statement.text.removesuffix(";"))), *data]


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


def _unwrapped(statements: tuple[Statement, ...]) -> tuple[tuple[Statement, ...], Statement | None]:
    """Return the statements without a BEGIN … COMMIT around all of them, and that BEGIN."""
    first = tuple(takewhile(lambda s: effects.is_mode(s) and effects.is_run(s), statements))
    rest = statements[len(first) :]
    return ((*first, *rest[1:-1]), rest[0]) if _is_wrapped(rest) else (statements, None)


def _unit(statements: Sequence[Statement], begin: Statement | None) -> Unit:
    """Return a transaction; statements at its start that set its modes are part of its BEGIN."""
    modes = tuple(takewhile(effects.is_mode, statements))
    run = (mode for mode in modes if effects.is_run(mode))
    return Unit((*run, *statements[len(modes) :]), begin=begin, modes=modes)


_OPTION = "-- migrator: no-transaction"
_IF_BLOCKS = f"remove it, split the file, or begin it with: {_OPTION}"
_IF_NO_BLOCKS = (
    f"split the file here, or remove it and begin the file with: {_OPTION}\n"
    "then each statement commits by itself, and BEGIN; … COMMIT; keeps several together"
)
_IN_BLOCK = "remove it: the block ends at its COMMIT"


def _refused_in_transaction(
    path: PurePath, unit: Unit, if_commit: str
) -> Iterator[MigrationFileError]:
    """Yield what is refused in a transaction; `if_commit` says what to do about a COMMIT."""
    for statement in unit.statements:
        if controls_transaction(statement):
            message = f"{statement.words[0].upper()} cannot run inside the migration's transaction"
            yield _problem(path, statement, message, _instead_of_control(statement, if_commit))
        elif command := non_transactional(statement):
            hint = f"move it to a file of its own, or begin the file with: {_OPTION}"
            if unit.begin:
                option = f", and begin the file with: {_OPTION}" * (if_commit != _IN_BLOCK)
                hint = f"move it out of the BEGIN … COMMIT{option}"
            yield _problem(path, statement, f"{command} cannot run inside a transaction", hint)
        elif statement not in unit.modes and (late := effects.ineffective_late(statement)):
            yield _problem(path, statement, *late)


def _instead_of_control(statement: Statement, if_commit: str) -> str:
    words = statement.words
    if "chain" in words and words[0] in ("commit", "end"):
        option = f", and begin the file with: {_OPTION}" * (if_commit != _IN_BLOCK)
        return f"write COMMIT; BEGIN; in its place{option}"
    if commits_transaction(statement):
        return if_commit
    return _IF_BLOCKS if begins_transaction(statement) and if_commit == _IF_BLOCKS else "remove it"


def _without_effect(path: PurePath, units: Iterable[Unit]) -> Iterator[MigrationFileError]:
    """Yield the statements of a no-transaction script that have no effect outside a block."""
    for unit in units:
        for statement in unit.statements if not unit.begin else ():
            if found := effects.ineffective_alone(statement):
                what, hint = found
                message = f"{what} has no effect outside a transaction"
                yield _problem(path, statement, message, hint)


def _refused_anywhere(
    path: PurePath, statements: Sequence[Statement]
) -> Iterator[MigrationFileError]:
    yield from psql_commands(path, statements)
    for statement in statements:
        if effects.wrong_encoding(statement):
            message = "client_encoding must be UTF8, the encoding of the file"
            yield _problem(path, statement, message, "remove the statement")
        match statement.words:
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


def psql_commands(path: PurePath, statements: Iterable[Statement]) -> Iterator[MigrationFileError]:
    """Yield the psql commands among and in statements."""
    for statement in statements:
        if statement.backslash is not None:
            yield _psql_command(path, statement, statement.backslash)
        if statement.words[:1] and statement.words[0].startswith("\\"):
            yield _psql_command(path, statement, statement.offset)


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
            units.append(_unit(block, begin))
            problems += _refused_in_transaction(path, units[-1], _IN_BLOCK)
            begin, block = None, []
        elif begin:
            block.append(statement)
        elif begins_transaction(statement):
            begin = statement
        elif controls_transaction(statement):
            message = f"{statement.words[0].upper()} without a BEGIN"
            hint = "remove it, or add the BEGIN" if commits_transaction(statement) else "remove it"
            problems.append(_problem(path, statement, message, hint))
        else:
            units.append(Unit((statement,), transactional=not non_transactional(statement)))
    if begin:
        hint = "add COMMIT after the last statement of the block"
        problems.append(_problem(path, begin, "BEGIN without a COMMIT", hint))
    return tuple(units), problems
