"""The writer loses nothing that was finished and never disturbs the run."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fixtures.records.errors import RecordError
from fixtures.records.reader import finished_cases, read_run
from fixtures.records.writer import RunWriter
from tests.correctness.made_up_runs import case, environment, skipped, write_run


def test_writes_line_by_line_and_reads_back(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "deep" / "run.jsonl", environment()) as writer:
        for count, key in enumerate(("s1", "s2"), start=1):
            writer.case(case(key))
            assert len(read_run(writer.path).cases) == count
        writer.calibration({"put_gbps": 390.0})
        writer.end("completed", 0)
    run = read_run(writer.path)
    assert run.calibration["put_gbps"] == 390.0
    assert run.end["cases"] == 2
    assert run.warnings == ()
    assert writer.not_saved == ""


def test_a_new_run_never_overwrites(tmp_path: Path) -> None:
    first = write_run(tmp_path / "run.jsonl", [case("s1")])
    second = write_run(tmp_path / "run.jsonl", [case("s2")])
    assert second.name == "run-2.jsonl"
    assert "s1" in read_run(first).cases[0].scenario


def test_arrays_nan_and_odd_objects_become_json(tmp_path: Path) -> None:
    line = case(
        "s1", gbps=np.float32(2.5), floor_ms=float("nan"), hosts=np.array(["a"]), iterations=np.int64(5)
    )
    run = read_run(write_run(tmp_path / "run.jsonl", [line]))
    assert run.cases[0].gbps == 2.5
    assert run.cases[0].floor_ms is None
    assert run.cases[0].iterations == 5


def test_a_line_that_breaks_the_schema_is_written_and_named(tmp_path: Path) -> None:
    line = case("s1", ranks=8).having(ranks=-7)
    with RunWriter(tmp_path / "run.jsonl", environment()) as writer:
        writer.case(line)
    assert writer.faults == [
        f"the line of {line.label} has -7 for 'ranks', which is not a whole number from 0 to 9.2e+18."
    ]
    assert json.loads(writer.path.read_text().splitlines()[1])["ranks"] == -7


KILLED = """
import sys
from pathlib import Path
from fixtures.records.writer import RunWriter
from tests.correctness.made_up_runs import case, environment
writer = RunWriter(Path(sys.argv[1]), environment())
print("ready", flush=True)
for number in range(100000):
    writer.case(case("s1", num_layers=number, purpose="x" * 5000))
"""


@pytest.mark.parametrize("written", [1, 1_000_000])
def test_sigkill_leaves_every_finished_case(tmp_path: Path, written: int) -> None:
    """Killed once the file has grown by so many bytes."""
    path = tmp_path / "run.jsonl"
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    begun = path.stat().st_size
    while path.stat().st_size < begun + written:
        assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    layers = [line.num_layers for line in read_run(path).cases]
    assert layers == list(range(len(layers)))
    assert layers or written == 1


@pytest.mark.parametrize("cut", [1, 40, 700])
def test_torn_last_line_is_reported_and_resume_cuts_it(tmp_path: Path, cut: int) -> None:
    path = write_run(tmp_path / "run.jsonl", [case("s1"), case("s2")], end=False)
    os.truncate(path, path.stat().st_size - cut)
    torn = read_run(path)
    assert len(torn.cases) == (2 if cut == 1 else 1)
    assert bool(torn.warnings) == (cut > 1)
    with RunWriter(path, environment("2030-01-02T00:00:00+00:00"), resume=True) as writer:
        writer.case(case("s3"))
        writer.end("completed")
    run = read_run(path)
    assert [c.scenario[:2] for c in run.cases] == (["s1", "s2", "s3"] if cut == 1 else ["s1", "s3"])
    assert run.end["cases"] == len(run.cases)
    assert run.resumptions[0]["resumed"] is True


def test_resume_refuses_another_system(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.jsonl", [case()])
    with pytest.raises(RecordError, match=r"cannot be resumed on this system: torch was '2.11.0' and is '9'"):
        RunWriter(path, environment(torch="9"), resume=True)
    with pytest.raises(RecordError, match="cannot be read: No such file"):
        RunWriter(tmp_path / "none.jsonl", environment(), resume=True)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "run.jsonl", environment())
    with writer, pytest.raises(RecordError, match="being written by another run"):
        RunWriter(writer.path, environment(), resume=True)


def test_only_passed_cases_are_finished(tmp_path: Path) -> None:
    cases = [case("s1"), skipped("s2"), case("s6", status="failed", reason="x")]
    run = read_run(write_run(tmp_path / "r.jsonl", cases))
    assert finished_cases(run.cases) == {cases[0].id}


def test_unwritable_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with RunWriter(tmp_path / "file" / "run.jsonl", environment()) as writer:
        writer.case(case("s1"))
        writer.end("completed")
    assert writer.not_saved.startswith("Not saved: 3 line(s) of ")
    assert "cannot be created" in writer.not_saved


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    """A file-size limit in a child stands for the full disk: write fails after a part of the line."""
    path = tmp_path / "run.jsonl"
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        writer = RunWriter(path, environment())
        writer.case(case("s1"))
        size = path.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))
        writer.case(case("s2"))
        sound = writer.not_saved.startswith("Not saved: 1 line(s)") and "File too large" in writer.not_saved
        os._exit(0 if sound and path.stat().st_size == size else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(read_run(path).cases) == 1


def test_dev_full(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    (tmp_path / "run.jsonl").symlink_to("/dev/full")
    with RunWriter(tmp_path / "run.jsonl", environment()) as writer:
        writer.path, writer._fd = tmp_path / "run.jsonl", os.open("/dev/full", os.O_WRONLY)
        writer.case(case("s1"))
    assert "No space left on device" in writer.not_saved


def test_what_could_not_be_written_comes_with_the_next_line(tmp_path: Path) -> None:
    """The environment's line too, without which no reader takes the file."""
    (tmp_path / "results").write_text("in the way")
    with RunWriter(tmp_path / "results" / "run.jsonl", environment()) as writer:
        writer.case(case("s1"))
        assert "Not saved: 2 line(s)" in writer.not_saved
        (tmp_path / "results").unlink()
        writer.case(case("s2"))
        assert writer.not_saved == ""
        writer.end("completed")
    run = read_run(writer.path)
    assert [found.key for found in run.cases] == ["s1", "s2"]
    assert run.end["cases"] == 2


def test_a_file_that_is_removed_meanwhile_is_written_anew(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "results" / "run.jsonl", environment()) as writer:
        writer.case(case("s1"))
        shutil.rmtree(tmp_path / "results")
        writer.case(case("s2"))
        writer.path.unlink()
        other = write_run(tmp_path / "results" / "run.jsonl", [case("s7")])
        writer.end("completed")
    assert writer.not_saved == ""
    assert [found.key for found in read_run(writer.path).cases] == ["s1", "s2"]
    assert [found.key for found in read_run(other).cases] == ["s7"]


def test_what_was_there_before_a_resumption_is_lost_with_its_file_and_said(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.jsonl", [case("s1")])
    with RunWriter(path, environment(), resume=True) as writer:
        path.unlink()
        writer.case(case("s2"))
    assert writer.not_saved == f"Not saved: what {path} held before it was resumed; it was removed meanwhile."
    assert [found.key for found in read_run(path).cases] == ["s2"]


def test_resume_adds_nothing_before_its_first_line(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.jsonl", [case("s1")])
    before = path.read_bytes()
    RunWriter(path, environment(), resume=True).close()
    assert path.read_bytes() == before
