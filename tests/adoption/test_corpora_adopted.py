"""Real migration histories, in the layout and with the table of their own tools, become ours.

Each database is where its tool has applied the first half; the other half is pending.  Names and
layouts are those of the projects' repositories, as far as the corpora keep what they need.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ..conftest import Database, Migrate, Postgres, call, dump_schema, find_program
from ..test_corpora import (
    AFTER,
    BEFORE,
    CORPORA,
    HISTORIES,
    LATE,
    OUR_TABLES,
    PENDING,
    History,
    has_uuid_ossp,
    psql,
    run,
    scripts,
    set_up,
    states,
    up,
)
from .test_adopt import fill

pytestmark = [
    pytest.mark.corpora,
    pytest.mark.slow,
    pytest.mark.skipif(not CORPORA.is_dir(), reason=f"no migration histories in {CORPORA}"),
]


@dataclass(frozen=True, slots=True)
class Source:
    """A migration of a corpus.

    Attributes:
        outside: Whether psql runs one of its scripts without a transaction around it.
    """

    number: int
    name: str
    up: str
    down: str | None
    outside: bool


def sources(history: History) -> list[Source]:
    """Return the migrations of a folder by number."""
    found = []
    for path in scripts(history, "up"):
        digits, _, name = path.name.removesuffix(".up.sql").partition("_")
        down = path.with_name(path.name.replace(".up.sql", ".down.sql"))
        both = [path, down] if down.exists() else [path]
        up, undo = (each.read_bytes().decode() for each in [*both, path][:2])
        outside = any(map(history.runs_outside, both))
        found.append(Source(int(digits), name, up, undo if len(both) == 2 else None, outside))
    return found


_PLANNED = "2024-01-01T00:00:00Z ann <a@x>"
_FOLDER = re.compile(r"^(tables|types|mutations|computed_columns|trigger_functions)_")
IN_PLACE = ("golang-migrate", "sqlx")
Layout = Callable[[list[Source], list[Source]], tuple[dict[str, str], str]]
"""Returns the files of all, and SQL that leaves the table as if the second ones were applied."""


def _digest(algorithm: str, text: str) -> str:
    return hashlib.new(algorithm, text.encode(), usedforsecurity=False).hexdigest()


def _in_pairs(found: list[Source], name: Callable[[Source], str]) -> dict[str, str]:
    files = {f"{name(s)}.up.sql": s.up for s in found}
    return files | {f"{name(s)}.down.sql": s.down for s in found if s.down is not None}


def _golang_migrate(found: list[Source], applied: list[Source]) -> tuple[dict[str, str], str]:
    def name(source: Source) -> str:
        dotted = re.sub(r"^(\d)_(\d+)_(\d+)_schema$", r"\1.\2.\3_schema", source.name)
        return f"{source.number:04}_{dotted}"

    return _in_pairs(found, name), (
        "create table if not exists schema_migrations"
        " (version bigint not null primary key, dirty boolean not null);"
        f"insert into schema_migrations values ({applied[-1].number}, false)"
    )


def _sqlx(found: list[Source], applied: list[Source]) -> tuple[dict[str, str], str]:
    rows = ", ".join(
        f"({s.number}, '', now(), true, '\\x{_digest('sha384', s.up)}', 1)" for s in applied
    )
    return _in_pairs(found, lambda s: f"{s.number}_{s.name.replace('_', '-')}"), (
        "create table _sqlx_migrations (version bigint primary key, description text not null,"
        " installed_on timestamptz not null default now(), success boolean not null,"
        " checksum bytea not null, execution_time bigint not null);"
        f"insert into _sqlx_migrations values {rows}"
    )


def _sqitch(found: list[Source], applied: list[Source]) -> tuple[dict[str, str], str]:
    names = [_FOLDER.sub(r"\1/", s.name) for s in found]
    plan, files = ["%syntax-version=1.0.0", "%project=cif", ""], {}
    for at, (source, name) in enumerate(zip(found, names, strict=True)):
        tag = ""
        if name in names[:at]:
            # A change that is reworked follows a tag, which names the file of the earlier one.
            plan.append(f"@v{at} {_PLANNED}")
            tag = f" [{name}@v{at}]"
        plan.append(f"{name}{tag} {_PLANNED}")
        later = [n for n in range(at + 1, len(names)) if names[n] in names[:n]]
        suffix = f"@v{later[0]}" if name in names[at + 1 :] else ""
        files[f"deploy/{name}{suffix}.sql"] = source.up
        files[f"revert/{name}{suffix}.sql"] = source.down or ""
    rows = ", ".join(
        f"('{s.number}', '{_digest('sha1', s.up)}', '{name}', 'cif', now() + '{s.number} s', now())"
        for s, name in zip(applied, names, strict=False)
    )
    return files | {"sqitch.plan": "\n".join(plan)}, (
        "create schema sqitch; create table sqitch.changes (change_id text primary key, script_hash"
        " text, change text, project text, committed_at timestamptz, planned_at timestamptz);"
        f"insert into sqitch.changes values {rows}"
    )


def _sql_migrate(found: list[Source], applied: list[Source]) -> tuple[dict[str, str], str]:
    def text(source: Source) -> str:
        option = " notransaction" if source.outside else ""
        return (
            f"-- +migrate Up{option}\n{source.up}\n-- +migrate Down{option}\n{source.down or ''}\n"
        )

    rows = ", ".join(f"('{s.number}_{s.name}.sql', now() + '{s.number} s')" for s in applied)
    return {f"{s.number}_{s.name}.sql": text(s) for s in found}, (
        "create table gorp_migrations (id text primary key, applied_at timestamptz);"
        f"insert into gorp_migrations values {rows}"
    )


def _goose(found: list[Source], applied: list[Source]) -> tuple[dict[str, str], str]:
    def section(source: Source, text: str) -> str:
        if source.outside:
            return text + "\n"
        return f"-- +goose StatementBegin\n{text}\n-- +goose StatementEnd\n"

    def text(source: Source) -> str:
        head = "-- +goose NO TRANSACTION\n\n" if source.outside else ""
        up = f"{head}-- +goose Up\n{section(source, source.up)}"
        if source.down is None:
            return up
        return f"{up}\n-- +goose Down\n{section(source, source.down)}"

    rows = ", ".join(f"({n}, true)" for n in (0, *(s.number for s in applied)))
    return {f"{s.number}_{s.name}.sql": text(s) for s in found}, (
        "create table goose_db_version (id integer primary key generated by default as identity,"
        " version_id bigint not null, is_applied boolean not null,"
        " tstamp timestamp not null default now());"
        f"insert into goose_db_version (version_id, is_applied) values {rows}"
    )


def _prisma(found: list[Source], applied: list[Source]) -> tuple[dict[str, str], str]:
    rows = ", ".join(
        f"('{s.number}{s.name[:9]}', '{_digest('sha256', s.up)}', now(), '{s.number}_{s.name}',"
        f" now() + '{n} s', 1)"
        for n, s in enumerate(applied)
    )
    return {f"{s.number}_{s.name}/migration.sql": s.up for s in found}, (
        "create table _prisma_migrations (id varchar(36) primary key not null, checksum varchar(64)"
        " not null, finished_at timestamptz, migration_name varchar(255) not null, logs text,"
        " rolled_back_at timestamptz, started_at timestamptz not null default now(),"
        " applied_steps_count integer not null default 0);"
        "insert into _prisma_migrations (id, checksum, finished_at, migration_name, started_at,"
        f" applied_steps_count) values {rows}"
    )


def _pop(found: list[Source], applied: list[Source]) -> tuple[dict[str, str], str]:
    def version(source: Source) -> int:
        return 20150101000001000000 + source.number * 1000000

    files = {}
    for s in found:
        option = ".autocommit" if s.outside else ""
        # Downs are often the same for all kinds of databases.
        files[f"{version(s)}_{s.name}.postgres{option}.up.sql"] = s.up
        files[f"{version(s)}_{s.name}{option}.down.sql"] = s.down or ""
    rows = ", ".join(f"('{version(s)}')" for s in applied)
    return files, (
        "create table schema_migration (version varchar(48) not null,"
        " version_self int not null default 0);"
        "create unique index schema_migration_version_idx on schema_migration (version);"
        "create index schema_migration_version_self_idx on schema_migration (version_self);"
        f"insert into schema_migration (version) values {rows}"
    )


def _authelia(found: list[Source], applied: list[Source]) -> tuple[dict[str, str], str]:
    # The first migration creates its table.
    rows = ", ".join(f"({s.number - 1}, {s.number}, 'v4')" for s in applied)
    return _in_pairs(found, lambda s: f"{s.number:04}_{s.name}"), (
        f"insert into migrations (version_before, version_after, application_version) values {rows}"
    )


def _river(found: list[Source], applied: list[Source]) -> tuple[dict[str, str], str]:
    rows = ", ".join(f"({s.number})" for s in applied)
    return _in_pairs(found, lambda s: f"{s.number:03}_{s.name}"), (
        f"insert into river_migration (version) values {rows}"
    )


@dataclass(frozen=True, slots=True)
class Corpus:
    """A folder of the corpora, and the tool of that project.

    Attributes:
        tool: None for one of the project's own, whose files are pairs: `baseline` records them.
        pending: How many are left to apply.
        note: What is said about the database.
        table: How `pg_dump` is told to leave out the table of the tool.
        scratch: Another server for the scratch database; empty for that of the target.
    """

    folder: str
    tool: str | None
    layout: Layout
    pending: int
    note: str = ""
    table: str = "--exclude-table=public.schema_migrations"
    scratch: str = ""

    @property
    def history(self) -> History:
        return next(each for each in HISTORIES if each.folder == self.folder)


CORPUS = (
    Corpus("authelia", None, _authelia, 13),
    Corpus(
        "chirpstack_as",
        "golang-migrate",
        _golang_migrate,
        30,
        note="created the extension pg_trgm on the scratch database",
    ),
    Corpus(
        "horizon", "sql-migrate", _sql_migrate, 36, table="--exclude-table=public.gorp_migrations"
    ),
    # It creates roles, which the scratch database may not do on the target's own server.
    Corpus("cif", "sqitch", _sqitch, 92, table="--exclude-schema=sqitch", scratch="embedded:"),
    Corpus("river", None, _river, 4),
    # The table has a column of the project's own, from 0030 to 0040.
    Corpus(
        "harbor",
        "golang-migrate",
        _golang_migrate,
        28,
        note="created the table public.schema_migrations of golang-migrate on the scratch",
    ),
    Corpus("quickwit", "sqlx", _sqlx, 5, table="--exclude-table=public._sqlx_migrations"),
    Corpus("hatchet", "goose", _goose, 4, table="--exclude-table=public.goose_db_version*"),
)


@pytest.mark.parametrize("corpus", CORPUS, ids=lambda corpus: corpus.folder)
def test_a_real_history_in_its_own_layout_is_taken_over(
    postgres: Postgres, project_folder: Path, corpus: Corpus
) -> None:
    taken_over(postgres, project_folder, corpus)


def taken_over(server: Postgres, folder: Path, corpus: Corpus) -> None:
    """Adopt half of a history, revert two of it, and apply the rest; all as psql does it."""
    history, found, ups = corpus.history, sources(corpus.history), scripts(corpus.history, "up")
    for program in ("psql", "pg_dump"):
        find_program(program, server)  # skips the test where it is missing
    if server.version < history.since:
        pytest.skip(f"{corpus.folder} needs PostgreSQL {history.since}")
    at = len(found) - corpus.pending
    with halfway(server, history, ups[:at], folder) as (ours, theirs):
        files, table = corpus.layout(found, found[:at])
        fill(folder / "theirs", files)
        ours.execute(table)
        migrate = adopted(corpus, ours, folder)
        assert states(migrate) == {"applied": at, "pending": len(found) - at}
        if history.downs:
            assert run(migrate, "down", "--steps", "2")[0] == 0
            at -= 2
            downs = [each.with_name(each.name.replace(".up.", ".down.")) for each in ups]
            by_psql(theirs, history, reversed(downs[at : at + 2]), folder)
            assert schema(ours, corpus.table) == schema(theirs, corpus.table)
        assert up(migrate) == len(found) - at
        by_psql(theirs, history, ups[at:], folder)
        assert run(migrate, "status", "--check")[0] == 0
        if corpus.note:
            # The stored scripts can be replayed.
            assert migrate("drift", "--ignore", "public.schema_migrations*").exit_code == 0
        assert schema(ours, corpus.table) == schema(theirs, corpus.table)


@contextmanager
def halfway(
    server: Postgres, history: History, paths: list[Path], folder: Path
) -> Iterator[tuple[Database, Database]]:
    """Run scripts by psql, and copy the database."""
    with server.database() as ours:
        set_up(history, [ours])
        by_psql(ours, history, paths, folder)
        with server.database(ours.name) as theirs:
            set_up(replace(history, setup=""), [theirs])
            yield ours, theirs


def by_psql(database: Database, history: History, paths: Iterable[Path], folder: Path) -> None:
    done = psql(database, history, paths, folder / "driver.sql")
    assert (done.returncode, done.stderr.count("ERROR:")) == (0, 0), done.stderr


def schema(database: Database, leave_out: str) -> str:
    ours = (f"--exclude-table={table}" for table in OUR_TABLES)
    return dump_schema(database, *ours, leave_out)


def adopted(corpus: Corpus, database: Database, folder: Path) -> Migrate:
    """Take the files in `theirs` over; return the program with the directory that is ours."""
    theirs = folder / "theirs"
    migrate = Migrate(call, database, theirs)
    if corpus.tool is None:
        newest = sorted(theirs.glob("*.up.sql"))[-corpus.pending - 1].name
        result = migrate("baseline", newest.removesuffix(".up.sql"))
    else:
        if corpus.tool not in IN_PLACE:
            migrate = Migrate(call, database, folder / "migrations")
        scratch = ("--scratch-url", corpus.scratch) if corpus.scratch else ()
        result = migrate("adopt", corpus.tool, "--files", theirs, *scratch)
    assert result.exit_code == 0, result.stderr or result.stdout
    assert corpus.note in result.stderr, result.stderr
    return migrate


def test_a_history_of_prisma_that_has_grown_is_taken_over_with_its_late_migrations(
    postgres: Postgres, tmp_path: Path
) -> None:
    found = sources(replace(AFTER, renamed={}))
    known = {path.name for path in scripts(BEFORE, "up")}
    files, table = _prisma(found, [s for s in found if f"{s.number}_{s.name}.up.sql" in known])
    with halfway(postgres, BEFORE, scripts(BEFORE, "up"), tmp_path) as (ours, theirs):
        fill(tmp_path / "theirs", files)
        ours.execute(table)
        migrate = Migrate(call, ours, tmp_path / "migrations")
        result = migrate("adopt", "prisma", "--files", tmp_path / "theirs", "--json")
        assert result.exit_code == 0, result.stderr
        assert (len(result.json["applied"]), len(result.json["pending"])) == (597, PENDING)
        assert (
            "20260630120001_drop_project_alert_run_subgraph_foreign_keys" in result.json["pending"]
        )
        waiting = {"applied": BEFORE.ups, "pending": PENDING - LATE, "out of order": LATE}
        assert states(migrate) == waiting
        assert up(migrate, "--out-of-order") == PENDING
        late = [path for path in scripts(AFTER, "up") if path.name not in known]
        by_psql(theirs, AFTER, late, tmp_path)
        assert run(migrate, "status", "--check")[0] == 0
        leave_out = "--exclude-table=public._prisma_migrations"
        assert schema(ours, leave_out) == schema(theirs, leave_out)


def test_of_two_tools_tables_the_one_that_is_named_is_taken_over(
    postgres: Postgres, tmp_path: Path
) -> None:
    """The project changed from sql-migrate to golang-migrate."""
    corpus = next(each for each in CORPUS if each.folder == "chirpstack_as")
    found, ups = sources(corpus.history), scripts(corpus.history, "up")
    with halfway(postgres, corpus.history, ups[:30], tmp_path) as (ours, _):
        _, before = _sql_migrate(found, found[:20])
        files, table = corpus.layout(found, found[:30])
        fill(tmp_path / "theirs", files)
        ours.execute(before + ";" + table)
        migrate = Migrate(call, ours, tmp_path / "theirs")
        result = migrate("up")
        assert result.exit_code == 4
        assert "golang-migrate in public.schema_migrations" in result.stderr
        assert "sql-migrate in public.gorp_migrations" in result.stderr
        assert len(migrate("adopt", "--json").json["found"]) == 2
        result = migrate("adopt", "golang-migrate", "--retire")
        assert result.exit_code == 0, result.stderr
        assert states(migrate) == {"applied": 30, "pending": 30}
        assert up(migrate) == 30


def test_a_table_that_was_moved_and_renamed_is_found_by_its_name(
    postgres: Postgres, tmp_path: Path
) -> None:
    corpus = next(each for each in CORPUS if each.folder == "quickwit")
    found, ups = sources(corpus.history), scripts(corpus.history, "up")
    with halfway(postgres, corpus.history, ups[:10], tmp_path) as (ours, _):
        files, table = corpus.layout(found, found[:10])
        fill(tmp_path / "theirs", files)
        ours.execute(
            f"{table}; alter table _sqlx_migrations rename to applied;"
            'create schema "Old tools"; alter table applied set schema "Old tools"'
        )
        migrate = Migrate(call, ours, tmp_path / "theirs")
        for name in ("applied", "Old tools.applied", '"Old tools".applied'):
            result = migrate("adopt", "sqlx", "--table", name, "--dry-run")
            assert result.exit_code == 0, result.stderr
        assert migrate("adopt", "sqlx", "--table", "applied", "--retire").exit_code == 0
        assert up(migrate) == len(found) - 10
        assert ours.rows('select count(*) from "Old tools".applied_retired') == [(10,)]


def test_a_history_of_pop_is_taken_over(contrib_postgres: Postgres, project_folder: Path) -> None:
    corpus = Corpus("hydra", "pop", _pop, 20, table="--exclude-table=public.schema_migration")
    with contrib_postgres.database() as database:
        if not has_uuid_ossp(database):
            pytest.skip(f"the PostgreSQL in {contrib_postgres.server.source} has no uuid-ossp")
    taken_over(contrib_postgres, project_folder, corpus)
