"""Every broken file gets one sentence; added fields are tolerated."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.gates.index import Index
from fixtures.records.errors import RecordError
from fixtures.records.fields import fields_of
from fixtures.records.reader import MOST_BYTES, expand, read_run, read_runs
from fixtures.records.schema import LINES, line_problems
from fixtures.records.validate import check_run
from fixtures.views.markdown import schema_markdown
from tests.correctness.made_up_runs import CALIBRATION, case, case_line, environment, skipped, write_run

ROOT = Path(__file__).resolve().parents[3]


def _lines(*objects: object) -> str:
    return "".join(json.dumps(o) + "\n" for o in objects)


BROKEN = {
    "empty": ("", "is empty."),
    "blank": ("\n\n", "is empty."),
    "only a torn line": ('{"type": "envi', "is truncated: it holds no complete line."),
    "torn in the middle": (
        _lines(environment()) + '{"type": "ca\n' + _lines(case_line()),
        "is damaged: line 2 is not JSON",
    ),
    "no environment": (_lines(case_line()), "does not begin with an environment line."),
    "a list": (_lines(environment(), [1]), "is damaged: line 2 is not an object."),
    "another major": (
        _lines({**environment(), "schema": "3.0"}),
        "has schema 3.0; this suite reads 2.0 and 1.0.",
    ),
    "mixed versions": (
        _lines(environment(), {**case_line(), "schema": "1.7"}),
        "mixes lines of schema 2.0 and 1.7.",
    ),
    "unknown type": (_lines(environment(), {"type": "cake"}), "has the type 'cake', which is none of"),
    "missing field": (
        _lines(environment(), {"type": "case", "status": "passed", "ranks": 1}),
        "misses the field 'scenario'",
    ),
    "NaN": (_lines(environment(), case_line(cold_ms=float("nan"))), "NaN is not a number JSON allows"),
    "bad number": (
        _lines(environment(), case_line(cold_ms="1")),
        "has '1' for 'cold_ms', which is not a number that is 0 or from 1e-18 to 9.2e+18",
    ),
    "endless number": (
        _lines(environment(), case_line(cold_ms=1)).replace('"cold_ms": 1,', '"cold_ms": 1e999,'),
        "has inf for 'cold_ms', which is not a number that is 0 or from",
    ),
    "bad status": (
        _lines(environment(), case_line(status="ok")),
        "has 'ok' for 'status', which is none of passed",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_one_sentence(tmp_path: Path, name: str) -> None:
    text, sentence = BROKEN[name]
    path = tmp_path / "run.jsonl"
    path.write_text(text)
    with pytest.raises(RecordError) as error:
        read_run(path)
    assert sentence in str(error.value)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_binary_missing_and_folder(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_bytes(b"\x80\x81")
    for path, words in (
        (tmp_path / "b.jsonl", "not UTF-8"),
        (tmp_path / "no.jsonl", "No such file"),
        (tmp_path, "directory"),
    ):
        with pytest.raises(RecordError, match=words):
            read_run(path)


def test_added_fields_and_minor_versions_are_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(
        _lines({**environment(), "schema": "2.9", "x": 1}, {**case_line(), "schema": "2.9", "y": {"z": 2}})
    )
    assert read_run(path).cases == (case(),)


def test_sources_are_files_folders_and_globs(tmp_path: Path) -> None:
    write_run(tmp_path / "b.jsonl", [case()], env=environment("2030-01-01T00:00:00"))
    write_run(tmp_path / "a.jsonl", [case()], env=environment("2030-01-02T00:00:00"))
    for source in (tmp_path, tmp_path / "*.jsonl"):
        assert [run.path.name for run in read_runs([source])] == ["b.jsonl", "a.jsonl"]
    with pytest.raises(RecordError, match="holds no result file"):
        read_runs([tmp_path / "x*.jsonl"])


CONTRADICTIONS = {
    "mismatches": (case(mismatches=3), "passed with 3 mismatches"),
    "nothing verified": (case(elements_verified=0), "passed without a verified element"),
    "no reason": (skipped(reason=""), "is skipped without a reason"),
    "ranks": (case(samples_ms=case().samples_ms[1:]), "has samples of 7 ranks but 8 ranks"),
    "ragged": (case(samples_ms=[[1.0] * 5] * 7 + [[1.0]]), "different numbers of samples"),
    "faster than its slowest rank": (case(samples_ms=[[40.0] * 5] * 8), "but its slowest rank took 40"),
    "too many bytes": (case(moved_bytes=10**12), "moved 1000000000000 bytes into"),
    "bytes per rank": (case(bytes={"in": [1, 2]}), "has bytes.in of 2 ranks but 8 ranks"),
    "verdict": (case(verdict="above"), "has the verdict 'above' but its median is 30.2 ms"),
    "no verdict reason": (case(verdict_reason=None), "is not comparable without a reason"),
    "fewer times": (case(iterations=6), "passed with 5 times of 6 iterations"),
    "no time": (case(warm_ms=(), samples_ms=None, iterations=5), "passed with 0 times of 5 iterations"),
    "no samples": (case(samples_ms=None), "passed with times but no rank's samples"),
    "a diagnosis": (case(verification={"diagnosis": ["late"]}), "passed although it says: late"),
    "last refit": (case(iterations=5, verification={"verified_refits": [0]}), "last refit was not verified"),
    "no sample": (case(verification={"sampled_elements": 0}), "passed although no element was sampled"),
    "skipped with times": (skipped(warm_ms=[1.0]), "is skipped but has 1 times"),
    "half of the bytes": (
        case(verified_bytes=8 * 10**10, bytes={"in": [10**10] * 8, "kept": [10**10] * 8}),
        "passed with 80,000,000,000 bytes verified of 160,000,000,000 that must arrive",
    ),
    "half of the elements": (case(verified_bytes=4 * 10**11), "verified 80,000,000,000 elements in 400,000"),
    "rate": (case(gbps=390.0), "says 390 GB/s but its bytes and median make 337.7"),
    "another scenario": (case(source={"tp": 8, "ep": 8}), "has the layouts tp8ep8 and tp8ep16"),
    "another twin": (
        case(run_source={"tp": 1, "ep": 1}),
        "ran tp1ep1, which is not tp16ep8 divided by its twin",
    ),
    "another engine": (
        case(engine="direct", case="test_refit[s6-x-packed-nvshmem-twin4x4]"),
        "stands under another case's test",
    ),
    "throttled": (case(throttled=[9]), "marks iteration 9 as throttled but has 5 iterations"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions_are_found(tmp_path: Path, name: str) -> None:
    line, clause = CONTRADICTIONS[name]
    problems = check_run(read_run(write_run(tmp_path / "run.jsonl", [line])))
    assert len(problems) == 1
    assert clause in problems[0]


def test_a_verdict_of_a_cpu_is_found(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.jsonl", [case(verdict="within")], env=environment(devices_per_host=0))
    assert [
        p for p in check_run(read_run(path)) if "has the verdict 'within' on a machine without a GPU" in p
    ]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "results" / "reference").glob("*.jsonl")), ids=lambda p: p.stem
)
def test_every_committed_run_is_sound(path: Path) -> None:
    assert check_run(read_run(path)) == []


def test_a_sound_run_has_no_problem_and_lost_lines_are_noticed(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.jsonl", [case("s1"), skipped("s2")], calibration=CALIBRATION)
    assert check_run(read_run(path)) == []
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2] + lines[3:]))
    assert check_run(read_run(path)) == ["the end line counts 2 cases but the file holds 1."]


@given(st.sampled_from(sorted(LINES)), st.data())
def test_any_required_field_left_out_or_nulled_is_named(kind: str, data: st.DataObject) -> None:
    whole = {"environment": environment(), "case": case_line(), "calibration": {"type": "calibration"}}
    whole["end"] = {"type": "end", "status": "completed", "cases": 1}
    assert line_problems(whole[kind]) == []
    field = data.draw(
        st.sampled_from([f for f in fields_of(LINES[kind]) if f.required and f.name != "type"] or [None])
    )
    if field is None:
        return
    line = {key: value for key, value in whole[kind].items() if key != field.name}
    assert line_problems(line) == [f"misses the field '{field.name}'"]
    assert bool(line_problems({**line, field.name: None})) is not field.nullable


ODD = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.floats() | st.none(), max_size=2)


@given(
    st.sampled_from([f.name for f in fields_of(LINES["case"])]),
    ODD | st.dictionaries(st.text(max_size=2), ODD, max_size=2),
)
def test_validator_never_raises(field: str, value: object) -> None:
    for problem in line_problems({"type": "case", field: value}):
        assert isinstance(problem, str)


def test_docs_and_schema_agree() -> None:
    text = (ROOT / "docs" / "records.md").read_text()
    assert schema_markdown() in text, (
        "run: refit-bench check-results --schema, and paste it into docs/records.md"
    )


def test_a_run_counts_once_under_whatever_name(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a.jsonl", [case()], env=environment("2030-01-01T00:00:00+00:00"))
    other = write_run(tmp_path / "b.jsonl", [case()], env=environment("2030-01-02T00:00:00+00:00"))
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(first.read_bytes())
    link = tmp_path / "link.jsonl"
    link.symlink_to(first)
    runs = read_runs([first, first, str(tmp_path / "*.jsonl"), link, other])
    assert [run.path.name for run in runs] == ["a.jsonl", "b.jsonl"]
    assert [len(run.warnings) for run in runs] == [1, 0]
    assert "copy.jsonl is the same run as" in runs[0].warnings[0]


@pytest.mark.parametrize(
    "text", ["", '{"type": "envi', _lines({**environment(), "schema": "9.0"}), "damaged\n"]
)
def test_what_cannot_be_read_is_left_out_of_a_folder_and_said(tmp_path: Path, text: str) -> None:
    """One bad night must not take the others with it; a file that was named is refused."""
    bad = tmp_path / "bad.jsonl"
    bad.write_text(text)
    with pytest.raises(RecordError, match="bad"):
        read_runs([tmp_path])
    write_run(tmp_path / "good.jsonl", [case()])
    for source in (tmp_path, tmp_path / "*.jsonl"):
        (run,) = read_runs([source])
        (warning,) = run.warnings
        assert warning.startswith(f"Left out: {bad} ")
    with pytest.raises(RecordError, match="bad"):
        read_runs([tmp_path, bad])


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "device.jsonl").symlink_to("/dev/zero")
    (tmp_path / "dangling.jsonl").symlink_to("nowhere")
    (tmp_path / "circle.jsonl").symlink_to("circle.jsonl")
    with (tmp_path / "large.jsonl").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    words = {
        "pipe": "is not a regular file.",
        "device": "is not a regular file.",
        "dangling": "cannot be read: No such file or directory.",
        "circle": "cannot be read: Too many levels of symbolic links.",
        "large": "has 100 MB; at most 100 are read.",
    }
    for name, sentence in words.items():
        with pytest.raises(RecordError, match=sentence):
            read_run(tmp_path / f"{name}.jsonl")
    good = write_run(tmp_path / "good.jsonl", [case()])
    assert [run.path for run in read_runs([tmp_path])] == [good]


OUT_OF_BOUNDS = {
    "floor_ms": (1e308, 5e-324, -1.0, True, [1.0], 10**400),
    "warm_ms": ([1e308], [None], [[1.0]], 3, "1"),
    "dst_bytes": (2**63, -1, 1.5, [], "7"),
    "ranks": ([], 2**64),
    "twin": ([0, 1], [1]),
    "source": ({"tp": 10**9, "ep": 1}, {"tp": 2000, "ep": 2000}, {"tp": 0, "ep": 1}, {"tp": 8}, 8),
    "expected_ms": ([1, 1e300], [2, 1]),
}


@pytest.mark.parametrize("field", OUT_OF_BOUNDS)
def test_a_number_that_cannot_be_is_damage(tmp_path: Path, field: str) -> None:
    for value in OUT_OF_BOUNDS[field]:
        path = tmp_path / "run.jsonl"
        path.write_text(_lines(environment(), {**case_line(), field: value}))
        with pytest.raises(RecordError, match=f"is damaged: line 2 has .* for '{field}', which is not an? "):
            read_run(path)


def test_a_fact_of_the_environment_that_cannot_be_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    for fact, value in {"host_count": [], "devices_per_host": "8", "settings": {"NCCL_ALGO": 1}}.items():
        path.write_text(_lines(environment(**{fact: value})))
        with pytest.raises(RecordError, match=f"line 1 has .* for '{fact}'"):
            read_run(path)


def test_texts_show_as_what_they_are(tmp_path: Path) -> None:
    """Cursor movement, colours, right-to-left marks and lone surrogates are written out; nothing else is."""
    odd = "\x1b[2J\ud800\u202e\x9b1m\x00"
    fine = "é 漢 😀 [b] <i>\ttab\nline"
    path = tmp_path / "run.jsonl"
    facts = {odd: [odd, {odd: 10**400, "deep": _nested(30)}]}
    path.write_text(_lines({**environment(), "run": odd}, case_line(purpose=odd + fine, engine_facts=facts)))
    run = read_run(path)
    escaped = r"\x1b[2J\ud800\u202e\x9b1m\x00"
    assert (run.name, run.cases[0].purpose) == (escaped, escaped + fine)
    ((key, (text, inner)),) = run.cases[0].engine_facts.items()
    assert (key, text, inner[escaped]) == (escaped, escaped, None)
    assert json.dumps(inner["deep"]).count("[") < 30


def _nested(depth: int) -> object:
    return [_nested(depth - 1)] if depth else 0


def test_what_is_nested_without_end_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(_lines(environment()) + "[" * 200_000 + "\n")
    with pytest.raises(RecordError, match="is damaged: line 2 is nested too deep"):
        read_run(path)


def test_a_folders_history_says_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "dangling.jsonl").symlink_to("nowhere")
    (tmp_path / "circle.jsonl").symlink_to("circle.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    write_run(tmp_path / "good.jsonl", [case()])
    index = Index()
    index.refresh(expand(tmp_path))
    assert len(index.errors) == 4
    assert len(index.series()) == 1
