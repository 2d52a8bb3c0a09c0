"""Find statements that have no effect where they are, and what to write instead."""

from __future__ import annotations

import re
from itertools import pairwise

from . import splitter
from .script import Statement, Unit

_IN_BLOCK = "put it between BEGIN; and COMMIT;, together with the statements that need it"
_UTF8 = frozenset(["utf8", "unicode", "default", ""])
_SESSION = ("set", "session", "characteristics")


def is_mode(statement: Statement) -> bool:
    """Whether a statement sets the modes of the transaction that it is the first statement of."""
    words = statement.words
    is_transaction = words[:2] == ("set", "transaction") and "snapshot" not in words
    return is_transaction or (words[:3] == _SESSION and not _is_read_only(statement))


def _is_read_only(statement: Statement) -> bool:
    """Whether it makes the later transactions of the session read-only; records can still be
    written.
    """
    return statement.words[:3] == _SESSION and _has(statement, "read", "only")


def is_run(mode: Statement) -> bool:
    """Whether a statement of `is_mode` is also run: it applies to later transactions, too."""
    return mode.words[:3] == _SESSION


def modes_of(statement: Statement) -> str:
    """Return the modes that a SET TRANSACTION names, as written.

    >>> modes_of(next(splitter.split("set transaction isolation level serializable;")))
    'isolation level serializable'
    """
    tokens = list(splitter.tokens(statement.text.removesuffix(";")))
    after = [token.lower() for token in tokens].index("transaction") + 1
    return " ".join(tokens[after:]).replace(" ,", ",")


def begin_text(unit: Unit) -> str | None:
    """Return the BEGIN of a unit, with the modes that the file sets after it; None for ours."""
    if not unit.modes:
        return unit.begin.text if unit.begin else None
    begin = splitter.tokens(unit.begin.text.removesuffix(";")) if unit.begin else ["begin"]
    return " ".join([*begin, *map(modes_of, unit.modes)])


def ineffective_alone(statement: Statement) -> tuple[str, str] | None:
    """Return what has no effect outside a transaction, and what to do; None if it has one.

    PostgreSQL accepts it with a warning at most, because the statement is a transaction.
    """
    words = statement.words
    match words:
        case ("set", "local", *_):
            return "SET LOCAL", f"write SET without LOCAL, or {_IN_BLOCK}"
        case ("set", "transaction", *_):
            return "SET TRANSACTION", f"begin a transaction with it: {_begin(statement)}"
        case ("set", "constraints", *_):
            return "SET CONSTRAINTS", _IN_BLOCK
        case ("lock", *_):
            return "LOCK TABLE", _IN_BLOCK
        case ("declare", *_) if "cursor" in words and "hold" not in _lower(statement):
            return "DECLARE CURSOR", f"write WITH HOLD, or {_IN_BLOCK}"
        case ("select", *names) if any("advisory_xact_lock" in name for name in names):
            return "an advisory lock of the transaction", _IN_BLOCK
        case ("select", *names) if "set_config" in names and _has(statement, "true", ")"):
            return "set_config with is_local", f"write false for true, or {_IN_BLOCK}"
        case ("create", "temp" | "temporary" | "local" | "global", *_) if _has(
            statement, "on", "commit", "drop"
        ):
            return "a temporary table ON COMMIT DROP", f"write it without that, or {_IN_BLOCK}"
    return None


def ineffective_late(statement: Statement) -> tuple[str, str] | None:
    """Return what is refused after the first statement of a transaction, and what to do."""
    if _is_read_only(statement):
        return None
    match statement.words:
        case ("set", "transaction", "snapshot", *_):
            return "SET TRANSACTION SNAPSHOT is not supported", "remove it"
        case ("set", "transaction", *_) | ("set", "session", "characteristics", *_):
            what = " ".join(statement.words[: 3 if is_run(statement) else 2]).upper()
            message = f"{what} is too late: the transaction has already begun"
            return message, f"make it the first statement, or use: {_begin(statement)}"
    return None


def wrong_encoding(statement: Statement) -> bool:
    """Whether a statement sets another client encoding than that of the files."""
    words = statement.words
    if words[:1] == ("set",) and not {"client_encoding", "names"}.isdisjoint(words[1:3]):
        name = "client_encoding" if "client_encoding" in words else "names"
    elif words[:1] == ("select",) and "set_config" in words:
        name = "'client_encoding'"
    else:
        return False
    tokens = _lower(statement)
    value = tokens[tokens.index(name) + 1 :] if name in tokens else []
    value = value[1:] if value[:1] in (["to"], ["="], [","]) else value
    return re.sub(r"[^a-z0-9]", "", "".join(value[:1])) not in _UTF8


def _begin(statement: Statement) -> str:
    return f"BEGIN {modes_of(statement)}; … COMMIT;"


def _has(statement: Statement, *words: str) -> bool:
    tokens = _lower(statement)
    if len(words) == 2:
        return words in pairwise(tokens)
    return any(tuple(tokens[at : at + 3]) == words for at in range(len(tokens)))


def _lower(statement: Statement) -> list[str]:
    return [token.lower() for token in splitter.tokens(statement.text)]
