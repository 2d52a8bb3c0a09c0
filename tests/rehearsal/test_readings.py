"""Whatever a migration does, what is read again is what changed, in pieces of real histories.

`python -m tests.rehearsal.readings` walks through whole histories.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Postgres
from tests.rehearsal.readings import history, regress, statements, walk
from tests.test_corpora import CORPORA

pytestmark = [
    pytest.mark.corpora,
    pytest.mark.slow,
    pytest.mark.skipif(not CORPORA.is_dir(), reason=f"no migration histories in {CORPORA}"),
]

# From, to, and how many scripts are run, a third of them down.
PIECES = {
    "authelia": (11, 14, 9),
    "chirpstack_as": (31, 34, 9),
    "cif": (10, 12, 6),
    "harbor": (0, 3, 3),
    "hatchet": (4, 7, 3),
    "upgrade/triggerdev/A": (24, 34, 10),
}


@pytest.mark.parametrize("folder", PIECES)
def test_what_is_read_after_a_migration_is_what_a_full_reading_finds(
    folder: str, postgres: Postgres, tmp_path: Path
) -> None:
    first, last, scripts = PIECES[folder]
    tally = walk(history(folder), postgres, tmp_path / "copy", first, last)
    assert (tally.wrong, tally.scripts) == ([], scripts)


@pytest.mark.parametrize("name", ["test_ddl_deparse__sql__alter_table", "regress__sql__truncate"])
def test_what_is_read_after_a_statement_is_what_a_full_reading_finds(
    name: str, postgres: Postgres
) -> None:
    (path,) = regress(name)
    assert statements(path, postgres).wrong == []
