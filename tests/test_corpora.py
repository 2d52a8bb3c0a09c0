"""Real migration histories: the program leaves the schema that psql leaves, up and down.

They are read in place.  A history that needs an option, or another number, gets it in a copy.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from migrator.sql import foreign
from tests.conftest import (
    PROJECT,
    Database,
    Migrate,
    Postgres,
    call,
    dump_schema,
    find_program,
    run_psql,
)

CORPORA = PROJECT.parent / "shared" / "corpora"

pytestmark = [
    pytest.mark.corpora,
    pytest.mark.slow,
    pytest.mark.skipif(not CORPORA.is_dir(), reason=f"no migration histories in {CORPORA}"),
]

OPTION = b"-- migrator: no-transaction\n"
OUR_TABLES = tuple(f"public.migration_{name}" for name in ("versions", "repeatables", "log"))

# Coarse on purpose, and none of the program's own code: it may not be its own judge.
COMMENT = re.compile(r"/\*.*?\*/|--[^\n]*", re.DOTALL)
CONCURRENT = re.compile(r"^\s*(create|drop)\s+(unique\s+)?index\s+concurrently\b", re.I | re.M)
BLOCK = re.compile(r"^\s*begin\s*;", re.I | re.M)
WHOLE_BLOCK = re.compile(r"\s*begin\s*;.*\b(commit|end)\s*;\s*", re.I | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Failure:
    """A down script that fails, under psql too."""

    version: str
    line: int
    sqlstate: str


@dataclass(frozen=True, slots=True)
class History:
    """A folder of the corpora, and what its README says of it.

    Attributes:
        ups: How many there are.
        downs: How many can be taken back, the newest first.
        optioned: How many files need the option `no-transaction`; without any the folder
            itself is used, not a copy.
        back_to: What `down --to` is told; None for `--all`.
        failure: What ends the way back; None if nothing fails.
        gap: The version on the way back that has no down script; None if there is none.
        is_undone: The downs lead back to the schema that there was before.
        setup: What is there beforehand.
        autocommit: The files of which no word in the text tells that they need the option.
        renamed: The files that get another number.
        since: The oldest PostgreSQL that can run it.
    """

    folder: str
    ups: int
    downs: int = 0
    optioned: int = 0
    back_to: str | None = None
    failure: Failure | None = None
    gap: str | None = None
    is_undone: bool = False
    setup: str = ""
    autocommit: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=dict)
    since: int = 13

    @property
    def source(self) -> Path:
        return CORPORA / self.folder

    def runs_outside(self, path: Path) -> bool:
        """Whether psql is not to put a transaction around this file."""
        text = path.read_text(encoding="utf-8")
        return bool(CONCURRENT.search(text) or BLOCK.search(text) or path.name in self.autocommit)

    def needs_option(self, path: Path) -> bool:
        """Whether the program has to be told so.

        It has not of one single CREATE INDEX CONCURRENTLY, nor of BEGIN … COMMIT around all.
        """
        bare = COMMENT.sub("", path.read_text(encoding="utf-8"))
        statements = [part for part in bare.split(";") if part.strip()]
        is_alone = CONCURRENT.match(bare) and len(statements) == 1
        is_wrapped = WHOLE_BLOCK.fullmatch(bare)
        return self.runs_outside(path) and not is_alone and not is_wrapped


HISTORIES = (
    History("authelia", 26, 26, is_undone=True),
    History(
        "chirpstack_as",
        60,
        60,
        is_undone=True,
        setup="create extension hstore; create extension pg_trgm",
    ),
    # 0049 creates two indexes concurrently beside a table and functions.
    History("horizon", 72, 71, optioned=1, gap="0067_drop_payment_index", is_undone=True),
    # 80 stores Infinity as a numeric.
    History("cif", 184, 184, is_undone=True, since=14),
    History("river", 7, 7, is_undone=True),
    History(
        "harbor",
        39,
        # It alters the table of the tool that it was written for.
        setup="create table schema_migrations ("
        " version bigint not null primary key, dirty boolean not null)",
    ),
    # 6 to 8 have no down, for which --all is refused; 20 fails before they are reached.
    History("quickwit", 28, 8, back_to="19", failure=Failure("20", 2, "42601")),
    # 14 ups and 2 downs create indexes concurrently beside other statements.
    History(
        "hatchet",
        181,
        7,
        optioned=17,
        back_to="20260313020635",
        failure=Failure("20260316185928", 1, "42P01"),
        # It adds values to an enum and uses one, which PostgreSQL allows after a commit only.
        autocommit=frozenset(["20250323220955_v1_0_8.up.sql"]),
    ),
    History(
        "hydra",
        228,
        176,
        failure=Failure("0052", 1, "42P01"),
        setup='create extension "uuid-ossp"',
    ),
)

# 7 files have a BEGIN … COMMIT around a part.
BEFORE = History("upgrade/triggerdev/A", 597, optioned=7)
# Two files have one number, which their own tool, that goes by the names, allows.
TWIN = "drop_project_alert_run_subgraph_foreign_keys.up.sql"
AFTER = History(
    "upgrade/triggerdev/B",
    820,
    optioned=7,
    renamed={f"20260630120000_{TWIN}": f"20260630120001_{TWIN}"},
)
PENDING, LATE = 223, 12


@pytest.fixture(params=["postgres", "contrib_postgres"])
def server(request: pytest.FixtureRequest) -> Postgres:
    """The server of all tests, then one with contrib, which is an older one as a rule."""
    server = request.getfixturevalue(str(request.param))
    assert isinstance(server, Postgres)
    find_program("pg_dump", server)  # both skip the test where they are missing
    find_program("psql", server)
    return server


def number(path: Path) -> int:
    return int(path.name.partition("_")[0])


def scripts(history: History, direction: str) -> list[Path]:
    """The scripts in the order that psql runs them in."""
    paths = sorted(history.source.glob(f"*.{direction}.sql"))
    return sorted(paths, key=number, reverse=direction == "down")


def prepared(history: History, copy: Path) -> Path:
    """Give the folder itself, or a copy whose files have the option and the number they need."""
    paths = sorted(history.source.iterdir())
    optioned = {path for path in paths if history.needs_option(path)}
    assert len(optioned) == history.optioned
    if not optioned and not history.renamed:
        return history.source
    copy.mkdir()
    for path in paths:
        name = history.renamed.get(path.name, path.name)
        (copy / name).write_bytes((OPTION if path in optioned else b"") + path.read_bytes())
    return copy


def set_up(history: History, databases: Iterable[Database]) -> None:
    """Make the databases alike, to the time of day."""
    # hatchet makes partitions for "today": here it is noon, so that no day ends during the test.
    hours = 12 - datetime.now(UTC).hour
    for database in databases:
        database.execute(f"alter database {database.name} set timezone to '<noon>{-hours}'")
        if history.setup:
            database.execute(history.setup)


def run(program: Migrate, *arguments: str) -> tuple[int, Any]:
    """Run a command; give its exit code and its document."""
    result = program(*arguments, "--json")
    return result.exit_code, result.json


def up(program: Migrate, *options: str) -> int:
    """Apply what is pending, and give the number of migrations."""
    code, document = run(program, "up", *options)
    assert code == 0, document
    return len(document["steps"])


def states(program: Migrate) -> Counter[str]:
    code, document = run(program, "status")
    assert code == 0, document
    return Counter(entry["state"] for entry in document["versions"])


def schema(database: Database) -> str:
    return dump_schema(database, *(f"--exclude-table={table}" for table in OUR_TABLES))


def psql(
    database: Database, history: History, paths: Iterable[Path], driver: Path
) -> subprocess.CompletedProcess[str]:
    r"""Run scripts as `psql -f` each, with `-1` where that can be, but all in one process.

    `\connect` gives every script a session of its own.
    """
    lines: list[str] = []
    for path in paths:
        include = rf"\include '{path}'"
        in_session = [include] if history.runs_outside(path) else ["begin;", include, "commit;"]
        lines += [r"\connect", *in_session]
    driver.write_text("\n".join(lines), encoding="utf-8")
    return run_psql(database, "--set=VERBOSITY=verbose", "--file", driver)


def take_back(program: Migrate, history: History) -> tuple[int, Any]:
    """Run `down` as far as it goes; a version without a down is forgotten by hand."""
    if history.gap:
        code, document = run(program, "down", "--to", history.gap)
        assert code == 0, document
        forget = f"delete from migration_versions where version = '{history.gap}'"
        program.database.execute(forget)
    target = ("--to", history.back_to) if history.back_to else ("--all",)
    return run(program, "down", *target)


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.folder)
def test_a_history_goes_up_and_back_as_under_psql(
    history: History, server: Postgres, tmp_path: Path
) -> None:
    if server.version < history.since:
        pytest.skip(f"{history.folder} needs PostgreSQL {history.since}")
    with server.database() as ours, server.database() as theirs:
        if "uuid-ossp" in history.setup and not has_uuid_ossp(ours):
            pytest.skip(f"the PostgreSQL in {server.server.source} has no uuid-ossp")
        set_up(history, (ours, theirs))
        before = schema(ours)
        program = Migrate(call, ours, prepared(history, tmp_path / "migrations"))

        assert up(program) == history.ups
        done = psql(theirs, history, scripts(history, "up"), tmp_path / "up.sql")
        assert (done.returncode, done.stderr.count("ERROR:")) == (0, 0), done.stderr
        assert schema(ours) == schema(theirs) != before
        assert up(program) == 0

        code, document = take_back(program, history)
        done = psql(theirs, history, scripts(history, "down"), tmp_path / "down.sql")
        if history.failure:
            assert_failed(history.failure, code, document, done)
        elif history.downs:
            assert (code, done.returncode) == (0, 0), (document, done.stderr)
        else:
            assert code == 4, document
            assert {error["code"] for error in document["error"]["errors"]} == {"irreversible"}
        assert schema(ours) == schema(theirs)
        assert (schema(ours) == before) == history.is_undone
        left = history.ups - history.downs - bool(history.gap)
        assert states(program)["applied"] == left


def has_uuid_ossp(database: Database) -> bool:
    return bool(database.rows("select from pg_available_extensions where name = 'uuid-ossp'"))


def assert_failed(
    failure: Failure, code: int, document: Any, psql: subprocess.CompletedProcess[str]
) -> None:
    """Both stop at the same place, for the same reason."""
    error = document["error"]
    assert (code, error["code"]) == (1, "statement"), document
    assert error["version"].startswith(f"{failure.version}_")
    assert (error["line"], error["sqlstate"]) == (failure.line, failure.sqlstate)
    assert psql.returncode == 3
    place = rf"/{failure.version}_[^/]*\.down\.sql:{failure.line}: ERROR:  {failure.sqlstate}"
    assert re.search(place, psql.stderr), psql.stderr


def test_two_real_files_with_one_number_are_refused(migrate: Migrate) -> None:
    code, document = run(Migrate(call, migrate.database, AFTER.source), "up")
    assert code == 4
    (error,) = (e for e in document["error"]["errors"] if "both have number" in e["message"])
    assert "20260630120000_add_webhook_delivery_filter.up.sql" in error["message"]
    assert f"20260630120000_{TWIN}" in error["message"]


def test_a_history_that_has_grown_below_its_newest_is_applied_only_when_asked(
    server: Postgres, tmp_path: Path
) -> None:
    old = {path.name for path in BEFORE.source.iterdir()}
    added = [path for path in scripts(AFTER, "up") if path.name not in old]
    newest = number(scripts(BEFORE, "up")[-1])
    late = [path.name.removesuffix(".up.sql") for path in added if number(path) < newest]
    assert (len(added), len(late)) == (PENDING, LATE)

    with server.database() as ours, server.database() as theirs:
        assert up(Migrate(call, ours, prepared(BEFORE, tmp_path / "A"))) == BEFORE.ups
        program = Migrate(call, ours, prepared(AFTER, tmp_path / "B"))
        waiting = {"applied": BEFORE.ups, "pending": PENDING - LATE, "out of order": LATE}
        assert states(program) == waiting

        code, document = run(program, "up")
        assert code == 4
        errors = document["error"]["errors"]
        assert [error["version"] for error in errors] == late
        assert {error["code"] for error in errors} == {"out-of-order"}
        assert states(program) == waiting

        assert up(program, "--out-of-order") == PENDING
        assert states(program) == {"applied": AFTER.ups}
        assert up(program) == 0

        paths = [*scripts(BEFORE, "up"), *added]
        done = psql(theirs, AFTER, paths, tmp_path / "psql.sql")
        assert (done.returncode, done.stderr.count("ERROR:")) == (0, 0), done.stderr
        assert schema(ours) == schema(theirs)


def test_no_file_is_taken_for_one_of_another_format() -> None:
    texts = [path.read_text(encoding="utf-8") for path in CORPORA.rglob("*.sql")]
    assert len(texts) > 3000
    assert not any(foreign.may_be_foreign(text) for text in texts)


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.folder)
def test_the_schema_file_of_a_history_makes_its_schema(
    postgres: Postgres, tmp_path: Path, history: History
) -> None:
    find_program("psql", postgres)
    with postgres.database() as database, postgres.database() as loaded:
        if history.since > postgres.version:
            pytest.skip(f"needs PostgreSQL {history.since}")
        if "uuid-ossp" in history.setup and not has_uuid_ossp(database):
            pytest.skip(f"the PostgreSQL in {postgres.server.source} has no uuid-ossp")
        set_up(history, [database])
        program = Migrate(call, database, prepared(history, tmp_path / "files"))
        assert up(program) == history.ups
        file = tmp_path / "schema.sql"
        assert program("dump", "--output", file).exit_code == 0
        assert run_psql(loaded, "--file", file).returncode == 0
        (tmp_path / "empty").mkdir()
        again = program("dump", "--allow-empty", database=loaded, dir=tmp_path / "empty").stdout
        # A null for a timestamp(3) is a null with a cast when it is read back.
        cast = "DEFAULT NULL::timestamp without time zone"
        ours, theirs = (text.replace(cast, "DEFAULT NULL") for text in (file.read_text(), again))
        assert theirs.splitlines()[2:] == ours.splitlines()[2:]
        if history.folder != "cif":  # it creates roles
            assert program("verify", "--schema-file", file).exit_code == 0
