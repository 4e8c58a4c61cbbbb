"""Builds the package `refit_engines`: the engines alone, without the suite that measures them.

A checkout's `fixtures` stays where it is, and nothing of that name is installed. The modules that the engines
import go along, and `fixtures.engines` is called `refit_engines` inside.
"""

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
NAME = "refit_engines"
RENAMED = {"fixtures.engines": NAME, "fixtures.": f"{NAME}."}


def path_of(module: str) -> Path | None:
    """The file of a module of `fixtures`; None for a name that is none."""
    place = ROOT.joinpath(*module.split("."))
    return next((p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()), None)


def imports(path: Path) -> Iterator[str]:
    """What a file imports, wherever in its code."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def modules() -> dict[str, Path]:
    """Every module of `fixtures` that the engines need, by name, their packages included."""
    wanted = [f"fixtures.engines.{path.stem}" for path in ROOT.glob("fixtures/engines/*.py")]
    found: dict[str, Path] = {}
    while wanted:
        name = wanted.pop().removesuffix(".__init__")
        path = path_of(name)
        if path is not None and name not in found and name.startswith("fixtures."):
            found[name] = path
            wanted += [name.rpartition(".")[0], *imports(path)]
    return found


class BuildEngines(build_py):
    """Adds the package to a wheel; an editable installation has the checkout instead."""

    def run(self) -> None:
        """See build_py."""
        super().run()
        if not self.editable_mode:
            self._write(Path(self.build_lib))

    def _write(self, folder: Path) -> None:
        shutil.rmtree(folder / NAME, ignore_errors=True)
        for path in [*modules().values(), *ROOT.glob("fixtures/engines/*.cu")]:
            inner = path.relative_to(ROOT / "fixtures")
            place = folder / NAME / (inner.relative_to("engines") if inner.parts[0] == "engines" else inner)
            place.parent.mkdir(parents=True, exist_ok=True)
            text = path.read_text()
            for old, new in RENAMED.items():
                text = text.replace(old, new)
            place.write_text(text)


setup(cmdclass={"build_py": BuildEngines})
