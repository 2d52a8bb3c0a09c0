"""With `--queries`, `rehearse --on-copy` compares the plans of queries on the rows of the copy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..conftest import Database, Migrate, Result, Write
from .prepared import fixtures
from .test_on_copy import copied

pytestmark = pytest.mark.slow

ROWS = """
create table people (id int primary key, name text, age int);
insert into people select n, 'name ' || n, n % 50 from generate_series(1, 60000) n;
create index by_name on people (name);
create index by_age on people (age);
create table few (id int primary key, name text);
insert into few select n, 'x' from generate_series(1, 100) n;
create index few_by_name on few (name);
create table tags (name text);
insert into tags select 'x' from generate_series(1, 100) n;
create table logs (id int, at date) partition by range (id);
create table logs_1 partition of logs for values from (0) to (100001);
insert into logs select n, '2020-01-01'::date + n % 1000 from generate_series(1, 100000) n;
create index by_day on logs (at);
"""
BY_NAME = "select id from people where name = $1"

Compare = Callable[..., Result]


START = {"01_rows.up.sql": ROWS}


start, database = fixtures(START)


@pytest.fixture
def copy(migrate: Migrate, write: Write) -> Iterator[Database]:
    write(START)
    with copied(migrate.database) as copy:
        yield copy


@pytest.fixture
def compare(migrate: Migrate, copy: Database, write: Write, tmp_path: Path) -> Compare:
    """Rehearse scripts on the copy, with queries."""

    def run(scripts: list[str], queries: str, *options: str) -> Result:
        file = tmp_path / "queries.sql"
        file.write_text(queries)
        write({f"{n:02}_b.up.sql": text for n, text in enumerate(scripts, 2)})
        result = migrate("rehearse", "--on-copy", copy.url, "--queries", file, *options)
        assert "Traceback" not in result.stderr
        return result

    return run


def found(result: Result) -> list[tuple[str, int | None, str, str]]:
    """Return the version, line, hazard and message of each finding about a query."""
    return [
        (migration["version"], each["line"], each["hazard"], each["message"])
        for migration in result.json["migrations"]
        for each in migration["findings"]
        if each["hazard"].startswith("query-")
    ]


def messages(result: Result) -> list[str]:
    return [message for *_, message in found(result)]


def test_queries_that_become_slower_are_found_with_the_index_and_the_costs(
    compare: Compare,
) -> None:
    scripts = [
        "select 1;\ndrop index by_name;\n",
        "insert into tags select 'y' from generate_series(1, 200000) n;\n",
        "alter table logs rename to old_logs;\n"
        "create view logs as select id, at + 0 as at from old_logs;\n",
    ]
    queries = f"{BY_NAME};\nselect count(*) from tags;\nselect id from logs where at = $1;\n"
    result = compare(scripts, queries, "--json")
    assert result.exit_code == 4
    cases = found(result)
    assert [case[:3] for case in cases] == [
        ("02_b", 2, "query-slower"),
        ("03_b", 1, "query-slower"),
        ("04_b", None, "query-slower"),
    ]
    assert re.fullmatch(
        r"the planner's cost grew from \d to 1,\d{3}, and the plan no longer uses the index "
        r"public\.by_name: select id from people where name = \$1 \(\S+:1:1\)",
        cases[0][3],
    )
    assert re.fullmatch(
        r"the planner's cost grew from \d to [\d,]+: select count\(\*\) from tags .*", cases[1][3]
    )
    assert "no longer uses the index public.logs_1_at_idx" in cases[2][3]


def test_what_does_not_make_a_query_slower_is_no_finding(compare: Compare) -> None:
    scripts = [
        "alter index by_name rename to people_by_name;",
        "create index again on people (name, age); drop index people_by_name;",
        "alter table people alter id type bigint;",
        "drop index few_by_name;",
        "alter table people add active bool not null default true;",
        "update people set age = age + 1; drop index by_age;",
        "alter table few rename to lesser; create view few as select * from lesser;",
    ]
    queries = (
        f"{BY_NAME}; select name from people where id = $1; select id from few where name = $1;"
        "select name from people where name > $1; select id from logs where at = $1;"
        "insert into people (id, name) values ($1, $2); delete from people where id = $1;"
    )
    result = compare(scripts, queries, "--json")
    assert found(result) == []
    assert result.json["queries"]["checked"] == 7


def test_a_query_that_a_later_migration_makes_fast_again_is_slow_between_the_two(
    compare: Compare,
) -> None:
    scripts = [
        "drop index by_name;",
        "-- migrator: no-transaction\ncreate index concurrently by_name on people (name);\n",
        "-- migrator: allow query-slower nobody waits for it\ndrop index by_name;",
        "alter table people drop name;",
    ]
    result = compare(scripts, BY_NAME, "--json")
    assert [(version, line, hazard) for version, line, hazard, _ in found(result)] == [
        ("02_b", 1, "query-slower"),
        ("04_b", 2, "query-slower"),
        ("05_b", 1, "query-broken"),
    ]
    assert messages(result)[0].endswith("queries.sql:1:1, repaired by 03_b)")
    assert messages(result)[1].endswith("queries.sql:1:1)")
    accepted = [f["accepted"] for m in result.json["migrations"] for f in m["findings"]]
    assert "nobody waits for it" in accepted


def test_a_copy_without_statistics_is_analyzed_before_it_is_asked(
    compare: Compare, copy: Database
) -> None:
    copy.execute("delete from pg_statistic")
    copy.execute("update pg_class set reltuples = -1 where relname = 'people'")
    query = "select id from people where age = $1"
    assert messages(compare(["create table t ();"], query, "--json")) == []
    assert copy.rows("select attname from pg_stats where tablename = 'people'")
    assert not copy.rows("select attname from pg_stats where tablename = 'tags'")


def test_a_rewritten_table_is_analyzed_before_the_plans_are_compared(
    compare: Compare, copy: Database
) -> None:
    script = "update people set age = id; create index on people (lower(name));"
    assert found(compare([script], "select id from people where age = $1", "--json")) == []
    assert copy.rows(
        "select n_distinct from pg_stats where tablename = 'people' and attname = 'age'"
    ) == [(-1.0,)]
    assert copy.rows("select 1 from pg_stats where tablename = 'people_lower_idx'")


def test_the_queries_come_from_a_configuration_file_too(
    migrate: Migrate, copy: Database, write: Write, tmp_path: Path
) -> None:
    queries, file = tmp_path / "q.sql", tmp_path / "migrator.toml"
    queries.write_text(BY_NAME)
    file.write_text(f'[rehearse]\nqueries = "{queries}"\n')
    write({"02_b.up.sql": "drop index by_name;"})
    result = migrate("--config", file, "rehearse", "--on-copy", copy.url, "--json")
    assert [hazard for *_, hazard, _ in found(result)] == ["query-slower"]
    on_target = migrate("--config", file, "rehearse", "--on-target")
    assert "no queries are checked on the database itself" in on_target.stderr
