"""The package is a stack: a module imports only those before it, and the core does no I/O."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

import migrator

ROOT = Path(migrator.__file__).parent
LAYERS = re.findall(r"^ {4}((?:\w+ )+) +the \w+", migrator.__doc__ or "", re.MULTILINE)
ORDER = " ".join(LAYERS).split()
CORE = " ".join(LAYERS[:4]).split()
ENTRANCES = {"__init__", "__main__"}
WORLDLY = {"io", "logging", "os", "random", "shutil", "socket", "subprocess", "tempfile", "time"}


def imports(module: str) -> tuple[set[str], set[str]]:
    """Return the siblings and the outside packages that a module imports, wherever it does."""
    siblings: set[str] = set()
    outside: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / f"{module}.py").read_text())):
        match node:
            case ast.ImportFrom(level=1, module=None, names=names):
                siblings |= {alias.name for alias in names}
            case ast.ImportFrom(level=1, module=str(name)):
                siblings.add(name)
            case ast.ImportFrom(module=str(name)):
                outside.add(name.partition(".")[0])
            case ast.Import(names=names):
                outside |= {alias.name.partition(".")[0] for alias in names}
    return siblings, outside


def test_the_stack_names_every_module_once() -> None:
    modules = {path.stem for path in ROOT.glob("*.py")} - ENTRANCES
    assert sorted(ORDER) == sorted(modules)


@pytest.mark.parametrize("module", ORDER)
def test_a_module_imports_only_those_before_it(module: str) -> None:
    siblings, outside = imports(module)
    assert siblings <= set(ORDER[: ORDER.index(module)])
    assert "migrator" not in outside


@pytest.mark.parametrize("module", CORE)
def test_the_core_does_no_io(module: str) -> None:
    _, outside = imports(module)
    assert not outside & WORLDLY
    assert outside <= sys.stdlib_module_names | {"sqlparse"}


@pytest.mark.parametrize("module", ORDER)
def test_a_module_says_its_one_job_in_its_first_line(module: str) -> None:
    first = (ast.get_docstring(ast.parse((ROOT / f"{module}.py").read_text())) or "").partition(
        "\n"
    )
    assert re.fullmatch(r"[A-Z‘`].*[.:,?]|.+→ `\w+`\.", first[0]), first[0]
