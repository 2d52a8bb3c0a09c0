"""`migrator.toml` gives what is neither typed nor set in the environment."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.cli.configuration import load
from migrator.cli.main import main
from migrator.errors import BlockedError, ConfigurationError, MigratorError

from ..conftest import Database, Migrate, Result, call
from ..sessions import applied, ordinary_role
from .test_completion import completed

FILE = "migrator.toml"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with two migrations in `changes/`, and one in `others/`."""
    for name, versions in (("changes", ("01_a", "02_b")), ("others", ("01_z",))):
        (tmp_path / name).mkdir()
        for version in versions:
            (tmp_path / name / f"{version}.up.sql").write_text(f"create table t{version} ();")
            (tmp_path / name / f"{version}.down.sql").write_text(f"drop table t{version};")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(text: str, path: str = FILE) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


def run(*arguments: str, **environ: str) -> Result:
    return call(*arguments, environ=environ)


def versions(*arguments: str, **environ: str) -> int:
    """Return how many migrations the files have, by which a directory is told."""
    result = run("verify", "--offline", "--json", *arguments, **environ)
    assert result.exit_code == 0, result
    number: int = result.json["versions"]
    return number


LAYERS = 'dir = "changes"\n[env.other]\ndir = "others"\n[env.empty]\nallow-empty = true\n'


@pytest.mark.parametrize(
    ("arguments", "environ", "number"),
    [
        ((), {}, 2),
        (("--env", "other"), {}, 1),
        ((), {"MIGRATOR_ENV": "other"}, 1),
        (("--env", "other"), {"MIGRATOR_ENV": "empty"}, 1),
        (("--env", "empty"), {}, 2),
        (("--env", "other"), {"MIGRATOR_DIR": "changes"}, 2),
        (("--env", "other", "--dir", "changes"), {"MIGRATOR_DIR": "nowhere"}, 2),
        (("--dir", "others"), {}, 1),
    ],
)
def test_an_option_overrides_a_variable_that_the_environment_that_the_top_of_the_file(
    folder: Path, arguments: tuple[str, ...], environ: Mapping[str, str], number: int
) -> None:
    configure(LAYERS)
    assert versions(*arguments, **environ) == number
    before = call(*arguments, "verify", "--offline", "--json", environ=environ)
    assert before.json["versions"] == number, "the options stand before the command"


def test_a_variable_that_turns_an_option_off_overrides_the_file(folder: Path) -> None:
    (folder / "none").mkdir()
    configure('dir = "none"\nallow-empty = true\n')
    assert versions() == 0
    result = run("verify", "--offline", MIGRATOR_ALLOW_EMPTY="0")
    assert result.exit_code == 4


def test_paths_are_relative_to_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure('dir = "../changes"\n', "settings/prod.toml")
    assert versions("--config", "settings/prod.toml") == 2
    assert versions(MIGRATOR_CONFIG="settings/prod.toml") == 2
    monkeypatch.chdir(folder / "settings")
    assert versions("--config", "prod.toml") == 2


def test_help_needs_no_valid_file(folder: Path) -> None:
    configure("dir = ")
    for arguments in (("--help",), ("up", "--help"), ("help", "errors"), ("completion", "bash")):
        assert run(*arguments).exit_code == 0
    assert run("status").exit_code == 2


def test_the_options_of_a_command_are_in_its_table(database: Database, folder: Path) -> None:
    configure(
        f'dir = "changes"\ndatabase-url = "{database.url}"\njson = true\n'
        "[up]\nsteps = 1\n[env.all.up]\nsteps = 2\n[env.all.down]\nall = true\ndry-run = false\n"
    )
    assert [step["version"] for step in run("up").json["steps"]] == ["01_a"]
    assert applied(database) == ["01_a"]
    assert run("up", "--env", "all").exit_code == 0
    assert applied(database) == ["01_a", "02_b"]
    assert len(run("down", "--env", "all").json["steps"]) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('lock-timeout = "1s"', "1s"),
        ('lock-timeout = "1s"\n[up]\nlock-timeout = "2s"', "2s"),
        ('lock-timeout = "1s"\n[up]\nlock-timeout = "2s"\n[env.x]\nlock-timeout = "3s"', "3s"),
        ('[env.x]\nlock-timeout = "3s"\n[env.x.up]\nlock-timeout = "4s"', "4s"),
        ('[up]\nlock-timeout = "5s"\n[down]\nlock-timeout = "6s"\n[env.x]', "5s"),
    ],
)
def test_an_environment_overlays_the_file_and_a_table_the_top(
    database: Database, folder: Path, text: str, expected: str
) -> None:
    name = "01_a.up.sql"
    (folder / "changes" / name).write_text(
        "create table s as select current_setting('lock_timeout')"
    )
    configure(f"{text}\n")
    environ = {"DATABASE_URL": database.url, "MIGRATOR_DIR": "changes"}
    environ |= {"MIGRATOR_ENV": "x"} if "env.x" in text else {}
    assert run("up", **environ).exit_code == 0
    assert database.rows("select * from s") == [(expected,)]


WRONG: list[tuple[str, str, str]] = [
    ('dri = "x"', '1:1: unknown key "dri"', "did you mean dir?"),
    ('\nlock_timeout = "1s"', '2:1: unknown key "lock_timeout"', "did you mean lock-timeout?"),
    (
        "frob = 1",
        '1:1: unknown key "frob"',
        "the keys are after-up, allow-empty, backup-command, batch-load, batch-time, ",
    ),
    ('small = "1MB"', '1:1: unknown key "small"', "put it into the table [rehearse]"),
    ('[up]\ndir = "x"', '2:1: unknown key "dir"', "put it at the top of the file"),
    ("[rehears]\nx = 1", '1:1: unknown table "rehears"', "did you mean rehearse?"),
    ("[env.prod.rehearse]\nsmal = 1", '2:1: unknown key "smal"', "did you mean small?"),
    ("[down]\nyes = true", '2:1: unknown key "yes"', "pass --yes, or set MIGRATOR_DOWN_YES"),
    ('config = "x"', '1:1: unknown key "config"', "pass --config, or set MIGRATOR_CONFIG"),
    ("[migrations]", '1:1: unknown table "migrations"', "the tables are adopt, baseline, "),
    ('env = "prod"', '1:1: "env" takes a table, not a string', "--env NAME"),
    ("[env]\nprod = 1", '2:1: "prod" takes a table, not an integer', "[env.NAME]"),
    ("rehearse = 5", '1:1: "rehearse" takes a table, not an integer', "[rehearse]"),
    (
        "dir = 5",
        '1:1: "dir" takes a string or an array of strings, not an integer',
        'write: dir = "5"',
    ),
    (
        "dir = 2026-01-01",
        '1:1: "dir" takes a string or an array of strings, not a date or time',
        "",
    ),
    ("dir = {}", '1:1: "dir" takes a string or an array of strings, not a table', ""),
    ("[[rehearse]]", '1:1: "rehearse" takes a table, not an array', ""),
    ('[up]\nsteps = "2"', '2:1: "steps" takes an integer, not a string', "write: steps = 2"),
    (
        f"[up]\nsteps = 0x{'f' * 9000}",
        '"steps" takes an integer, not a number of more than 64 bits',
        "",
    ),
    (
        f"dir = 0x{'f' * 9000}",
        '1:1: "dir" takes a string or an array of strings, not a number of more than 64 bits',
        "",
    ),
    ("[up]\nsteps = true", '2:1: "steps" takes an integer, not a boolean', ""),
    ("[up]\nsteps = 0", '2:1: invalid "steps": 0 is not in the range x>=1', ""),
    ('allow-empty = "true"', '"allow-empty" takes true or false', "write: allow-empty = true"),
    ("protected = 1", '1:1: "protected" takes true or false, not an integer', ""),
    ('lock-timeout = "soon"', '1:1: invalid duration "soon" for --lock-timeout', ""),
    (
        'password-command = "aws rds token"',
        '"password-command" takes an array of strings, not a string',
        'there is no shell; write: password-command = ["aws", "rds", "token"]',
    ),
    ("password-command = []", "takes an array of strings, not an empty array", ""),
    ('password-command = ["a", 1]', "takes an array of strings, not an array", ""),
]


@pytest.mark.parametrize(("text", "said", "hint"), WRONG)
def test_what_is_wrong_in_a_file_has_a_line_and_says_what_to_write(
    folder: Path, text: str, said: str, hint: str
) -> None:
    configure(text)
    result = run("up")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"error: {FILE}:" in result.stderr
    assert said in result.stderr
    assert hint in result.stderr
    error = run("up", "--json").json["error"]
    assert (error["code"], error["file"]) == ("configuration", FILE)


LEAVES = st.one_of(
    st.booleans().map(lambda value: str(value).lower()),
    st.sampled_from(["1", "-9", "1.5", "inf", "2026-01-01", "07:00:00", "''", "'1s'", "'x y'"]),
)
NAMES = st.sampled_from(["env", "up", "dir", "steps", "yes", "rehearse", "small", "a", '"é\\n"'])


def table(values: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name} = {value}" for name, value in values.items()) + "}"


TREES = st.recursive(
    LEAVES,
    lambda each: st.one_of(
        st.lists(each, max_size=2).map(lambda values: f"[{', '.join(values)}]"),
        st.dictionaries(NAMES, each, max_size=3).map(table),
    ),
    max_leaves=8,
)


@given(st.dictionaries(NAMES, TREES))
def test_whatever_a_file_has_is_accepted_or_refused_with_a_line(
    tmp_path_factory: pytest.TempPathFactory, values: Mapping[str, str]
) -> None:
    path = tmp_path_factory.mktemp("any") / FILE
    path.write_text("".join(f"{name} = {value}\n" for name, value in values.items()), "utf-8")
    problems: Sequence[MigratorError] = ()
    try:
        load(main, str(path), None)
    except BlockedError as error:
        problems = error.errors
    except ConfigurationError as error:
        problems = (error,)
    assert all(each.location for each in problems)


def test_all_that_is_wrong_in_a_file_is_said_at_once(folder: Path) -> None:
    configure("dir = 5\n[env.prod]\nfrob = 1\n")
    result = run("status")
    assert result.exit_code == 2
    assert result.stderr.count("error: ") == 2
    assert f"2 problems found in {FILE}" in result.stderr


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("[env.dev]\n[env.prod]\n", ["--env", "pord"], "the environments are dev, prod"),
        ('dir = "x"', ["--env", "prod"], "it has none; add a table: [env.prod]"),
        (None, ["--env", "prod"], "there is no migrator.toml here"),
        (None, ["--config", "none.toml"], "cannot read none.toml: No such file or directory"),
    ],
)
def test_an_environment_or_a_file_that_does_not_exist_is_an_error(
    folder: Path, text: str | None, arguments: Sequence[str], said: str
) -> None:
    if text is not None:
        configure(text)
    result = run(*arguments, "status")
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_link_that_leads_nowhere_is_an_error(folder: Path) -> None:
    Path(FILE).symlink_to("nowhere.toml")
    result = run("status")
    assert (result.exit_code, "cannot read migrator.toml" in result.stderr) == (2, True)


# The database


def test_the_environment_names_another_database_and_says_so(
    database: Database, folder: Path
) -> None:
    configure('dir = "changes"\n[env.prod]\ndatabase-url = "postgresql://nowhere.invalid/x"\n')
    result = run("up", "--env", "prod", DATABASE_URL=database.url)
    assert result.exit_code == 0
    said = f"warning: DATABASE_URL overrides database-url of {FILE}:3:1"
    assert said in result.stderr
    assert "warning" not in run("status", DATABASE_URL=database.url).stderr


def test_variables_replace_parts_of_the_url_and_add_the_password(
    database: Database, folder: Path
) -> None:
    with ordinary_role(database) as url:
        account, _, where = url.removeprefix("postgresql://").partition("@")
        role, _, password = account.partition(":")
        configure(f'dir = "changes"\ndatabase-url = "postgresql://{role}@{where}"\n')
        result = run("up", DATABASE_PASSWORD=password)
        assert f" as {role}" in result.stderr, result
        configure(f'dir = "changes"\ndatabase-url = "postgresql://other@{where}?sslmode=require"\n')
        parts = {"DATABASE_USER": role, "DATABASE_PASSWORD": password, "DATABASE_SSL": "disable"}
        assert run("status", **parts).exit_code == 0


@pytest.fixture
def token(folder: Path, database: Database) -> Iterator[Path]:
    """Configure a program that prints the password, and counts how often it was run."""
    with ordinary_role(database, "createdb") as url:
        account, _, where = url.removeprefix("postgresql://").partition("@")
        role, _, password = account.partition(":")
        program = folder / "token"
        program.write_text(f"#!/bin/sh\necho x >> calls\necho {password}\n")
        program.chmod(0o755)
        configure(
            f'dir = "changes"\ndatabase-url = "postgresql://{role}@{where}"\n'
            'password-command = ["./token"]\n'
        )
        Path(FILE).chmod(0o644)
        yield folder


def calls() -> int:
    return len(Path("calls").read_text().splitlines()) if Path("calls").exists() else 0


def test_every_session_asks_for_its_own_password(token: Path) -> None:
    for command, sessions in (("status", 1), ("up", 2), ("down", 2)):
        before = calls()
        result = run(command)
        assert result.exit_code == 0, result
        assert calls() - before == sessions, command


def test_a_session_that_opens_late_asks_for_a_new_password(token: Path, database: Database) -> None:
    """The third session opens when the run waits; by then, the first password is not valid."""
    role = Path(FILE).read_text().partition("//")[2].partition("@")[0]
    database.execute(f"create table busy (); grant all on busy to {role};")
    (token / "changes" / "01_a.up.sql").write_text(f"alter role {role} password 'second';")
    (token / "changes" / "02_b.up.sql").write_text("lock table busy;")
    program = token / "token"
    later = "test $(wc -l < calls) -gt 2 && echo second && exit"
    program.write_text(program.read_text().replace("calls\n", f"calls\n{later}\n"))
    with database.connect() as conn, conn.transaction():
        conn.execute("lock table busy in access share mode")
        result = run("up", "--lock-timeout", "1500ms", "--lock-attempts", "1")
    assert result.exit_code == 5
    assert "blocked by" in result.stderr, "the third session has told who blocks"
    assert calls() == 3


def test_the_scratch_database_and_pg_dump_get_the_password(token: Path) -> None:
    assert run("up", "--steps", "1").exit_code == 0
    for arguments in (("rehearse",), ("rehearse", "--from-target"), ("drift",)):
        result = run(*arguments)
        assert result.exit_code in (0, 4), "a grant is drift"


def test_a_variable_with_a_password_overrides_the_program(token: Path) -> None:
    for name in ("DATABASE_PASSWORD", "PGPASSWORD"):
        result = run("status", **{name: "wrong"})
        assert (result.exit_code, calls()) == (6, 0)


def test_a_program_that_fails_is_an_error_with_exit_code_6(token: Path) -> None:
    (token / "token").write_text("#!/bin/sh\necho 'session \033[2Jexpired' >&2\necho s3c\nexit 3\n")
    result = run("status")
    assert result.exit_code == 6
    assert 'error: password-command "./token" failed with exit status 3' in result.stderr
    assert "session \\x1b[2Jexpired" in result.stderr
    assert "s3c" not in result.stderr


def shared() -> None:
    """Let every user write the file."""
    Path(FILE).chmod(0o646)


def of_a_group() -> None:
    """Let a group write the file."""
    os.chown(FILE, -1, 12345)
    Path(FILE).chmod(0o664)


def of_another() -> None:
    """Give the file to another user."""
    os.chown(FILE, 12345, -1)


UNSAFE = [
    pytest.param(shared, "other users may write to it", f"chmod go-w {FILE}", id="shared"),
    *(
        pytest.param(
            *case, marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can give it away")
        )
        for case in (
            (of_a_group, "other users may write to it", f"chmod go-w {FILE}"),
            (of_another, "it belongs to another user (uid 12345)", f"sudo chown 0 {FILE}"),
        )
    ),
]


@pytest.mark.parametrize(("change", "reason", "hint"), UNSAFE)
def test_a_program_named_in_a_file_that_others_may_write_is_not_run(
    token: Path, change: Callable[[], None], reason: str, hint: str
) -> None:
    change()
    result = run("status")
    assert (result.exit_code, calls()) == (2, 0)
    assert f"error: {FILE}:3:1: password-command is not run: {reason}" in result.stderr
    assert hint in result.stderr
    assert run("status", "--config", FILE).exit_code == 2
    assert versions() == 2, "what needs no database needs no program"


@pytest.mark.parametrize(("change", "reason", "hint"), UNSAFE)
def test_a_password_is_not_sent_where_a_file_says_that_others_may_write(
    database: Database, folder: Path, change: Callable[[], None], reason: str, hint: str
) -> None:
    configure(f'dir = "changes"\ndatabase-url = "{database.url}"\n')
    change()
    for name in ("DATABASE_PASSWORD", "PGPASSWORD"):
        result = run("status", **{name: "s3cret"})
        assert result.exit_code == 2, result
        said = f"error: {FILE}:2:1: the password of the environment is not sent to this server: "
        assert said + reason in result.stderr
        assert hint in result.stderr
        assert run("status", "--config", FILE, **{name: "s3cret"}).exit_code == 0
    assert run("status").exit_code == 0
    assert run("status", DATABASE_URL=database.url, PGPASSWORD="s3cret").exit_code == 0


def test_the_group_of_a_user_alone_may_write_the_file(token: Path) -> None:
    user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(os.getegid())
    if user.pw_gid != group.gr_gid or group.gr_name != user.pw_name or group.gr_mem:
        pytest.skip("this user has no group of their own")
    Path(FILE).chmod(0o664)
    assert run("status").exit_code == 0


def test_the_health_check_does_not_read_the_file(database: Database, folder: Path) -> None:
    import migrator

    configure('dir = "nowhere"\nfrob = 1\n')
    assert not migrator.status("changes", database_url=database.url).is_current


def test_a_shell_completes_the_environments(folder: Path) -> None:
    configure(LAYERS)
    assert completed(folder, "up", "--env", "") == ["other", "empty"]
    assert completed(folder, "--env", "o") == ["other"]
    configure("[env.x]\nfrob = 1\n", "y.toml")
    assert completed(folder, "--config", "y.toml", "up", "--env", "") == ["x"]
    configure("dir = ")
    assert completed(folder, "up", "--env", "") == []


def test_a_shell_completes_versions_from_the_directory_of_the_file(
    folder: Path, migrate: Migrate
) -> None:
    configure(LAYERS)
    assert completed(None, "--env", "other", "up", "--to", "") == ["01_z"]


# What counts


def settings(*arguments: str, **environ: str) -> dict[str, tuple[object, str, str | None]]:
    """Return each setting by `table.key`: its value, its source, and what gives it."""
    result = run("config", "--json", *arguments, **environ)
    assert result.exit_code == 0, result
    return {
        ".".join(filter(None, (row["table"], row["key"]))): (
            row["value"],
            row["source"],
            row["origin"],
        )
        for row in result.json["settings"]
    }


COUNTS = """\
dir = "changes"
lock-timeout = "1s"
[rehearse]
small = "1MB"
[env.prod]
lock-timeout = "2s"
protected = true
[env.prod.rehearse]
small = "2MB"
markdown = true
[up]
lock-timeout = "3s"
"""


def test_config_shows_what_counts_and_where_it_is_given(folder: Path) -> None:
    configure(COUNTS)
    found = settings("--schema", "s", MIGRATOR_ALLOW_EMPTY="0", MIGRATOR_UP_STEPS="5")
    assert found["config"] == (FILE, "default", None)
    assert found["dir"] == ("changes", "file", f"{FILE}:1")
    assert found["schema"] == ("s", "option", "--schema")
    assert found["allow-empty"] == (False, "variable", "MIGRATOR_ALLOW_EMPTY")
    assert found["trust-history-of"] == (None, "default", None)
    assert found["lock-timeout"] == ("1s", "file", f"{FILE}:2")
    assert found["up.lock-timeout"] == ("3s", "file", f"{FILE}:12")
    assert found["lock-attempts"] == ("10", "default", None)
    assert found["statement-timeout"] == ("no limit", "default", None)
    assert found["rehearse.small"] == ("1MB", "file", f"{FILE}:4")
    assert found["up.steps"] == (5, "variable", "MIGRATOR_UP_STEPS")
    assert found["down.steps"] == ("1", "default", None)
    assert found["protected"] == (False, "default", None)
    assert found["database.dbname"] == (None, "default", None)

    found = settings(MIGRATOR_ENV="prod", MIGRATOR_LOCK_TIMEOUT="9s")
    assert found["env"] == ("prod", "variable", "MIGRATOR_ENV")
    assert found["lock-timeout"] == ("9s", "variable", "MIGRATOR_LOCK_TIMEOUT")
    assert found["rehearse.small"] == ("2MB", "file", f"{FILE}:9")
    assert found["rehearse.markdown"] == (True, "file", f"{FILE}:10")
    assert found["protected"] == (True, "file", f"{FILE}:7")
    assert settings("--env", "prod")["lock-timeout"] == ("2s", "file", f"{FILE}:6")
    assert "up.lock-timeout" not in settings("--env", "prod"), "[env.prod] comes before [up]"


def test_config_shows_the_parameters_of_the_connection_without_passwords(folder: Path) -> None:
    configure('database-url = "postgresql://app@db/shop?sslmode=require"\npassword-command = ["x"]')
    Path(FILE).chmod(0o644)
    url = "database.{}".format
    found = settings(DATABASE_USER="deploy", PGPORT="6432", PGSSLROOTCERT="/ca.pem")
    assert found[url("host")] == ("db", "file", f"{FILE}:1")
    assert found[url("port")] == ("6432", "variable", "PGPORT")
    assert found[url("user")] == ("deploy", "variable", "DATABASE_USER")
    assert found[url("sslmode")] == ("require", "file", f"{FILE}:1")
    assert found[url("sslrootcert")] == ("/ca.pem", "variable", "PGSSLROOTCERT")
    assert found[url("password")] == ("****", "file", f"{FILE}:2")
    for name in ("DATABASE_PASSWORD", "PGPASSWORD"):
        assert settings(**{name: "s3cret"})[url("password")] == ("****", "variable", name)
    typed = settings("--database-url", "host=h password=s3cret")
    assert typed[url("password")] == ("****", "option", "--database-url")
    given = settings(DATABASE_URL="postgresql://h/d", DATABASE_SSL="true")
    assert given[url("host")] == ("h", "variable", "DATABASE_URL")
    assert given[url("sslmode")] == ("require", "variable", "DATABASE_SSL")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3cr%41et@h/d",
        "postgresql://u@h/d?password=s3cr%41et",
        "host=h password=s3cr%et",
        "postgresql://u:s3cr%zz@h/d",
    ],
)
def test_no_password_is_shown(folder: Path, url: str) -> None:
    environ = {"MIGRATOR_SCRATCH_URL": url}
    environ |= {"DATABASE_URL": url} if "%zz" not in url else {}
    for arguments in ((), ("--json",)):
        result = run("config", *arguments, **environ)
        assert result.exit_code == 0, result
        assert "s3cr" not in result.stdout
        assert "****" in result.stdout


def test_config_is_a_table_for_people(folder: Path) -> None:
    configure(COUNTS + '[env.dev]\ndatabase-url = "embedded:shop"\n')
    lines = run("config", "--env", "dev").stdout.splitlines()
    assert [" ".join(line.split()) for line in lines if line][:3] == [
        "config migrator.toml default",
        "env dev option --env",
        "dir changes migrator.toml:1",
    ]
    place = lines.index("[database]")
    assert lines[place + 1] == "dbname  embedded:shop  migrator.toml:14"


def test_every_option_has_its_row(folder: Path) -> None:
    found = settings(DATABASE_URL="embedded:")
    for command in (main, *main.commands.values()):
        for option in command.params:
            name = max(option.opts, key=len).removeprefix("--")
            if isinstance(option, click.Option) and not option.is_eager:
                expected = {name, f"{command.name}.{name}"}
                assert name == "database-url" or expected & found.keys(), name
