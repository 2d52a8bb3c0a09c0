"""What a rehearsal says of rows and of queries is what happens, in pieces of real histories.

Rows and queries are made up.  `python -m tests.rehearsal.predictions` and `….broken_queries` walk
through whole histories.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Database
from tests.rehearsal import broken_queries
from tests.rehearsal.broken_queries import Count
from tests.rehearsal.predictions import history, walk
from tests.test_corpora import CORPORA

pytestmark = [
    pytest.mark.corpora,
    pytest.mark.slow,
    pytest.mark.skipif(not CORPORA.is_dir(), reason=f"no migration histories in {CORPORA}"),
]

# From, to, how many ups fail on rows as the rehearsal said, and how many queries break.
PIECES = {
    "authelia": (11, 14, 0, 3),
    "chirpstack_as": (31, 34, 1, 9),
    "harbor": (0, 3, 0, 0),
    "hatchet": (4, 7, 3, 0),
    "upgrade/triggerdev/A": (24, 28, 2, 27),
}


@pytest.mark.parametrize("folder", PIECES)
def test_ups_fail_on_rows_where_the_rehearsal_says_so_and_nowhere_else(
    folder: str, database: Database, tmp_path: Path
) -> None:
    first, last, failures, _ = PIECES[folder]
    tally = walk(history(folder), database, tmp_path / "copy").run(first, last)
    assert (tally.stopped, tally.missed, tally.false) == ("", [], [])
    assert (tally.tried, len(tally.found)) == (last - first, failures)
    assert tally.failed == len(tally.found) + len(tally.own) + len(tally.open_failed)


@pytest.mark.parametrize("folder", PIECES)
def test_queries_break_where_the_rehearsal_says_so_and_nowhere_else(
    folder: str, database: Database, tmp_path: Path
) -> None:
    first, last, _, broken = PIECES[folder]
    found, count = walk(history(folder), database, tmp_path / "copy"), Count()
    found.run(first, first)
    pending = found.versions[first:last]
    broken_queries.compare(found.program, pending, tmp_path / "queries.sql", len(pending), count)
    assert (count.stopped, count.missed, count.false) == ("", [], [])
    assert (count.migrations, count.found) == (last - first, broken)
