"""A rehearsal's report as text, JSON, Markdown and HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests import goldens
from tests.conftest import Migrate, Result, Write

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
        "clean",
        "not_rehearsed",
        "migrations",
    ]
    migration = document["migrations"][0]
    assert list(migration) == ["version", "statements", "findings", "down", "error"]
    assert list(migration["statements"][0]) == ["line", "sql", "seconds", "trace"]
    assert list(migration["findings"][0]) == [
        "hazard",
        "severity",
        "line",
        "relation",
        "message",
        "workaround",
        "accepted",
    ]
    assert list(migration["down"]) == ["undoes", "left", "lost", "again", "irreversible", "error"]
    assert document["clean"] is False
    assert document["migrations"][-1]["error"]["sqlstate"] == "22012"


def test_the_markdown_escapes_what_would_end_a_cell(rehearsed: Migrate) -> None:
    lines = rehearse(rehearsed, "--markdown").stdout.splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert rows
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}


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
    assert attributes <= {"lang", "charset", "name", "content", "class", "style", "title"}
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
        "Table rewrite: rewrites public.orders (",
        "accepted: unused since May | really",
        "restores column public.people.email, but not its data",
        "division by zero",
        "not rehearsed, because 04_fails failed: 05_after",
        "sampled: brief locks may be missing",
    ):
        assert said in page.text, said


def test_the_timeline_shows_a_lock_from_its_statement_to_the_end(page: Page) -> None:
    bars = {
        (given["title"] or "").partition(" lock")[0]: given["style"]
        for tag, given in page.tags
        if "bar" in (given.get("class") or "").split()
    }
    assert bars["ACCESS EXCLUSIVE"] is not None
    assert re.search(r"grid-column: [23] / 5|grid-column: 4 / 5", bars["ACCESS EXCLUSIVE"])
    spans = [given["style"] for tag, given in page.tags if "bar m" in (given.get("class") or "")]
    assert any("grid-column: 2 / 5" in (span or "") for span in spans), spans


def test_a_page_that_cannot_be_written_is_reported(rehearsed: Migrate, tmp_path: Path) -> None:
    result = rehearsed("rehearse", "--html", tmp_path / "nix" / "report.html")
    assert result.exit_code == 2
    assert "cannot write" in result.stderr
