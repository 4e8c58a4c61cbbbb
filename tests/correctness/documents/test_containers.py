"""The container recipes agree with the project: what they copy, pin, install and start exists.

No image is built here; what a builder alone can find (a package that a base image lacks) is not tested.
"""

import re
import shlex
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fixtures.documents.commands import SCRIPT, TOOLS
from fixtures.documents.files import ROOT

DOCKERFILE, APPTAINER = "container/Dockerfile", "container/refit-bench.def"
INSTRUCTIONS = {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "CMD"}
SECTIONS = {"files", "post", "environment", "runscript", "test"}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a recipe says: its base image, (source, place in the image) of each copy, and commands."""

    base: str
    copies: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, ...], ...]


def read_dockerfile(text: str) -> Recipe:
    """Raises ValueError for an instruction that is none."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    base, folder, copies, commands = "", "/", [], []
    for line in filter(None, "\n".join(lines).replace("\\\n", " ").splitlines()):
        name, _, rest = line.partition(" ")
        if name not in INSTRUCTIONS:
            raise ValueError(f"{name} is no instruction of these recipes")
        if name == "FROM":
            base = rest.strip()
        elif name == "WORKDIR":
            folder = rest.strip()
        elif name == "COPY":
            *sources, target = rest.split()
            copies += [(s, f"{folder}/{s}") for s in sources if target in ("./", f"./{s}")]
        elif name == "RUN":
            commands += [tuple(shlex.split(part)) for part in rest.split("&&")]
        elif name == "CMD":
            commands.append(tuple(shlex.split(rest.strip("[]").replace(",", " "))))
    return Recipe(base=base, copies=tuple(copies), commands=tuple(commands))


def read_definition(text: str) -> Recipe:
    """Raises ValueError for a section that is none."""
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    head, *parts = re.split(r"^%", text, flags=re.MULTILINE)
    header = dict(line.split(": ") for line in head.split("\n") if line)
    sections = {
        part.split("\n")[0]: [line.strip() for line in part.split("\n")[1:] if line.strip()] for part in parts
    }
    if unknown := sections.keys() - SECTIONS:
        raise ValueError(f"%{min(unknown)} is no section of these recipes")
    assert header.keys() == {"Bootstrap", "From"}
    copies = [tuple(line.split()) for line in sections["files"]]
    lines = [*sections["post"], *sections["runscript"], *sections["test"]]
    commands = [tuple(shlex.split(line)) for line in lines]
    return Recipe(base=header["From"], copies=tuple(copies), commands=tuple(commands))  # type: ignore[arg-type]


def faults(recipe: Recipe, root: Path = ROOT) -> Iterable[str]:
    """Every disagreement between a recipe and the project in `root`."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = (root / ".python-version").read_text(encoding="utf-8").strip()
    if not re.search(rf":{re.escape(version)}(\.\d+)?-", recipe.base):
        yield f"{recipe.base} is not Python {version}"
    for source, target in recipe.copies:
        if not (root / source).exists():
            yield f"{source} does not exist"
        if target != f"/opt/refit-bench/{source}":
            yield f"{source} goes to {target}"
    copied = {source for source, _ in recipe.copies}
    installs = [words for words in recipe.commands if "pip" in words]
    if len(installs) != 1:
        yield "the suite is not installed once"
    for words in installs:
        if words[words.index("--constraint") + 1] not in copied:
            yield "the constraints are not copied"
        (extras,) = re.findall(r"^\.\[(.+)\]$", words[-1])
        yield from (f"no extra {e}" for e in extras.split(",") if e not in project["optional-dependencies"])
    for words in recipe.commands:
        said = words[1:] if words[0] == "exec" else words
        if said[0] == SCRIPT and said[1] not in {*TOOLS, "--help", "$@"}:
            yield f"{SCRIPT} has no command {said[1]}"


READERS = {DOCKERFILE: read_dockerfile, APPTAINER: read_definition}


@pytest.mark.parametrize("file", READERS)
def test_a_recipe_agrees_with_the_project(file: str) -> None:
    assert list(faults(READERS[file]((ROOT / file).read_text(encoding="utf-8")))) == []


def test_both_recipes_make_the_same() -> None:
    docker, apptainer = (read((ROOT / file).read_text(encoding="utf-8")) for file, read in READERS.items())
    assert (docker.base, docker.copies) == (apptainer.base, apptainer.copies)
    shared = {w for w in docker.commands if w[0] != SCRIPT}
    assert shared <= set(apptainer.commands)


@pytest.mark.parametrize("file", READERS)
@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("3.12-slim", "3.9-slim", "is not Python 3.12"),
        ("thresholds", "threshold", "threshold does not exist"),
        ("--constraint constraints.txt", "--constraint other.txt", "the constraints are not copied"),
        (".[suite,gpu]", ".[suite,cuda]", "no extra cuda"),
        ("refit-bench doctor", "refit-bench surgeon", "no command surgeon"),
    ],
)
def test_a_planted_fault_is_found(file: str, old: str, new: str, sentence: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8").replace('"refit-bench", "doctor"', "refit-bench doctor")
    text = text.replace("refit-bench --help", "refit-bench doctor")
    assert old in text
    assert any(sentence in fault for fault in faults(READERS[file](text.replace(old, new))))


@pytest.mark.parametrize("file", READERS)
def test_what_is_no_recipe_is_refused(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="is no "):
        READERS[file](text.replace("RUN ", "RUM ").replace("%post", "%past"))


def test_what_the_suite_needs_to_run_is_copied() -> None:
    recipe = read_dockerfile((ROOT / DOCKERFILE).read_text(encoding="utf-8"))
    copied = {source.split("/")[0] for source, _ in recipe.copies}
    assert {"fixtures", "tools", "tests", "conftest.py", "pyproject.toml"} <= copied
