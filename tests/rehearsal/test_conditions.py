"""What a rehearsal says of conditions: asked of the target, or proven without its rows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Database, Migrate, Write

REQUIRE = "-- migrator: require"
ENSURE = "-- migrator: ensure"


def rehearsed(migrate: Migrate, *options: str) -> tuple[int, list[list[tuple[Any, ...]]], Any]:
    """Return the exit code, the conditions of each migration, and the report."""
    result = migrate("rehearse", *options, "--json")
    keys = ("kind", "direction", "line", "met", "gave")
    conditions = [
        [tuple(each[key] for key in keys) for each in migration["conditions"]]
        for migration in result.json["migrations"]
    ]
    return result.exit_code, conditions, result.json


@pytest.fixture
def users(database: Database, migrate: Migrate, write: Write) -> Migrate:
    """The program where a migration made a table, and an application its rows."""
    write(
        {"01_a.up.sql": f"{REQUIRE} select true\n{ENSURE} select true\ncreate table users (n int);"}
    )
    assert migrate("up").exit_code == 0
    database.execute("insert into users values (1), (2)")
    return migrate


def test_what_the_next_migration_requires_is_asked_of_the_target(
    users: Migrate, write: Write
) -> None:
    write({"02_b.up.sql": f"{REQUIRE} select count(*) = 2 from users\ncreate table b ();"})
    code, conditions, _ = rehearsed(users)
    assert (code, conditions) == (0, [[("require", "up", 1, "yes", None)]])
    write({"02_b.up.sql": f"{REQUIRE} select count(*) = 3 from users\ncreate table b ();"})
    code, conditions, _ = rehearsed(users)
    assert (code, conditions) == (4, [[("require", "up", 1, "no", "false")]])
    shown = users("rehearse").stdout
    assert "  require line 1: NOT MET (returned false on the database)" in shown
    assert users.database.rows("select to_regclass('b')") == [(None,)]


def test_what_a_later_migration_requires_may_still_become_true(
    users: Migrate, write: Write
) -> None:
    write(
        {
            "02_b.up.sql": "create table b ();",
            "03_c.up.sql": f"{REQUIRE} select count(*) = 0 from b\n{REQUIRE} select false",
        }
    )
    code, conditions, report = rehearsed(users)
    assert code == 0
    unknown = ("require", "up", 1, "unknown", None)
    assert conditions == [[], [unknown, ("require", "up", 2, "unknown", "false")]]
    assert report["migrations"][1]["conditions"][0]["reason"] == 'relation "b" does not exist'


def test_a_requirement_whose_query_fails_on_the_target_is_not_met(
    users: Migrate, write: Write
) -> None:
    write({"02_b.up.sql": f"{REQUIRE} select nothing from users\n"})
    code, conditions, report = rehearsed(users)
    assert (code, conditions) == (4, [[("require", "up", 1, "no", None)]])
    (condition,) = report["migrations"][0]["conditions"]
    assert condition["reason"] == 'column "nothing" does not exist'


def test_a_requirement_is_asked_of_the_target_without_writing(users: Migrate, write: Write) -> None:
    write(
        {
            "02_f.up.sql": "create function f() returns boolean language sql as "
            "'insert into users values (3) returning true'"
        }
    )
    assert users("up").exit_code == 0
    write({"03_b.up.sql": f"{REQUIRE} select f()\n"})
    code, conditions, _ = rehearsed(users)
    assert (code, conditions) == (0, [[("require", "up", 1, "unknown", None)]])
    assert users.database.rows("select count(*) from users") == [(2,)]


def test_what_a_migration_ensures_is_proven_on_the_scratch_database(
    users: Migrate, write: Write
) -> None:
    write(
        {
            "02_b.up.sql": f"create table b as select 1 as n;\n{ENSURE} select n = 1 from b",
            "02_b.down.sql": f"drop table b;\n{ENSURE} select to_regclass('b') is null",
        }
    )
    code, conditions, report = rehearsed(users)
    assert code == 0, report
    up, down = ("ensure", "up", 2, "yes", "true"), ("ensure", "down", 2, "yes", "true")
    assert [[(*each[:4], "true") for each in found] for found in conditions] == [[up, down]]


@pytest.mark.parametrize(
    "query", ["select n = 2 from b", "select to_regclass('b') is null", "select false"]
)
def test_an_ensure_that_cannot_become_true_by_rows_of_the_target_is_an_error(
    users: Migrate, write: Write, query: str
) -> None:
    write(
        {
            "02_b.up.sql": f"create table b as select 1 as n;\n{ENSURE} {query}",
            "03_c.up.sql": "create table c ();",
        }
    )
    code, conditions, report = rehearsed(users)
    assert (code, conditions) == (4, [[("ensure", "up", 2, "no", "false")]])
    error = report["migrations"][0]["error"]
    assert (error["code"], error["line"], error["gave"]) == ("requirement", 2, "false")
    assert report["not_rehearsed"] == ["03_c"]
    assert users.database.rows("select count(*) from migration_log where outcome = 'failed'") == [
        (0,)
    ]


def test_an_ensure_that_reads_a_table_without_rows_is_not_known(
    users: Migrate, write: Write
) -> None:
    write({"02_b.up.sql": f"create table b ();\n{ENSURE} select count(*) = 2 from users"})
    code, conditions, report = rehearsed(users)
    assert (code, conditions) == (0, [[("ensure", "up", 2, "unknown", "false")]])
    reason = report["migrations"][0]["conditions"][0]["reason"]
    assert reason == "public.users has no rows there"
    assert users("up").exit_code == 0


def test_a_down_that_does_not_ensure_what_it_should_is_a_finding(
    users: Migrate, write: Write
) -> None:
    write(
        {
            "02_b.up.sql": "create table b ();",
            "02_b.down.sql": f"drop table b;\n{ENSURE} select to_regclass('b') is not null",
            "03_c.up.sql": "create table c ();",
        }
    )
    code, conditions, report = rehearsed(users)
    assert (code, conditions) == (4, [[("ensure", "down", 2, "no", "false")], []])
    assert report["migrations"][0]["down"]["error"]["code"] == "requirement"
    assert report["migrations"][1]["error"] is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"{REQUIRE} select count(*) = 2 from users\ncreate table b ();", 0),
        (f"{REQUIRE} select count(*) = 0 from users\ncreate table b ();", 4),
        (f"create table b ();\n{ENSURE} select count(*) = 2 from users", 0),
        (f"create table b ();\n{ENSURE} select count(*) = 0 from users", 4),
    ],
)
def test_on_the_target_both_are_asked(users: Migrate, write: Write, text: str, code: int) -> None:
    write({"02_b.up.sql": text})
    result = users("rehearse", "--on-target", "--json")
    assert result.exit_code == code, result.stdout
    error = result.json["migrations"][0]["error"]
    assert (error or {}).get("code") == ("requirement" if code else None)
    assert users.database.rows("select to_regclass('b')") == [(None,)]
