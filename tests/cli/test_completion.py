"""A shell completes commands, options, topics, and versions from the files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import Write, call, process_environment


def completed(directory: Path | None, *words: str) -> list[str]:
    """Ask for completions of the last word, as bash does."""
    environ = {
        "_MIGRATOR_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("migrator", *words)),
        "COMP_CWORD": str(len(words)),
    } | ({"MIGRATOR_DIR": str(directory)} if directory else {})
    program = "import sys; sys.argv[0] = 'migrator'; from migrator.__main__ import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=process_environment(environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.fixture
def versions(write: Write) -> Path:
    names = ("9_a.up.sql", "10_b.up.sql", "10_b.down.sql", "100_c.up.sql", "notes.up.sql")
    return write(dict.fromkeys(names, ""))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("u",), ["up"]),
        (("up", "--to", ""), ["9_a", "10_b", "100_c"]),
        (("up", "--to", "10"), ["10_b", "100_c"]),
        (("down", "--to", "9"), ["9_a"]),
        (("repair", "10_"), ["10_b"]),
        (("log", "--version", "9"), ["9_a"]),
        (("help", "ha"), ["hazards"]),
        (("completion", "z"), ["zsh"]),
        (("up", "--stat"), ["--statement-timeout"]),
    ],
)
def test_a_word_is_completed(versions: Path, words: tuple[str, ...], expected: list[str]) -> None:
    assert completed(versions, *words) == expected


def test_versions_come_from_the_directory_that_was_typed(
    versions: Path, tmp_path: Path, write: Write
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "7_z.up.sql").touch()
    assert completed(versions, "--dir", str(other), "up", "--to", "") == ["7_z"]
    assert completed(versions, "up", "--dir", str(other), "--to", "") == ["7_z"]
    assert completed(versions, "--dir", str(tmp_path / "none"), "up", "--to", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_printed(shell: str) -> None:
    result = call("completion", shell)
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"_MIGRATOR_COMPLETE={shell}_complete" in result.stdout


def test_bash_reads_its_script() -> None:
    script = call("completion", "bash").stdout
    environ = {"PATH": os.environ["PATH"]}
    subprocess.run(["bash", "-n"], input=script, env=environ, text=True, check=True)
