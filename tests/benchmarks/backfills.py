"""Fill a column of a large table: by a backfill, by one UPDATE, and by a loop of limited ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from . import candidates
from .contest import Contest, Entrant, Target
from .measure import Program

if TYPE_CHECKING:
    from .workloads import Bench

    Run = Callable[[str], Program]

_SMALL, _LARGE = 400_000, 4_000_000  # rows
_OURS, _BY_ID, _SINGLE, _LOOP = "migrator", "by id", "one UPDATE", "limit 5000"
_SINGLE_OURS = "one UPDATE, ours"
_TABLE = """
create table orders (
    id bigint generated always as identity primary key,
    customer integer not null,
    total numeric(10, 2) not null,
    note text,
    total_cents bigint
);
insert into orders (customer, total, note)
select i % 1000, (i % 100000) / 100.0, 'note ' || i
from generate_series(1, {rows}) i;
"""
_UPDATE = "update orders set total_cents = (total * 100)::bigint where total_cents is null"
_LIMITED = """
do $$
begin
    loop
        {update} and id in (select id from orders where total_cents is null limit 5000);
        exit when not found;
        commit;
    end loop;
end $$;
""".replace("{update}", _UPDATE)


def contests(bench: Bench) -> Iterator[Contest]:
    """Give the runs on an idle table, and those with four writers and a slow reader.

    The loop's time grows with the square of the rows, so the large table does without it.
    """
    with _filled(bench, _SMALL) as template:
        yield _alone(bench, template, _SMALL, {_LOOP: _psql(bench, _LIMITED)})
        yield from _in_a_crowd(bench, template)
    with _filled(bench, _LARGE) as template:
        yield _alone(bench, template, _LARGE, {})


@contextmanager
def _filled(bench: Bench, rows: int) -> Iterator[str]:
    """Give the name of a database with the table, to copy."""
    with bench.postgres.database() as database:
        database.execute(_TABLE.format(rows=rows))
        database.execute("vacuum analyze orders")
        yield database.name


def _alone(bench: Bench, template: str, rows: int, more: dict[str, Run]) -> Contest:
    full = ("--batch-load", "100%")
    programs = {
        _OURS: _up(bench, "backfill orders", *full),
        _BY_ID: _up(bench, "backfill orders by id", *full),
        _SINGLE: _psql(bench, _UPDATE),
        _SINGLE_OURS: _up(bench, None),
        **more,
    }
    targets = (
        *(Target(ours, _SINGLE, 1.3) for ours in (_OURS, _BY_ID)),
        *(Target(ours, _SINGLE_OURS, 1.3) for ours in (_OURS, _BY_ID)),
        *(Target(_OURS, loop, 1.0) for loop in more),
    )
    entrants = {name: _on_copy(bench, template, program) for name, program in programs.items()}
    return Contest(f"backfill of {rows:,} rows", entrants, targets)


def _in_a_crowd(bench: Bench, template: str) -> Iterator[Contest]:
    programs = {_OURS: _up(bench, "backfill orders"), _SINGLE: _psql(bench, _UPDATE)}
    targets = {"p99": Target(_OURS, None, 0.05), "longest": Target(_OURS, _SINGLE, 0.5)}
    for which, target in targets.items():
        entrants = {
            name: _on_copy(bench, template, _crowded(program, which))
            for name, program in programs.items()
        }
        title = f"{which} of the waits of four writers, {_SMALL:,} rows"
        yield Contest(title, entrants, (target,))


def _on_copy(bench: Bench, template: str, program: Run) -> Entrant:
    @contextmanager
    def entrant() -> Iterator[Program]:
        with bench.postgres.database(template) as database:
            yield program(database.url)

    return entrant


def _up(bench: Bench, option: str | None, *options: str) -> Run:
    """Run the statement as a migration, in batches if there is an option for it."""
    directory = bench.folder / (option or "single").replace(" ", "-")
    directory.mkdir(exist_ok=True)
    above = f"-- migrator: no-transaction\n\n-- migrator: {option}\n" if option else ""
    text = f"{above}{_UPDATE} /* batch */;\n"
    (directory / "1_fill.up.sql").write_text(text, encoding="utf-8")
    return lambda url: candidates.migrator(url, "--dir", directory, "up", *options)


def _psql(bench: Bench, text: str) -> Run:
    path = bench.folder / f"{hash(text):x}.sql"
    path.write_text(text, encoding="utf-8")
    return lambda url: bench.psql.file(url, path)


def _crowded(program: Run, which: str) -> Run:
    """Run a program while others work on the table; what is measured is how long they wait."""

    def run(url: str) -> Program:
        inner = program(url)
        module = ("-m", "tests.benchmarks.crowd", which, url)
        environ = {**inner.environ, "PYTHONPATH": str(candidates.PROJECT)}
        outer = candidates.python(*module, *inner.command, environ=environ)
        return replace(outer, measures=float)

    return run
