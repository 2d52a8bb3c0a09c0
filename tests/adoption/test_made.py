"""What the tools themselves made, as `make test-adoption` kept it, becomes ours without them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..conftest import Migrate
from .test_adopt import fill, nothing_is_recorded, states

MADE = Path(__file__).parent / "made"
TOOLS = sorted(path.stem for path in MADE.glob("*.json"))
NEVER_UNDONE = ("graphile-migrate", "pgmigrate", "prisma")
CHECKED = ("dblift", "graphile-migrate", "postgrator", "prisma", "sqitch", "sqlx")


@pytest.fixture(params=TOOLS)
def tool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def files(migrate: Migrate, tool: str, tmp_path: Path) -> Path:
    """The tool's files; its table and the schema are in the database."""
    made = json.loads((MADE / f"{tool}.json").read_text(encoding="utf-8"))
    fill(tmp_path / "theirs", made["files"])
    migrate.database.execute(made["database"])
    return tmp_path / "theirs"


def test_what_a_tool_made_is_taken_over(migrate: Migrate, tool: str, files: Path) -> None:
    found = migrate("adopt", "--json").json["found"]
    assert [each["tool"] for each in found] == [tool]
    result = migrate("adopt", tool, "--files", files, "--json")
    assert result.exit_code == 0, result.stderr
    undone = [] if tool in NEVER_UNDONE else ["pending"]
    applied = 20 - len(undone)
    assert list(states(migrate).values()) == ["applied"] * applied + undone
    assert result.json["verified"] == (applied if tool in CHECKED else 0)
    assert migrate("up").exit_code == 0
    assert migrate("status", "--check").exit_code == 0


@pytest.mark.parametrize("tool", CHECKED, indirect=True)
def test_a_file_that_was_edited_after_a_tool_ran_it_stops(
    migrate: Migrate, tool: str, files: Path
) -> None:
    paths = (path for path in files.rglob("*.sql") if "create table t2 " in path.read_text())
    edited = next(paths)
    edited.write_text(edited.read_text() + "select 1;\n")
    result = migrate("adopt", tool, "--files", files)
    assert (result.exit_code, f"git log -p -- {edited}" in result.stderr) == (4, True)
    assert nothing_is_recorded(migrate)
