"""A rehearsal's verdict on the rows is that of `up`: no false alarm, and no miss without a word."""

from __future__ import annotations

import pytest

from tests.conftest import Migrate, Write

from .prepared import fixtures

pytestmark = pytest.mark.slow

SETUP = """
create table t (id int primary key, "order" int, "we%ird ""x" text, note text, total int);
create table other (id int primary key, note text);
create table e (id int not null, day int) partition by range (id);
create table e1 partition of e for values from (0) to (100);
create table e2 partition of e for values from (100) to (200);
create table par (a int); create table chi () inherits (par);
create domain posint as int;
create table withdom (id int primary key, d posint);
create table soft (id int primary key, note text);
create rule keep as on delete to soft do instead update soft set note = '' where id = old.id;
create table rooms (id int primary key);
create table owners (id int primary key, room int references rooms on delete cascade);
create table links (room int references rooms on delete set null, t int);
"""
ROWS = r"""
insert into t values (1, 1, 'a', '1', 10), (2, 2, 'A', '2', 20), (3, null, 'b', 'x', 3000);
insert into other values (1, '1'), (2, '2');
insert into e values (1, 1), (101, null);
insert into chi values (5);
insert into withdom values (1, -1);
insert into soft values (1, null);
insert into rooms values (1), (2);
insert into owners values (1, 1), (2, 2);
insert into links values (1, 1), (2, 9);
"""
START = {"01_a.up.sql": SETUP}
# The pending files, and whether `up` fails for the rows.
CASES: dict[str, tuple[list[str], bool]] = {
    "addcol then notnull": (
        ["alter table t add c int;", "alter table t alter c set not null;"],
        True,
    ),
    "addcol default then notnull": (
        ["alter table t add c int default 3;", "alter table t alter c set not null;"],
        False,
    ),
    "addcol then default then notnull": (
        [
            "alter table t add c int;",
            "alter table t alter c set default 3;",
            "alter table t alter c set not null;",
        ],
        True,
    ),
    "new table then fk": (
        [
            "create table n (id int primary key);",
            'alter table t add foreign key ("order") references n;',
        ],
        True,
    ),
    "new filled then fk": (
        [
            "create table n (id int primary key); insert into n values (1),(2);",
            'alter table t add foreign key ("order") references n;',
        ],
        False,
    ),
    "new unfilled fk new col": (
        ["create table n (id int primary key);", "alter table t add n int references n;"],
        False,
    ),
    "rename then check": (
        [
            'alter table t rename "order" to "select";',
            "alter table t rename to u;",
            'alter table u add check ("select" < 2);',
        ],
        True,
    ),
    "weird unique": (['alter table t add unique ("we%ird ""x");'], False),
    "weird lower unique": (['create unique index on t (lower("we%ird ""x"));'], True),
    "part notnull": (["alter table e alter day set not null;"], True),
    "part check2": (["alter table e add constraint c check (id < 50);"], True),
    "part fk": (["alter table e add foreign key (id) references t;"], True),
    "part fk ok": (["alter table e add foreign key (day) references t;"], False),
    "inherit check": (["alter table par add check (a < 3);"], True),
    "inherit check no inherit": (["alter table par add check (a < 3) no inherit;"], False),
    "inherit notnull": (["alter table par alter a set not null;"], False),
    "add not null col": (["alter table t add c int not null;"], True),
    "add not null col default": (["alter table t add c int not null default 1;"], False),
    "add not null col volatile": (
        ["alter table t add c uuid not null default gen_random_uuid();"],
        False,
    ),
    "add serial pk": (["alter table par add id serial primary key;"], False),
    "using index": (
        [
            "create unique index i on t (note);",
            "alter table t add constraint x unique using index i;",
        ],
        False,
    ),
    "type using bad": (["alter table t alter note type int using note::int;"], True),
    "type int2": (["alter table t alter total type int2;"], False),
    "numeric": (["alter table t alter total type numeric(3,0);"], True),
    "varchar1": (["alter table t alter note type varchar(1);"], False),
    "type then check": (
        [
            "alter table t alter note type int using length(note);",
            "alter table t add check (note > 0);",
        ],
        False,
    ),
    "type then check bad": (
        [
            "alter table t alter note type int using length(note);",
            "alter table t add check (note > 1);",
        ],
        True,
    ),
    "fk not valid later": (
        [
            "alter table t add constraint c foreign key (id) references other not valid;",
            "alter table t validate constraint c;",
        ],
        True,
    ),
    "delete then unique": (
        ['delete from t where id = 2;\ncreate unique index on t (lower("we%ird ""x"));'],
        False,
    ),
    "delete of a good row, then not null": (
        ["delete from t where id = 1;", 'alter table t alter "order" set not null;'],
        True,
    ),
    "delete of the null": (
        ["delete from t where id = 3;", 'alter table t alter "order" set not null;'],
        False,
    ),
    "truncate, then not null": (
        ["truncate t;", 'alter table t alter "order" set not null;'],
        False,
    ),
    "delete below the parent": (
        ["delete from e where day is null;", "alter table e2 alter day set not null;"],
        False,
    ),
    "delete from a partition": (
        ["delete from e2;", "alter table e alter day set not null;"],
        False,
    ),
    "update of a partition": (
        ["update e2 set day = 2;", "alter table e alter day set not null;"],
        False,
    ),
    "delete that a rule makes an update": (
        ["delete from soft;", "alter table soft alter note set not null;"],
        False,
    ),
    "delete of what is referenced": (
        ["delete from t where id = 1;", "alter table owners add foreign key (id) references t;"],
        True,
    ),
    "delete of what references nothing": (
        ["delete from links where t = 9;", "alter table links add foreign key (t) references t;"],
        False,
    ),
    "delete of another row": (
        ["delete from t where id = 3;", "alter table links add foreign key (t) references t;"],
        True,
    ),
    "insert of what is referenced": (
        [
            "insert into t values (9);",
            "alter table links add foreign key (t) references t;",
        ],
        False,
    ),
    "delete that cascades": (
        ["delete from rooms where id = 2;", "alter table owners add check (room < 2);"],
        False,
    ),
    "delete that sets null": (
        ["delete from rooms where id = 2;", "alter table links alter room set not null;"],
        True,
    ),
    "new domain": (
        ["create domain d as text check (value <> 'x');\nalter table t alter note type d;"],
        True,
    ),
    "domain check nv": (
        [
            "alter domain posint add constraint p check (value > 0) not valid;",
            "alter domain posint validate constraint p;",
        ],
        True,
    ),
    "generated overflow": (
        ["alter table t add g int generated always as (total * 1000000) stored;"],
        True,
    ),
    "generated ok": (["alter table t add g int generated always as (total * 10) stored;"], False),
    "expr index": (["create index on t ((note::int));"], True),
    "expr index ok": (["create index on t ((id::text::int));"], False),
    "partial index pred": (["create index on t (id) where note::int > 0;"], True),
    "do block": (
        ["do $$ begin if true then alter table t add constraint c check (id < 2); end if; end $$;"],
        True,
    ),
    "drop col then": (
        ["alter table t drop total;", "alter table t add constraint c check (id < 2);"],
        True,
    ),
    "fk col type": (
        [
            "alter table other alter id type bigint;",
            "alter table t add foreign key (id) references other;",
        ],
        True,
    ),
    "recreate table": (
        [
            "drop table other; create table other (id int primary key);",
            "alter table other add check (id > 100);",
        ],
        False,
    ),
    "swap columns": (
        [
            "alter table t add n2 int;\nupdate t set n2 = total;\n"
            "alter table t drop total;\nalter table t rename n2 to total;\n"
            "alter table t alter total set not null;"
        ],
        False,
    ),
    "schema move": (
        ["create schema s;\nalter table t set schema s;", "alter table s.t add check (id < 2);"],
        True,
    ),
    "detach attach": (
        [
            "alter table e detach partition e2;",
            "alter table e attach partition e2 for values from (102) to (200);",
        ],
        True,
    ),
    "new default": (["create table ed partition of e default;"], False),
    "virtual overflow": (["alter table t add g int generated always as (total * 1000000);"], False),
    "new domain ok": (
        ["create domain d as text check (value <> 'y');\nalter table t alter note type d;"],
        False,
    ),
}


start, database = fixtures(START, ROWS)


@pytest.mark.parametrize("name", CASES)
def test_what_is_said_of_the_rows_is_what_happens(
    migrate: Migrate, write: Write, name: str
) -> None:
    files, fails = CASES[name]
    if name.startswith("virtual") and migrate.database.postgres.version < 18:
        pytest.skip("needs PostgreSQL 18")
    write({**START, **{f"{number:02}_x.up.sql": text for number, text in enumerate(files, 2)}})
    result = migrate("--json", "rehearse")
    migrations = result.json["migrations"]
    checks = [check for migration in migrations for check in migration["data_checks"]]
    assert [migration["error"] for migration in migrations] == [None] * len(files)
    assert migrate("up").exit_code == (1 if fails else 0)
    answers = {check["answer"] for check in checks}
    # A deleted row may be the one that breaks it.
    is_unknown = any("delete" in text for text in files) and "unknown" in answers
    assert ("fails" in answers) == (fails and not is_unknown), checks
