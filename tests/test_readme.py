"""The README names what the program has, and what it shows is true."""

from __future__ import annotations

import os
import re

import click
import pytest

from migrator import errors
from migrator.cli import app, main
from migrator.hazards.catalogue import HAZARDS
from migrator.model import Status

from .conftest import PROJECT

README = (PROJECT / "README.md").read_text()


def subclasses(kind: type[errors.MigratorError]) -> set[type[errors.MigratorError]]:
    direct = set(kind.__subclasses__())
    return direct | {deeper for each in direct for deeper in subclasses(each)}


CODES = {kind.code for kind in subclasses(errors.MigratorError) if hasattr(kind, "code")}
COMMANDS = sorted(main.main.commands)


def section(heading: str) -> str:
    """Give the text between a heading of the second level and the next one."""
    return README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_every_error_code_is_a_heading_and_every_heading_an_error_code() -> None:
    assert set(re.findall(r"(?m)^### (.+)$", section("Errors"))) == CODES


def test_every_command_is_a_heading() -> None:
    headings = re.findall(r"(?m)^### ([a-z]+)$", section("Commands"))
    assert sorted(headings) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_named(name: str) -> None:
    for parameter in main.main.commands[name].params:
        if isinstance(parameter, click.Option):
            assert f"{max(parameter.opts, key=len)}" in section("Commands"), parameter.name


def test_every_option_of_the_program_is_named() -> None:
    for parameter in main.main.params:
        assert max(parameter.opts, key=len) in README, parameter.name


def test_every_exit_code_is_in_its_table() -> None:
    table = section("Exit codes")
    for code in {*app.EXIT_CODES.values(), 0, 3, 7, 130, 141, 143}:
        assert re.search(rf"\b{code}\b", table), code


def test_every_state_is_explained() -> None:
    for status in Status:
        assert re.search(rf"(?m)^\| {status} \| ", README), status


def test_every_code_of_an_exit_is_reachable() -> None:
    for kind in subclasses(errors.MigratorError) - {errors.CancelledError}:
        assert isinstance(app.exit_code(kind("a message")), int)


def test_links_within_the_readme_lead_somewhere() -> None:
    titles = re.findall(r"(?m)^##+ (.+)$", README)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors


def hazard_table() -> str:
    rows = [
        f"| `{h.id}` | {h.name} | {h.condition} | {h.effect} | {h.workaround} |".replace("\n", " ")
        for h in HAZARDS.values()
    ]
    return "\n".join(["| id | name | when | effect | instead |", "|---|---|---|---|---|", *rows])


def test_the_table_of_hazards_is_that_of_the_program() -> None:
    before, opening, rest = README.partition("<!-- hazards -->\n")
    shown, closing, after = rest.partition("<!-- /hazards -->")
    if os.environ.get("MIGRATOR_GOLDEN"):
        whole = f"{before}{opening}{hazard_table()}\n{closing}{after}"
        (PROJECT / "README.md").write_text(whole, encoding="utf-8")
    assert shown.strip() == hazard_table()
