"""The progress of a long statement: one line on a terminal, a few lines elsewhere."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path, PurePath

import pytest

from migrator.events import Progress, Progressed, StepFinished
from migrator.model import Direction, Step
from migrator.output.progress import ProgressLine, event_text, progress_text
from migrator.output.text import plain
from migrator.postgres import activity
from migrator.sql import parser

from ..conftest import Database, Write
from ..sessions import Runs, holding, wait_for, working

SCRIPT = parser.parse(PurePath("01_a.up.sql"), "\nvacuum a;")
HALF = "[██████████          ]  50 %"
STEP = Step("01_a", Direction.UP, SCRIPT)


@pytest.fixture
def runs(database: Database, directory: Path, tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(database, directory, tmp_path)
    yield runs
    runs.end()


def at(seconds: float, phase: str = "scanning heap", done: int = 5) -> Progressed:
    how_far = Progress("VACUUM", phase, done, 10, "blocks")
    return Progressed(STEP, SCRIPT.units[0].statements[0], seconds, how_far)


# How it is shown


def test_without_a_terminal_each_phase_and_half_minute_has_a_line() -> None:
    stream = io.StringIO()
    line = ProgressLine(stream)
    for event in (at(1), at(2), at(30), at(31.5), at(40), at(41, "sorting"), at(42, "sorting")):
        line.show(event)
        line.clear()
    assert stream.getvalue().splitlines() == [
        f"  {HALF}  VACUUM, scanning heap  (1.0 s so far, 01_a.up.sql:2)",
        f"  {HALF}  VACUUM, scanning heap  (31.5 s so far, 01_a.up.sql:2)",
        f"  {HALF}  VACUUM, sorting  (41.0 s so far, 01_a.up.sql:2)",
    ]


def test_a_terminal_has_one_line_that_is_removed_before_other_output() -> None:
    stream = io.StringIO()
    line = ProgressLine(stream, width=40)
    line.show(at(1))
    line.show(at(1.5, done=6))
    line.clear()
    line.clear()
    first, second, gone = stream.getvalue().removeprefix("\r").split("\x1b[K")[:3]
    assert first == f"{HALF}  VACUUM, scanning heap"[:39]
    assert second.startswith("\r[████████████        ]  60 %  VACUUM")
    assert gone == "\r"
    assert "\n" not in stream.getvalue()


@pytest.mark.parametrize(
    ("how_far", "text"),
    [
        (Progress("ANALYZE", "initializing", 0, 0, "blocks"), "ANALYZE, initializing"),
        (Progress("COPY FROM", "copying", 9, 0, "bytes"), "COPY FROM, copying: 9 bytes"),
        (Progress("X", "y", 1, 3, "rows"), "[██████              ]  33 %  X, y"),
        (Progress("X", "y", 4, 3, "rows"), "[████████████████████] 100 %  X, y"),
        (Progress("X", "waiting", 1, 3, "sessions"), "X, waiting: 1 of 3 sessions"),
    ],
)
def test_progress_has_a_bar_if_the_total_is_known(how_far: Progress, text: str) -> None:
    assert progress_text(how_far) == text


def test_a_finished_step_is_a_line() -> None:
    event = StepFinished(STEP, 0.5)
    told = event_text(event, plain, verbose=False)
    assert told == "applied  01_a (500 ms)"


# What the server tells


def progress_of(stderr: str) -> list[dict[str, object]]:
    events = [json.loads(line) for line in stderr.splitlines()]
    return [event for event in events if event["event"] == "progress"]


def test_a_concurrent_index_shows_how_many_sessions_it_waits_for(
    database: Database, write: Write, runs: Runs
) -> None:
    database.execute("create table a (id int)")
    write({"01_a.up.sql": "\ncreate index concurrently a_id on a (id);"})
    with holding(database, "insert into a values (1)"):
        run = runs("up")
        run.says("CREATE INDEX CONCURRENTLY, waiting for writers before build: 0 of 1 sessions")
    assert run.result().exit_code == 0


def test_a_vacuum_shows_how_much_of_the_table_it_has_read(
    database: Database, write: Write, runs: Runs
) -> None:
    database.execute("create table a as select n, repeat('x', 500) from generate_series(1, 9000) n")
    slowly = "set vacuum_cost_delay = 10; set vacuum_cost_limit = 20;"
    write({"01_a.up.sql": f"-- migrator: no-transaction\n{slowly}\nvacuum a;"})
    run = runs("--json", "up")
    run.says('"event": "progress"')
    pid = working(database, "vacuum a") or 0
    with database.connect() as conn:

        def under_way() -> Progress | None:
            now = activity.progress(conn, pid)
            return now if now and now.done else None

        seen = wait_for(under_way)
    assert seen
    run.signal(signal.SIGTERM)
    run.result()
    pages = database.rows("select pg_relation_size('a') / 8192")[0][0]
    assert (seen.phase, seen.total, seen.unit) == ("scanning heap", pages, "blocks")
    (first, *_) = progress_of(run.stderr)
    assert (first["command"], first["line"], first["total"]) == ("VACUUM", 3, pages)


def test_the_progress_of_copy_is_relative_to_the_data_in_the_file(
    database: Database, write: Write, runs: Runs
) -> None:
    if database.postgres.version < 14:
        pytest.skip("needs PostgreSQL 14")
    database.execute(
        """
        create table a (id int);
        create function wait() returns trigger language plpgsql as
            'begin perform pg_sleep(0.2); return new; end';
        create trigger wait before insert on a for each row execute function wait()
        """
    )
    data = "".join(f"{n}\n" for n in range(10, 20))
    write({"01_a.up.sql": f"copy a from stdin;\n{data}\\.\n"})
    run = runs("--json", "up")
    run.says('"event": "progress"')
    assert run.result().exit_code == 0
    (told, *_) = progress_of(run.stderr)
    assert (told["command"], told["total"], told["unit"]) == ("COPY FROM", len(data), "bytes")
