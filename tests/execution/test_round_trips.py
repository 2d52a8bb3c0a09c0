"""How often the program waits for the server: counted, not timed.

A round trip is counted when a client has to wait for an answer before it sends on
(`proxy.counting`).  The connections are unencrypted and ask for no password, so
that each costs one: a network's own (TCP), encryption (1 and those of TLS) and a password by
SCRAM (2) come on top, for every program alike.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from ..benchmarks.corpus import write_pairs
from ..conftest import Database, Migrate
from ..proxy import Proxy, counting

pytestmark = pytest.mark.slow

CONNECTION = 1


@pytest.fixture
def proxy(database: Database) -> Iterator[Proxy]:
    with counting(database.url) as proxy:
        yield proxy


def round_trips(migrate: Migrate, proxy: Proxy, *arguments: str) -> list[int]:
    """Run a command that succeeds, and give the round trips of each of its connections."""
    proxy.round_trips.clear()
    result = migrate(*arguments, database=proxy.url)
    assert result.exit_code == 0, result.stderr
    return list(proxy.round_trips)


@pytest.fixture
def hundred(migrate: Migrate) -> Migrate:
    """The program with a hundred small migrations."""
    directory = write_pairs(migrate.directory / "pairs", 100)
    return Migrate(migrate.run, migrate.database, directory)


@pytest.fixture
def hundred_applied(hundred: Migrate) -> Migrate:
    """The program with a hundred small migrations that are applied."""
    result = hundred("up")
    assert result.exit_code == 0, result.stderr
    return hundred


def test_a_connection_costs_one_round_trip(proxy: Proxy) -> None:
    psycopg.connect(proxy.url).close()
    assert proxy.round_trips == [CONNECTION]


def test_a_client_that_waits_for_each_answer_is_counted_each_time(proxy: Proxy) -> None:
    with psycopg.connect(proxy.url, autocommit=True) as conn:
        for _ in range(5):
            conn.execute("select 1")
    assert proxy.round_trips == [CONNECTION + 5]


def test_a_client_that_sends_on_without_waiting_is_counted_once(proxy: Proxy) -> None:
    with psycopg.connect(proxy.url, autocommit=True) as conn, conn.pipeline():
        for _ in range(5):
            conn.execute("select 1")
    assert proxy.round_trips == [CONNECTION + 1]


def test_copy_data_are_sent_after_a_round_trip_of_their_own(proxy: Proxy) -> None:
    with psycopg.connect(proxy.url, autocommit=True) as conn:
        conn.execute("create table t (a text)")
        with conn.cursor().copy("copy t from stdin") as copy:
            copy.write("one\ntwo\n")
    assert proxy.round_trips == [CONNECTION + 3]


def of_run(trips: list[int]) -> list[int]:
    """Those of a run's two sessions; a third looks at what stands still, as on a busy machine."""
    assert len(trips) in (2, 3)
    return trips[:2]


def test_a_hundred_migrations_are_applied_in_twenty_round_trips(
    hundred: Migrate, proxy: Proxy
) -> None:
    assert sum(of_run(round_trips(hundred, proxy, "up"))) <= 20
    assert hundred.database.rows("select count(*) from migration_versions") == [(100,)]


def test_a_hundred_migrations_are_reverted_in_twenty_round_trips(
    hundred_applied: Migrate, proxy: Proxy
) -> None:
    assert sum(of_run(round_trips(hundred_applied, proxy, "down", "--all"))) <= 20
    assert hundred_applied.database.rows("select count(*) from migration_versions") == [(0,)]


@pytest.mark.parametrize("command", ["up", "status", "verify"])
def test_where_nothing_is_to_be_done_one_connection_and_three_round_trips_suffice(
    hundred_applied: Migrate, proxy: Proxy, command: str
) -> None:
    (once,) = round_trips(hundred_applied, proxy, command)
    assert once <= CONNECTION + 3


def test_a_fresh_database_is_asked_no_more_than_one_with_a_history(
    hundred: Migrate, proxy: Proxy
) -> None:
    (once,) = round_trips(hundred, proxy, "status")
    assert once <= CONNECTION + 3
