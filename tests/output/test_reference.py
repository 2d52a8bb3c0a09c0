"""The reference texts document what the program has, and nothing else."""

from __future__ import annotations

import re
from pathlib import PurePath

import pytest

from migrator import errors
from migrator.cli import app
from migrator.events import (
    Backend,
    Event,
    Losing,
    Notice,
    Noticed,
    Progress,
    Progressed,
    Remarked,
    Retrying,
    StatementFinished,
    StepFinished,
    StepStarted,
    Traced,
    Waiting,
)
from migrator.model import Direction, Step
from migrator.output import reference
from migrator.output.json import of_error, of_event
from migrator.sql import parser
from migrator.tracing.trace import Effort, Trace

from ..conftest import call
from ..test_readme import CODES

SCRIPT = parser.parse(PurePath("01_a.up.sql"), "select 1;")
(STATEMENT,) = SCRIPT.units[0].statements
STEP = Step("01_a", Direction.UP, SCRIPT)
BACKEND = Backend(1, None, None, None, None, None, None)
EVENTS: tuple[Event, ...] = (
    StepStarted(STEP),
    StepFinished(STEP, 1),
    StatementFinished(STEP, STATEMENT, 1, "SELECT 1", 1),
    Noticed(STEP, STATEMENT, Notice("NOTICE", "00000", "a")),
    Traced(STEP, STATEMENT, Trace(), Effort(0.0, 0.0)),
    Progressed(STEP, STATEMENT, 1, Progress("VACUUM", "a", 1, 2, "blocks")),
    Waiting("01_a", (BACKEND,), 1),
    Retrying(STEP, 1, 2, 1, "a", ()),
    Losing(STEP, STATEMENT, "drops a", 1, 1),
    Remarked("a"),
)


def words(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


def test_the_documented_keys_of_events_are_correct() -> None:
    rows = {row["event"]: row for row in map(of_event, EVENTS)}
    assert rows.keys() == reference.table("events").keys()
    for name, text in reference.table("events").items():
        inner = set(rows[name]["blockers"][0]) if name == "waiting" else set[str]()
        assert words(text) == rows[name].keys() - {"event"} | inner


def test_the_documented_keys_of_an_error_are_correct() -> None:
    statement, several = errors.RequirementError("a"), errors.BlockedError("a")
    keys = of_error(statement).keys() | of_error(several).keys() | {"error"}
    assert words(reference.table("json")["an error"]) == keys


def test_every_error_and_every_exit_code_is_documented() -> None:
    assert reference.table("errors").keys() == CODES
    codes = {int(code) for code in reference.table("exit-codes")}
    assert codes >= {0, 3, *app.EXIT_CODES.values(), 129, 130, 143}


@pytest.mark.parametrize("option", reference.table("file-options"))
def test_every_option_of_a_file_is_valid(option: str) -> None:
    line = option.replace("HAZARD-ID", "table-rewrite")
    # What a squashed file replaces is listed below.
    more = [f"--  {each}_a {'0' * 64}" for each in ("01", "20")] * ("replaces" in option)
    text = "\n".join([line, *more, "select 1;\n"])
    if "backfill" in option or "repeat" in option:
        line = line.replace(" [as ALIAS] [by COLUMN]", " as o by id")
        text = f"-- migrator: no-transaction\n{line}\ndelete from t o where a"
        text += " /* batch */;" * ("backfill" in option)
    problems = parser.parse(PurePath("01_a.up.sql"), text).problems
    is_draft = option == "-- migrator: draft"
    assert [str(problem) for problem in problems] == [
        "01_a.up.sql:1:1: the file is a draft"
    ] * is_draft


@pytest.mark.parametrize("topic", reference.TOPICS)
def test_a_topic_fits_the_width(topic: str) -> None:
    shown = call("help", topic, environ={"COLUMNS": "72"})
    assert shown.exit_code == 0
    assert len(shown.stdout.splitlines()) > 10
    assert max(map(len, shown.stdout.splitlines())) <= 72


def test_help_shows_what_the_option_help_shows() -> None:
    assert call("help").stdout == call("--help").stdout
    assert call("help", "up").stdout == call("up", "--help").stdout


def test_help_on_an_unknown_topic_names_the_topics() -> None:
    result = call("help", "frob")
    assert result.exit_code == 2
    assert 'error: no help on "frob"\nhint: the topics are files, ' in result.stderr
