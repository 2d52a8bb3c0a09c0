"""What a script requires and ensures: asked in its transaction, and nothing stays without it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Database, Migrate, Write
from tests.proxy import Proxy, counting
from tests.sessions import Runs, applied, history, holding

REQUIRE = "-- migrator: require"
ENSURE = "-- migrator: ensure"


@pytest.fixture
def runs(database: Database, directory: Path, tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(database, directory, tmp_path)
    yield runs
    runs.end()


def tables(database: Database) -> list[str]:
    query = "select relname from pg_class where relkind = 'r' and relname in ('a', 'b', 'c', 'd')"
    return sorted(name for (name,) in database.rows(query))


TRUE = [
    "select true",
    "SELECT count(*) = 0 FROM pg_class WHERE relname = 'nothing';",
    "values (true)",
    "(select true)",
    "with one as (select 1 as n) select n = 1 from one",
    "table truth",
    "select true order by 1 limit 1 -- and why",
    "select exists (select)",
    "select * from truth for update",
    "select ok from truth as migrator_asks (ok)",
    "select true as migrator_asks",
]


@pytest.mark.parametrize("option", ["require", "ensure"])
@pytest.mark.parametrize("query", TRUE)
def test_a_condition_is_met_by_one_row_with_one_true_boolean(
    database: Database, migrate: Migrate, write: Write, option: str, query: str
) -> None:
    database.execute("create table truth (yes boolean); insert into truth values (true)")
    write({"01_a.up.sql": f"-- migrator: {option} {query}\n\ncreate table a ();"})
    result = migrate("up")
    assert (result.exit_code, tables(database)) == (0, ["a"]), result.stderr


GAVE = [
    ("select false", "false"),
    ("select null::boolean", "null"),
    ("select null", "null"),
    ("select true where false", "no row"),
    ("select true from generate_series(1, 2)", "more than one row"),
    ("values (true), (true)", "more than one row"),
    ("select true, true as also", "2 columns: (t,t)"),
    ("select 1", "1 (integer)"),
    ("select 'true'", '"true" (text)'),
    ("select 'true'::json", "true (json)"),
    ("select row(true)", "(t) (record)"),
    ("select repeat('x', 5000)", f'"{"x" * 200}…" (text)'),
    ("select from pg_class limit 1", "no column"),
]


@pytest.mark.parametrize("option", ["require", "ensure"])
@pytest.mark.parametrize(("query", "gave"), GAVE)
def test_anything_else_is_an_error_with_the_place_the_query_and_what_it_gave(
    database: Database, migrate: Migrate, write: Write, option: str, query: str, gave: str
) -> None:
    write({"01_a.up.sql": f"-- why\n-- migrator: {option} {query}\ncreate table a ();"})
    result = migrate("up", "--json")
    assert (result.exit_code, tables(database), history(database)) == (4, [], [])
    error = result.json["error"]
    assert (error["code"], error["query"], error["gave"]) == ("requirement", query, gave)
    assert (error["line"], error["column"]) == (2, len(f"-- migrator: {option} ") + 1)
    assert (
        error["message"] == f"01_a {option}s that this query returns true, but it returned {gave}"
    )
    assert error["outcome"].startswith("01_a was rolled back completely.")


FAILING = [
    ("select nothing", "42703", (1, 29), 'column "nothing" does not exist'),
    ("select 1 +", "42601", (1, 31), "syntax error"),
    ("select 1 / 0 = 1", "22012", (1, 22), "division by zero"),
    ("select\n-- true\n-- from nowhere", "42P01", (3, 9), 'relation "nowhere" does not exist'),
    ("with x as (insert into t values (1) returning true) select true", "0A000", (1, 27), "WITH"),
    ("select true into a", "42601", (1, 39), "INTO"),
]


@pytest.mark.parametrize(("query", "sqlstate", "place", "message"), FAILING)
def test_a_query_that_fails_is_an_error_with_its_place(
    database: Database,
    migrate: Migrate,
    write: Write,
    query: str,
    sqlstate: str,
    place: tuple[int, int],
    message: str,
) -> None:
    database.execute("create table t (n int)")
    write({"01_a.up.sql": f"{REQUIRE} {query}\n\ncreate table a ();"})
    result = migrate("up", "--json")
    assert (result.exit_code, tables(database)) == (1, [])
    error = result.json["error"]
    assert (error["code"], error["sqlstate"]) == ("statement", sqlstate)
    assert message in error["message"]
    assert (error["line"], error["column"]) == place


def test_a_continued_comment_continues_the_query(
    database: Database, migrate: Migrate, write: Write
) -> None:
    query = f"{REQUIRE} select count(*)\r\n  --   = 2\r\n--  from t;\r\n-- why\r\n"
    database.execute("create table t (n int); insert into t values (1), (1)")
    write({"01_a.up.sql": f"{query}create table a ();", "02_b.up.sql": f"{query}"})
    assert migrate("up").exit_code == 0


def test_what_the_file_changes_is_seen_by_ensure_and_not_by_require(
    database: Database, migrate: Migrate, write: Write
) -> None:
    is_made = "select to_regclass('a') is not null"
    write(
        {
            "01_a.up.sql": f"{REQUIRE} select to_regclass('a') is null\n{ENSURE} {is_made}\n"
            "create table a ();",
            "01_a.down.sql": f"{REQUIRE} {is_made}\ndrop table a;\n"
            f"{ENSURE} select to_regclass('a') is null\n",
        }
    )
    assert migrate("up").exit_code == 0
    assert migrate("down", "--yes").exit_code == 0
    assert history(database) == []


def test_a_down_whose_condition_is_not_met_changes_nothing(
    database: Database, migrate: Migrate, write: Write
) -> None:
    write(
        {
            "01_a.up.sql": "create table a ();",
            "01_a.down.sql": f"{REQUIRE} select current_date < '2001-01-01'\ndrop table a;",
        }
    )
    assert migrate("up").exit_code == 0
    result = migrate("down", "--yes")
    assert (result.exit_code, tables(database), applied(database)) == (4, ["a"], ["01_a"])
    assert "The down script was rolled back; 01_a is still applied." in result.stderr
    assert "change the data so that it does, then run: migrator down" in result.stderr


def test_a_deferred_constraint_has_spoken_before_ensure_is_asked(
    database: Database, migrate: Migrate, write: Write
) -> None:
    database.execute(
        "create table t (n int);"
        "create function f() returns trigger language plpgsql as "
        "'begin update t set n = 2; return null; end';"
        "create constraint trigger g after insert on t deferrable initially deferred "
        "for each row execute function f()"
    )
    write({"01_a.up.sql": f"insert into t values (1);\n{ENSURE} select n = 2 from t"})
    assert migrate("up").exit_code == 0


@pytest.mark.parametrize("option", ["require", "ensure"])
def test_a_run_of_many_files_stops_exactly_at_the_condition(
    database: Database, migrate: Migrate, write: Write, option: str
) -> None:
    names = [f"{number:02}_x" for number in range(1, 61)]
    write({f"{name}.up.sql": f"create table t{name} ();" for name in names})
    write({"30_x.up.sql": f"-- migrator: {option} select 1 = 2\ncreate table t30_x ();"})
    assert migrate("up").exit_code == 4
    assert applied(database) == names[:29]
    assert database.rows("select count(*) from pg_class where relname ~ '^t[0-9]+_x'") == [(29,)]
    failed = database.rows(
        "select version, outcome, message from migration_log where outcome = 'failed'"
    )
    assert failed == [
        ("30_x", "failed", f"30_x {option}s that this query returns true, but it returned false")
    ]


def test_a_condition_is_asked_as_the_role_and_under_the_settings_of_the_script(
    database: Database, migrate: Migrate, write: Write
) -> None:
    database.execute("create role asker; create schema own; create table own.truth (yes boolean)")
    database.execute("grant usage on schema own to asker; grant all on own.truth to asker")
    try:
        write(
            {
                "01_a.up.sql": f"-- migrator: role asker\n"
                f"{REQUIRE} select current_user = 'asker'\n"
                f"{ENSURE} select yes and current_user = 'asker' from truth\n"
                "set search_path = own;\ninsert into truth values (true);"
            }
        )
        result = migrate("up")
        assert result.exit_code == 0, result.stderr
    finally:
        database.execute("drop owned by asker; drop role asker")


def test_functions_of_the_same_name_do_not_answer_in_the_place_of_postgresqls(
    database: Database, migrate: Migrate, write: Write
) -> None:
    """The script's search path finds its own count, max, pg_typeof, = and set_config first."""
    write(
        {
            "01_a.up.sql": f"{ENSURE} select false\n"
            "create schema own;\n"
            "create function own.current_setting(text) returns text language sql as "
            "$$ select 'true' $$;\n"
            'create function own.pg_typeof("any") returns regtype language internal '
            "as 'pg_typeof';\n"
            "create function own.same(text, text) returns boolean language sql as "
            "$$ select true $$;\n"
            "create operator own.= (leftarg = text, rightarg = text, function = own.same);\n"
            "set search_path = own, pg_catalog;"
        }
    )
    assert migrate("up").exit_code == 4
    assert history(database) == []


def test_a_condition_that_waits_for_a_lock_is_asked_again(
    database: Database, runs: Runs, write: Write
) -> None:
    database.execute("create table t ()")
    write({"01_a.up.sql": f"{REQUIRE} select count(*) = 0 from t\ncreate table a ();"})
    with holding(database, "lock table t"):
        run = runs("up", "--lock-timeout=100ms")
        run.says("retrying")
    assert run.result().exit_code == 0
    assert tables(database) == ["a"]


NO_TRANSACTION = "-- migrator: no-transaction\n"


def test_what_a_no_transaction_script_requires_is_asked_before_its_first_statement(
    database: Database, migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": f"{NO_TRANSACTION}{REQUIRE} select false\ncreate table a ();"})
    result = migrate("up")
    assert (result.exit_code, tables(database), history(database)) == (4, [], [])
    assert "No statement of 01_a was run." in result.stderr


def test_a_resumed_script_requires_again_before_the_first_statement_not_done(
    database: Database, migrate: Migrate, write: Write
) -> None:
    """What it has set for its session counts."""
    write(
        {
            "01_a.up.sql": f"{NO_TRANSACTION}{REQUIRE} "
            "select current_setting('x.y', true) is distinct from 'on'\n"
            "set x.y = 'on';\ncreate table a ();\ninsert into b default values;"
        }
    )
    assert migrate("up").exit_code == 1
    result = migrate("up")
    assert (result.exit_code, history(database)) == (4, [("01_a", 2, False, False)])
    assert "No further statement of 01_a was run." in result.stderr


def test_a_no_transaction_script_whose_end_is_not_ensured_stays_interrupted(
    database: Database, migrate: Migrate, write: Write
) -> None:
    write(
        {
            "01_a.up.sql": f"{NO_TRANSACTION}{REQUIRE} select to_regclass('a') is null\n"
            "create table a (n int);\ncreate index concurrently on a (n);\n"
            f"{ENSURE} select count(*) = 1 from a",
            "01_a.down.sql": "drop table a;",
        }
    )
    result = migrate("up")
    assert (result.exit_code, tables(database)) == (4, ["a"])
    assert "All statements of 01_a are done and recorded, but it is not complete." in result.stderr
    assert "interrupted" in migrate("status").stdout
    database.execute("insert into a values (1)")
    assert migrate("up").exit_code == 0
    assert applied(database) == ["01_a"]


def test_a_no_transaction_down_asks_as_well(
    database: Database, migrate: Migrate, write: Write
) -> None:
    write(
        {
            "01_a.up.sql": "create table a ();",
            "01_a.down.sql": f"{NO_TRANSACTION}drop table if exists a;\n{ENSURE} select false",
        }
    )
    assert migrate("up").exit_code == 0
    result = migrate("down", "--yes")
    assert (result.exit_code, tables(database)) == (4, [])
    assert "All statements of the down script of 01_a are done and recorded" in result.stderr


@pytest.fixture
def proxy(database: Database) -> Iterator[Proxy]:
    with counting(database.url) as proxy:
        yield proxy


def test_conditions_cost_no_round_trip(migrate: Migrate, write: Write, proxy: Proxy) -> None:
    asked = f"{REQUIRE} select true\n{ENSURE} select true\n"
    counts = []
    for number, options in enumerate(("", asked)):
        plain = {f"{number}{each}_x.up.sql": f"{options}select 1;" for each in range(1, 9)}
        write(plain)
        proxy.round_trips.clear()
        assert migrate("up", database=proxy.url).exit_code == 0
        counts.append(proxy.round_trips[0])
    assert counts[1] <= counts[0]
