"""Files and history are compared, and a plan is made of them: tables of cases."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import PurePath

import pytest

from migrator.errors import UsageError
from migrator.files.source import read_source
from migrator.model import AppliedMigration, Direction, Entry, Migration, Plan, Status
from migrator.planning import planner
from migrator.planning.planner import Action, Request
from migrator.planning.problems import (
    disagreements,
    find_notes,
    find_problems,
    outstanding_states,
)

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
UP, DOWN = Direction.UP, Direction.DOWN
TWO_STATEMENTS = "-- migrator: no-transaction\nvacuum;\nanalyze;\n"


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
    """A row of the history: completely applied, at the minute of its number unless set."""
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
        ordinal=migration.number % 1000 if minute is None else minute,
    )


def interrupted(
    number: int, up: str = TWO_STATEMENTS, *, done: int, unsure: bool = False
) -> Applied:
    """A row of a no-transaction up that was interrupted after `done` statements."""
    applied = row(number, up)
    return AppliedMigration(
        version=applied.version,
        checksum=applied.checksum,
        up_script=applied.up_script,
        down_script=applied.down_script,
        has_down=True,
        applied_at=None,
        applied_by="dba",
        duration_ms=None,
        statements_done=done,
        in_step=EPOCH if unsure else None,
        ordinal=applied.ordinal,
    )


def partly_reverted(number: int, down: str = TWO_STATEMENTS, *, done: int) -> Applied:
    """A row of a version whose no-transaction down was interrupted after `done` statements."""
    applied = row(number, down=down)
    return AppliedMigration(
        version=applied.version,
        checksum=applied.checksum,
        up_script=applied.up_script,
        down_script=down,
        has_down=True,
        applied_at=applied.applied_at,
        applied_by="dba",
        duration_ms=1,
        statements_done=-done,
        in_step=None,
        ordinal=applied.ordinal,
    )


Applied = AppliedMigration
Files = Sequence[Migration]
History = Sequence[AppliedMigration]


def states(entries: Sequence[Entry]) -> dict[int, Status]:
    return {entry.number: entry.status for entry in entries}


def steps(plan: Plan) -> list[tuple[str, int]]:
    """Return the direction and number of each step of a plan."""
    return [(step.direction.value, int(step.version.partition("_")[0])) for step in plan.steps]


def up(
    entries: Sequence[Entry],
    *,
    target: int | None = None,
    steps: int | None = None,
    out_of_order: bool = False,
) -> Plan:
    version = None if target is None else str(target)
    request = Request(Action.UP, version, steps, out_of_order)
    return planner.plan(request, entries)


def down(
    entries: Sequence[Entry],
    *,
    target: int | None = None,
    steps: int | None = None,
    from_files: bool = False,
) -> Plan:
    version = None if target is None else str(target)
    request = Request(Action.DOWN, version, steps, from_files=from_files)
    return planner.plan(request, entries)


def redo(entries: Sequence[Entry], *, steps: int) -> Plan:
    return planner.plan(Request(Action.REDO, steps=steps), entries)


def problems(plan: Plan) -> list[str]:
    return [error.code for error in plan.problems]


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
        ([file(1, name="new")], [row(1, name="old")], {1: Status.RENAMED}),
        ([file("0001")], [row(1, "create table t0001 ();\n")], {1: Status.RENAMED}),
        ([file(1, TWO_STATEMENTS)], [interrupted(1, done=1)], {1: Status.INTERRUPTED}),
        ([], [interrupted(1, done=1)], {1: Status.INTERRUPTED}),
        ([file(1)], [partly_reverted(1, done=1)], {1: Status.INTERRUPTED}),
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
def test_reconcile_gives_every_number_a_state(
    files: Files, history: History, expected: dict[int, Status]
) -> None:
    entries = planner.reconcile(files, history)
    assert states(entries) == expected
    assert [entry.number for entry in entries] == sorted(expected)


@pytest.mark.parametrize(
    ("applied", "file_now", "reformatted"),
    [
        ("select 1;\n", "select 1;\n", False),
        ("select 1;\n", "select 1;   \n\n", False),  # the checksum is the same
        ("select 1;\n", "-- why\nselect\n  1;\n", True),
        ("select 1;\n", "/* a /* nested */ one */ select 1", True),
        ("select 1;\n", "begin;\nselect 1;\ncommit;\n", True),
        ("begin;\nselect 1;\nend;\n", "select 1;\n", True),
    ],
)
def test_an_edit_of_comments_white_space_or_begin_and_commit_is_not_a_modification(
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


def test_a_script_too_long_to_be_stored_is_modified_if_its_checksum_differs() -> None:
    (entry,) = planner.reconcile([file(1, "select 1; --")], [row(1, "select 1;", stored=False)])
    assert entry.status is Status.MODIFIED
    (error,) = disagreements(entry, [entry])
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
        ([file(1, TWO_STATEMENTS), file(2)], [interrupted(1, done=1)], [("up", 1), ("up", 2)]),
    ],
)
def test_up_applies_what_is_pending_by_ascending_number(
    files: Files, history: History, expected: list[tuple[str, int]]
) -> None:
    plan = up(planner.reconcile(files, history))
    assert (steps(plan), plan.problems) == (expected, ())


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
    plan = up(entries, target=target, steps=most)
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
        ([file(1)], [partly_reverted(1, done=1)], ["interrupted"]),
        ([file(1, "vacuum full;")], [interrupted(1, done=1)], ["interrupted"]),
    ],
)
def test_up_reports_every_problem(files: Files, history: History, codes: list[str]) -> None:
    plan = up(planner.reconcile(files, history))
    assert problems(plan) == codes
    assert all(error.hint for error in plan.problems)


def test_up_ignores_problems_above_its_target() -> None:
    entries = planner.reconcile([file(1), file(2, "select 1;")], [row(2, "select 2;")])
    assert problems(up(entries)) == ["out-of-order", "modified"]
    assert problems(up(entries, target=1)) == ["out-of-order"]


def test_up_applies_older_versions_with_out_of_order() -> None:
    entries = planner.reconcile([file(1), file(2), file(3)], [row(2)])
    plan = up(entries, out_of_order=True)
    assert (steps(plan), plan.problems) == ([("up", 1), ("up", 3)], ())


def test_out_of_order_ignores_no_other_problem() -> None:
    entries = planner.reconcile([file(1), file(3)], [row(2), row(3)])
    assert problems(up(entries, out_of_order=True)) == ["missing"]


def test_up_has_nothing_to_do_if_the_database_is_ahead_of_the_files() -> None:
    plan = up(planner.reconcile([file(1)], [row(1), row(2), row(3)]))
    assert (plan.steps, plan.problems) == ((), ())
    assert plan.notes == ("the database is ahead of these files: it also has 02_name, 03_name",)


@pytest.mark.parametrize(
    ("done", "unsure", "place"),
    [
        (0, False, "at statement 1 of 2"),
        (0, True, "at statement 1 of 2"),
        (1, False, "after statement 1 of 2"),
        (1, True, "after statement 1 of 2"),
    ],
)
def test_an_interrupted_up_is_resumed_at_the_first_unfinished_statement(
    done: int, unsure: bool, place: str
) -> None:
    history = [interrupted(1, done=done, unsure=unsure)]
    plan = up(planner.reconcile([file(1, TWO_STATEMENTS)], history))
    (step,) = plan.steps
    assert (step.start_at, step.unsure, step.resumes) == (done, unsure, True)
    assert plan.notes == (f"01_name was interrupted {place}, and will be resumed there",)


@pytest.mark.parametrize(
    ("file_now", "done", "codes"),
    [
        (TWO_STATEMENTS, 1, []),
        (TWO_STATEMENTS.replace("analyze", "analyze t"), 1, []),  # the one that failed
        (TWO_STATEMENTS.replace("vacuum", "vacuum /* all */"), 1, []),
        (TWO_STATEMENTS.replace("vacuum", "vacuum t"), 0, []),
        (TWO_STATEMENTS.replace("vacuum", "vacuum t"), 1, ["interrupted"]),
        ("-- migrator: no-transaction\nanalyze;\n", 1, ["interrupted"]),
        ("select 1;\n", 1, ["interrupted"]),
    ],
)
def test_an_interrupted_up_is_resumed_only_if_finished_statements_are_unchanged(
    file_now: str, done: int, codes: list[str]
) -> None:
    plan = up(planner.reconcile([file(1, file_now)], [interrupted(1, done=done)]))
    assert problems(plan) == codes
    assert all("as applied" in (error.detail or "") for error in plan.problems)


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
        ([row(1), partly_reverted(2, done=1), row(3)], None, 1, [2]),
        ([interrupted(1, done=1), row(2)], None, 1, [1]),
    ],
)
def test_down_reverses_the_order_of_application(
    history: History, target: int | None, most: int | None, expected: list[int]
) -> None:
    files = [file(r.number, r.up_script) for r in history]
    plan = down(planner.reconcile(files, history), target=target, steps=most)
    assert steps(plan) == [("down", number) for number in expected]
    assert plan.problems == ()


SAME, OTHER = "drop table t;\n", "drop table t cascade;\n"


@pytest.mark.parametrize(
    ("in_file", "stored", "from_files", "runs", "note"),
    [
        (SAME, SAME, False, SAME, None),
        (SAME, SAME, True, SAME, None),
        ("-- bye\n" + SAME, SAME, False, SAME, None),
        (OTHER, SAME, False, SAME, "the stored script will run (to run the file: --from-files)"),
        (OTHER, SAME, True, OTHER, "the file will run (--from-files)"),
        (None, SAME, False, SAME, "01_name has no down file; the stored script will run"),
        (None, SAME, True, SAME, "01_name has no down file; the stored script will run"),
        (SAME, None, False, SAME, "01_name has no stored down script; 01_name.down.sql will run"),
    ],
)
def test_down_runs_the_stored_script_and_notes_a_difference(
    in_file: str | None, stored: str | None, from_files: bool, runs: str, note: str | None
) -> None:
    entries = planner.reconcile([file(1, down=in_file)], [row(1, down=stored)])
    plan = down(entries, steps=1, from_files=from_files)
    (step,) = plan.steps
    assert step.script.source == runs
    assert [n for n in plan.notes if note is None or note not in n] == []
    assert bool(plan.notes) == (note is not None)


def test_the_path_of_a_stored_script_says_so() -> None:
    entries = planner.reconcile([], [row(1)])
    (step,) = down(entries, steps=1).steps
    assert str(step.script.path) == "01_name.down.sql (stored)"


def test_down_of_a_version_without_a_down_script_is_a_problem() -> None:
    files, history = [file(1, down=None), file(2)], [row(1, down=None), row(2)]
    plan = down(planner.reconcile(files, history))
    assert problems(plan) == ["irreversible"]
    assert "write 01_name.down.sql" in (plan.problems[0].hint or "")


def test_down_of_an_invalid_script_is_a_problem() -> None:
    entries = planner.reconcile([file(1)], [row(1, down="commit;\n")])
    assert problems(down(entries, steps=1)) == ["migration-file"]


def test_an_interrupted_down_is_resumed_at_the_first_unfinished_statement() -> None:
    entries = planner.reconcile([file(1, down=TWO_STATEMENTS)], [partly_reverted(1, done=1)])
    (step,) = down(entries, steps=1).steps
    assert (step.direction, step.start_at, step.resumes) == (DOWN, 1, True)


def test_the_entire_down_of_an_interrupted_up_runs() -> None:
    entries = planner.reconcile([file(1, TWO_STATEMENTS)], [interrupted(1, done=1)])
    plan = down(entries, steps=1)
    assert plan.steps[0].start_at == 0
    assert plan.notes == (
        "01_name was interrupted while being applied; its entire down script will run",
    )


# redo


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (1, [("down", 3), ("up", 3)]),
        (2, [("down", 3), ("down", 2), ("up", 2), ("up", 3)]),
        (9, [("down", 3), ("down", 2), ("down", 1), ("up", 1), ("up", 2), ("up", 3)]),
    ],
)
def test_redo_reverts_and_applies_again(most: int, expected: list[tuple[str, int]]) -> None:
    files, history = [file(1), file(2), file(3)], [row(1), row(2), row(3)]
    plan = redo(planner.reconcile(files, history), steps=most)
    assert (steps(plan), plan.problems) == (expected, ())


def test_redo_applies_the_edited_file_after_the_stored_down() -> None:
    entries = planner.reconcile([file(1, "select 2;", OTHER)], [row(1, "select 1;", SAME)])
    reverted, applied = redo(entries, steps=1).steps
    assert (reverted.script.source, applied.script.source) == (SAME, "select 2;")


def test_redo_applies_nothing_that_is_pending() -> None:
    entries = planner.reconcile([file(1), file(2)], [row(1)])
    assert steps(redo(entries, steps=5)) == [("down", 1), ("up", 1)]


@pytest.mark.parametrize(
    ("files", "history", "codes"),
    [
        ([], [row(1)], ["missing"]),
        ([file(1, down=None)], [row(1, down=None)], ["irreversible"]),
        ([file(1, "commit;")], [row(1)], ["migration-file"]),
    ],
)
def test_redo_reverts_nothing_that_it_cannot_apply_again(
    files: Files, history: History, codes: list[str]
) -> None:
    assert problems(redo(planner.reconcile(files, history), steps=1)) == codes


# names


KNOWN = planner.reconcile([file(5, name="add_phone"), file(12, name="add_fax")], [])


@pytest.mark.parametrize(
    ("text", "number"),
    [("5", 5), ("05", 5), ("0005", 5), ("05_add_phone", 5), ("12", 12), ("0", 0), ("00", 0)],
)
def test_a_version_is_found_by_its_number_or_its_full_name(text: str, number: int) -> None:
    assert planner.resolve(KNOWN, text) == number


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("05_add_fone", "did you mean 05_add_phone?"),
        ("add_fax", "did you mean 12_add_fax?"),
        ("7", "list the versions with: migrator status"),
        ("-1", "list the versions with: migrator status"),
        ("zzz", "list the versions with: migrator status"),
    ],
)
def test_the_hint_on_an_unknown_version_is_the_most_similar_one(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        planner.resolve(KNOWN, text)
    assert (caught.value.message, caught.value.hint) == (f'there is no version "{text}"', hint)


# problems and notes


@pytest.mark.parametrize(
    ("files", "history", "notes"),
    [
        ([file(1)], [row(1)], []),
        ([file(1, down=None)], [], ["01_name has no down file and is irreversible"]),
        ([file(1, down=None)], [row(1)], []),  # the stored script reverts it
        (
            [file(number, down=None) for number in range(10, 17)],
            [],
            ["7 migrations, 10_name to 16_name have no down file and are irreversible"],
        ),
        (
            [file(1)],
            [row(1), row(2)],
            ["the database is ahead of these files: it also has 02_name"],
        ),
        (
            [file(1, "select 1 ;")],
            [row(1, "select 1;")],
            ["edited since, but only in comments, white space and letter case: 01_name"],
        ),
    ],
)
def test_what_is_not_a_problem_is_a_note(files: Files, history: History, notes: list[str]) -> None:
    entries = planner.reconcile(files, history)
    assert list(find_notes(entries)) == notes
    assert list(find_problems(entries)) == []


def texts(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Return message and hint of each problem."""
    return [(error.message, error.hint or "") for error in find_problems(entries)]


OUT_OF_ORDER = "or, if the order between them does not matter: migrator up --out-of-order"
ACCEPT = 'migrator repair 009 --accept --reason "…"'


@pytest.mark.parametrize(
    ("files", "history", "expected"),
    [
        (
            [file("007", name="a"), file("008", name="b"), file("010", name="c")],
            [row("009", name="vip")],
            [
                (
                    "007_a is older than 009_vip, which is already applied",
                    f"rename it to 011_a (migrator renumber), {OUT_OF_ORDER}",
                ),
                (
                    "008_b is older than 009_vip, which is already applied",
                    f"rename it to 012_b (migrator renumber), {OUT_OF_ORDER}",
                ),
                (
                    "009_vip is applied, but its file is missing",
                    "restore 009_vip.up.sql from version control, or from the column up_script of "
                    "migration_versions",
                ),
            ],
        ),
        (
            [file("009", "select 1;", name="vip_flag")],
            [row("009", "select 1;", name="vip")],
            [
                (
                    "009_vip is applied, and was renamed to 009_vip_flag",
                    "rename it back to 009_vip.up.sql, or, to keep when and by whom it was applied "
                    "under its new name: migrator repair 009_vip --renamed",
                )
            ],
        ),
        (
            [file("009", "select 2;", name="vip_flag")],
            [row("009", "select 1;", name="vip")],
            [
                (
                    "009_vip is applied, but file number 9 is now 009_vip_flag",
                    "restore 009_vip.up.sql and rename the other file to 010_vip_flag, or, if it "
                    f"is the same migration: {ACCEPT}",
                )
            ],
        ),
        (
            [file(1, TWO_STATEMENTS)],
            [interrupted(1, done=1)],
            [
                (
                    "01_name was interrupted after statement 1 of 2",
                    "fix the cause (see: migrator log), then resume with: migrator up",
                )
            ],
        ),
        (
            [file(1, TWO_STATEMENTS, name="new")],
            [interrupted(1, done=1)],
            [
                (
                    "01_name was interrupted, but its file is now named 01_new",
                    "rename it back to 01_name.up.sql, then run: migrator up",
                )
            ],
        ),
        (
            [file(1, TWO_STATEMENTS.replace("vacuum", "vacuum full"))],
            [interrupted(1, done=1)],
            [
                (
                    "01_name was interrupted, and a finished statement has been edited since",
                    "restore statement 1 to what was run (later statements may be edited), then "
                    "run: migrator up",
                )
            ],
        ),
        (
            [],
            [interrupted(1, done=1)],
            [
                (
                    "01_name was interrupted, and its file is missing",
                    "restore 01_name.up.sql from version control",
                )
            ],
        ),
        (
            [file(1, down=TWO_STATEMENTS)],
            [partly_reverted(1, done=1)],
            [
                (
                    "01_name is partly reverted: its down script was interrupted after statement 1",
                    "to finish reverting it, run: migrator down",
                )
            ],
        ),
    ],
)
def test_a_problem_says_what_is_wrong_and_how_to_fix_it(
    files: Files, history: History, expected: list[tuple[str, str]]
) -> None:
    assert texts(planner.reconcile(files, history)) == expected


SAME = "create table same ();\n"


@pytest.mark.parametrize(
    ("files", "history", "expected"),
    [
        ([file(3, SAME)], [row(2, SAME)], {2: Status.RENAMED}),
        ([file(1, SAME)], [row(2, SAME)], {2: Status.RENAMED}),
        ([file(3, SAME, name="other")], [row(2, SAME)], {2: Status.RENAMED}),
        ([file(3, "select 3;")], [row(2, SAME)], {2: Status.MISSING, 3: Status.PENDING}),
        (
            [file(3, SAME), file(4, SAME, name="other")],
            [row(2, SAME)],
            {2: Status.RENAMED, 4: Status.PENDING},
        ),
        (
            [file(3, SAME, name="x"), file(4, SAME, name="y")],
            [row(2, SAME)],
            {2: Status.MISSING, 3: Status.PENDING, 4: Status.PENDING},
        ),
        (
            [file(3, SAME, name="b"), file(4, SAME, name="a")],
            [row(1, SAME, name="a"), row(2, SAME, name="b")],
            {1: Status.RENAMED, 2: Status.RENAMED},
        ),
        ([file(2, SAME), file(3, SAME)], [row(2, SAME)], {2: Status.APPLIED, 3: Status.PENDING}),
    ],
)
def test_a_file_with_the_text_of_a_missing_version_was_given_another_number(
    files: Files, history: History, expected: dict[int, Status]
) -> None:
    assert states(planner.reconcile(files, history)) == expected


def test_a_version_with_another_number_is_reverted_with_its_file() -> None:
    entries = planner.reconcile([file(1), file(3, SAME)], [row(1), row(2, SAME, stored=False)])
    plan = planner.plan(Request(Action.DOWN, steps=1), entries)
    assert (steps(plan), plan.problems) == ([(DOWN, 2)], ())


def test_a_free_number_is_above_a_renumbered_file() -> None:
    entries = planner.reconcile([file(1), file(9, SAME), file(3, "x")], [row(5, SAME), row(6)])
    problems = [p for e in entries for p in disagreements(e, entries)]
    assert any("rename it to 10_name" in (problem.hint or "") for problem in problems)


def test_a_directory_with_the_file_of_no_applied_version_is_one_problem() -> None:
    entries = planner.reconcile([file(5)], [row(1), row(2), row(9)])
    found = [error for error in find_problems(entries) if error.code == "missing"]
    assert [(str(error), error.hint) for error in found] == [
        (
            "none of the 3 applied migrations has a file (01_name to 09_name)",
            "check that the directory (--dir or MIGRATOR_DIR) is the one of this database",
        )
    ]
    assert "missing" in problems(up(entries))
    assert Status.MISSING in outstanding_states(entries)
    assert steps(down(entries, steps=1)) == [("down", 9)]


DRAFT = "-- migrator: draft (write it)\n"


def test_a_draft_is_refused_in_the_up_file_and_in_the_down_file() -> None:
    for migration in (file(1, DRAFT), file(1, down=DRAFT)):
        entries = planner.reconcile([migration], [])
        for found in (up(entries).problems, tuple(find_problems(entries))):
            (problem,) = found
            assert (problem.message, problem.hint) == (
                "the file is a draft",
                "write its SQL, then remove this line",
            )


def test_files_without_sql_are_noted_by_up_and_verify() -> None:
    files = [file(n, text) for n, text in enumerate(["", "-- a\n;", "begin; commit;", "select 1"])]
    entries = planner.reconcile(files, [])
    note = "00_name, 01_name, 02_name have no SQL"
    assert (list(up(entries).notes), list(find_notes(entries))) == ([note], [note])
    many = planner.reconcile([file(n, "") for n in range(1, 9)], [])
    assert list(up(many).notes) == [
        "01_name, 02_name, 03_name, 04_name, 05_name and 3 more have no SQL"
    ]


@pytest.mark.parametrize(
    ("edited", "minutes", "down", "is_told"),
    [
        (2, (1, 2), "", True),
        (1, (1, 2), "", False),
        (1, (2, 1), "", True),  # applied out of order
        (2, (1, 2), None, False),
    ],
)
def test_an_edit_of_the_newest_version_is_told_of_redo(
    edited: int, minutes: tuple[int, int], down: str | None, is_told: bool
) -> None:
    files = [file(n, "select 2" if n == edited else None, down) for n in (1, 2)]
    history = [row(n, None, down, minute=minutes[n - 1]) for n in (1, 2)]
    ((_, hint),) = texts(planner.reconcile(files, history))
    redo = "to revert it and apply the edited file: migrator redo"
    assert (redo in hint, "--accept" in hint) == (is_told, True)


def test_the_hint_on_a_stored_script_that_is_refused_names_the_way_to_replace_it() -> None:
    entries = planner.reconcile([file(1)], [row(1, down="commit;\n")])
    (problem,) = down(entries, steps=1).problems
    assert problem.hint == (
        "put a working script into 01_name.down.sql, then run: migrator down --from-files"
    )
