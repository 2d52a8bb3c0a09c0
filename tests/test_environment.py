"""What the tests start does not depend on the shell that starts the tests."""

from __future__ import annotations

import os
import subprocess
import sys

from .conftest import PROJECT

INHERITED = """
import os, signal
ending = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
print([number.name for number in ending if signal.getsignal(number) is signal.SIG_IGN])
print([name for name in os.environ if name.startswith("PYTHON") and name != "PYTHON"])
"""


def test_a_program_ignores_no_signal_and_has_no_variable_of_python() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INHERITED], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n[]\n"


def test_the_same_holds_where_the_shell_ignores_signals_and_sets_variables_of_python() -> None:
    test = f"{__file__}::{test_a_program_ignores_no_signal_and_has_no_variable_of_python.__name__}"
    command = f'trap "" HUP INT TERM; exec "{sys.executable}" -m pytest "{test}"'
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=PROJECT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONOPTIMIZE": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
