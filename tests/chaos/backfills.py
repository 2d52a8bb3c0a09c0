"""Tables that a statement works through in batches while others write in them.

Each value that the statement's condition holds for is a number of its own, which a trigger counts
three times: when it is made, when the statement has done it, and when a writer has taken it away.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import psycopg

from .histories import Sql, Unit

_ROWS = 4000  # in some 160 blocks
_WRITERS = 2
_MAKES = 40  # by each writer: passes go on while there are new rows
_THINK = 0.006  # seconds at the most between two transactions of a writer

GROUND = (
    "create sequence numbers start 1000001",
    "create table tally (what text, number bigint, kind text, xid xid8)",
    "create table looked (n bigint generated always as identity, what text, snapshot pg_snapshot,"
    " query text)",
    """create function tally() returns trigger language plpgsql as $body$
declare
  taken text := case current_setting('application_name') when 'writer' then 'gone' else 'done' end;
begin
  if tg_op <> 'INSERT' and old.v > 0 and (tg_op = 'DELETE' or new.v <> old.v) then
    insert into public.tally values (tg_argv[0], old.v, taken, pg_current_xact_id());
  end if;
  if tg_op <> 'DELETE' and new.v > 0 and (tg_op = 'INSERT' or new.v <> old.v) then
    insert into public.tally values (tg_argv[0], new.v, 'made', pg_current_xact_id());
  end if;
  return null;
end;
$body$""",
    """create function copied() returns trigger language plpgsql as $body$
begin
  insert into public.tally values (tg_argv[0], new.v, 'done', pg_current_xact_id());
  return null;
end;
$body$""",
)
"""What all of them need."""

_COLUMNS = "id bigint not null, v bigint, pad text default repeat('x', 300), primary key (id)"
_TRIGGER = (
    "create trigger tally after {when} on {table} for each row execute function {how}('{what}')"
)
NOTED = "with noted as (insert into looked (what, snapshot, query)"
"""How a statement that runs in batches begins."""

_LOOK = "select '{table}', pg_current_snapshot(), current_query())"
_FORMS = (
    ("backfill {table}", "update {table} set v = -v where v > 0 /* batch */"),
    ("backfill {table} as x", "update {table} x set v = -v where v > 0 /* batch */"),
    ("backfill {table} by id", "update {table} set v = -v where v > 0 /* batch */"),
    ("backfill {table}", "delete from {table} where v > 0 /* batch */"),
    ("backfill {table} by id", "delete from {table} where v > 0 /* batch */"),
    (
        "backfill {table}",
        "insert into {table}_copy select v from {table} where v > 0 /* batch */"
        " on conflict do nothing",
    ),
    (
        "repeat",
        "update {table} set v = -v where v > 0"
        " and id in (select id from {table} where v > 0 order by id limit 400)",
    ),
)


def units(random: Random, table: str) -> list[Unit]:
    """Make a table, and a statement that does each of its rows once, in batches."""
    partitions = random.choice([0, 0, 2])
    made = [f"create table {table} ({_COLUMNS})" + " partition by hash (id)" * bool(partitions)]
    for number in range(partitions):
        values = f"for values with (modulus {partitions}, remainder {number})"
        made.append(f"create table {table}_{number} partition of {table} {values}")
    every = "insert or update or delete"
    made += [
        f"create table {table}_copy (v bigint primary key)",
        _TRIGGER.format(table=f"{table}_copy", when="insert", how="copied", what=table),
        _TRIGGER.format(table=table, when=every, how="tally", what=table),
        f"insert into {table} select i, i from generate_series(1, {_ROWS}) i",
    ]
    option, statement = (part.format(table=table) for part in random.choice(_FORMS))
    text = f"-- migrator: {option}\n{NOTED} {_LOOK.format(table=table)}\n{statement}"
    ground = Unit(tuple(map(Sql, made)), is_block=True)
    return [ground, Unit((Sql(text),), batched=table)]


@dataclass(frozen=True, slots=True)
class Tally:
    """What has become of the numbers of one table, at one moment.

    Attributes:
        wrong: Sentences about numbers that were done twice or lost, and batches out of order.
        missed: Numbers that nothing has done, though the last statement could see them.
        done: How many the statement has done.
    """

    wrong: tuple[str, ...]
    missed: tuple[int, ...]
    done: int


_TOKENS = """
select number,
       count(*) filter (where kind = 'made'),
       count(*) filter (where kind = 'done'),
       count(*) filter (where kind = 'gone'),
       count(distinct v),
       pg_visible_in_snapshot(
           min(xid::text) filter (where kind = 'made')::xid8,
           (select snapshot from looked where what = '{0}' order by n desc limit 1)
       )
from tally
left join (select v from {0} where v > 0) t on v = number
where what = '{0}'
group by number
"""
_THERE = "select what from (select distinct what from tally) t where to_regclass(what) is not null"
_START, _END = (re.compile(rf"{sign}=?\)? '\(?(-?\d+)") for sign in "><")


def tallies(conn: psycopg.Connection[Any]) -> dict[str, Tally]:
    """Count what has become of the numbers of all tables."""
    if conn.execute("select to_regclass('tally') is null").fetchall() == [(True,)]:
        return {}
    return {table: _tally(conn, table) for (table,) in conn.execute(_THERE).fetchall()}


def _tally(conn: psycopg.Connection[Any], table: str) -> Tally:
    query = "select query from looked where what = %s order by n"
    queries = [text for (text,) in conn.execute(query, [table]).fetchall()]
    is_copied = any(f"insert into {table}_copy" in text for text in queries)
    wrong, missed, count = [*_gaps(table, queries)], [], 0
    for number, made, done, gone, there, is_seen in conn.execute(_TOKENS.format(table).encode()):
        left = 0 if is_copied else done
        if made != 1 or done > 1 or left + gone + there != 1:
            wrong.append(f"{table}: {number} made {made}, done {done}, gone {gone}, left {there}")
        if is_seen and there and not done:
            missed.append(number)
        count += done
    return Tally(tuple(wrong), tuple(missed), count)


def _gaps(table: str, queries: Sequence[str]) -> Iterator[str]:
    """Say where a batch does not begin where the one before it ended; a pass begins anew."""
    last = None
    for query in queries:
        condition = query.rpartition("v > 0")[2]
        start, end = (next(iter(bound.findall(condition)), None) for bound in (_START, _END))
        if start not in (None, "0", last):
            yield f"{table}: a batch begins with {start}, the one before ended with {last}"
        last = end


@contextlib.contextmanager
def writers(url: str, tables: Sequence[str], random: Random) -> Iterator[None]:
    """Have others write in some tables as soon as these exist."""
    ended = threading.Event()
    threads = [
        threading.Thread(target=_write, args=(url, tables, Random(random.random()), ended))
        for _ in range(_WRITERS if tables else 0)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


_CHANGES = (
    "update {table} set pad = pad || 'y' where id between {id} and {id} + 9",
    "delete from {table} where id between {id} and {id} + 1",
    "vacuum {table}",
)
_MAKING = (
    "update {table} set v = nextval('numbers') where id between {id} and {id} + 2",
    "insert into {table} (id, v) values (nextval('numbers'), nextval('numbers'))",
    "insert into {table} (id, v) values (-nextval('numbers'), nextval('numbers'))",
    "begin; update {table} set v = v + 0 where id = {id}; select pg_sleep(0.02); commit",
    "begin; update {table} set v = nextval('numbers') where id between {id} and {id} + 2; rollback",
)


def _write(url: str, tables: Sequence[str], random: Random, ended: threading.Event) -> None:
    statements = iter([*random.choices([*_MAKING, *_CHANGES[:2]], k=_MAKES)])
    while not ended.is_set():
        # A server that is started again, or a table that does not exist yet.
        with (
            contextlib.suppress(psycopg.Error),
            psycopg.connect(url, autocommit=True, application_name="writer") as conn,
        ):
            conn.execute("set lock_timeout = '50ms'")
            conn.execute("set synchronous_commit = on")
            while not ended.wait(random.uniform(0, _THINK)):
                table, row = random.choice(tables), random.randint(1, _ROWS)
                there = conn.execute("select to_regclass(%s)::text", [table]).fetchall()
                if there != [(table,)]:
                    continue
                text = next(statements, None) or random.choice(_CHANGES)
                conn.execute(text.format(table=table, id=row).encode())
        ended.wait(0.02)
