"""The engines alone, as a wheel in an environment without pytest and without this checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.engines.swap import METHODS
from tests.correctness.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "docs" / "examples" / "swap.py"
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "refit_bench.py", "fixtures")
NOT_THERE = ("pytest", "_pytest", "pluggy", "__editable__", "kimi_k2_refit_bench", "refit_", "fixtures")
FAULT = """
_right = swap_model_weights


def swap_model_weights(source, target, method):
    _right(source, target, method)
    if method == "packed":
        next(target.parameters()).view(-1)[0] = 0
"""


def installed_places() -> Iterator[Path]:
    """Where this process finds its packages, without the standard library and without the checkout."""
    standard = {Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("platstdlib"))}
    known = {*standard, *(path / "lib-dynload" for path in standard), ROOT}
    for place in dict.fromkeys(Path(entry).resolve() for entry in sys.path if entry):
        if place.is_dir() and place not in known:
            yield place


def link_what_is_installed(folder: Path) -> None:
    folder.mkdir()
    for place in installed_places():
        for entry in place.iterdir():
            link = folder / entry.name
            if not entry.name.startswith(NOT_THERE) and entry.suffix != ".pth" and not link.is_symlink():
                link.symlink_to(entry)


def run(*command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST", "TORCHELASTIC"))}
    return subprocess.run(
        [str(part) for part in command],
        cwd="/",
        env=clean | {"CUDA_VISIBLE_DEVICES": ""} | environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    quiet = ("-q", "--no-deps", "--no-index", "--no-build-isolation")
    done = run(sys.executable, "-m", "pip", "wheel", *quiet, "--wheel-dir", folder, source)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment: the wheel, and what is installed here but the suite's."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    pip = ("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", site, wheel)
    done = run(sys.executable, *pip)
    assert done.returncode == 0, done.stderr
    link_what_is_installed(folder / "others")
    (site / "others.pth").write_text(f"{folder / 'others'}\n")
    return folder / "bin" / "python"


def on_two_ranks(python: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    return run(python, *torchrun, SCRIPT, "--refits", "2", **environ)


@pytest.mark.parametrize("module", ["pytest", "fixtures", "tools"])
def test_the_environment_has_nothing_of_the_suite(module: str, python: Path) -> None:
    assert f"No module named '{module}'" in run(python, "-c", f"import {module}").stderr


def test_every_module_of_the_package_can_be_imported_alone(python: Path) -> None:
    done = run(
        python,
        "-W",
        "ignore",
        "-c",
        "import importlib, pkgutil, refit_engines, sys\n"
        "names = [m.name for m in pkgutil.walk_packages(refit_engines.__path__, 'refit_engines.')]\n"
        "assert 'refit_engines.direct' in names\n"
        "[importlib.import_module(name) for name in names]\n"
        "assert not {'pytest', 'scipy', 'rich', 'psutil'} & {m.split('.')[0] for m in sys.modules}",
    )
    assert done.returncode == 0, done.stderr


def test_the_script_leaves_megatrons_own_bits_and_prints_both_times(python: Path) -> None:
    done = on_two_ranks(python)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert lines[0].startswith("2 CPU ranks, ")
    assert [line.split()[0] for line in lines[1:]] == ["megatron-core", *METHODS]


def test_the_script_finds_one_wrong_element(python: Path, tmp_path: Path) -> None:
    package = next(python.parents[1].glob("lib/python*/site-packages/refit_engines"))
    shutil.copytree(package, tmp_path / "refit_engines")
    with (tmp_path / "refit_engines" / "swap.py").open("a") as file:
        file.write(FAULT)
    done = on_two_ranks(python, PYTHONPATH=str(tmp_path))
    assert done.returncode != 0
    assert "packed: 1 of " in done.stderr
