"""Split a text that is made up on the spot, and print how many seconds that took.

python -m tests.benchmarks.splitting KIND BYTES
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, repeat

from migrator.sql import splitter

from . import corpus


def unclosed_tags() -> Iterator[str]:
    """Give dollar quotes, each with another tag, of which none is closed; without end."""
    return (f"$a{number}$ " for number in count())


_HOSTILE_PIECES = {
    "open parentheses": "(",
    "parentheses, each open after a closed one": "((1)(",
    "quotes": "'",
    "backslashes": "\\",
    "semicolons": ";",
    "hyphens": "-",
    "dollar signs": "$",
    "tags without an end": "$a",
    "one name with dollar signs": "a$",
    "E literals, the last one open": "e'",
    "literals with a continuation": "select e'a' -- x\n 'b' ",
    "open comments": "/*",
    "nested comments": "/*/**/*/",
    "comments 100,000 levels deep": "/*" * 100_000 + "*/" * 100_000,
    "COPY statements with little data": "copy t from stdin;\n$a$b$c$\n\\.\n",
    "COPY statements on one line": "copy t from stdin;",
    "routine bodies": "create function f() begin atomic ",
}
SQL: dict[str, Callable[[], Iterator[str]]] = {
    "INSERT statements": corpus.inserts,
    "one INSERT": corpus.one_insert,
    "DDL": corpus.definitions,
}
HOSTILE: dict[str, Callable[[], Iterator[str]]] = {
    **{kind: partial(repeat, piece) for kind, piece in _HOSTILE_PIECES.items()},
    "unclosed tags": unclosed_tags,
}
"""Texts whose reading would take the square of their length if a rule were careless."""

KINDS = SQL | HOSTILE


def text(kind: str, size: int) -> str:
    """Make a text of so many characters, and the rest of its last piece."""
    return "".join(_until(KINDS[kind](), size))


def _until(pieces: Iterator[str], size: int) -> Iterator[str]:
    written = 0
    for piece in pieces:
        yield piece
        written += len(piece)
        if written >= size:
            return


if __name__ == "__main__":
    source = text(sys.argv[1], int(sys.argv[2]))
    started = time.perf_counter()
    for _ in splitter.split(source):
        pass
    print(time.perf_counter() - started)
