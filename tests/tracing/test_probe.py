"""What statements lock, rewrite, read and change, as the server reports it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import TupleRow

from migrator.tracing import diff, probe
from migrator.tracing.trace import LockMode, ObjectChange, Touch, Trace

from ..conftest import Database, Postgres
from ..sessions import holding

FOLDER = Path(__file__).parent / "statements"
NOTHING, PERHAPS = "nothing", "perhaps "


@dataclass(slots=True)
class Row:
    """An entry of `statements.txt`, which describes its format at the top."""

    statements: list[str] = field(default_factory=list)
    expected: dict[str, str] = field(default_factory=dict)
    since: dict[int, dict[str, str]] = field(default_factory=dict)
    perhaps: dict[str, str] = field(default_factory=dict)
    needs: int = 13

    def at(self, version: int, found: dict[str, str]) -> dict[str, str]:
        """Return what is expected of a version, given what it reports."""
        names = found.keys() & self.perhaps
        expected = self.expected | {name: self.perhaps[name] for name in names}
        for since, otherwise in sorted(self.since.items()):
            expected |= otherwise if since <= version else {}
        return expected


def rows() -> Iterator[Row]:
    text = (FOLDER / "statements.txt").read_text()
    for paragraph in re.split(r"\n{2,}", text):
        row = Row()
        for line in paragraph.splitlines():
            if line.startswith("#"):
                continue
            since, rest = _since(line.strip())
            if not line.startswith(" "):
                row.statements.append(rest)
                row.needs = since
            elif rest != NOTHING:
                found = row.expected if since == row.needs else row.since.setdefault(since, {})
                if rest.startswith(PERHAPS):
                    rest, found = rest.removeprefix(PERHAPS), row.perhaps
                names, _, fate = rest.partition(": ")
                found |= dict.fromkeys(names.split(", "), fate)
        if row.statements:
            yield row


def _since(line: str) -> tuple[int, str]:
    found = re.fullmatch(r"since (\d+), (.*)", line)
    return (int(found[1]), found[2]) if found else (13, line)


ROWS = list(rows())


# A trace as sentences


def sentences(trace: Trace) -> dict[str, str]:
    """Describe each relation and object as `statements.txt` does."""
    assert len({touch.relation.name for touch in trace.touches}) == len(trace.touches)
    found = {
        short(touch.relation.name): of_touch(touch, is_made=touch.relation in trace.created)
        for touch in trace.touches
    }
    return found | {f"{each.kind} {short(each.name)}": of_object(each) for each in trace.objects}


def of_touch(touch: Touch, *, is_made: bool) -> str:
    words = ["created"] if is_made else []
    mode = touch.mode.sql.lower() if touch.mode else "no lock"
    words += [mode if touch.is_stronger else "held"]
    words += ["ours"] * (touch.is_ours and not is_made)
    words += ["rewritten"] * touch.rewritten + ["dropped"] * touch.dropped
    words += [f"was {short(touch.renamed_from)}"] if touch.renamed_from else []
    words += ["scanned" + (f" {touch.scans} times" if touch.scans > 1 else "")] * bool(touch.scans)
    for name in ("inserted", "updated", "deleted"):
        words += [f"{count} {name}"] if (count := getattr(touch, name)) else []
    words += [f"+ {column}" for column in touch.columns_added]
    words += [f"- {column}" for column in touch.columns_dropped]
    words += [f"{before} is {after}" for before, after in touch.columns_renamed]
    words += [f"{column} not null" for column in touch.not_null_set]
    words += [f"{column} of another type" for column in touch.types_changed]
    for each in touch.constraints:
        of_what = " ".join([each.kind, ", ".join(each.columns)]).strip()
        to = f" -> {short(each.references)}" if each.references else ""
        words.append(f"{each.name} ({of_what}{to}) {each.change}")
    return ", ".join(words)


def of_object(change: ObjectChange) -> str:
    words = ["dropped"] * change.dropped
    words += [f"was {change.renamed_from}"] if change.renamed_from else []
    words += [f"+ {label}" for label in change.values_added]
    words += [f"{before} is {after}" for before, after in change.values_renamed]
    return ", ".join(words)


def short(name: str) -> str:
    return re.sub(r"^pg_temp_\d+\.", "pg_temp.", name.removeprefix("public."))


# Asking

Session = psycopg.Connection[TupleRow]


def ask(conn: Session, question: bytes) -> diff.Snapshot:
    return diff.read(conn.execute(question).fetchall()[0][0])


def trace(conn: Session, *statements: str, schema: str = "migrator") -> Trace:
    """Run statements in a transaction, roll it back, and return the trace of the last one."""
    question = probe.after_statement(schema, conn.info.server_version)
    conn.execute("begin")
    try:
        before = after = start = ask(conn, probe.start(schema))
        for statement in statements:
            conn.execute(statement.encode())
            before, after = after, ask(conn, question)
    finally:
        conn.execute("rollback")
    return diff.difference(before, after, start)


def forget_statistics(conn: Session) -> None:
    """Reset the planner's statistics of every table.

    CREATE INDEX and others update them in place, which is not rolled back, so the scans of a
    statement would depend on the statements before it.
    """
    unknown = -1 if conn.info.server_version >= 140000 else 0
    conn.execute(
        f"""
        update pg_class
        set relpages = 0, reltuples = {unknown}
        where oid >= 16384
          and relkind in ('r', 'p', 'm')
          and (relpages, reltuples) <> (0, {unknown})
        """.encode()
    )


@pytest.fixture(scope="module")
def shop(postgres: Postgres) -> Iterator[Database]:
    """A database that `schema.sql` was run in."""
    with postgres.database() as database:
        database.execute((FOLDER / "schema.sql").read_text())
        yield database


@pytest.fixture(scope="module")
def session(shop: Database) -> Iterator[Session]:
    """One session for many traces, so that counters of one are seen by the next."""
    with shop.connect() as conn:
        conn.prepare_threshold = None
        yield conn


# The table


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "; ".join(row.statements))
def test_a_statement_does_what_the_table_says(session: Session, row: Row) -> None:
    version = session.info.server_version // 10000
    if version < row.needs:
        pytest.skip(f"needs PostgreSQL {row.needs}")
    forget_statistics(session)
    found = sentences(trace(session, *row.statements))
    assert found == row.at(version, found)


# Lock modes


def is_granted(conn: psycopg.Connection, mode: LockMode) -> bool:
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(f"lock table t in {mode.sql} mode nowait".encode())
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def conflicts(database: Database) -> dict[LockMode, set[LockMode]]:
    """Ask the server which modes each mode conflicts with."""
    database.execute("create table t ()")
    found = {}
    with database.connect() as conn:
        for mode in LockMode:
            with holding(database, f"lock table t in {mode.sql} mode"):
                found[mode] = {other for other in LockMode if not is_granted(conn, other)}
    return found


def test_a_lock_mode_conflicts_as_on_the_server(database: Database) -> None:
    found = conflicts(database)
    for mode in LockMode:
        assert mode.blocks_reads == (LockMode.ACCESS_SHARE in found[mode])
        assert mode.blocks_writes == (LockMode.ROW_EXCLUSIVE in found[mode])
    for weaker, stronger in combinations(sorted(LockMode), 2):
        # SHARE does not conflict with itself, unlike the weaker SHARE UPDATE EXCLUSIVE.
        assert found[weaker] - {LockMode.SHARE} <= found[stronger], (weaker, stronger)


# Left out


def test_our_own_tables_are_left_out(database: Database) -> None:
    database.execute(
        """
        create schema ours;
        create table ours.migration_versions (version text primary key);
        create table ours.migration_log (id bigint generated always as identity primary key);
        create table ours.migration_logs (id bigint);
        create table migration_versions (version text)
        """
    )
    statement = """
        with claimed as (insert into ours.migration_versions values ('1')),
             noted as (insert into ours.migration_log default values),
             other as (insert into ours.migration_logs values (1))
        select from public.migration_versions
    """
    with database.connect() as conn:
        assert set(sentences(trace(conn, statement, schema="ours"))) == {
            "migration_versions",
            "ours.migration_logs",
        }


def test_a_history_may_be_in_a_schema_of_any_name(database: Database) -> None:
    database.execute("""create schema "It's"; create table "It's".migration_log (id int)""")
    with database.connect() as conn:
        statement = """insert into "It's".migration_log values (1)"""
        assert trace(conn, statement, schema="It's") == Trace()


def test_what_an_earlier_transaction_counted_is_not_counted_again(database: Database) -> None:
    database.execute("create table orders as select 1 as id")
    with database.connect() as conn:
        conn.execute("insert into orders select id from orders")
        conn.execute("update orders set id = 2")
        found = sentences(trace(conn, "insert into orders values (3)"))
    assert found == {"orders": "row exclusive, 1 inserted"}


# Sessions and settings


def test_an_ordinary_role_can_trace(shop: Database, session: Session) -> None:
    session.execute("create role ordinary login password 'secret'")
    session.execute("create schema workshop authorization ordinary")
    try:
        with psycopg.connect(shop.tcp_url("ordinary", "secret"), autocommit=True) as conn:
            conn.execute("create table workshop.tools (id integer)")
            found = sentences(trace(conn, "alter table workshop.tools alter id type bigint"))
            assert found == {
                "workshop.tools": "access exclusive, rewritten, scanned, id of another type"
            }
            found = sentences(trace(conn, "drop table workshop.tools"))
            assert found == {"workshop.tools": "access exclusive, dropped"}
    finally:
        session.execute("drop owned by ordinary cascade")
        session.execute("drop role ordinary")


@pytest.mark.parametrize(
    "setting",
    [
        "set local search_path to archive, pg_catalog",
        "set local search_path to ''",
        "set transaction read only",
        "set local default_transaction_isolation to serializable",
        "set local standard_conforming_strings to off",
        "set local jit_above_cost to 0",
        "set local enable_indexscan to off",
    ],
)
def test_a_trace_does_not_depend_on_settings(session: Session, setting: str) -> None:
    found = sentences(trace(session, setting, "select from public.alone"))
    assert found == {"alone": "access share, scanned"}


def test_a_serializable_transaction_has_the_same_trace(session: Session) -> None:
    session.execute("set default_transaction_isolation to serializable")
    try:
        assert sentences(trace(session, "select from alone")) == {"alone": "access share, scanned"}
    finally:
        session.execute("reset default_transaction_isolation")


def test_a_prepared_query_has_the_same_answer(session: Session) -> None:
    session.execute("begin")
    session.execute(probe.prepare("migrator", session.info.server_version))
    session.execute("alter table orders add column extra integer")
    asked = ask(session, probe.after_statement("migrator", session.info.server_version))
    again = ask(session, probe.EXECUTE)
    assert asked.asked <= asked.answered <= again.asked <= again.answered
    assert replace(again, asked=asked.asked, answered=asked.answered) == asked
    session.execute(probe.DEALLOCATE)
    session.execute("rollback")


# Outside a transaction

OUTSIDE = [
    (
        "create index concurrently lines_text on lines (text)",
        {"lines": "share update exclusive", "lines_text": "created"},
    ),
    (
        "drop index concurrently orders_code",
        {"orders": "share update exclusive", "orders_code": "dropped"},
    ),
    (
        "reindex index concurrently orders_code",
        {"orders": "share update exclusive", "orders_code": "rewritten"},
    ),
    (
        "vacuum full orders",
        {"orders": "rewritten", "orders_code": "rewritten"},
    ),
    ("vacuum orders", {"orders": "share update exclusive"}),
    (
        "alter table events detach partition events_1 concurrently",
        {"events": "share update exclusive"},
    ),
]


@pytest.mark.parametrize(("statement", "expected"), OUTSIDE, ids=lambda each: str(each))
def test_a_statement_outside_a_transaction_is_watched(
    database: Database, statement: str, expected: dict[str, str]
) -> None:
    if statement.endswith(" concurrently") and database.postgres.version < 14:
        pytest.skip("needs PostgreSQL 14")
    database.execute((FOLDER / "schema.sql").read_text())
    found = sentences(watched(database, statement, "orders, lines, events"))
    for name, fate in expected.items():
        assert fate in found[name].split(", "), found


def watched(database: Database, statement: str, tables: str) -> Trace:
    """Trace a statement whose first lock is held by another session until it is seen waiting."""
    with database.connect() as holder, database.connect() as watcher, database.connect() as conn:
        before = ask(watcher, probe.start("migrator"))
        pids = conn.info.backend_pid, watcher.info.backend_pid
        holder.execute("begin")
        holder.execute(f"lock table {tables} in share update exclusive mode".encode())
        with (
            ThreadPoolExecutor(max_workers=1) as pool,
            probe.sampling(watcher, pids[0], probe.start("migrator")) as sampled,
        ):
            released = pool.submit(release_when_seen, holder, database, *pids)
            conn.execute(statement.encode())
            released.result()
        after = sampled.result()
    return diff.difference(before, after, before)


def release_when_seen(holder: Session, database: Database, pid: int, watcher: int) -> None:
    """Release the lock that a session waits for, once the watcher has sampled its locks."""
    waits = f"select 1 from pg_locks where pid = {pid} and not granted".encode()
    asked = f"select query_start from pg_stat_activity where pid = {watcher}".encode()
    with database.connect() as conn:
        while not conn.execute(waits).fetchall():
            pass
        for _ in range(2):
            last = conn.execute(asked).fetchall()
            while conn.execute(asked).fetchall() == last:
                pass
    holder.execute("rollback")


def test_a_trace_from_another_session_is_sampled(shop: Database) -> None:
    with shop.connect() as watcher, shop.connect() as conn:
        before = ask(watcher, probe.start("migrator"))
        with probe.sampling(watcher, conn.info.backend_pid, probe.start("migrator")) as sampled:
            pass
        found = diff.difference(before, sampled.result(), before)
    assert found == Trace(sampled=True)


def test_a_sampled_trace_has_the_strongest_lock(shop: Database) -> None:
    with shop.connect() as watcher, shop.connect() as conn:
        before = ask(watcher, probe.start("migrator"))
        conn.execute("begin")
        conn.execute("select from alone")
        conn.execute("lock table alone in share mode")
        with probe.sampling(watcher, conn.info.backend_pid, probe.start("migrator")) as sampled:
            pass
        (touch,) = diff.difference(before, sampled.result(), before).touches
    assert touch.mode is LockMode.SHARE
