"""Real migration histories, in the layout and with the table of their own tools, become ours."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..conftest import Migrate, run_psql
from ..test_corpora import CORPORA
from .test_adopt import fill, states

pytestmark = [
    pytest.mark.corpora,
    pytest.mark.slow,
    pytest.mark.skipif(not CORPORA.is_dir(), reason=f"no migration histories in {CORPORA}"),
]

Layout = dict[str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """A migration of a corpus."""

    number: int
    name: str
    up: str
    down: str | None


def sources(folder: Path) -> list[Source]:
    """Return the migrations of a folder by number."""
    found = []
    for path in folder.glob("*.up.sql"):
        number, _, name = path.name.removesuffix(".up.sql").partition("_")
        down = path.with_name(path.name.replace(".up.sql", ".down.sql"))
        text = down.read_bytes().decode() if down.exists() else None
        found.append(Source(int(number), name, path.read_bytes().decode(), text))
    return sorted(found, key=lambda source: source.number)


def _digest(algorithm: str, text: str) -> str:
    return hashlib.new(algorithm, text.encode(), usedforsecurity=False).hexdigest()


def _sqlx(found: list[Source]) -> tuple[Layout, str]:
    files = {f"{s.number}_{s.name}.up.sql": s.up for s in found}
    files |= {f"{s.number}_{s.name}.down.sql": s.down for s in found if s.down is not None}
    rows = ", ".join(
        f"({s.number}, '', now(), true, '\\x{_digest('sha384', s.up)}', 1)" for s in found
    )
    return files, (
        "create table _sqlx_migrations (version bigint primary key, description text,"
        " installed_on timestamptz, success boolean, checksum bytea, execution_time bigint);"
        f"insert into _sqlx_migrations values {rows}"
    )


def _sqitch(found: list[Source]) -> tuple[Layout, str]:
    plan = ["%syntax-version=1.0.0", "%project=p", ""]
    plan += [f"c{s.number} 2024-01-01T00:00:00Z ann <a@x>" for s in found]
    files = {"sqitch.plan": "\n".join(plan)}
    files |= {f"deploy/c{s.number}.sql": s.up for s in found}
    files |= {f"revert/c{s.number}.sql": s.down for s in found if s.down is not None}
    rows = ", ".join(
        f"('{s.number}', '{_digest('sha1', s.up)}', 'c{s.number}', 'p', now() + '{n} s', now())"
        for n, s in enumerate(found)
    )
    return files, (
        "create schema sqitch; create table sqitch.changes (change_id text primary key, script_hash"
        " text, change text, project text, committed_at timestamptz, planned_at timestamptz);"
        f"insert into sqitch.changes values {rows}"
    )


def _sql_migrate(outside: frozenset[int]) -> Callable[[list[Source]], tuple[Layout, str]]:
    def layout(found: list[Source]) -> tuple[Layout, str]:
        files = {
            f"{s.number}_{s.name}.sql": (
                f"-- +migrate Up{' notransaction' if s.number in outside else ''}\n{s.up}\n"
                f"-- +migrate Down\n{s.down or ''}"
            )
            for s in found
        }
        rows = ", ".join(f"('{name}', now())" for name in files)
        return files, (
            "create table gorp_migrations (id text primary key, applied_at timestamptz);"
            f"insert into gorp_migrations values {rows}"
        )

    return layout


@dataclass(frozen=True, slots=True)
class Corpus:
    """A folder of the corpora, its tool, and how that lays out files and table."""

    folder: str
    tool: str
    layout: Callable[[list[Source]], tuple[Layout, str]]
    creates_roles: bool = False
    since: int = 13


CORPUS = (
    # No scratch database on the same server can be compared with it.
    Corpus("cif", "sqitch", _sqitch, creates_roles=True, since=14),  # 80 has an infinite numeric
    Corpus("quickwit", "sqlx", _sqlx),
    Corpus("horizon", "sql-migrate", _sql_migrate(frozenset([49, 51]))),
)


@pytest.mark.parametrize("corpus", CORPUS, ids=lambda corpus: corpus.folder)
def test_a_real_history_in_its_own_layout_is_taken_over(
    migrate: Migrate, tmp_path: Path, corpus: Corpus
) -> None:
    if migrate.database.postgres.version < corpus.since:
        pytest.skip(f"{corpus.folder} needs PostgreSQL {corpus.since}")
    found = sources(CORPORA / corpus.folder)
    paths = sorted(
        (CORPORA / corpus.folder).glob("*.up.sql"), key=lambda p: int(p.name.partition("_")[0])
    )
    done = run_psql(migrate.database, *(f"--file={path}" for path in paths))
    assert done.returncode == 0, done.stderr
    files, table = corpus.layout(found)
    # The pairs of sqlx are used where they are.
    theirs = migrate.directory if corpus.tool == "sqlx" else tmp_path / "theirs"
    fill(theirs, files)
    migrate.database.execute(table)
    options = ["--unchecked"] if corpus.creates_roles else []
    result = migrate("adopt", corpus.tool, "--files", theirs, "--json", *options)
    assert result.exit_code == 0, result.stderr or result.stdout
    assert list(states(migrate).values()) == ["applied"] * len(found)
    assert migrate("up").exit_code == 0
    if corpus.creates_roles:
        assert migrate("down", "--steps", "20").exit_code == 0
        return
    ignored = ("public.gorp_migrations*", "public._sqlx_migrations*")
    drift = migrate("drift", *(word for name in ignored for word in ("--ignore", name)))
    assert drift.exit_code == 0, drift.stdout + drift.stderr
