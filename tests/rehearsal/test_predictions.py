"""What a rehearsal says of made-up rows is what happens, in pieces of real histories.

Read in place; `python -m tests.rehearsal.predictions` walks through all of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Database
from tests.rehearsal.predictions import history, walk
from tests.test_corpora import CORPORA

pytestmark = [
    pytest.mark.corpora,
    pytest.mark.slow,
    pytest.mark.skipif(not CORPORA.is_dir(), reason=f"no migration histories in {CORPORA}"),
]

# The first and last migrations, of which a few break on rows, and how often.
PIECES = [
    ("chirpstack_as", 52, 58, 1),
]


@pytest.mark.parametrize(
    ("folder", "first", "last", "failures"), PIECES, ids=[folder for folder, *_ in PIECES]
)
def test_ups_fail_on_rows_where_the_rehearsal_says_so_and_nowhere_else(
    folder: str, first: int, last: int, failures: int, database: Database, tmp_path: Path
) -> None:
    tally = walk(history(folder), database, tmp_path / "copy").run(first, last)
    assert (tally.stopped, tally.missed, tally.false) == ("", [], [])
    assert tally.tried == last - first
    assert tally.failed == tally.found + len(tally.own) + len(tally.open_failed)
    assert tally.found == failures
