"""A rehearsal's report as text, JSON, Markdown and HTML."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest

from migrator.hazards.catalogue import hazards
from tests import goldens
from tests.conftest import Database, Migrate, Result, Write, call

pytestmark = pytest.mark.slow

SETUP = """
create table orders (id int primary key, note text);
create table people (id int primary key, name text, email text);
"""
PENDING = {
    "02_change.up.sql": """\
alter table orders alter id type bigint;
create index on people (name);
-- migrator: allow column-dropped unused since May | really
alter table people drop column email;
""",
    "02_change.down.sql": "alter table people add email text; drop index people_name_idx;"
    " alter table orders alter id type int;",
    "03_index.up.sql": "create index concurrently notes on orders (note);",
    "03_index.down.sql": "drop index concurrently notes;",
    "04_fails.up.sql": "select '<script>alert(1)</script> & https://example.com', 1 / 0;",
    "05_after.up.sql": "select 1;",
}


@pytest.fixture
def rehearsed(migrate: Migrate, write: Write) -> Migrate:
    """Make a database with rows, drift and pending migrations of every kind."""
    write({"01_start.up.sql": SETUP})
    assert migrate("up").exit_code == 0
    migrate.database.execute(
        "insert into orders select g, repeat('x', 100) from generate_series(1, 1000) g;"
        "insert into people select g, 'n', 'e' from generate_series(1, 1000) g;"
        "create index by_hand on people (email);"
        "analyze orders; analyze people"
    )
    write(PENDING)
    return migrate


def rehearse(migrate: Migrate, *options: str | Path) -> Result:
    result = migrate("rehearse", "--small", "100kB", *options)
    assert result.exit_code == 4, result.stderr
    return result


def normal(migrate: Migrate, text: str) -> str:
    text = text.replace(migrate.database.name, "shop")
    text = re.sub(r"PostgreSQL [0-9.]+", "PostgreSQL N", text)
    text = re.sub(r"\([0-9]+ kB,", "(N kB,", text)  # vacuum adds a few pages
    # What is sampled shows a brief lock by chance.
    text = re.sub(r"\n +public\.orders \(N kB, 1000 rows\): SHARE UPDATE EXCLUSIVE lock", "", text)
    return text.replace(str(migrate.directory), "migrations")


def test_the_text_is_as_expected(rehearsed: Migrate) -> None:
    goldens.check("rehearse", normal(rehearsed, rehearse(rehearsed).stdout))


def test_the_markdown_is_as_expected(rehearsed: Migrate) -> None:
    stdout = rehearse(rehearsed, "--markdown").stdout
    goldens.check("rehearse-markdown", normal(rehearsed, stdout))


def test_the_json_has_these_keys(rehearsed: Migrate) -> None:
    document = rehearse(rehearsed, "--json").json
    assert list(document) == [
        "database",
        "server_version",
        "scratch_version",
        "origin",
        "missing",
        "drift",
        "drift_notes",
        "queries",
        "clean",
        "not_rehearsed",
        "migrations",
    ]
    migration = document["migrations"][0]
    assert list(migration) == [
        "version",
        "statements",
        "findings",
        "data_checks",
        "conditions",
        "backfills",
        "usage",
        "down",
        "error",
    ]
    assert list(migration["statements"][0]) == [
        "line",
        "sql",
        "seconds",
        "wal_bytes",
        "bytes_rewritten",
        "rows_changed",
        "trace",
    ]
    assert list(migration["findings"][0]) == [
        "hazard",
        "severity",
        "line",
        "relation",
        "message",
        "workaround",
        "rewritten",
        "accepted",
    ]
    assert list(migration["down"]) == ["undoes", "left", "lost", "again", "irreversible", "error"]
    assert document["clean"] is False
    assert document["migrations"][-1]["error"]["sqlstate"] == "22012"


def test_the_markdown_escapes_what_would_end_a_cell(rehearsed: Migrate) -> None:
    lines = rehearse(rehearsed, "--markdown").stdout.splitlines()
    rows = [line for line in lines if line.startswith("| ") and "really" in line]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [5]


def test_the_markdown_begins_with_a_mark_to_find_the_comment_by(rehearsed: Migrate) -> None:
    assert rehearse(rehearsed, "--markdown").stdout.startswith("<!-- migrator rehearse -->\n")


def test_a_long_markdown_report_leaves_the_locks_out(migrate: Migrate, write: Write) -> None:
    many = "".join(f"create table t{number} (id int);\n" for number in range(400))
    write({"01_start.up.sql": many})
    assert migrate("up").exit_code == 0
    files = {
        f"{number:02}_change.up.sql": "".join(
            f"comment on table t{each} is '{number} {'x' * 30}';\n" for each in range(400)
        )
        for number in range(2, 7)
    }
    write(files)
    result = migrate("rehearse", "--markdown")
    assert len(result.stdout) < 60_000
    assert "use `--html`" in result.stdout
    assert "<summary>Locks</summary>" not in result.stdout


# SARIF


def test_the_sarif_has_each_finding_at_its_place(rehearsed: Migrate, tmp_path: Path) -> None:
    path = tmp_path / "report.sarif"
    rehearse(rehearsed, "--sarif", path)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["version"] == "2.1.0"
    (run,) = document["runs"]
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert rules >= {*hazards(), "drift", "migration-failed"}
    assert {each["ruleId"] for each in run["results"]} <= rules
    places = {
        each["ruleId"]: each["locations"][0]["physicalLocation"].get("region")
        for each in run["results"]
    }
    assert places["table-rewrite"] == {
        "startLine": 1,
        "startColumn": 1,
        "endLine": 1,
        "endColumn": 41,
    }
    assert places["column-dropped"]["startLine"] == 4
    assert places["migration-failed"] == {"startLine": 1, "startColumn": 1}
    levels = {(each["ruleId"], each["level"]) for each in run["results"]}
    assert {("table-rewrite", "error"), ("down-loses-data", "note"), ("drift", "error")} <= levels
    accepted = [each for each in run["results"] if each["ruleId"] == "column-dropped"]
    assert accepted[0]["suppressions"] == [
        {"kind": "inSource", "justification": "unused since May | really"}
    ]


@pytest.mark.parametrize(
    ("directory", "uri"),
    [
        ("migrations", "migrations/02_change.up.sql"),
        ("a b/ü%", "a%20b/%C3%BC%25/02_change.up.sql"),
    ],
)
def test_the_sarif_names_files_relative_to_the_working_directory(
    database: Database, project_folder: Path, directory: str, uri: str
) -> None:
    folder = project_folder / directory
    folder.mkdir(parents=True)
    (folder / "02_change.up.sql").write_text("select 1 / 0;", encoding="utf-8")
    environ = {"DATABASE_URL": database.url}
    for option in (directory, str(folder)):
        call("--dir", option, "rehearse", "--sarif", "report.sarif", environ=environ)
        document = json.loads(Path("report.sarif").read_text(encoding="utf-8"))
        result = document["runs"][0]["results"][0]
        file = result["locations"][0]["physicalLocation"]["artifactLocation"]
        assert file == {"uri": uri, "uriBaseId": "SRCROOT"}


# The page


class Page(HTMLParser):
    """Parses a page into its tags, its unclosed tags and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def page(rehearsed: Migrate, tmp_path: Path) -> Page:
    path = tmp_path / "report.html"
    rehearse(rehearsed, "--html", path)
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_has_no_scripts_and_no_links(page: Page) -> None:
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    attributes = {name for _, given in page.tags for name in given}
    known = {"lang", "charset", "name", "content", "class", "style", "title", "id", "href"}
    assert attributes <= known
    assert all((given.get("href") or "#").startswith("#") for _, given in page.tags)
    styles = page.text + "".join(given.get("style") or "" for _, given in page.tags)
    assert "url(" not in styles
    assert "@import" not in styles


def test_the_page_shows_sql_as_text(page: Page) -> None:
    assert "select '<script>alert(1)</script> & https://example.com', 1 / 0;" in page.text


def test_the_page_is_well_formed(page: Page) -> None:
    assert page.open == []


def test_the_page_shows_drift_sizes_findings_downs_and_what_is_missing(page: Page) -> None:
    for said in (
        "+ index public.by_hand",
        "1000 rows): rewritten; full scan; ACCESS EXCLUSIVE lock (blocks reads and writes)",
        "Table rewrite table-rewrite: rewrites public.orders (",
        "accepted: unused since May | really",
        "restores column public.people.email, but not its data",
        "division by zero",
        "not rehearsed, because 04_fails failed: 05_after",
        "sampled: brief locks may be missing",
    ):
        assert said in page.text, said


def test_each_migration_of_the_summary_leads_to_its_section(page: Page) -> None:
    anchors = [given["href"] for _, given in page.tags if "href" in given]
    assert anchors == ["#migration-1", "#migration-2", "#migration-3"]
    ids = {given["id"] for _, given in page.tags if "id" in given}
    assert {(each or "").removeprefix("#") for each in anchors} == ids


def _luminance(colour: str) -> float:
    """Return the relative luminance, as in WCAG 2.2."""
    digits = colour if len(colour) == 6 else "".join(digit * 2 for digit in colour)
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_all_text_of_the_page_has_a_contrast_of_at_least_4_5() -> None:
    style = (resources.files("migrator.output") / "report.css").read_text(encoding="utf-8")
    light, dark, printed = (
        dict(re.findall(r"--([a-z0-9-]+): #([0-9a-f]+);", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    )
    for scheme in (light, light | dark, light | printed):
        texts = ("ink", "soft", "bad", "warn", "good", "link")
        pairs = [(text, "paper") for text in texts]
        pairs += [(t, p) for t in ("ink", "soft") for p in scheme if p.endswith("-paper")]
        low = [(t, p) for t, p in pairs if _contrast(scheme[t], scheme[p]) < 4.5]
        assert low == []
        bars = [name for name in scheme if re.fullmatch(r"m\d", name)]
        assert [name for name in bars if _contrast("fff", scheme[name]) < 4.5] == []


def test_the_timeline_has_one_row_for_each_table(page: Page) -> None:
    timelines: list[list[str | None]] = []
    for _, given in page.tags:
        names = (given.get("class") or "").split()
        if "timeline" in names:
            timelines.append([])
        elif names == ["name"]:
            timelines[-1].append(given["style"])
    # A lock that is sampled is seen by chance, so the second timeline may be missing.
    assert len(timelines[0]) == 2
    assert all(len(rows) == len(set(rows)) for rows in timelines)


def test_the_timeline_shows_a_lock_from_its_statement_to_the_end(page: Page) -> None:
    bars = {
        (given["title"] or "").partition(" lock")[0]: given["style"]
        for tag, given in page.tags
        if "title" in given
    }
    assert bars["ACCESS EXCLUSIVE"] is not None
    assert re.search(r"grid-column: [23] / 5|grid-column: 4 / 5", bars["ACCESS EXCLUSIVE"])
    spans = [given["style"] for _, given in page.tags if "title" in given]
    assert any("grid-column: 2 / 5" in (span or "") for span in spans), spans


def test_a_page_that_cannot_be_written_is_reported(rehearsed: Migrate, tmp_path: Path) -> None:
    result = rehearsed("rehearse", "--html", tmp_path / "nix" / "report.html")
    assert result.exit_code == 2
    assert "cannot write" in result.stderr
