"""`rehearse` says what statements in batches would cost on the target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Migrate, Write
from .test_on_copy import copied

_GROUND = {
    "01_t.up.sql": "create table t (id bigint primary key, v int, w int, kind text);\n"
    "insert into t select n, n, n, 'x' from generate_series(1, {rows}) n;\n"
    "create index t_v on t (v);\n"
    "create table s (id bigint primary key, v int);\n"
    "create function locks(int) returns int language plpgsql as $$\n"
    "begin lock table s in share mode; return $1; end $$;\n",
}
_FILL = "-- migrator: backfill t\nupdate t set w = -w where w > 0 /* batch */"


def _prepared(migrate: Migrate, write: Write, statement: str, rows: int = 60_000) -> None:
    write({name: text.replace("{rows}", str(rows)) for name, text in _GROUND.items()})
    assert migrate("up").exit_code == 0
    migrate.database.execute("vacuum analyze t")
    write({"02_fill.up.sql": f"-- migrator: no-transaction\n{statement};\n"})


def _estimate(migrate: Migrate, *options: str) -> dict[str, Any]:
    document = json.loads(migrate("rehearse", "--json", "--small", "0", *options).stdout)
    (found,) = document["migrations"][0]["backfills"]
    assert isinstance(found, dict)
    return found


def test_all_rows_of_a_table_are_weighed_by_its_size(migrate: Migrate, write: Write) -> None:
    _prepared(migrate, write, _FILL)
    found = _estimate(migrate)
    assert (found["line"], found["table"], found["measured"]) == (3, "public.t", False)
    assert 59_000 <= found["rows"] <= 60_000
    assert found["batches"] > 5
    assert found["seconds"] > found["batches"] * 0.1 * 1.5  # a batch takes 0.1 s, and so its pause
    assert found["wal_bytes"] > 60_000 * 40
    assert (found["indexes"], found["locks"]) == ([], [])
    head = "-- migrator: no-transaction\n-- migrator: batch-time 1s\n"
    write({"02_fill.up.sql": f"{head}{_FILL};\n"})
    assert _estimate(migrate)["batches"] < found["batches"] / 3


def test_a_small_table_takes_one_batch(migrate: Migrate, write: Write) -> None:
    _prepared(migrate, write, _FILL, rows=100)
    assert _estimate(migrate)["batches"] == 1


def test_a_column_that_is_not_there_yet_is_filled_in_all_rows(
    migrate: Migrate, write: Write
) -> None:
    _prepared(
        migrate,
        write,
        "alter table t add column n int;\n"
        "-- migrator: backfill t\nupdate t set n = 1 where n is null /* batch */",
    )
    assert _estimate(migrate)["rows"] == 60_000


@pytest.mark.parametrize(
    ("statement", "indexes", "line"),
    [
        (
            "-- migrator: backfill t\nupdate t set w = 0 where v < 100 and w > 0 /* batch */",
            ["t_v"],
            "t_v serves its WHERE: to read only these rows, add: by COLUMN",
        ),
        (
            "-- migrator: backfill t\nupdate t set w = 0 where w < 100 and w > 0 /* batch */",
            [],
            "no index serves its WHERE: each pass reads the whole table",
        ),
        (
            "-- migrator: repeat\n"
            "delete from t where id in (select id from t where v < 900 limit 100)",
            ["t_pkey", "t_v"],
            "each batch finds its rows by t_pkey, t_v",
        ),
        (
            "-- migrator: repeat\n"
            "delete from t where id in (select id from t where w < 900 limit 100)",
            [],
            "no index serves its WHERE: each batch reads the whole table",
        ),
    ],
)
def test_it_says_whether_an_index_serves_the_where(
    migrate: Migrate, write: Write, statement: str, indexes: list[str], line: str
) -> None:
    _prepared(migrate, write, statement)
    assert sorted(_estimate(migrate)["indexes"]) == indexes
    assert line in migrate("rehearse").stdout


def test_a_batch_that_takes_more_than_row_locks_is_named(
    migrate: Migrate, write: Write, tmp_path: Path
) -> None:
    _prepared(
        migrate,
        write,
        "-- migrator: backfill t\nupdate t set w = locks(-1) where locks(w) > 0 /* batch */",
    )
    assert _estimate(migrate)["locks"] == [{"relation": "public.s", "mode": "SHARE"}]
    said = "each batch takes more than row locks: SHARE lock (blocks writes) on public.s"
    page = tmp_path / "page.html"
    for text in (migrate("rehearse", "--html", str(page)).stdout, page.read_text()):
        assert said in text
    assert said in migrate("rehearse", "--markdown").stdout


@pytest.mark.slow
def test_a_copy_with_rows_measures_it(migrate: Migrate, write: Write) -> None:
    _prepared(migrate, write, _FILL)
    with copied(migrate.database) as copy:
        result = migrate("rehearse", "--json", "--on-copy", copy.url)
    (found,) = json.loads(result.stdout)["migrations"][0]["backfills"]
    assert (found["measured"], found["rows"]) == (True, 60_000)
    assert found["batches"] >= 2
    assert found["wal_bytes"] > 60_000 * 40


@pytest.mark.parametrize("option", ["", "--markdown", "--json"])
def test_the_advice_for_a_large_update_is_the_statement_in_batches(
    migrate: Migrate, write: Write, option: str
) -> None:
    _prepared(migrate, write, "update t set w = -w where w > 0")
    said = migrate("rehearse", "--small", "0", *filter(None, [option])).stdout
    if option == "--json":
        (finding,) = json.loads(said)["migrations"][0]["findings"]
        said = finding["rewritten"]
    first, second = _FILL.splitlines()
    assert first in said
    assert f"{second};" in said


def test_a_table_without_statistics_has_no_wider_rows(migrate: Migrate, write: Write) -> None:
    write(
        {
            "01_p.up.sql": "create table p (id int, v int) partition by range (id);\n"
            "create table p1 partition of p for values from (0) to (70000);\n"
            "insert into p select n, n from generate_series(1, 60000) n;\n"
        }
    )
    assert migrate("up").exit_code == 0
    fill = "-- migrator: backfill p\nupdate p set v = -v where v > 0 /* batch */"
    write({"02_fill.up.sql": f"-- migrator: no-transaction\n{fill};\n"})
    assert _estimate(migrate)["wal_bytes"] < 100_000_000


def test_an_index_serves_by_its_predicate(migrate: Migrate, write: Write) -> None:
    fill = _FILL.replace("backfill t", "backfill t by id")
    _prepared(migrate, write, f"create index t_part on t (id) where w > 0;\n{fill}")
    assert _estimate(migrate)["indexes"] == ["t_part"]


def test_an_index_that_is_read_whole_for_a_join_does_not_serve(
    migrate: Migrate, write: Write
) -> None:
    join = "update t set w = -o.w from t o where o.id = t.id and t.w > 0 /* batch */"
    _prepared(migrate, write, f"-- migrator: backfill t\n{join}")
    assert "t_pkey" not in _estimate(migrate)["indexes"]
