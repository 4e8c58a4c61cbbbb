"""Files and folders that others may have planted are refused; what killed runs left goes with the next."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.ranks.private import NotPrivate, Presence, Scratch, private_place, read_private, write_private

ROOT = Path(__file__).resolve().parents[3]
OTHER = 65_534
foreign = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of this test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_the_place_is_made_once_and_closed_to_others() -> None:
    place = private_place()
    assert place == private_place()
    assert place.stat().st_mode & 0o777 == 0o700


def planted_link(path: Path) -> None:
    (path.parent / "elsewhere").mkdir()
    path.symlink_to(path.parent / "elsewhere")


def planted_open(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def planted_foreign(path: Path) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, OTHER, OTHER)


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (planted_link, "is not a folder"),
        (Path.touch, "is not a folder"),
        (planted_open, "is open to others"),
        pytest.param(planted_foreign, "belongs to user 65534: set TMPDIR", marks=foreign),
    ],
)
def test_a_planted_place_is_refused(temporary: Path, plant: Callable[[Path], None], words: str) -> None:
    plant(temporary / f"refit-{os.geteuid()}")
    with pytest.raises(NotPrivate, match=words):
        private_place()


def test_a_letter_is_whole_and_private(temporary: Path) -> None:
    path = temporary / "letter"
    path.write_text("planted before")
    path.chmod(0o666)
    write_private(path, "secret")
    assert read_private(path) == "secret"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(temporary.iterdir()) == [path]


def letter_link(path: Path) -> None:
    write_private(path.with_name("other"), "secret")
    path.symlink_to(path.with_name("other"))


def letter_long(path: Path) -> None:
    write_private(path, "x" * 5000)


def letter_foreign(path: Path) -> None:
    write_private(path, "secret")
    os.chown(path, OTHER, OTHER)


def letter_readable(path: Path) -> None:
    write_private(path, "secret")
    path.chmod(0o640)


@pytest.mark.parametrize(
    "plant",
    [letter_link, letter_long, os.mkfifo, Path.mkdir, letter_readable,
     pytest.param(letter_foreign, marks=foreign)],
)  # fmt: skip
def test_a_planted_letter_is_refused_without_waiting(temporary: Path, plant: Callable[[Path], None]) -> None:
    path = temporary / "letter"
    plant(path)
    with pytest.raises(OSError):
        read_private(path)


HOLD = """
import os, signal
from fixtures.ranks.private import Presence, Scratch
scratch, presence = Scratch(), Presence("launch", 1)
print(scratch.path, flush=True)
signal.pause()
"""


def test_what_a_killed_process_left_goes_with_the_next_run() -> None:
    mine = Presence("launch", 0)
    assert mine.gone(1) is None, "it has not come yet"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        Scratch().close()
        assert left.exists(), "its process lives"
        assert mine.gone(1) is None
        process.kill()
        process.wait()
        assert mine.gone(1) == process.pid
        assert mine.gone(0) is None
    scratch = Scratch()
    assert not left.exists()
    assert scratch.path.exists()
    scratch.close(keep=True)
    assert scratch.path.exists()
    Scratch().close()
    assert not scratch.path.exists()
    mine.leave()


def test_signs_of_a_launch_before_say_nothing(temporary: Path) -> None:
    mine = Presence("launch", 0)
    sign = private_place() / "here-launch-1"
    sign.write_text("4242")
    assert mine.gone(1) == 4242
    os.utime(sign, (0, 0))
    assert mine.gone(1) is None
    mine.leave()
