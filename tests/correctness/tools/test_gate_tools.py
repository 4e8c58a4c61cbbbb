"""compare, baseline and check-results as a person runs them: output, exit codes, a sentence for bad input."""

import json
from pathlib import Path

import pytest

from tests.correctness.golden import assert_golden
from tests.correctness.made_up_runs import CALIBRATION, case, environment, noisy_nights, skipped, write_run
from tools.__main__ import main as run

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    """Seven nights of three cases a side: s6 is slower, s2 steady, s7 faster, s1 skipped, s3 breaks."""
    for side, (s6, s7, s3) in {"base": (30.0, 60.0, "passed"), "new": (34.0, 40.0, "failed")}.items():
        for night in range(7):
            wobble = 1 + 0.002 * (night - 3)
            broken = {"status": s3, "reason": "rank 2 died" if s3 == "failed" else None}
            lines = [
                case("s6", [s6 * wobble] * 3),
                case("s2", [80 * wobble] * 3, engine="packed"),
                case("s7", [s7 * wobble] * 3),
                skipped("s1"),
                case("s3", **broken),
            ]
            env = environment(f"2030-0{1 + (side == 'new')}-0{night + 1}T00:00:00+00:00")
            write_run(tmp_path / side / f"{side}{night}.jsonl", lines, env={**env, "run": f"{side}{night}"})
    return str(tmp_path / "base"), str(tmp_path / "new")


def test_compare_prints_the_golden_table(
    folders: tuple, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["compare", *folders]) == 1
    text = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines()) + "\n"
    assert_golden(text, GOLDEN / "compare.txt", tmp_path)


def test_a_comparison_has_a_row_for_each_case_with_its_change_and_each_reason_once(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too few runs to tell, on another card: percent all the same, at 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    paths = []
    for name, factor, device in (("old", 1.0, "NVIDIA H200"), ("new", 1.1, "NVIDIA H100")):
        lines = [
            case(key, [factor * 30.0] * 5, engine=e) for key in ("s1", "s6") for e in ("direct", "packed")
        ]
        paths.append(str(write_run(tmp_path / f"{name}.jsonl", lines, env=environment(device=device))))
    for across, word, reason in (
        ([], "incomparable", "device was"),
        (["--across=device"], "unknown", "too few"),
    ):
        assert run(["compare", *paths, *across]) == 2
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        rows = [line for line in lines if " nvshmem " in line and "%" in line]
        assert [line.split()[1] for line in rows] == [word] * 4
        assert all("+10.0%" in line for line in rows)
        assert " ".join(lines).count(reason) == 1


def test_compare_json_and_markdown(folders: tuple, capsys: pytest.CaptureFixture) -> None:
    assert run(["compare", *folders, "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    row = next(
        row
        for row in facts["rows"]
        if row["case"]["scenario"].startswith("s6") and row["metric"] == "warm_ms"
    )
    assert (row["outcome"], row["base"], row["new"], row["base_runs"]) == ("worse", 30.0, 34.0, 7)
    assert row["low"] <= row["change"] <= row["high"]
    assert run(["compare", *folders, "--markdown"]) == 1
    assert "| ▲ worse | s6 direct nvshmem |" in capsys.readouterr().out


def test_compare_of_one_folder_with_itself_by_age(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    noisy_nights([30.0] * 20 + [36.0] * 7, tmp_path)
    same = str(tmp_path)
    assert run(["compare", same, same, "--new-last", "7", "--base-last", "15"]) == 1
    assert "15 runs" in capsys.readouterr().out
    assert run(["compare", same, f"{tmp_path}/night000.jsonl"]) == 2


def test_sides_by_vs(folders: tuple, capsys: pytest.CaptureFixture) -> None:
    base, new = folders
    files = [f"{base}/base0.jsonl", f"{base}/base1.jsonl", "vs", f"{new}/new*.jsonl"]
    assert run(["compare", *files]) == 1
    assert "2 runs (base0 to base1) against 7 runs" in capsys.readouterr().out


BAD = {
    "missing": (["none.jsonl", "none.jsonl"], "none.jsonl cannot be read: No such file or directory."),
    "one side": (["a"], "A comparison needs two sides"),
    "no separator": (["a", "b", "c"], "3 names do not say which side they are on"),
    "across": (["a", "b", "--across", "colour"], "--across colour is not an identity fact"),
    "no count": (
        ["{good}", "{good}", "--new-last", "0"],
        "--new-last needs a whole number of at least 1, not 0.",
    ),
    "itself": (["{good}", "{good}"], "Every run of the base is one of the new runs."),
    "empty": (["{good}", "{empty}"], "is empty."),
    "truncated": (["{good}", "{torn}"], "is truncated: it holds no complete line."),
    "mixed": (["{good}", "{mixed}"], "mixes lines of schema 2.0 and 1.3."),
    "damaged": (["{good}", "{damaged}"], "is damaged: line 2 is not JSON"),
}


FILES = ("missing", "empty", "truncated", "mixed", "damaged")
"""Those that are about one file, which is the last argument."""


@pytest.mark.parametrize(
    ("tool", "name"), [*(("compare", n) for n in BAD), *(("check-results", n) for n in FILES)]
)
def test_bad_input_is_one_sentence_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture, name: str, tool: str
) -> None:
    good = write_run(tmp_path / "good.jsonl", [case()])
    first, second = good.read_text().splitlines()[:2]
    texts = {
        "empty": "",
        "torn": '{"type',
        "damaged": f"{first}\n{second[:50]}\n{second}\n",
        "mixed": f"{first}\n" + second.replace('"2.0"', '"1.3"') + "\n",
    }
    files = {"good": str(good)} | {key: str(tmp_path / f"{key}.jsonl") for key in texts}
    for key, text in texts.items():
        Path(files[key]).write_text(text)
    arguments = [argument.format(**files) for argument in BAD[name][0]]
    assert run([tool, *(arguments if tool == "compare" else arguments[-1:])]) == 2
    out, err = capsys.readouterr()
    assert BAD[name][1] in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""


def test_new_baseline_writes_a_reviewable_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    nights = [str(path) for path in noisy_nights([30.0, 30.2, 29.9, 30.1], tmp_path / "runs")]
    output = tmp_path / "thresholds" / "h200.toml"
    assert run(["baseline", *nights, "-o", str(output), "--because", "first nights"]) == 0
    assert "new   s6 direct nvshmem twin 4,4 warm_ms: 30." in capsys.readouterr().out
    text = output.read_text()
    for needed in (
        'because = "first nights"',
        'status = "pass"',
        'direction = "lower"',
        'since = "night"',
        "runs = 4",
    ):
        assert needed in text
    assert run(["baseline", *nights[:3], "-o", str(output), "--because", "again"]) == 0
    assert output.read_text().count("[[change]]") == 2
    assert run(["baseline", *nights[:2], "-o", str(output), "--because", "x"]) == 2
    assert run(["baseline", *nights, "-o", "/dev/null/x.toml", "--because", "x"]) == 2
    assert run(["baseline", *nights, "-o", str(output), "--because", "x", "--xfail", "s6"]) == 2


def test_a_baseline_lies_where_the_gate_looks_wherever_it_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fixtures.plugins import gate
    from tools import baseline

    assert baseline.FOLDER == gate.FOLDER == Path(__file__).resolve().parents[3] / "thresholds"
    nights = [str(path) for path in noisy_nights([30.0, 30.2, 29.9, 30.1], tmp_path / "runs")]
    monkeypatch.setattr(baseline, "FOLDER", tmp_path / "thresholds")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run(["baseline", *nights, "--because", "first nights"]) == 0
    assert [path.suffix for path in (tmp_path / "thresholds").iterdir()] == [".toml"]


def test_check_results_says_sound_or_why_not(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    good = write_run(tmp_path / "good.jsonl", [case(), skipped("s1")], calibration=CALIBRATION)
    assert run(["check-results", str(good)]) == 0
    assert capsys.readouterr().out == f"{good}: sound, 2 cases\n"
    bad = write_run(tmp_path / "bad.jsonl", [case(mismatches=4)])
    assert run(["check-results", str(tmp_path)]) == 2
    assert f"{bad}: case 1 (s6 direct nvshmem twin 4,4)" in capsys.readouterr().err
    with good.open("a") as file:
        file.write('{"type": "case", "scena')
    assert run(["check-results", str(good)]) == 2
    assert "the last line is torn" in capsys.readouterr().err
