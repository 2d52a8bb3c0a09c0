"""What is imported before a command has anything to do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import process_environment

# What connects, parses SQL or decides what to run; each costs milliseconds.
HEAVY = re.compile(
    r"psycopg|sqlparse|hashlib|migrator\.(sql|events|model|planning|session|postgres)"
)


def imported(*arguments: str, folder: Path) -> set[str]:
    """Run the program, and return the names of the modules that it imported."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "migrator", *arguments],
        env=process_environment(),
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["up", "--help"], ["help", "errors"], ["completion", "bash"]],
    ids=" ".join,
)
def test_help_imports_nothing_that_it_does_not_show(tmp_path: Path, arguments: list[str]) -> None:
    modules = imported(*arguments, folder=tmp_path)
    assert "migrator.cli.main" in modules
    assert not {module for module in modules if HEAVY.match(module)}


def test_a_new_pair_of_files_needs_no_database(tmp_path: Path) -> None:
    modules = imported("create", "add_phone", folder=tmp_path)
    assert "migrator.files.directory" in modules
    assert not {module for module in modules if module.startswith("psycopg")}
