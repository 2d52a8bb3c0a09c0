"""The questions about rows change nothing, wait for little, and show no more than they may."""

from __future__ import annotations

import json
from pathlib import Path, PurePath

import pytest

from migrator import config, session
from migrator.config import Settings
from migrator.model import Direction, SourceFile, Step
from migrator.rehearsal.data import data_checks
from migrator.rehearsal.data.data_checks import DataCheckOptions
from migrator.rehearsal.data.violations import Question
from migrator.rehearsal.report import Answer, RehearsedMigration
from migrator.sql import parser
from tests.conftest import Database, Migrate, Result, Write
from tests.sessions import holding, ordinary_role

pytestmark = pytest.mark.slow

TABLE = {"01_t.up.sql": "create table t (id int primary key, note text);\n"}
STRICT = {"02_strict.up.sql": "alter table t alter note set not null;\n"}
BROKEN = "insert into t select n, null from generate_series(1, 3) n"


def prepare(
    migrate: Migrate, write: Write, pending: dict[str, str] = STRICT, rows: str = BROKEN
) -> None:
    write(TABLE)
    assert migrate("up").exit_code == 0
    migrate.database.execute(rows)
    write(dict(pending))


def answers(result: Result) -> list[tuple[str, str | None]]:
    assert "internal error" not in result.stderr, result.stderr
    return [
        (check["answer"], check["reason"])
        for migration in result.json["migrations"]
        for check in migration["data_checks"]
    ]


def test_the_text_says_what_breaks_and_what_to_do(migrate: Migrate, write: Write) -> None:
    prepare(migrate, write, rows="insert into t select n, null from generate_series(1, 2000) n")
    result = migrate("rehearse")
    assert result.exit_code == 4
    said = " ".join(result.stdout.split())
    assert "FINDING breaks-on-data line 1: NOT NULL of public.t.note will fail: " in said
    assert "more than 1,000 rows break it (id=1; id=2; id=3, …)" in said
    assert "Correct the rows in an earlier migration" in said


def test_the_html_and_markdown_reports_say_what_was_checked(
    migrate: Migrate, write: Write, tmp_path: Path
) -> None:
    prepare(migrate, write, rows="insert into t values (1, 'x')")
    page = tmp_path / "report.html"
    result = migrate("rehearse", "--markdown", "--html", page)
    said = "NOT NULL of public.t.note: checked, no row breaks it"
    assert said in result.stdout
    assert said in page.read_text()


def test_the_finding_is_accepted_by_a_comment(migrate: Migrate, write: Write) -> None:
    comment = "-- migrator: allow breaks-on-data the rows are corrected by hand\n"
    prepare(migrate, write, {"02_strict.up.sql": comment + STRICT["02_strict.up.sql"]})
    result = migrate("rehearse")
    assert result.exit_code == 0
    assert "accepted breaks-on-data" in result.stdout
    migrate.database.execute("update t set note = ''")
    assert "allow-unused" not in migrate("rehearse").stdout


def test_no_query_runs_if_the_time_is_zero(migrate: Migrate, write: Write) -> None:
    prepare(migrate, write)
    result = migrate("--json", "rehearse", "--data-checks", "0")
    assert (answers(result), result.exit_code) == ([], 0)


def test_values_of_rows_stay_out_of_the_report_on_demand(
    migrate: Migrate, write: Write, tmp_path: Path
) -> None:
    pending = {
        "02_strict.up.sql": "alter table t add unique (note);\n"
        "alter table t alter id type text using note::date::text;\n"
    }
    prepare(migrate, write, pending, "insert into t values (4711, 'secret'), (4712, 'secret')")
    page = tmp_path / "report.html"
    shown = migrate("rehearse")
    assert "note=secret (2 rows)" in " ".join(shown.stdout.split())
    hidden = migrate("rehearse", "--no-examples", "--html", page)
    assert hidden.exit_code == 4
    for text in (hidden.stdout, hidden.stderr, page.read_text()):
        assert "secret" not in text
        assert "4711" not in text
    assert "1 duplicated key breaks it" in hidden.stdout


def test_values_are_shown_on_one_line_and_harmless(migrate: Migrate, write: Write) -> None:
    pending = {"02_strict.up.sql": "alter table t add unique (note);\n"}
    hostile = r"E'a\n<b>\x1b[2J' || repeat('x', 1000)"
    prepare(migrate, write, pending, f"insert into t values (1, {hostile}), (2, {hostile})")
    (check,) = migrate("--json", "rehearse").json["migrations"][0]["data_checks"]
    (example,) = check["examples"]
    assert example.startswith("note=a\\n<b>\\x1b[2Jxxx")
    assert len(example) <= 200
    assert "\x1b" not in migrate("rehearse").stdout


# Nothing changes, and nothing waits

WRITES = """
create table seen (at timestamptz default clock_timestamp());
create function is_fine(text) returns boolean language plpgsql as $$
begin
    insert into public.seen default values;
    return true;
end $$;
"""


def test_a_function_in_a_constraint_cannot_write(migrate: Migrate, write: Write) -> None:
    write({"01_t.up.sql": TABLE["01_t.up.sql"] + WRITES})
    assert migrate("up").exit_code == 0
    migrate.database.execute(BROKEN)
    write({"02_strict.up.sql": "alter table t add check (is_fine(note));\n"})
    result = migrate("--json", "rehearse")
    reason = "cannot execute INSERT in a read-only transaction"
    assert answers(result) == [("unknown", reason)]
    assert migrate.database.rows("select count(*) from seen") == [(0,)]


def test_a_statement_of_the_script_cannot_leave_the_read_only_transaction(
    migrate: Migrate, write: Write
) -> None:
    write({"01_t.up.sql": TABLE["01_t.up.sql"] + WRITES})
    assert migrate("up").exit_code == 0
    migrate.database.execute(BROKEN)
    text = (
        "alter table t alter note type text using set_config('transaction_read_only', 'off', true)"
    )
    write({"02_strict.up.sql": f"{text} || is_fine(note)::text;\n"})
    result = migrate("--json", "rehearse")
    assert [answer for answer, _ in answers(result)] != ["passes"]
    assert migrate.database.rows("select count(*) from seen") == [(0,)]


def test_a_locked_table_is_not_waited_for(database: Database) -> None:
    database.execute("create table t (id int)")
    query = "select count(*), array(select id::text from public.t) from public.t"
    source = SourceFile(PurePath("1_a.up.sql"), "", "")
    step = Step("1_a", Direction.UP, parser.parse(source.path, source.text), None)
    asked = RehearsedMigration(step, questions=(Question(None, "public.t", "all", query),))
    settings = Settings(database=config.Database(database.url), allow_empty=True)
    with (
        session.opened(settings, lambda _event: None) as work,
        holding(database, "lock table t in access exclusive mode"),
    ):
        (answered,) = data_checks.answered(work, (asked,), DataCheckOptions(limit=3_600_000))
    (check,) = answered.checks
    assert (check.answer, check.reason) == (Answer.TIMED_OUT, "another session has locked it")


def test_a_slow_query_ends_in_time(migrate: Migrate, write: Write) -> None:
    slow = """
    create function is_fine(text) returns boolean language plpgsql immutable as $$
    begin
        perform pg_catalog.pg_sleep(3600);
        return true;
    end $$;
    """
    write({"01_t.up.sql": TABLE["01_t.up.sql"] + slow})
    assert migrate("up").exit_code == 0
    migrate.database.execute(BROKEN)
    write(
        {
            "02_strict.up.sql": "alter table t add check (is_fine(note));\n"
            "alter table t alter note set not null;\n"
        }
    )
    result = migrate("--json", "rehearse", "--data-checks", "50ms")
    assert sorted(answers(result)) == [("fails", None), ("timed-out", "0.05 s")]


# What the role may see


def test_rows_that_the_role_may_not_read_are_said_to_be_unchecked(
    migrate: Migrate, write: Write
) -> None:
    prepare(migrate, write)
    with ordinary_role(migrate.database, "createdb") as url:
        name = url.split("//")[1].split(":")[0]
        migrate.database.execute(
            f"grant select on all tables in schema public to {name};revoke select on t from {name}"
        )
        result = migrate("--json", "--trust-history-of", "postgres", "rehearse", database=url)
        assert answers(result) == [("unknown", "permission denied for table t")]
        migrate.database.execute(
            f"grant select on t to {name}; alter table t enable row level security"
        )
        result = migrate("--json", "--trust-history-of", "postgres", "rehearse", database=url)
        reason = 'query would be affected by row-level security policy for table "t"'
        assert answers(result) == [("unknown", reason)]


# Another database to ask


def test_another_database_is_not_asked(
    migrate: Migrate, write: Write, second_database: Database
) -> None:
    prepare(migrate, write)
    result = migrate("--json", "rehearse", "--data-url", second_database.url)
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert error["message"] == "--data-url is neither the target database nor a replica of it"


def test_the_database_itself_may_be_named(migrate: Migrate, write: Write) -> None:
    prepare(migrate, write)
    result = migrate("--json", "rehearse", "--data-url", migrate.database.url)
    assert answers(result) == [("fails", None)]


def test_a_copy_of_the_schema_is_asked_about_the_same(migrate: Migrate, write: Write) -> None:
    prepare(migrate, write)
    result = migrate("--json", "rehearse", "--from-target")
    assert answers(result) == [("fails", None)]
