"""Split a text that is made up on the spot, and print how many seconds that took.

python -m tests.benchmarks.splitting KIND BYTES
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from migrator.sql import splitter

from . import corpus

KINDS = {
    "INSERT statements": corpus.inserts,
    "one INSERT": corpus.one_insert,
    "DDL": corpus.definitions,
}


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
