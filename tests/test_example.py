"""The worked example in `migrations/`: each down undoes its up, with migrator and with psql."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PROJECT, Database, Migrate, call, dump_schema, run_psql

pytestmark = pytest.mark.slow

EXAMPLE = PROJECT / "migrations"
SEED = PROJECT / "migrations-dev"  # what only development gets


def files(direction: str) -> list[Path]:
    """Return the files of both directories, by number."""
    found = (path for each in (EXAMPLE, SEED) for path in each.glob(f"*.{direction}.sql"))
    return sorted(found, key=lambda path: path.name)


UPS = files("up")
DOWNS = files("down")[::-1]
REPEATABLE = sorted(EXAMPLE.glob("R__*.sql"))

# The number of migrations up to the one that allows both forms of a name, and after it.
STEPS_TO_BOTH_FORMS = 9
STEPS_AFTER_BOTH_FORMS = len(UPS) - STEPS_TO_BOTH_FORMS

NAMES = {  # name: (first_name, last_name)
    "Ada Lovelace": ("Ada", "Lovelace"),
    "Plato": ("Plato", None),
    "Gabriel García Márquez": ("Gabriel", "García Márquez"),
    "Jean  Bartik": ("Jean", " Bartik"),
    " Grace Hopper ": ("", "Grace Hopper "),
    "Cher ": ("Cher", ""),
    "": ("", None),
    " ": ("", ""),
    "   ": ("", "  "),
    "Tab\tand\nline end": ("Tab\tand\nline", "end"),
    "No-break\u00a0space": ("No-break\u00a0space", None),
    "O'Neil \\ 100 %s": ("O'Neil", "\\ 100 %s"),
}

TABLES = """
select c.relname
from pg_catalog.pg_class c
where c.relnamespace = 'public'::regnamespace
  and c.relkind = 'r'
  and c.relname not like 'migration\\_%'
order by c.relname
"""

FOREIGN_KEYS_WITHOUT_INDEX = """
select c.conname
from pg_catalog.pg_constraint c
where c.contype = 'f'
  and c.connamespace = 'public'::regnamespace
  and not exists (
      select from pg_catalog.pg_index i
      where i.indrelid = c.conrelid
        and (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey
  )
"""

INVALID = """
select indexrelid::regclass::text from pg_catalog.pg_index where not indisvalid
union all
select conname from pg_catalog.pg_constraint where not convalidated
"""


@pytest.fixture
def example(migrate: Migrate) -> Migrate:
    """The program, bound to the worked example of development and an empty database."""
    return Migrate(partial(migrate.run, "--dir", SEED), migrate.database, EXAMPLE)


def up(example: Migrate, *options: str) -> None:
    result = example("up", *options)
    assert result.exit_code == 0, result.stdout + result.stderr


def down(example: Migrate, *options: str) -> None:
    result = example("down", "--yes", *options)
    assert result.exit_code == 0, result.stdout + result.stderr


def schema(database: Database) -> str:
    """Return the output of pg_dump, without the tables of migrator."""
    return dump_schema(database, "--exclude-table=public.migration_*")


def data(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables except those of migrator."""
    tables = [str(name) for (name,) in database.rows(TABLES)]
    return {name: database.rows(f"select t.* from {name} t order by t::text") for name in tables}


def names(database: Database) -> list[str]:
    return [name for (name,) in database.rows("select name from users order by email")]


def add_names(database: Database) -> list[str]:
    """Add a user for each of `NAMES`; return the names of all users, by email address."""
    with database.connect() as conn, conn.cursor() as cursor:
        cursor.executemany(
            "insert into users (email, name) values (%s, %s)",
            [(f"{number}@example.org", name) for number, name in enumerate(NAMES)],
        )
    return names(database)


def test_the_example_is_fifteen_complete_pairs() -> None:
    assert len(UPS) == 15
    stems = [path.name.removesuffix(".up.sql") for path in UPS]
    assert stems == sorted(path.name.removesuffix(".down.sql") for path in DOWNS)
    assert [stem[:3] for stem in stems] == [f"{number:02}_" for number in range(1, len(UPS) + 1)]


def test_production_gets_everything_but_the_demo_data(migrate: Migrate) -> None:
    production = Migrate(migrate.run, migrate.database, EXAMPLE)
    up(production)
    found = data(migrate.database)
    assert [name for name in found if found[name]] == ["roles"]
    assert production("status", "--check").exit_code == 0
    down(production, "--all")
    assert data(migrate.database) == {}


def test_the_configuration_file_gives_development_the_demo_data() -> None:
    for options, number in (((), 14), (("--env", "dev"), 15)):
        found = call(
            "--config", PROJECT / "migrator.toml", *options, "verify", "--offline", "--json"
        )
        assert found.json["versions"] == number


def test_up_down_to_nothing_and_up_give_the_same_schema_and_data(example: Migrate) -> None:
    database = example.database
    nothing = schema(database)
    up(example)
    first_schema, first_data = schema(database), data(database)
    assert first_data["users"]

    down(example, "--all")
    assert schema(database) == nothing
    assert data(database) == {}

    up(example)
    assert schema(database) == first_schema
    assert data(database) == first_data


def test_each_down_undoes_its_up_and_nothing_else(migrate: Migrate) -> None:
    # Without the repeatable files, which the last step would apply, and no down reverts.
    for path in (*UPS, *DOWNS):
        shutil.copy(path, migrate.directory)
    example, database = migrate, migrate.database
    before = (schema(database), data(database))
    for path in UPS:
        up(example, "--steps", "1")
        after = (schema(database), data(database))
        assert after != before, path.name
        down(example)
        assert (schema(database), data(database)) == before, path.name
        up(example, "--steps", "1")
        assert (schema(database), data(database)) == after, path.name
        before = after
    assert example("status", "--check").exit_code == 0


def test_names_are_split_at_the_first_space(example: Migrate) -> None:
    up(example, "--steps", str(STEPS_TO_BOTH_FORMS))
    add_names(example.database)
    up(example)
    rows = example.database.rows(
        "select first_name, last_name, name from users where email like '%@example.org'"
    )
    assert sorted(rows, key=repr) == sorted(((*parts, None) for parts in NAMES.values()), key=repr)


def test_reverting_the_split_restores_every_name_exactly(example: Migrate) -> None:
    up(example, "--steps", str(STEPS_TO_BOTH_FORMS - 1))
    before = add_names(example.database)
    up(example)
    down(example, "--steps", str(STEPS_AFTER_BOTH_FORMS + 1))
    assert names(example.database) == before


def test_names_changed_after_the_split_survive_its_down(example: Migrate) -> None:
    up(example)
    example.database.execute(
        "update users set last_name = 'King' where email = 'ada@example.com';"
        "insert into users (email, first_name, last_name)"
        " values ('ann@example.org', 'Mary Ann', 'Smith')"
    )
    down(example, "--steps", str(STEPS_AFTER_BOTH_FORMS + 1))
    rows = example.database.rows("select email, name from users")
    found: dict[str, str] = dict(rows)
    assert found["ada@example.com"] == "Ada King"
    assert found["ann@example.org"] == "Mary Ann Smith"
    assert found["grace@example.com"] == " Grace Hopper "


def test_every_foreign_key_has_an_index_and_everything_is_valid(
    example: Migrate,
) -> None:
    up(example)
    assert example.database.rows(FOREIGN_KEYS_WITHOUT_INDEX) == []
    assert example.database.rows(INVALID) == []


def test_psql_alone_runs_the_files_up_and_down(example: Migrate, second_database: Database) -> None:
    nothing = schema(second_database)
    up(example)

    psql(second_database, [*UPS, *REPEATABLE])
    assert schema(second_database) == schema(example.database)
    assert data(second_database) == data(example.database)

    psql(second_database, DOWNS)
    assert schema(second_database) == nothing


def psql(database: Database, files: list[Path]) -> None:
    """Run each file with `psql -f`; skip the test if there is no psql."""
    for path in files:
        done = run_psql(database, "--file", path)
        assert done.returncode == 0, done.stderr
