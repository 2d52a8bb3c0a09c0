"""Write the files that the workloads run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

MEGABYTE = 1_000_000

_TABLE = "create table seed (id integer primary key, name text not null, note text);\n"
_NOTE = "what a row of a seed has to say: café, 'quotes' and a few words more".replace("'", "''")


def small_migration(number: int) -> tuple[str, str]:
    """Give up and down of a small migration: a table, an index and a row, in three statements."""
    table = f"thing_{number}"
    up = (
        f"create table {table} (\n"
        "    id         bigint generated always as identity primary key,\n"
        "    name       text not null,\n"
        "    created_at timestamptz not null default now()\n"
        ");\n"
        f"create index {table}_name on {table} (name);\n"
        f"insert into {table} (name) values ('first');\n"
    )
    return up, f"drop table {table};\n"


def stem(number: int) -> str:
    """Give the version of a small migration."""
    return f"{number:05}_thing"


def write_pairs(directory: Path, size: int) -> Path:
    """Write small migrations as pairs of files."""
    directory.mkdir(parents=True)
    for number in range(1, size + 1):
        up, down = small_migration(number)
        (directory / f"{stem(number)}.up.sql").write_text(up)
        (directory / f"{stem(number)}.down.sql").write_text(down)
    return directory


def write_for_dbmate(directory: Path, size: int) -> Path:
    """Write the same migrations as dbmate reads them: both directions in one file."""
    directory.mkdir(parents=True)
    for number in range(1, size + 1):
        up, down = small_migration(number)
        text = f"-- migrate:up\n{up}\n-- migrate:down\n{down}"
        (directory / f"{stem(number)}.sql").write_text(text)
    return directory


def write_for_yoyo(directory: Path, size: int) -> Path:
    """Write the same migrations as yoyo reads them."""
    directory.mkdir(parents=True)
    for number in range(1, size + 1):
        up, down = small_migration(number)
        (directory / f"{stem(number)}.sql").write_text(up)
        (directory / f"{stem(number)}.rollback.sql").write_text(down)
    return directory


def inserts() -> Iterator[str]:
    """Give INSERT statements of one row, as `pg_dump --inserts` writes them; without end."""
    for number in count(1):
        yield f"INSERT INTO seed VALUES ({number}, 'name of {number}', '{_NOTE}');\n"


def one_insert() -> Iterator[str]:
    """Give one INSERT of many rows, a row an item, without its end; without end."""
    yield "INSERT INTO seed VALUES\n    (0, '', NULL)"
    for number in count(1):
        yield f",\n    ({number}, 'name of {number}', '{_NOTE}')"


def copy_data() -> Iterator[str]:
    """Give COPY and its lines; without end."""
    yield "COPY seed (id, name, note) FROM stdin;\n"
    for number in count(1):
        yield f"{number}\tname of {number}\t{_NOTE}\n"


def definitions() -> Iterator[str]:
    """Give DDL as people write it, a table with what belongs to it an item; without end."""
    for number in count(1):
        yield f"""
-- Accounts of kind {number}; see the design note.
CREATE TABLE IF NOT EXISTS app.account_{number} (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   bigint NOT NULL REFERENCES app.tenant (id) ON DELETE CASCADE,
    email       text NOT NULL CHECK (email ~ '^[^@]+@[^@]+$'),
    balance     numeric(12, 2) NOT NULL DEFAULT 0,
    settings    jsonb NOT NULL DEFAULT '{{}}'::jsonb,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX account_{number}_email ON app.account_{number} (lower(email));
ALTER TABLE app.account_{number} ADD CONSTRAINT positive CHECK (balance >= 0) NOT VALID;
CREATE OR REPLACE FUNCTION app.touch_{number}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now(); -- the trigger's only job
    RETURN NEW;
END;
$$;
COMMENT ON TABLE app.account_{number} IS 'Whoever may log in; one row a person.';
"""


SEEDS: dict[str, tuple[Callable[[], Iterator[str]], str, str]] = {
    "INSERT statements": (inserts, _TABLE, ""),
    "one INSERT": (one_insert, _TABLE, ";\n"),
    "COPY data": (copy_data, _TABLE, "\\.\n"),
}
"""What a seed is made of, what stands before it, and what ends it."""


def write_seed(path: Path, kind: str, size: int) -> Path:
    """Write a seed of so many bytes, piece by piece."""
    pieces, before, after = SEEDS[kind]
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with path.open("w", encoding="utf-8") as file:
        file.write(before)
        for piece in pieces():
            written += file.write(piece)
            if written >= size:
                break
        file.write(after)
    return path
