"""What reaches a terminal: no control character of others, and no password."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import Migrate, Write, on_screen
from tests.sessions import holding

HOSTILE = "\x1b[2J\x1b]0;title\x07\x9b31m\x7f\u202e"
SEEN = r"\x1b[2J\x1b]0;title\x07\x9b31m\x7f\u202e"
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


def sql(text: str) -> str:
    """Write a text as a literal of ASCII characters."""
    return "U&'" + "".join(f"\\{ord(each):04x}" for each in text) + "'"


def test_a_notice_and_an_error_show_control_characters(migrate: Migrate, write: Write) -> None:
    write(
        {
            "01_a.up.sql": f"do $$ begin raise notice '%', {sql(HOSTILE)}; end $$;",
            "02_b.up.sql": f"do $$ begin raise exception '%', {sql(HOSTILE)}\n"
            f"using detail = {sql(HOSTILE)}, hint = {sql(HOSTILE)}; end $$; -- {HOSTILE}",
        }
    )
    result = migrate("up", "-v")
    assert result.exit_code == 1
    assert result.stderr.count(SEEN) >= 4
    assert not _CONTROL.search(result.stdout + result.stderr)
    assert not _CONTROL.search(migrate("log").stdout)


def test_names_and_queries_of_others_show_control_characters(
    migrate: Migrate, write: Write
) -> None:
    migrate.database.execute(f'create table a (n int); create schema "{HOSTILE}"')
    write({"01_a.up.sql": "alter table a add b int;"})
    with holding(migrate.database, f"lock table a /* {HOSTILE} */"):
        blocked = migrate("up", "--lock-timeout", "400ms", "--lock-attempts", "2")
    assert blocked.exit_code == 5
    assert SEEN in blocked.stderr, blocked.stderr
    applied = migrate("-vv", "--schema", HOSTILE, "up")
    assert applied.exit_code == 0, applied.stderr
    shown = migrate("--schema", HOSTILE, "status").stdout
    assert SEEN in shown
    for text in (blocked.stderr, applied.stderr, shown):
        assert not _CONTROL.search(text)


def test_a_dry_run_and_json_show_control_characters(migrate: Migrate, write: Write) -> None:
    write({"01_a.up.sql": f"select '{HOSTILE}';\r\nselect 2;\r\n"})
    for arguments in (("up", "--dry-run"), ("up", "--dry-run", "--json")):
        result = migrate(*arguments)
        assert result.exit_code == 0
        assert not _CONTROL.search(result.stdout)


def test_reports_escape_what_names_and_comments_hold(
    migrate: Migrate, write: Write, tmp_path: Path
) -> None:
    name = f"<img src=x>|`{HOSTILE}"
    write({"01_a.up.sql": f'create table "{name}" (n int); -- </pre><script>'})
    assert migrate("up").exit_code == 0
    write({"02_b.up.sql": f'drop table "{name}"; -- ``` {HOSTILE}'})
    page = tmp_path / "page.html"
    result = migrate("rehearse", "--markdown", "--small", "0", "--html", page)
    assert result.exit_code == 4, result.stderr
    assert not _CONTROL.search(result.stdout)
    outside = re.sub(r"^( *)(`{3,})\n.*?^\1\2$", "", result.stdout, flags=re.M | re.S)
    outside = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", outside)  # code in a line
    assert "<img" not in outside
    assert r"&lt;img src=x&gt;\|\`" in outside
    html = page.read_text(encoding="utf-8")
    assert not _CONTROL.search(html)
    assert "<img" not in html
    assert "<script" not in html


PASSWORDS = [
    "alter role r password 's3cret';",
    "do $$ begin execute 'alter role r password ''s3cret'''; end $$;",
    "do $$ begin execute format('alter role %I password %L', 'r', 's3cret'); end $$;",
    "alter role r password /* the new one */ 's3cret';",
    "do $$ begin execute 'alter role r password ' || quote_literal('s3cret'); end $$;",
    "alter role r password U&'s3cret';",
]


@pytest.mark.parametrize("statement", PASSWORDS)
def test_a_password_in_a_script_is_shown_nowhere(
    statement: str, migrate: Migrate, write: Write, tmp_path: Path
) -> None:
    role = f"r_{migrate.database.name}"
    statement = statement.replace(" r ", f" {role} ").replace("'r'", f"'{role}'")
    down = statement.replace("'s3cret", "'s3cret2")
    write({"01_a.up.sql": statement, "01_a.down.sql": "select 1;"})
    page = tmp_path / "page.html"
    shown = [
        migrate("-vv", "up", "--dry-run"),
        migrate("up", "--dry-run", "--json"),
        migrate("up"),  # there is no such role
        migrate("up", "--json"),
        migrate("rehearse", "--html", page),
        migrate("rehearse", "--markdown"),
        migrate("log"),
    ]
    migrate.database.execute(f"create role {role}")
    try:
        shown.append(migrate("-vv", "up"))
        write({"01_a.up.sql": down, "01_a.down.sql": f"{down} select 1;"})
        shown += [migrate("verify"), migrate("verify", "--json")]
        logged = migrate.database.rows(
            "select message from migration_log where message is not null"
        )
    finally:
        migrate.database.execute(f"drop role {role}")
    assert shown[-2].exit_code == 4
    for result in shown:
        assert "s3cret" not in result.stdout + result.stderr, result.stdout + result.stderr
    assert "s3cret" not in page.read_text(encoding="utf-8") + str(logged)


def test_a_report_is_no_wider_than_the_terminal(migrate: Migrate, write: Write) -> None:
    write({"01_start.up.sql": "create table orders (id int primary key, total numeric);"})
    assert migrate("up").exit_code == 0
    write({"02_rule.up.sql": "alter table orders add constraint positive check (total >= 0);"})
    shown = on_screen(migrate, 60, "rehearse")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert "02_rule" in lines
    assert [line for line in lines if len(line) > 60 and " " in line.strip()] == []
