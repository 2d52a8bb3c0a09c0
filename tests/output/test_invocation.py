"""Messages write every command and option as the program was called."""

from __future__ import annotations

import re

import click
import pytest

from migrator.cli.main import main
from migrator.output import invocation
from migrator.output.invocation import as_called

COMMANDS = sorted(name for name, each in main.commands.items() if not each.hidden)
OPTIONS = {
    max(parameter.opts, key=len): parameter
    for command in main.commands.values()
    for parameter in command.params
    if isinstance(parameter, click.Option)
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_recognised(name: str) -> None:
    said = as_called(f"see: migrator {name}", "python -m migrator")
    assert said == f"see: python -m migrator {name}"


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_taken_with_its_value(name: str) -> None:
    option = OPTIONS[name]
    value = "" if option.is_flag or option.count else " VALUE"
    (said,) = re.findall(r"\[(.*)\]", invocation._COMMAND.sub("[]", f"migrator up {name}{value}"))
    assert said == ""


@pytest.mark.parametrize(
    ("text", "for_make"),
    [
        ("then run: migrator up", "then run: make migrate-up"),
        ("migrator up --out-of-order", "make migrate-up out-of-order=1"),
        ("migrator down --to 05_a, or", "make migrate-down to=05_a, or"),
        ("(see: migrator log), then", "(see: make migrate-log), then"),
        ("make it with: migrator create NAME", "make it with: make migrate-create name=NAME"),
        ("migrator --dir db --json status", "make migrate-status dir=db json=1"),
        ("migrator rehearse --save FILE", "make migrate-rehearse save=FILE"),
        ("see: migrator up --help", "see: make migrate-up args=--help"),
        ("migrator baseline 05 --unchecked", "make migrate-baseline version=05 unchecked=1"),
        ("migrator adopt goose --files DIR", "make migrate-adopt tool=goose files=DIR"),
        ("another migrator is still running", "another migrator is still running"),
        ("-- migrator: role app", "-- migrator: role app"),
        ("/opt/migrator up", "/opt/migrator up"),
    ],
)
def test_make_takes_options_as_name_and_value(text: str, for_make: str) -> None:
    assert as_called(text, "make") == for_make
