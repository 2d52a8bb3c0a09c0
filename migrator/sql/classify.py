"""Classify a statement by its tokens: what kind it is, and which relations it may name."""

from __future__ import annotations

from itertools import dropwhile, islice

from . import names, splitter
from .script import Statement

TRANSACTION_CONTROL = frozenset(
    ["abort", "begin", "commit", "end", "release", "rollback", "savepoint", "start"]
)
"""First words of the commands that begin, end or divide a transaction."""

_REINDEX_ALL = (("reindex", "schema"), ("reindex", "system"), ("reindex", "database"))
NON_TRANSACTIONAL = (
    ("create", "database"),
    ("drop", "database"),
    ("create", "tablespace"),
    ("drop", "tablespace"),
    ("alter", "system"),
    ("vacuum",),
    ("create", "index", "concurrently"),
    ("create", "unique", "index", "concurrently"),
    ("drop", "index", "concurrently"),
    *_REINDEX_ALL,
    ("commit", "prepared"),
    ("rollback", "prepared"),
    ("discard", "all"),
)
"""First words of the commands that call PreventInTransactionBlock() (PostgreSQL 13 to 18)."""

# Most statements of a long file: none of them is refused in a transaction.
_DML = frozenset([("insert",), ("update",), ("delete",), ("select",)])
_HEAD = 32  # tokens

_BEFORE_INDEX_NAME = ("concurrently", "if", "not", "exists")


def non_transactional(statement: Statement) -> str | None:
    """Return the command's name if PostgreSQL never runs it in a transaction; else None."""
    words = statement.words
    if words[:1] in _DML:
        return None
    for command in NON_TRANSACTIONAL:
        if words[: len(command)] == command:
            return " ".join(command).upper()
    match words:
        case ("alter", "database", *rest) if "tablespace" in rest:
            return "ALTER DATABASE SET TABLESPACE"
        case ("cluster",) | ("cluster", "verbose"):
            return "CLUSTER of all tables"
        case ("reindex", *_) if "concurrently" in map(str.lower, _head(statement)):
            return "REINDEX CONCURRENTLY"
        case ("alter", "table", *rest) if "detach" in rest and _last(statement) == "concurrently":
            return "DETACH PARTITION CONCURRENTLY"
    return None


def controls_transaction(statement: Statement) -> bool:
    """Whether a statement begins, ends or divides a transaction; a prepared one excepted."""
    words = statement.words
    if words[:1] == ("prepare",):
        return words[1:2] == ("transaction",)
    return not TRANSACTION_CONTROL.isdisjoint(words[:1]) and words[1:2] != ("prepared",)


def begins_transaction(statement: Statement) -> bool:
    """Whether a statement is `BEGIN` or `START TRANSACTION`."""
    return statement.words[:1] in (("begin",), ("start",))


def commits_transaction(statement: Statement) -> bool:
    """Whether a statement is `COMMIT` or `END`, and begins no other transaction."""
    words = statement.words
    return words[:1] in (("commit",), ("end",)) and not {"prepared", "chain"} & set(words)


def is_concurrent(statement: Statement) -> bool:
    """Whether a statement says CONCURRENTLY, and so blocks neither reads nor writes."""
    return "concurrently" in map(str.lower, _head(statement)) or _last(statement) == "concurrently"


def concurrent_work(statement: Statement) -> str:
    """Say what CONCURRENTLY makes of a statement; empty if it does not say so.

    >>> concurrent_work(next(splitter.split("drop index concurrently i")))
    'waits for older transactions'
    """
    if not is_concurrent(statement):
        return ""
    builds = statement.words[:1] in (("create",), ("reindex",))
    return "scans the table twice and " * builds + "waits for older transactions"


def sets_session(statement: Statement) -> bool:
    """Whether a statement only changes settings, and so may run again."""
    words = statement.words
    is_call = "set_config" in words and set(words) <= {"select", "pg_catalog", "set_config"}
    return words[:1] in (("set",), ("reset",)) or is_call


def is_recoverable(statement: Statement) -> bool:
    """Whether the catalog shows how far an interrupted statement came."""
    words = statement.words
    is_index = words[:1] in (("create",), ("drop",)) and "index" in words[1:3]
    return is_index or words[:1] == ("reindex",) or "detach" in words


def relation_names(statement: Statement) -> tuple[str, ...] | None:
    """Return the words of a recoverable statement that may name a relation, as SQL.

    Only the server knows which of them do.  From the first parenthesis of a CREATE INDEX on
    there are only columns and conditions.

    Returns:
        None if the statement concerns a schema or the database.
    """
    tokens = list(splitter.tokens(statement.text))
    if statement.words[:1] == ("create",):
        tokens = tokens[: tokens.index("(")] if "(" in tokens else tokens
    elif statement.words[:2] in _REINDEX_ALL:
        return None
    # Before the schema there can only be the name of the database itself.
    return tuple(dict.fromkeys(names.quoted(name[-2:]) for name in names.names(tokens)))


def index_name(statement: Statement) -> str | None:
    """Return the name that a CREATE INDEX gives, as the catalog has it; None without one.

    >>> index_name(next(splitter.split('create index concurrently if not exists "A b" on t (x);')))
    'A b'
    """
    tokens = _from_index_name(statement)
    if not tokens or tokens[0].lower() == "on":
        return None
    return names.read(tokens)[0][-1]


def index_if_not_exists(statement: Statement) -> tuple[str, str] | None:
    """Return the index and the table, as SQL, of a CREATE INDEX IF NOT EXISTS; else None.

    >>> index_if_not_exists(next(splitter.split("create index if not exists i on only s.t (x);")))
    ('i', 's.t')
    """
    name = index_name(statement) if "exists" in statement.words else None
    if not name:
        return None
    tokens = _from_index_name(statement)
    _, end = names.read(tokens)
    after = [token for token in tokens[end + 1 :] if token.lower() != "only"]
    return name, names.quoted(names.read(after)[0][-2:])


def _from_index_name(statement: Statement) -> list[str]:
    """Return the first tokens of a CREATE INDEX from its name on; none of other statements."""
    if statement.words[:1] != ("create",) or "index" not in statement.words[1:3]:
        return []
    tokens = _head(statement)
    start = [token.lower() for token in tokens].index("index") + 1
    return list(dropwhile(lambda token: token.lower() in _BEFORE_INDEX_NAME, tokens[start:]))


def _head(statement: Statement) -> list[str]:
    return list(islice(splitter.tokens(statement.text), _HEAD))


def _last(statement: Statement) -> str:
    *_, last = "", *splitter.tokens(statement.text.removesuffix(";"))
    return last.lower()
