"""What is decided to run: files × history → entries → plan, as tables of sentences."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import PurePath

import pytest

from migrator.errors import UsageError
from migrator.files.source import read_source
from migrator.model import AppliedMigration, Direction, Entry, Migration, Plan, Status
from migrator.planning import planner
from migrator.planning.problems import disagreements, find_notes, find_problems

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
UP, DOWN = Direction.UP, Direction.DOWN
TWO_STEPS = "-- migrator: no-transaction\nvacuum;\nanalyze;\n"


def file(
    number: int | str,
    up: str | None = None,
    down: str | None = "drop table t;\n",
    name: str = "name",
) -> Migration:
    """A pair of files, `NN_name.up.sql` and `.down.sql`."""
    version = f"{number:02}_{name}" if isinstance(number, int) else f"{number}_{name}"
    text = up if up is not None else f"create table t{number} ();\n"
    return Migration(
        version,
        read_source(PurePath(f"{version}.up.sql"), text.encode()),
        None if down is None else read_source(PurePath(f"{version}.down.sql"), down.encode()),
    )


def row(
    number: int | str,
    up: str | None = None,
    down: str | None = "drop table t;\n",
    *,
    name: str = "name",
    minute: int | None = None,
    stored: bool = True,
) -> AppliedMigration:
    """A row of the history: applied whole, in the minute of its number if not told otherwise."""
    migration = file(number, up, down, name)
    return AppliedMigration(
        version=migration.version,
        checksum=migration.up.checksum,
        up_script=migration.up.text if stored else None,
        down_script=down if stored else None,
        has_down=down is not None and stored,
        applied_at=EPOCH + timedelta(minutes=migration.number % 1000 if minute is None else minute),
        applied_by="dba",
        duration_ms=1,
        statements_done=0,
        in_step=None,
    )


def interrupted(number: int, up: str = TWO_STEPS, *, done: int, unsure: bool = False) -> Applied:
    """A row of a no-transaction up that stopped behind `done` steps."""
    whole = row(number, up)
    return AppliedMigration(
        version=whole.version,
        checksum=whole.checksum,
        up_script=whole.up_script,
        down_script=whole.down_script,
        has_down=True,
        applied_at=None,
        applied_by="dba",
        duration_ms=None,
        statements_done=done,
        in_step=EPOCH if unsure else None,
    )


def half_reverted(number: int, down: str = TWO_STEPS, *, done: int) -> Applied:
    """A row of a version whose no-transaction down stopped behind `done` steps."""
    whole = row(number, down=down)
    return AppliedMigration(
        version=whole.version,
        checksum=whole.checksum,
        up_script=whole.up_script,
        down_script=down,
        has_down=True,
        applied_at=whole.applied_at,
        applied_by="dba",
        duration_ms=1,
        statements_done=-done,
        in_step=None,
    )


Applied = AppliedMigration
Files = Sequence[Migration]
History = Sequence[AppliedMigration]


def states(entries: Sequence[Entry]) -> dict[int, Status]:
    return {entry.number: entry.status for entry in entries}


def steps(plan: Plan) -> list[tuple[str, int]]:
    """The plan as pairs of direction and number."""
    return [(step.direction.value, int(step.version.partition("_")[0])) for step in plan.steps]


def problems(plan: Plan) -> list[str]:
    return [error.code for error in plan.blockers]


@pytest.mark.parametrize(
    ("files", "history", "expected"),
    [
        ([], [], {}),
        ([file(1)], [], {1: Status.PENDING}),
        ([file(1)], [row(1)], {1: Status.APPLIED}),
        ([], [row(1)], {1: Status.MISSING}),
        ([file(1), file(2)], [row(1)], {1: Status.APPLIED, 2: Status.PENDING}),
        ([file(1), file(2)], [row(2)], {1: Status.OUT_OF_ORDER, 2: Status.APPLIED}),
        ([file(1)], [row(1), row(2)], {1: Status.APPLIED, 2: Status.MISSING}),
        ([file(1)], [row(2)], {1: Status.OUT_OF_ORDER, 2: Status.MISSING}),
        ([file(1, "select 1;")], [row(1, "select 2;")], {1: Status.MODIFIED}),
        ([file(1, "select 1; -- one")], [row(1, "select  1;")], {1: Status.APPLIED}),
        ([file(1, "select 1;\r\n")], [row(1, "select 1;\n")], {1: Status.APPLIED}),
        ([file(1, name="new")], [row(1, name="old")], {1: Status.MODIFIED}),
        ([file("0001")], [row(1, "create table t0001 ();\n")], {1: Status.MODIFIED}),
        ([file(1, TWO_STEPS)], [interrupted(1, done=1)], {1: Status.INTERRUPTED}),
        ([], [interrupted(1, done=1)], {1: Status.INTERRUPTED}),
        ([file(1)], [half_reverted(1, done=1)], {1: Status.INTERRUPTED}),
        (
            [file(100), file(9), file(10)],
            [row(9)],
            {9: Status.APPLIED, 10: Status.PENDING, 100: Status.PENDING},
        ),
        (
            [file("20240102030405060708"), file("20240102030405060709")],
            [row("20240102030405060708")],
            {20240102030405060708: Status.APPLIED, 20240102030405060709: Status.PENDING},
        ),
    ],
)
def test_reconcile_gives_every_number_its_state(
    files: Files, history: History, expected: dict[int, Status]
) -> None:
    entries = planner.reconcile(files, history)
    assert states(entries) == expected
    assert [entry.number for entry in entries] == sorted(expected)


@pytest.mark.parametrize(
    ("applied", "file_now", "reformatted"),
    [
        ("select 1;\n", "select 1;\n", False),
        ("select 1;\n", "select 1;   \n\n", False),  # not even the checksum differs
        ("select 1;\n", "-- why\nselect\n  1;\n", True),
        ("select 1;\n", "/* a /* nested */ one */ select 1", True),
        ("select 1;\n", "begin;\nselect 1;\ncommit;\n", True),
        ("begin;\nselect 1;\nend;\n", "select 1;\n", True),
    ],
)
def test_an_edit_of_comments_white_space_or_begin_and_commit_is_no_modification(
    applied: str, file_now: str, reformatted: bool
) -> None:
    (entry,) = planner.reconcile([file(1, file_now)], [row(1, applied)])
    assert (entry.status, entry.reformatted) == (Status.APPLIED, reformatted)


@pytest.mark.parametrize(
    ("applied", "file_now"),
    [
        ("select 'a  b';", "select 'a b';"),
        ("select 1;", "select 1; select 2;"),
        ('select "a";', 'select "A";'),
        ("do $$ begin end $$;", "do $$ begin  end $$;"),
        ("copy t from stdin;\n1\n\\.\n", "copy t from stdin;\n2\n\\.\n"),
    ],
)
def test_an_edit_inside_a_literal_is_a_modification(applied: str, file_now: str) -> None:
    (entry,) = planner.reconcile([file(1, file_now)], [row(1, applied)])
    assert entry.status is Status.MODIFIED


def test_a_script_too_long_to_be_stored_is_modified_when_its_checksum_differs() -> None:
    (entry,) = planner.reconcile([file(1, "select 1; --")], [row(1, "select 1;", stored=False)])
    assert entry.status is Status.MODIFIED
    (error,) = disagreements(entry)
    assert "too long" in (error.detail or "")


# up


@pytest.mark.parametrize(
    ("files", "history", "expected"),
    [
        ([], [], []),
        ([file(2), file(1)], [], [("up", 1), ("up", 2)]),
        ([file(10), file(9), file(100)], [], [("up", 9), ("up", 10), ("up", 100)]),
        ([file(1), file(2)], [row(1)], [("up", 2)]),
        ([file(1)], [row(1)], []),
        ([file(1)], [row(1), row(2)], []),
        ([file(1, TWO_STEPS), file(2)], [interrupted(1, done=1)], [("up", 1), ("up", 2)]),
    ],
)
def test_up_takes_what_is_pending_lowest_number_first(
    files: Files, history: History, expected: list[tuple[str, int]]
) -> None:
    plan = planner.plan_up(planner.reconcile(files, history))
    assert (steps(plan), plan.blockers) == (expected, ())


@pytest.mark.parametrize(
    ("target", "most", "expected"),
    [
        (None, None, [2, 3, 4]),
        (3, None, [2, 3]),
        (1, None, []),
        (0, None, []),
        (None, 1, [2]),
        (None, 9, [2, 3, 4]),
        (3, 1, [2]),
    ],
)
def test_up_stops_at_its_target_and_after_its_steps(
    target: int | None, most: int | None, expected: list[int]
) -> None:
    entries = planner.reconcile([file(1), file(2), file(3), file(4)], [row(1)])
    plan = planner.plan_up(entries, target=target, steps=most)
    assert [number for _, number in steps(plan)] == expected


@pytest.mark.parametrize(
    ("files", "history", "codes"),
    [
        ([file(1, "select 1;")], [row(1, "select 2;")], ["modified"]),
        ([file(2)], [row(1), row(2)], ["missing"]),
        ([file(1), file(2)], [row(2)], ["out-of-order"]),
        ([file(1, "commit;"), file(2, "\\i x.sql")], [], ["migration-file", "migration-file"]),
        (
            [file(1), file(3, "select 1;"), file(4), file(5, "savepoint s;")],
            [row(2), row(3, "select 2;")],
            ["out-of-order", "missing", "modified", "migration-file"],
        ),
        ([], [interrupted(1, done=1)], ["interrupted"]),
        ([file(1)], [half_reverted(1, done=1)], ["interrupted"]),
        ([file(1, "vacuum full;")], [interrupted(1, done=1)], ["interrupted"]),
    ],
)
def test_up_names_every_blocker_not_the_first(
    files: Files, history: History, codes: list[str]
) -> None:
    plan = planner.plan_up(planner.reconcile(files, history))
    assert problems(plan) == codes
    assert all(error.hint for error in plan.blockers)


def test_up_looks_at_nothing_above_its_target() -> None:
    entries = planner.reconcile([file(1), file(2, "select 1;")], [row(2, "select 2;")])
    assert problems(planner.plan_up(entries)) == ["out-of-order", "modified"]
    assert problems(planner.plan_up(entries, target=1)) == ["out-of-order"]


def test_up_applies_older_versions_when_out_of_order_is_asked_for() -> None:
    entries = planner.reconcile([file(1), file(2), file(3)], [row(2)])
    plan = planner.plan_up(entries, out_of_order=True)
    assert (steps(plan), plan.blockers) == ([("up", 1), ("up", 3)], ())


def test_out_of_order_excuses_no_other_blocker() -> None:
    entries = planner.reconcile([file(1), file(3)], [row(2), row(3)])
    assert problems(planner.plan_up(entries, out_of_order=True)) == ["missing"]


def test_up_does_nothing_and_says_so_where_the_database_is_ahead_of_the_files() -> None:
    plan = planner.plan_up(planner.reconcile([file(1)], [row(1), row(2), row(3)]))
    assert (plan.steps, plan.blockers) == ((), ())
    assert plan.notes == ("the database is ahead of these files: it has 02_name, 03_name",)


@pytest.mark.parametrize(
    ("done", "unsure", "start_at"), [(0, False, 0), (0, True, 0), (1, False, 1), (1, True, 1)]
)
def test_an_interrupted_up_goes_on_with_the_step_that_was_not_done(
    done: int, unsure: bool, start_at: int
) -> None:
    history = [interrupted(1, done=done, unsure=unsure)]
    plan = planner.plan_up(planner.reconcile([file(1, TWO_STEPS)], history))
    (step,) = plan.steps
    assert (step.start_at, step.unsure, step.resumes) == (start_at, unsure, True)
    assert plan.notes == (f"01_name was interrupted, and goes on behind step {done} of 2",)


@pytest.mark.parametrize(
    ("file_now", "done", "codes"),
    [
        (TWO_STEPS, 1, []),
        (TWO_STEPS.replace("analyze", "analyze t"), 1, []),  # what failed may be mended
        (TWO_STEPS.replace("vacuum", "vacuum /* all */"), 1, []),
        (TWO_STEPS.replace("vacuum", "vacuum t"), 0, []),
        (TWO_STEPS.replace("vacuum", "vacuum t"), 1, ["interrupted"]),
        ("-- migrator: no-transaction\nanalyze;\n", 1, ["interrupted"]),
        ("select 1;\n", 1, ["interrupted"]),
    ],
)
def test_an_interrupted_up_goes_on_only_if_what_had_finished_is_unchanged(
    file_now: str, done: int, codes: list[str]
) -> None:
    plan = planner.plan_up(planner.reconcile([file(1, file_now)], [interrupted(1, done=done)]))
    assert problems(plan) == codes
    assert all("as applied" in (error.detail or "") for error in plan.blockers)


# down


@pytest.mark.parametrize(
    ("history", "target", "most", "expected"),
    [
        ([], None, 1, []),
        ([row(1), row(2), row(3)], None, 1, [3]),
        ([row(1), row(2), row(3)], None, 2, [3, 2]),
        ([row(1), row(2), row(3)], None, None, [3, 2, 1]),
        ([row(1), row(2), row(3)], 1, None, [3, 2]),
        ([row(1), row(2), row(3)], 3, None, []),
        ([row(1), row(2), row(3)], 0, None, [3, 2, 1]),
        ([row(1, minute=9), row(2), row(3)], None, 2, [1, 3]),  # 1 was applied out of order
        ([row(1, minute=5), row(2, minute=5)], None, None, [2, 1]),
        ([row(9), row(10), row(100)], None, 2, [100, 10]),
        ([row(1), half_reverted(2, done=1), row(3)], None, 1, [2]),
        ([interrupted(1, done=1), row(2)], None, 1, [1]),
    ],
)
def test_down_reverses_the_order_of_application(
    history: History, target: int | None, most: int | None, expected: list[int]
) -> None:
    files = [file(r.number, r.up_script) for r in history]
    plan = planner.plan_down(planner.reconcile(files, history), target=target, steps=most)
    assert steps(plan) == [("down", number) for number in expected]
    assert plan.blockers == ()


SAME, OTHER = "drop table t;\n", "drop table t cascade;\n"


@pytest.mark.parametrize(
    ("in_file", "stored", "from_files", "runs", "note"),
    [
        (SAME, SAME, False, SAME, None),
        (SAME, SAME, True, SAME, None),
        ("-- bye\n" + SAME, SAME, False, SAME, None),
        (OTHER, SAME, False, SAME, "the stored one runs (--from-files takes the file)"),
        (OTHER, SAME, True, OTHER, "the file runs, as --from-files asks"),
        (None, SAME, False, SAME, "01_name has no down file; the stored script runs"),
        (None, SAME, True, SAME, "01_name has no down file; the stored script runs"),
        (SAME, None, False, SAME, "no down script of 01_name is stored; 01_name.down.sql runs"),
    ],
)
def test_down_runs_the_stored_script_and_says_what_differs(
    in_file: str | None, stored: str | None, from_files: bool, runs: str, note: str | None
) -> None:
    entries = planner.reconcile([file(1, down=in_file)], [row(1, down=stored)])
    plan = planner.plan_down(entries, steps=1, from_files=from_files)
    (step,) = plan.steps
    assert step.script.source == runs
    assert [n for n in plan.notes if note is None or note not in n] == []
    assert bool(plan.notes) == (note is not None)


def test_a_stored_script_is_named_as_one_and_its_file_is_not_blamed() -> None:
    entries = planner.reconcile([], [row(1)])
    (step,) = planner.plan_down(entries, steps=1).steps
    assert str(step.script.path) == "01_name.down.sql (stored)"


def test_down_refuses_what_has_no_down_script_whole() -> None:
    files, history = [file(1, down=None), file(2)], [row(1, down=None), row(2)]
    plan = planner.plan_down(planner.reconcile(files, history))
    assert problems(plan) == ["irreversible"]
    assert "write 01_name.down.sql" in (plan.blockers[0].hint or "")


def test_down_refuses_a_script_that_cannot_run() -> None:
    entries = planner.reconcile([file(1)], [row(1, down="commit;\n")])
    assert problems(planner.plan_down(entries, steps=1)) == ["migration-file"]


def test_an_interrupted_down_goes_on_with_the_step_that_was_not_done() -> None:
    entries = planner.reconcile([file(1, down=TWO_STEPS)], [half_reverted(1, done=1)])
    (step,) = planner.plan_down(entries, steps=1).steps
    assert (step.direction, step.start_at, step.resumes) == (DOWN, 1, True)


def test_the_down_of_an_interrupted_up_runs_whole_and_says_so() -> None:
    entries = planner.reconcile([file(1, TWO_STEPS)], [interrupted(1, done=1)])
    plan = planner.plan_down(entries, steps=1)
    assert plan.steps[0].start_at == 0
    assert plan.notes == ("01_name was interrupted on its way up; its down script runs whole",)


# redo


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (1, [("down", 3), ("up", 3)]),
        (2, [("down", 3), ("down", 2), ("up", 2), ("up", 3)]),
        (9, [("down", 3), ("down", 2), ("down", 1), ("up", 1), ("up", 2), ("up", 3)]),
    ],
)
def test_redo_goes_down_and_up_again(most: int, expected: list[tuple[str, int]]) -> None:
    files, history = [file(1), file(2), file(3)], [row(1), row(2), row(3)]
    plan = planner.plan_redo(planner.reconcile(files, history), steps=most)
    assert (steps(plan), plan.blockers) == (expected, ())


def test_redo_applies_the_edited_file_after_the_stored_down() -> None:
    entries = planner.reconcile([file(1, "select 2;", OTHER)], [row(1, "select 1;", SAME)])
    down, up = planner.plan_redo(entries, steps=1).steps
    assert (down.script.source, up.script.source) == (SAME, "select 2;")


def test_redo_leaves_what_is_pending_alone() -> None:
    entries = planner.reconcile([file(1), file(2)], [row(1)])
    assert steps(planner.plan_redo(entries, steps=5)) == [("down", 1), ("up", 1)]


@pytest.mark.parametrize(
    ("files", "history", "codes"),
    [
        ([], [row(1)], ["missing"]),
        ([file(1, down=None)], [row(1, down=None)], ["irreversible"]),
        ([file(1, "commit;")], [row(1)], ["migration-file"]),
    ],
)
def test_redo_takes_nothing_back_that_it_cannot_apply_again(
    files: Files, history: History, codes: list[str]
) -> None:
    assert problems(planner.plan_redo(planner.reconcile(files, history), steps=1)) == codes


# names


KNOWN = planner.reconcile([file(5, name="add_phone"), file(12, name="add_fax")], [])


@pytest.mark.parametrize(
    ("text", "number"),
    [("5", 5), ("05", 5), ("0005", 5), ("05_add_phone", 5), ("12", 12), ("0", 0), ("00", 0)],
)
def test_a_version_is_named_by_its_number_or_its_whole_name(text: str, number: int) -> None:
    assert planner.resolve(KNOWN, text) == number


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("05_add_fone", "the nearest is 05_add_phone"),
        ("add_fax", "the nearest is 12_add_fax"),
        ("7", "list the versions with: migrator status"),
        ("-1", "list the versions with: migrator status"),
        ("zzz", "list the versions with: migrator status"),
    ],
)
def test_an_unknown_version_is_answered_with_the_nearest(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        planner.resolve(KNOWN, text)
    assert (caught.value.message, caught.value.hint) == (f'there is no version "{text}"', hint)


# remarks


@pytest.mark.parametrize(
    ("files", "history", "remarks"),
    [
        ([file(1)], [row(1)], []),
        ([file(1, down=None)], [], ["irreversible, for want of a down file: 01_name"]),
        ([file(1, down=None)], [row(1)], []),  # the stored script takes it back
        ([file(1)], [row(1), row(2)], ["the database is ahead of these files: it has 02_name"]),
        (
            [file(1, "select 1 ;")],
            [row(1, "select 1;")],
            ["edited since they were applied, in comments and white space only: 01_name"],
        ),
    ],
)
def test_what_is_no_problem_is_remarked_on(
    files: Files, history: History, remarks: list[str]
) -> None:
    entries = planner.reconcile(files, history)
    assert list(find_notes(entries)) == remarks
    assert list(find_problems(entries)) == []


def test_a_file_that_took_the_number_of_an_applied_one_is_told_how_to_give_it_back() -> None:
    (entry,) = planner.reconcile([file(1, name="new")], [row(1, name="old")])
    (error,) = disagreements(entry)
    assert error.message == "01_old is applied, and in the files its number belongs to 01_new"
    assert (error.hint or "").startswith("name the file 01_old.up.sql again")
