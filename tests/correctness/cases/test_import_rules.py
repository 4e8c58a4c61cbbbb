"""Pure rooms stay pure, and imports point one way: tests and tools use fixtures, never the reverse."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.correctness.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]
TREES = ("fixtures", "tests/correctness")
PURE_ROOMS = ("cases", "records", "gates", "bounds", "placement", "megatron_plan", "planning", "documents")
READERS_OF_MEGATRON = {
    "fixtures.megatron_plan.cold_plan",
    "fixtures.megatron_plan.exact_topology",
    "fixtures.megatron_plan.rosters",
}
"""Run or hold against megatron-core's own planner; no pure module imports them (the first test would see)."""
IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    found = {"torch", "pytest", "_pytest", "megatron"} & set(sys.modules)
    assert not found, f"{name} imports {', '.join(sorted(found))}"
"""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules_of(*rooms: str) -> list[str]:
    return sorted(module_name(path) for room in rooms for path in (ROOT / "fixtures" / room).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Absolute names of what a file imports, at any depth of its code."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield node.module or ""


def imported_by_pure_rooms(names: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", IMPORT_ALL, *names]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def used_from_other_rooms(names: list[str]) -> set[str]:
    """Modules of other rooms that pure ones import, lazily too: they are held to the same rule."""
    used = {used for name in names for used in imports(path_of(name)) if used.startswith("fixtures.")}
    return used - set(names) - READERS_OF_MEGATRON


def path_of(name: str) -> Path:
    folder = ROOT / Path(*name.split("."))
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


def test_pure_rooms_import_neither_torch_nor_pytest() -> None:
    names = [name for name in modules_of(*PURE_ROOMS) if name not in READERS_OF_MEGATRON]
    names += sorted(used_from_other_rooms(names))
    assert "fixtures.cases.shards" in names
    assert "fixtures.records.writer" in names
    done = imported_by_pure_rooms(names)
    assert done.returncode == 0, done.stderr


def test_the_check_finds_an_impure_module() -> None:
    done = imported_by_pure_rooms(["fixtures.cases.shards", "fixtures.plugins.options"])
    assert "fixtures.plugins.options imports" in done.stderr
    assert "pytest" in done.stderr


@pytest.mark.parametrize("room", PURE_ROOMS)
def test_pure_rooms_name_no_impure_module_even_lazily(room: str) -> None:
    for path in (ROOT / "fixtures" / room).rglob("*.py"):
        if module_name(path) in READERS_OF_MEGATRON:
            continue
        impure = {name for name in imports(path) if name.split(".")[0] in ("torch", "pytest", "megatron")}
        assert not impure, f"{path.relative_to(ROOT)} imports {impure}"


def test_readers_of_megatron_are_what_the_list_says() -> None:
    """A reader that became pure must leave the list."""
    for name in READERS_OF_MEGATRON:
        assert any(used.split(".")[0] == "megatron" for used in imports(path_of(name))), name


def test_fixtures_import_neither_tests_nor_tools() -> None:
    for path in (ROOT / "fixtures").rglob("*.py"):
        upwards = {name for name in imports(path) if name.split(".")[0] in ("tests", "tools")}
        assert not upwards, f"{path.relative_to(ROOT)} imports {upwards}"


def test_every_room_has_its_tests() -> None:
    rooms, tests = (
        {folder.name for folder in (ROOT / tree).iterdir() if any(folder.rglob("*.py"))} for tree in TREES
    )
    assert rooms <= tests, f"rooms without tests: {rooms - tests}"
    assert tests - rooms == {"cli", "megatron", "slurm", "tools"}, "folders of tests of no room"
