"""Repeatable files in a rehearsal, in a saved plan, and in what a history makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ..conftest import Database, Migrate, Write

TABLE = {
    "01_t.up.sql": "create table t (id int primary key, name text);",
    "01_t.down.sql": "drop table t;",
}
VIEW = "create or replace view v as select id, name from t;\n"
WIDER = "create or replace view v as select id, name, upper(name) as loud from t;\n"


def rehearsed(migrate: Migrate, *arguments: str) -> dict[str, Any]:
    """Rehearse, and return the report of each file by its name."""
    report = migrate("rehearse", "--json", *arguments).json
    return {each["version"]: each for each in report["migrations"]}


def test_a_new_file_is_traced_and_applied_a_second_time(migrate: Migrate, write: Write) -> None:
    write({"R__v.sql": VIEW, "R__w.sql": "create view w as select 1 as x;", **TABLE})
    found = rehearsed(migrate)
    assert list(found) == ["01_t", "R__v", "R__w"]
    assert "public.v" in str(found["R__v"]["statements"][0]["trace"])
    assert found["R__v"]["down"]["undoes"]
    assert found["R__w"]["down"]["error"]["message"] == 'relation "w" already exists'
    (finding,) = found["R__w"]["findings"]
    assert finding["message"].startswith("it cannot be applied a second time: ")


def test_the_earlier_text_is_applied_again(migrate: Migrate, write: Write) -> None:
    write({"R__v.sql": VIEW, **TABLE})
    assert migrate("up").exit_code == 0
    write({"R__v.sql": WIDER})
    result = migrate("rehearse")
    assert result.exit_code == 4
    assert "the earlier text cannot be applied again: cannot drop columns from view" in (
        result.stdout
    )
    write({"R__v.sql": f"drop view if exists v;\n{WIDER}"})
    assert migrate("up").exit_code == 0
    write({"R__v.sql": f"drop view if exists v;\n{VIEW}"})
    found = rehearsed(migrate)["R__v"]["down"]
    assert (found["undoes"], found["error"]) == (True, None)


def test_a_file_that_needs_a_later_one_is_rehearsed_after_it(
    migrate: Migrate, write: Write
) -> None:
    write(
        {
            "R__a.sql": "create or replace view a as select * from b;",
            "R__b.sql": "create or replace view b as select 1 as x;",
        }
    )
    result = migrate("rehearse", "--json")
    assert result.exit_code == 0, result.stdout
    assert [each["version"] for each in result.json["migrations"]] == ["R__b", "R__a"]
    assert result.json["not_rehearsed"] == []


def test_a_saved_plan_has_the_repeatable_files(
    migrate: Migrate, write: Write, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.json"
    write({"R__v.sql": VIEW, **TABLE})
    assert migrate("rehearse", "--save", plan).exit_code == 0
    write({"R__v.sql": f"drop view if exists v;\n{WIDER}"})
    result = migrate("up", "--plan", plan)
    assert (result.exit_code, "the up file of R__v has been edited" in result.stderr) == (4, True)
    write({"R__v.sql": VIEW})
    assert migrate("up", "--to", "1").exit_code == 0
    assert migrate("up", "--plan", plan).exit_code == 0
    assert migrate("up", "--plan", plan).exit_code == 0
    write({"R__v.sql": f"drop view if exists v;\n{WIDER}"})
    assert migrate("rehearse", "--save", plan).exit_code in (0, 4)
    assert migrate("up", "--plan", plan).exit_code == 0


def test_drift_counts_what_repeatable_files_made(migrate: Migrate, write: Write) -> None:
    write(
        {
            "R__a.sql": "create or replace view a as select * from v;",
            "R__v.sql": VIEW,
            **TABLE,
        }
    )
    assert migrate("up").exit_code == 0
    assert migrate("drift").exit_code == 0
    migrate.database.execute("drop view a")
    result = migrate("drift")
    assert result.exit_code == 4
    assert "- view public.a" in result.stdout


def test_a_baseline_leaves_repeatable_files_to_the_next_up(migrate: Migrate, write: Write) -> None:
    write({"R__v.sql": VIEW, **TABLE})
    migrate.database.execute(TABLE["01_t.up.sql"])
    result = migrate("baseline", "01", "--yes")
    assert result.exit_code == 0, result.stderr
    result = migrate("up", "--json")
    assert [step["version"] for step in result.json["steps"]] == ["R__v"]


@pytest.mark.parametrize("is_older", [False, True])
def test_a_copy_is_brought_up_to_the_text_of_the_database(
    migrate: Migrate, write: Write, second_database: Database, is_older: bool
) -> None:
    write({"R__v.sql": VIEW, **TABLE})
    assert migrate("up").exit_code == 0
    assert migrate("up", database=second_database.url).exit_code == 0
    if is_older:
        write({"R__v.sql": WIDER})
        assert migrate("up").exit_code == 0
    write({"R__w.sql": "create or replace view w as select * from v;"})
    result = migrate("rehearse", "--on-copy", second_database.url, "--json")
    assert [each["version"] for each in result.json["migrations"]] == ["R__w"]
    assert result.exit_code == 0, result.stdout
    columns = "select count(*) from pg_attribute where attrelid = 'w'::regclass"
    assert second_database.rows(columns) == [(3 if is_older else 2,)]


def test_the_next_file_can_be_run_on_the_database_itself(migrate: Migrate, write: Write) -> None:
    write({"R__v.sql": VIEW, **TABLE})
    assert migrate("up").exit_code == 0
    write({"R__v.sql": WIDER})
    result = migrate("rehearse", "--on-target", "--json")
    assert [each["version"] for each in result.json["migrations"]] == ["R__v"]
    assert result.exit_code == 0, result.stdout
