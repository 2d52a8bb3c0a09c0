"""The README names what the program has, and its tables are those of the program."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

import click
import pytest

from migrator import errors
from migrator.cli import app, main
from migrator.hazards.catalogue import hazards
from migrator.model import Status
from migrator.output import reference

from .conftest import PROJECT

README = (PROJECT / "README.md").read_text()


def subclasses(kind: type[errors.MigratorError]) -> set[type[errors.MigratorError]]:
    direct = set(kind.__subclasses__())
    return direct | {deeper for each in direct for deeper in subclasses(each)}


CODES = {kind.code for kind in subclasses(errors.MigratorError) if hasattr(kind, "code")}
COMMANDS = sorted(name for name, each in main.main.commands.items() if not each.hidden)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the text below it.

    Attributes:
        introduction: The text before the next heading of any level.
        text: The text before the next heading of the same or a higher level.
    """

    level: int
    title: str
    introduction: str
    text: str

    def names(self, command: str) -> bool:
        """Whether the heading is a command, or has it in backticks."""
        quoted = rf"`(migrator )?{command}( [^`]*)?`"
        return self.title == command or re.search(quoted, self.title) is not None


def sections(text: str) -> list[Section]:
    """Cut a text in Markdown into its sections, in order; a `#` inside a code block is none."""
    code = [match.span() for match in re.finditer(r"(?ms)^```.*?^```$", text)]
    heads = [
        head
        for head in re.finditer(r"(?m)^(#+) (.+)$", text)
        if not any(start < head.start() < end for start, end in code)
    ]
    found = []
    for number, head in enumerate(heads, start=1):
        following = [each.start() for each in heads[number:]]
        closing = [each.start() for each in heads[number:] if len(each[1]) <= len(head[1])]
        introduction, whole = (
            text[head.end() : min(ends, default=None)] for ends in (following, closing)
        )
        found.append(Section(len(head[1]), head[2], introduction, whole))
    return found


SECTIONS = sections(README)


def section(heading: str) -> str:
    """Give the text below a heading of the second level."""
    return next(each.text for each in SECTIONS if (each.level, each.title) == (2, heading))


def options(command: click.Command) -> set[str]:
    """Give the long names of a command's options."""
    found = (parameter for parameter in command.params if isinstance(parameter, click.Option))
    return {max(option.opts, key=len) for option in found}


def named(text: str) -> set[str]:
    """Give the options that a text names."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text))


OF_ALL = set.intersection(*(options(main.main.commands[name]) for name in COMMANDS))


def test_every_error_code_is_a_heading_and_every_heading_an_error_code() -> None:
    assert set(re.findall(r"(?m)^### (.+)$", section("Errors"))) == CODES


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_is_named_under_its_heading(command: str) -> None:
    own = [each for each in SECTIONS if each.names(command)]
    assert own, "it has a heading"
    assert options(main.main.commands[command]) - OF_ALL <= named(" ".join(s.text for s in own))


def test_the_headings_of_commands_are_those_of_the_program() -> None:
    headings = {s.title for s in SECTIONS if any(s.names(command) for command in COMMANDS)}
    commands = {each.title for each in sections(section("Commands")) if each.title.islower()}
    assert commands <= headings


def test_every_option_of_the_program_and_of_all_commands_is_named() -> None:
    introduction = next(each.introduction for each in SECTIONS if each.title == "Commands")
    assert named(introduction) >= OF_ALL
    assert options(main.main) <= named(introduction + section("Configuration"))


def test_the_table_of_exit_codes_is_that_of_the_program() -> None:
    cells = re.findall(r"(?m)^\| ([0-9, ]+) \| ", section("Exit codes"))
    expected = {0, 3, app.DISAGREEING, *app.EXIT_CODES.values(), 129, 130, 141, 143}
    assert sorted(map(int, ", ".join(cells).split(", "))) == sorted(expected)


def test_every_error_has_an_exit_code_that_no_other_one_hides() -> None:
    kinds = subclasses(errors.MigratorError) - {errors.CancelledError, errors.BlockedError}
    for kind in kinds:
        nearest = next(each for each in kind.__mro__ if each in app.EXIT_CODES)
        assert app.exit_code(kind("a message")) == app.EXIT_CODES[nearest], kind


def test_every_state_is_explained() -> None:
    for status in Status:
        assert re.search(rf"(?m)^\| {status} \| ", README), status


def test_links_within_the_readme_lead_somewhere() -> None:
    titles = re.findall(r"(?m)^##+ (.+)$", README)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors


def rows(title: str, data: Mapping[str, str], mark: str = "`") -> str:
    """Return a table of two columns, the first of them marked as code."""
    lines = [f"| {mark}{name}{mark} | {text} |" for name, text in data.items()]
    return "\n".join([f"| {title} |", "|---|---|", *lines])


def hazard_table() -> str:
    lines = [
        f"| `{h.id}` | {h.title} | {h.condition} | {h.effect} | {h.workaround} |".replace("\n", " ")
        for h in hazards().values()
    ]
    return "\n".join(["| id | name | when | effect | instead |", "|---|---|---|---|---|", *lines])


TABLES = {
    "hazards": hazard_table(),
    "file-options": rows("option | meaning", reference.table("file-options")),
    "json": rows("command | keys", reference.table("json")),
    "events": rows("event | keys", reference.table("events")),
    "exit-codes": rows("code | meaning", reference.table("exit-codes"), mark=""),
    "errors": "\n\n".join(
        f"### {code}\n{text}" for code, text in reference.table("errors").items()
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_that_of_the_program(name: str) -> None:
    readme = PROJECT / "README.md"
    before, opening, rest = readme.read_text().partition(f"<!-- {name} -->\n")
    shown, closing, after = rest.partition(f"<!-- /{name} -->")
    if os.environ.get("MIGRATOR_GOLDEN"):
        readme.write_text(f"{before}{opening}{TABLES[name]}\n{closing}{after}", encoding="utf-8")
    assert shown.strip() == TABLES[name]
