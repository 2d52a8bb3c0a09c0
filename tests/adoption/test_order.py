"""Tools that go by the names of files allow numbers that ours have to tell apart."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ..conftest import Migrate
from .test_adopt import fill, states

PRISMA = """
create table _prisma_migrations (id text, checksum text, finished_at timestamptz,
    migration_name text, logs text, rolled_back_at timestamptz, started_at timestamptz,
    applied_steps_count int);
"""


def sql(name: str) -> str:
    return f"create table {name} (id int);\n"


def test_of_two_prisma_folders_with_one_number_the_later_gets_the_next(
    migrate: Migrate, tmp_path: Path
) -> None:
    names = ("20240102000000_a", "20240102000000_b", "20240102000001_c", "20240103000000_d")
    fill(tmp_path / "theirs", {f"{name}/migration.sql": sql(name[-1]) for name in names})
    rows = ", ".join(
        f"('{n}', '{hashlib.sha256(sql(name[-1]).encode()).hexdigest()}', now(), '{name}', '',"
        f" null, now() + '{n} s', 1)"
        for n, name in enumerate(names[:2])
    )
    migrate.database.execute(f"{PRISMA} insert into _prisma_migrations values {rows}")
    migrate.database.execute(sql("a") + sql("b"))
    result = migrate("adopt", "prisma", "--files", tmp_path / "theirs")
    assert result.exit_code == 0, result.stderr
    assert states(migrate) == {
        "20240102000000_a": "applied",
        "20240102000001_b": "applied",
        "20240102000002_c": "pending",
        "20240103000000_d": "pending",
    }
    assert "20240102000000_b becomes 20240102000001_b: numbers have to grow" in result.stdout
    assert migrate("up").exit_code == 0


@pytest.mark.parametrize(
    ("tool", "table", "up", "names", "versions"),
    [
        (
            "sql-migrate",
            "create table gorp_migrations (id text, applied_at timestamptz);"
            "insert into gorp_migrations values ('{0}.sql', now()), ('{1}.sql', now())",
            "-- +migrate Up\n",
            ("07_a", "07_b", "10_c"),
            ["07_a", "08_b", "10_c"],
        ),
        (
            "node-pg-migrate",
            "create table pgmigrations (id serial, name text, run_on timestamp);"
            "insert into pgmigrations (name, run_on) values ('{0}', now()), ('{1}', now())",
            "-- Up Migration\n",
            ("1700000000000_a", "1700000000000_b", "1700000000003_c"),
            ["1700000000000_a", "1700000000001_b", "1700000000003_c"],
        ),
        (
            "dbmate",
            "create table schema_migrations (version varchar primary key);"
            "insert into schema_migrations values ('2023'), ('20240105')",
            "-- migrate:up\n",
            ("2023_a", "20240105_b", "20240107_c"),
            ["2023_a", "20240105_b", "20240107_c"],
        ),
        (
            "dbmate",
            "create table schema_migrations (version varchar primary key);"
            "insert into schema_migrations values ('202401050'), ('20240106')",
            "-- migrate:up\n",
            ("202401050_a", "20240106_b", "20240107_c"),
            ["20240105_a", "20240106_b", "20240107_c"],
        ),
    ],
)
def test_numbers_grow_in_the_order_in_which_the_tool_applies_files(
    migrate: Migrate,
    tmp_path: Path,
    *,
    tool: str,
    table: str,
    up: str,
    names: tuple[str, ...],
    versions: list[str],
) -> None:
    fill(tmp_path / "theirs", {f"{name}.sql": up + sql(name[-1]) for name in names})
    migrate.database.execute(table.format(*names) + ";" + sql("a") + sql("b"))
    result = migrate("adopt", tool, "--files", tmp_path / "theirs")
    assert result.exit_code == 0, result.stderr
    assert states(migrate) == dict(zip(versions, ["applied", "applied", "pending"], strict=True))
    assert (versions == list(names)) == ("numbers have to grow" not in result.stdout)
    assert migrate("up").exit_code == 0
