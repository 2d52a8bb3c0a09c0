"""The package is a set of rooms: a room imports only what the package's docstring allows it."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

import migrator

ROOT = Path(migrator.__file__).parent
ENTRANCES = {"__init__", "__main__"}
PURE = ("sql", "hazards", "planning", "tracing.trace", "tracing.diff", "execution.recovery")
OUTSIDE_WORLD = {
    "asyncio",
    "io",
    "logging",
    "os",
    "psycopg",
    "random",
    "select",
    "shutil",
    "signal",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "time",
}


def table() -> dict[str, set[str]]:
    """Read the table in the package's docstring: each room, and the rooms that it may import."""
    rows: dict[str, set[str]] = {}
    text = re.sub(r",\n {20,}", ", ", migrator.__doc__ or "")
    lines = re.findall(r"^ {4}(\w+(?:, \w+)*) {2,}(.+)$", text, re.MULTILINE)
    for rooms, allowed in lines[1:]:
        if allowed == "all":
            found = {room_of(module) for module in modules()}
        elif allowed.startswith("all above"):
            found = set(rows) - set(re.findall(r"\w+", allowed.partition("except")[2]))
        else:
            found = set() if allowed == "nothing of ours" else set(allowed.split(", "))
        rows |= dict.fromkeys(rooms.split(", "), found)
    return rows


def modules() -> list[str]:
    """Name every module of the package, such as `sql.splitter`; the entrances are left out."""
    paths = (path.relative_to(ROOT).with_suffix("") for path in ROOT.rglob("*.py"))
    return sorted(".".join(path.parts) for path in paths if path.stem not in ENTRANCES)


def room_of(module: str) -> str:
    return module.partition(".")[0]


def imports(module: str) -> tuple[set[str], set[str]]:
    """Return the modules of ours and the outside packages that a module imports, wherever it does.

    What is imported from a room, such as `from ..sql import splitter`, counts as `sql.splitter`.
    """
    ours: set[str] = set()
    outside: set[str] = set()
    package = module.split(".")[:-1]
    for node in ast.walk(ast.parse(path_of(module).read_text(encoding="utf-8"))):
        match node:
            case ast.ImportFrom(level=level, module=name, names=names) if level:
                base = [*package[: len(package) - level + 1], *(name.split(".") if name else ())]
                found = {".".join([*base, alias.name]) for alias in names}
                known = set(modules())
                ours |= {each if each in known else ".".join(base) for each in found}
            case ast.ImportFrom(module=str(name)):
                outside.add(name.partition(".")[0])
            case ast.Import(names=names):
                outside |= {alias.name.partition(".")[0] for alias in names}
    return ours, outside


def path_of(module: str) -> Path:
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


def is_pure(module: str) -> bool:
    return module in PURE or room_of(module) in PURE


def test_the_table_names_every_room_once() -> None:
    assert set(table()) == {room_of(module) for module in modules()}


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_what_its_room_may(module: str) -> None:
    ours, outside = imports(module)
    room = room_of(module)
    assert {room_of(each) for each in ours} - {room} <= table()[room]
    assert ours <= set(modules()), "a module imports modules, not what a folder offers"
    assert "migrator" not in outside


def test_the_modules_have_no_cycle() -> None:
    graph = {module: imports(module)[0] for module in modules()}
    while ends := [module for module, needed in graph.items() if not needed & graph.keys()]:
        for module in ends:
            del graph[module]
    assert not graph


@pytest.mark.parametrize("room", ["rehearsal", "maintenance", "adoption"])
def test_only_cli_and_output_import(room: str) -> None:
    users = {
        room_of(module)
        for module in modules()
        if any(room_of(each) == room for each in imports(module)[0])
    }
    assert users <= {"cli", "output", room}


@pytest.mark.parametrize("module", modules())
def test_a_child_gets_a_list_of_variables_and_never_our_environment(module: str) -> None:
    """Each `subprocess` call says `env`, itself or in `_process_options`."""
    for node in ast.walk(ast.parse(path_of(module).read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name("subprocess"), attr=name)) if (
                name[0].islower() or name == "Popen"
            ):
                assert {each.arg for each in node.keywords} & {"env", None}, ast.unparse(node)
            case ast.Call(func=ast.Attribute(value=ast.Name("os"), attr=name)):
                assert not name.startswith(("exec", "spawn", "posix_spawn", "system", "popen"))


@pytest.mark.parametrize("module", [m for m in modules() if is_pure(m)])
def test_a_pure_module_does_no_io_and_reads_no_clock(module: str) -> None:
    _, outside = imports(module)
    assert not outside & OUTSIDE_WORLD
    assert outside <= sys.stdlib_module_names | {"sqlparse"}


@pytest.mark.parametrize("folder", sorted(path.parent for path in ROOT.rglob("*/__init__.py")))
def test_a_folder_imports_nothing_by_itself(folder: Path) -> None:
    (only,) = ast.parse((folder / "__init__.py").read_text(encoding="utf-8")).body
    assert isinstance(only, ast.Expr)


def test_no_module_is_longer_than_400_lines() -> None:
    lengths = {m: len(path_of(m).read_text(encoding="utf-8").splitlines()) for m in modules()}
    assert {module: length for module, length in lengths.items() if length > 400} == {}


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.stem)
def test_the_first_line_of_a_module_is_one_sentence(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    first, *more = docstring.splitlines()[:2] or [""]
    assert re.fullmatch(r"[A-Z].*\.", first), docstring
    assert not re.search(r"[.?!] [A-Z]", first), docstring
    assert not any(more), "a blank line follows"
