"""The README names what the program has, and its tables are those of the program."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from migrator import errors
from migrator.cli import app, configuration, main
from migrator.doctor.checks import checks
from migrator.hazards.catalogue import hazards
from migrator.model import Status
from migrator.output import reference

from . import goldens
from .conftest import PROJECT, Database, Migrate, Result, Write

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
        f"| `{h.id}`<br>{h.title} | {h.condition} {h.effect} | {h.workaround} |".replace("\n", " ")
        for h in hazards().values()
    ]
    return "\n".join(
        ["| hazard | when, and with which effect | instead |", "|---|---|---|", *lines]
    )


DOCTOR = {check.id: f"{check.title}. {check.meaning}" for check in checks()} | {
    "history": "Unusable history. "
    "There are two, or it belongs to another role or tool, or it was altered."
}

TABLES = {
    "hazards": hazard_table(),
    "file-options": rows("option | meaning", reference.table("file-options")),
    "doctor": rows("finding | meaning", DOCTOR),
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


# Samples: what the README shows of the program


@dataclass(frozen=True, slots=True)
class Sample:
    """A block that shows files, a command, and the command's output.

    Attributes:
        files: What `cat` shows, by the name of the file.
        arguments: Those of `migrator`; empty for a command of make.
        lines: The output; a line `…` is any number of lines.
    """

    files: Mapping[str, str]
    arguments: Sequence[str]
    lines: Sequence[str]


def marked(name: str) -> str:
    """Return the code block between the comments `name` and `/name`."""
    block = README.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name.split(':')[0]} -->")[0]
    return re.sub(r"(?m)^```.*\n?", "", block.strip())


def sample(name: str) -> Sample:
    *shown, last = re.split(r"(?m)^\$ ", marked(f"sample: {name}"))[1:]
    cats = (each.partition("\n") for each in shown)
    files = {command.removeprefix("cat migrations/"): text for command, _, text in cats}
    command, *lines = last.splitlines()
    program, *arguments = shlex.split(command)
    return Sample(files, arguments if program == "migrator" else [], lines)


def comparable(output: str) -> list[str]:
    """Return the lines of an output without times, directories and the address of the database."""
    output = re.sub(r"(?m)^database \S+ on .*: ", "database shop: ", output)
    output = re.sub(r"\S+/migrations/", "migrations/", output)
    return goldens.normalise(output, {}).splitlines()


def assert_shown(expected: Sequence[str], result: Result) -> None:
    """Assert that an output has the expected lines in this order, with gaps only at `…`."""
    pattern = "".join("(?:.*\n)*?" if line == "…" else re.escape(f"{line}\n") for line in expected)
    actual = "".join(f"{line}\n" for line in comparable(result.stderr + result.stdout))
    assert re.fullmatch(pattern, actual), actual


@pytest.fixture
def example(directory: Path) -> Path:
    """The worked example, in a directory that a test may change."""
    return Path(shutil.copytree(PROJECT / "migrations", directory, dirs_exist_ok=True))


def test_the_migration_that_fails_fails_as_shown(
    example: Path, migrate: Migrate, write: Write
) -> None:
    assert migrate("up").exit_code == 0
    shown = sample("failure")
    write(shown.files)
    result = migrate(*shown.arguments)
    assert_shown(comparable("\n".join(shown.lines)), result)


def test_the_first_run_looks_as_shown(example: Path, migrate: Migrate) -> None:
    lines = comparable("\n".join(sample("first-run").lines))
    header = next(n for n, line in enumerate(lines) if line.startswith("database "))
    assert_shown(lines[header:], migrate("up"))


@pytest.mark.slow
def test_the_rehearsal_finds_what_is_shown(
    database: Database, migrate: Migrate, write: Write
) -> None:
    shown = sample("rehearse")
    columns = "id bigint not null, customer_id bigint not null, total numeric not null, coupon text"
    write(
        {
            "01_create_orders.up.sql": f"create table orders ({columns});",
            "02_order_rules.down.sql": "alter table orders add column coupon text;\n"
            "alter table orders drop constraint orders_total_check;",
            **shown.files,
        }
    )
    assert migrate("up", "--to", "1").exit_code == 0
    database.execute(
        "insert into orders select n, n % 1000, n, null from generate_series(1, 2000000) n;"
        "analyze orders;"
    )
    result = migrate(*shown.arguments)
    assert_shown(comparable("\n".join(shown.lines)), result)


@pytest.mark.slow
def test_the_dangerous_migration_goes_as_shown(
    database: Database, migrate: Migrate, write: Write
) -> None:
    write(
        {"01_create_accounts.up.sql": "create table accounts (id bigint primary key, email text)"}
    )
    assert migrate("up").exit_code == 0
    database.execute(
        "insert into accounts select n, case"
        " when n in (17, 4711, 90210) then null"
        " when n = 1999999 then 'USER1@example.com'"
        " else 'user' || n || '@example.com' end"
        " from generate_series(1, 2000000) n;"
        "analyze accounts;"
    )
    before, on_any_machine = sample("walk-before"), ("--data-checks", "5min")
    undo = "drop index accounts_email_key; alter table accounts alter column email drop not null;"
    write({**before.files, "02_unique_email.down.sql": undo})
    result = migrate(*before.arguments, *on_any_machine)
    assert result.exit_code == 4
    assert_shown(comparable("\n".join(before.lines)), result)
    for file in migrate.directory.glob("02_*"):
        file.unlink()
    database.execute(
        "update accounts set email = id || '@example.com' where email is null or id = 1999999"
    )
    after = sample("walk-after")
    add = "alter table accounts add constraint email_is_there check (email is not null)"
    downs = {
        "02_require_email.down.sql": "alter table accounts drop constraint email_is_there;",
        "03_check_email.down.sql": "-- a constraint that is valid may stay so",
        "04_email_not_null.down.sql": f"{add}; alter table accounts alter email drop not null;",
        "05_unique_email.down.sql": "drop index concurrently accounts_email_key;",
    }
    write({**after.files, **downs})
    result = migrate(*after.arguments, *on_any_machine)
    assert_shown(comparable("\n".join(after.lines)), result)
    assert result.exit_code == 0


def test_the_privileges_are_enough(database: Database, migrate: Migrate, write: Write) -> None:
    first, others = marked("privileges").split("-- A second role", 1)
    roles = ("deploy", "operator", "observer")
    names = {role: f"{role}_{database.name}" for role in roles}
    urls = {role: database.tcp_url(name, "x") for role, name in names.items()}

    def execute(statements: str) -> None:
        for role, name in names.items():
            statements = re.sub(rf"\b(to|grant) {role}\b", rf"\1 {name}", statements)
        database.execute(statements)

    execute("".join(f"create role {name} login password 'x';" for name in names.values()))
    try:
        write({"01_a.up.sql": "create schema a;", "01_a.down.sql": "drop schema a;"})
        execute(f"grant create on database {database.name} to deploy;{first}")
        assert migrate("up", database=urls["deploy"]).exit_code == 0
        execute(f"grant create on database {database.name} to operator;--{others}")
        write({"02_b.up.sql": "create schema b;", "02_b.down.sql": "drop schema b;"})
        for command in ("up", "down", "up"):
            assert migrate(command, database=urls["operator"]).exit_code == 0
        for command in ("status", "verify", "log"):
            assert migrate(command, database=urls["observer"]).exit_code == 0
        for command in ("rehearse", "drift"):
            trusting = ("--trust-history-of", names["deploy"], "--scratch-url", database.url)
            result = migrate(command, *trusting, database=urls["observer"])
            assert "drift" in result.stdout, result
    finally:
        owned = ", ".join(names.values())
        database.execute(f"drop owned by {owned}; drop role {owned}")


def test_the_health_check_runs(
    database: Database, example: Path, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(example.parent)
    monkeypatch.setenv("DATABASE_URL", database.url)
    found: dict[str, object] = {}
    exec(marked("status"), found)
    assert found["is_ready"] is False
    migrate("up")
    exec(marked("status"), found)
    assert found["is_ready"] is True


def test_the_configuration_file_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "migrator.toml"
    path.write_text(marked("configuration"))
    for env in (None, "staging", "production"):
        assert configuration.load(main.main, str(path), env).get(("", "dir")) == "db/migrations"


@pytest.mark.parametrize("text", re.findall(r"(?ms)^```toml\n(.*?)^```", README))
def test_every_configuration_that_is_shown_is_valid(tmp_path: Path, text: str) -> None:
    path = tmp_path / "migrator.toml"
    path.write_text(text)
    assert configuration.load(main.main, str(path), None).file


SHOWN = sorted(
    set(re.findall(r"(?m)^\$ (?:DATABASE_URL=\S+ )?(migrator .+)$", README))
    | set(re.findall(r"`(?:DATABASE_URL=\S+ )?(migrator [a-z-][^`]*)`", README))
)


@pytest.mark.parametrize("line", SHOWN)
def test_a_command_that_is_shown_exists(line: str) -> None:
    _, *words = re.sub(r"\s#.*|\s>.*|[\[\]|]", " ", line).split()
    given = set(re.findall(r"(?<!\S)--[a-z-]+", line))
    command = next((word for word in words if word in main.main.commands), None)
    known = options(main.main.commands[command]) | OF_ALL if command else options(main.main)
    first = next((word for word in words if not word.startswith("-")), None)
    assert given <= known
    assert command or "--database-url" in given or first in (None, "COMMAND"), line


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
@pytest.mark.parametrize(
    "line",
    sorted(
        set(re.findall(r"(?m)^\$ (make .*?)(?: +#.*)?$", README))
        | set(re.findall(r"`(make [^`…]+)`", README))
    ),
)
def test_a_target_of_make_that_is_shown_exists(line: str) -> None:
    command = [*shlex.split(line), "--dry-run"]
    inherited = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    done = subprocess.run(command, cwd=PROJECT, env=inherited, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_rooms_and_modules_that_are_named_exist() -> None:
    package = PROJECT / "migrator"
    tree, _, answers = section("The code").partition("```\n\n")
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    assert set(re.findall(r"(?m)^    (\w+)/ ", tree)) == rooms
    modules = {path.name for path in package.glob("*.py") if not path.name.startswith("__")}
    assert set(re.findall(r"\w+\.py", tree)) == modules
    named_files = re.findall(r"`(?:migrator/)?((?:\w+/)?\w+\.(?:py|toml))`", answers)
    assert len(named_files) >= 6
    assert all((package / name).is_file() for name in named_files)
    assert "def reconcile(" in (package / "planning" / "planner.py").read_text()
