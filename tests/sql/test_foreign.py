"""Files of other tools: both directions in one file are refused, ordinary comments are not."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from migrator.sql import parser

from ..conftest import Migrate, Write

UP, DOWN = "create table a ();\n", "drop table a;\n"
FILES = {
    "dbmate": f"-- migrate:up transaction:false\n{UP}\n-- migrate:down\n{DOWN}",
    "goose": f"-- +goose Up\n-- +goose StatementBegin\n{UP}-- +goose StatementEnd\n\n"
    f"-- +goose Down\n-- +goose StatementBegin\n{DOWN}-- +goose StatementEnd\n",
    "sql-migrate": f"-- +migrate Up notransaction\n{UP}-- +migrate Down\n{DOWN}",
    "micrate": f"-- +micrate Up\n{UP}-- +micrate Down\n{DOWN}",
    "rambler": f"-- rambler up\n{UP}-- rambler down\n{DOWN}",
    "node-pg-migrate": f"-- Up Migration\n{UP}-- Down Migration\n{DOWN}",
    "shmig": f"-- ==== UP ====\n{UP}-- ==== DOWN ====\n{DOWN}",
    "Play": f"--- !Ups\n{UP}--- !Downs\n{DOWN}",
    "tern": f"{UP}---- create above / drop below ----\n\n{DOWN}",
    "MyBatis": f"{UP}-- //@UNDO\n{DOWN}",
    "another tool": f"-- @UP\n{UP}-- @DOWN\n{DOWN}",
    "Liquibase": f"--liquibase formatted sql\n--changeset ada:1\n{UP}--rollback {DOWN}",
}


def problems(text: str, name: str = "01_a.up.sql") -> list[tuple[int, str, str]]:
    """Return the line, message and hint of each problem."""
    found = parser.parse(PurePath(name), text).problems
    assert not (found and parser.is_plain(text)), "a plain script has no problem"
    return [(p.location.line if p.location else 0, p.message, p.hint or "") for p in found]


@pytest.mark.parametrize("tool", FILES)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_that_holds_both_directions_is_refused_where_the_other_one_begins(
    tool: str, end: str
) -> None:
    text = FILES[tool]
    line = text[: text.lower().rindex("--", 0, text.index(DOWN))].count("\n") + 1
    if tool == "goose":
        line -= 1  # above StatementBegin
    ((found, message, hint),) = problems(text.replace("\n", end))
    assert found == line
    assert message.startswith(f"the file holds both directions, in the format of {tool}")
    assert "01_a.down.sql" in hint
    assert ("-- migrator: no-transaction" in hint) == (tool in ("dbmate", "sql-migrate"))


@pytest.mark.parametrize("tool", sorted(FILES.keys() - {"Liquibase"}))
def test_a_down_file_may_not_hold_the_up_script(tool: str) -> None:
    ((_, message, hint),) = problems(FILES[tool], "01_a.down.sql (stored)")
    assert message.startswith(f"the file holds both directions, in the format of {tool}")
    assert hint.startswith("remove the up script, which begins here, from the down file")


@pytest.mark.parametrize("tool", sorted(FILES.keys() - {"Liquibase", "tern", "MyBatis"}))
def test_a_file_with_the_marks_of_another_tool_and_one_direction_runs(tool: str) -> None:
    up, down = FILES[tool].replace(DOWN, ""), FILES[tool].replace(UP, "")
    assert problems(up) == []
    assert problems(down, "01_a.down.sql") == []


def test_a_mark_after_a_statement_without_its_semicolon_is_found() -> None:
    ((line, _, _),) = problems(f"create table a ()\n-- migrate:down\n{DOWN}")
    assert line == 2


def test_the_header_of_graphile_migrate_is_refused() -> None:
    ((line, message, hint),) = problems(f"--! Previous: -\n--! Hash: sha1:1\n\n{UP}")
    assert (line, message) == (1, "the header of graphile-migrate has no effect here")
    assert hint.startswith("remove the lines that begin with --!")


@pytest.mark.parametrize(
    "comment",
    [
        "-- down below",
        "-- Down migration intentionally left empty.",
        "-- Down migrations are not available",
        "-- the part after migrate:down is not run",
        "-- see -- migrate:down",
        "-- rollback",
        "--rollback;",
        "--changeset ada:1",
        "--liquibase formatted sql\n--rollback empty",
        "/*\n-- migrate:down\n*/",
        "select 1; -- migrate:down",
        "select '\n-- migrate:down\n';",
        'select 1 as "\n-- migrate:down\n";',
        "do $$\n-- +goose Down\n$$;",
        "create function f() returns int begin atomic\n-- migrate:down\nselect 1;\nend;",
        "copy a from stdin;\n-- migrate:down\n\\.",
        "-- up and down",
        "-- down",
        "-- up\n-- down",
        "-- ---- drop below ----",
        "--! important",
    ],
)
def test_ordinary_comments_literals_and_bodies_are_not_taken_for_marks(comment: str) -> None:
    assert problems(f"{UP}{comment}\n{DOWN}") == []


def test_nothing_of_a_file_that_holds_both_directions_runs(migrate: Migrate, write: Write) -> None:
    write({"01_a.up.sql": FILES["dbmate"]})
    result = migrate("up")
    assert result.exit_code == 4
    assert "01_a.up.sql:4:1: the file holds both directions" in result.stderr
    assert migrate.database.rows("select to_regclass('migration_versions')") == [(None,)]
