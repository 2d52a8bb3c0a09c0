"""Generate histories of migrations that are worth interrupting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from . import backfills
from .histories import History, Repeatable, Sql, Unit, Version

_ROWS = (20, 50)
_ASKING = 0.5  # of the versions
# The first by its name needs the second; each counts in a table of its own how often it was run.
_REPEATABLES = (
    Repeatable(
        "R__b",
        (Sql("create or replace view b as select 1 as x"), Sql("insert into ran_b values ('b')")),
    ),
    Repeatable(
        "R__a",
        (Sql("insert into ran_a values ('a')"), Sql("create or replace view a as table b")),
        needs="R__b",
    ),
    Repeatable(
        "R__c",
        (
            Sql(
                "create or replace function c() returns integer language sql\n"
                "as $$ select pg_sleep(0.01); select 1 $$"
            ),
            Sql("insert into ran_c select 'c' from (select c()) as called"),
        ),
    ),
)


@dataclass(slots=True)
class _World:
    """What the versions generated so far have made."""

    random: Random
    tables: list[str] = field(default_factory=list)
    indexes: list[str] = field(default_factory=list)
    partitions: list[str] = field(default_factory=list)
    names: int = 0

    def name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}_{self.names}"

    def table(self) -> str:
        return self.random.choice(self.tables)


def generate(seed: int) -> History:
    """Make the history of a seed: the first version lays the ground, the rest is drawn.

    Every other history gives up the lock that its own session holds, as a script may do.  Only
    the keeper's session then keeps other runners out, and without it only the claims.
    """
    world = _World(Random(seed))
    ground = _ground(world)
    if seed % 2:
        ground.append(Sql("select pg_advisory_unlock_all()"))
    versions = [Version("01_ground", (_together(ground),))]
    drawn = world.random.choices(list(_KINDS), k=world.random.randint(3, 5))
    # No history without a file outside a transaction, and none without a data migration.
    drawn += [_outside, _data]
    world.random.shuffle(drawn)
    for number, kind in enumerate(drawn, 2):
        units, transactional = kind(world)
        name, asks = f"{number:02}_{kind.__name__.strip('_')}", world.random.random() < _ASKING
        versions.append(Version(name, tuple(units), transactional, asks))
    squashed = world.random.randint(1, 3) if seed % 3 == 2 else 0
    return History(tuple(versions), _REPEATABLES, squashed)


_Made = tuple[list[Unit], bool]


def _together(statements: list[Sql]) -> Unit:
    return Unit(tuple(statements))


def _alone(text: str) -> Unit:
    return Unit((Sql(text),), alone=True)


def _mark(world: _World) -> Sql:
    """Count something: a statement that ran twice, or not at all, shows."""
    return Sql(f"insert into marks values ('{world.name('mark')}')")


def _pause(world: _World) -> Sql:
    return Sql(f"select pg_sleep({world.random.uniform(0.01, 0.06):.3f})")


def _new_table(world: _World) -> list[Sql]:
    table = world.name("t")
    world.tables.append(table)
    rows = world.random.randint(*_ROWS)
    return [
        Sql(f"create table {table} (id integer primary key, v integer not null, note text)"),
        Sql(f"insert into {table} select i, i % 7, 'row; ' || i from generate_series(1, {rows}) i"),
    ]


def _ground(world: _World) -> list[Sql]:
    """An index over `dally(…)` takes a millisecond a row."""
    dally = (
        "create function dally(integer) returns integer language plpgsql immutable as $body$\n"
        "begin\n  perform pg_sleep(0.001);\n  return $1;\nend;\n$body$"
    )
    return [
        Sql("create table marks (what text not null)"),
        *map(Sql, backfills.GROUND),
        *(Sql(f"create table ran_{name} (what text not null)") for name in "abc"),
        Sql(dally),
        *_new_table(world),
        *_new_table(world),
        _mark(world),
    ]


def _tables(world: _World) -> _Made:
    old, column = world.table(), world.name("c")
    statements = [
        *_new_table(world),
        Sql(f"alter table {old} add column {column} integer not null default 5"),
        _pause(world),
        Sql(f"create index {world.name('i')} on {old} ({column})"),
        _mark(world),
        # What a file leaves in its session is nobody else's business.
        Sql(world.random.choice(["set search_path = ''", "set lock_timeout = '9s'", "select 1"])),
    ]
    return [_together(statements)], True


def _copy(world: _World) -> _Made:
    table = world.name("t")
    world.tables.append(table)
    rows = range(1, world.random.randint(*_ROWS) * 10)
    lines = "".join(f"{i}\t{i % 11}\tnote; {i} é\n" for i in rows)
    statements = [
        Sql(f"create table {table} (id integer primary key, v integer not null, note text)"),
        Sql(f"copy {table} (id, v, note) from stdin", lines),
        _mark(world),
        Sql(f"create unique index {world.name('i')} on {table} (id, v)"),
    ]
    return [_together(statements)], True


def _seed(world: _World) -> _Made:
    """Insert many rows, a statement each: they are sent together."""
    table, rows = world.name("t"), range(1, world.random.randint(600, 1500))
    world.tables.append(table)
    statements = [
        Sql(f"create table {table} (id integer primary key, v integer not null, note text)"),
        *(Sql(f"insert into {table} values ({i}, {i % 7}, 'row; {i}')") for i in rows),
        _mark(world),
    ]
    return [_together(statements)], True


def _functions(world: _World) -> _Made:
    function = world.name("f")
    body = f"begin\n  insert into marks values ('{function}; called');\n  perform 'a; b';\nend;\n"
    statements = [
        Sql(f"create function {function}() returns void language plpgsql as $$\n{body}$$"),
        Sql(f"select {function}()"),
        _pause(world),
        Sql(f"do $do$ begin perform {function}(); end $do$"),
        *_partitions(world),
    ]
    return [_together(statements)], True


def _partitions(world: _World) -> list[Sql]:
    parent = world.name("p")
    made = [Sql(f"create table {parent} (id integer, v integer) partition by range (id)")]
    for start in (0, 50):
        child = world.name("part")
        world.partitions.append(f"{parent} detach partition {child}")
        bounds = f"from ({start}) to ({start + 50})"
        made.append(Sql(f"create table {child} partition of {parent} for values {bounds}"))
    return [*made, Sql(f"insert into {parent} select i, i from generate_series(0, 99) i")]


def _data(world: _World) -> _Made:
    one, other = world.table(), world.table()
    statements = [
        Sql(f"update {one} set v = v + 1, note = note || '; again'"),
        _pause(world),
        Sql(f"insert into marks select 'sum ' || sum(v) from {other}"),
        Sql(f"update {other} set v = v + 10 where id % 3 = 0"),
    ]
    return [_together(statements)], True


def _single(world: _World) -> _Made:
    """Give one statement that cannot run in a transaction, in a file without an option."""
    return [_index(world)], False


def _index(world: _World) -> Unit:
    index, table = world.name("ci"), world.table()
    world.indexes.append(index)
    unique, keys = world.random.choice(
        [("", "v"), ("", "dally(v)"), ("", "dally(id)"), ("unique ", "id, dally(v)")]
    )
    guard = world.random.choice(["", "if not exists "])
    return _alone(f"create {unique}index concurrently {guard}{index} on {table} ({keys})")


def _outside(world: _World) -> _Made:
    """Mix everything that a file without a transaction may hold."""
    units = [_index(world)]
    for unit in world.random.choices(_UNITS, k=world.random.randint(2, 5)):
        units += [unit(world)]
    units.insert(world.random.randrange(len(units) + 1), _index(world))
    place = world.random.randrange(len(units) + 1)
    units[place:place] = backfills.units(world.random, world.name("large"))
    return units, False


def _plain(world: _World) -> Unit:
    return _together([_mark(world)])


def _change(world: _World) -> Unit:
    return _together([Sql(f"update {world.table()} set v = v + 100")])


def _setting(world: _World) -> Unit:
    return _together(
        [Sql(world.random.choice(["set work_mem = '5MB'", "set search_path = public"]))]
    )


def _block(world: _World) -> Unit:
    column = world.name("c")
    statements = (
        Sql(f"alter table {world.table()} add column {column} text default 'x; y'"),
        _pause(world),
        _mark(world),
    )
    return Unit(statements, is_block=True)


def _reindex(world: _World) -> Unit:
    what = world.random.choice([f"index concurrently {world.random.choice(world.indexes)}", ""])
    return _alone(f"reindex {what or f'table concurrently {world.table()}'}")


def _drop_index(world: _World) -> Unit:
    index = world.indexes.pop(world.random.randrange(len(world.indexes)))
    if not world.indexes:  # there is always one left to be rebuilt
        world.indexes.append(index)
        return _alone(f"reindex index concurrently {index}")
    return _alone(f"drop index concurrently {index}")


def _detach(world: _World) -> Unit:
    if not world.partitions:
        return _plain(world)
    return _alone(f"alter table {world.partitions.pop()} concurrently")


def _vacuum(world: _World) -> Unit:
    return _alone(f"vacuum {world.table()}")


_UNITS: tuple[Callable[[_World], Unit], ...] = (
    _index,
    _index,
    _plain,
    _change,
    _setting,
    _block,
    _block,
    _reindex,
    _drop_index,
    _detach,
    _vacuum,
)
_KINDS: tuple[Callable[[_World], _Made], ...] = (
    _tables,
    _copy,
    _seed,
    _functions,
    _data,
    _single,
    _outside,
    _outside,
)
