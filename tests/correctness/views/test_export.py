"""What is exported reads back equal, and every column is described."""

import csv
import io
import re
from pathlib import Path

import pytest

from fixtures.records.fields import fields_of
from fixtures.records.reader import Run, read_run
from fixtures.records.record import CaseRecord
from fixtures.views.export import OF_THE_RUN, as_csv, as_openmetrics, as_parquet, case_of, rows
from fixtures.views.measured import REFERENCE
from tests.correctness.made_up_runs import case, environment, skipped, write_run
from tools.__main__ import main as run

SAMPLE = re.compile(r'(refit_[a-z_]+)\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\} (\S+)')


@pytest.fixture
def odd(tmp_path: Path) -> Run:
    """Texts that a format would trip over, and nulls."""
    records = [
        case("s6", engine='a "quoted", name', reason=None, purpose="", options={"update": "0.01"}),
        case(
            "s1", status="failed", reason="line one\nline two, with a comma", mismatches=7, throttled=[1, 2]
        ),
        skipped("s2"),
    ]
    return read_run(write_run(tmp_path / "odd.jsonl", records, env=environment()))


def all_runs(odd: Run) -> list[Run]:
    return [odd, *(read_run(path) for path in sorted(REFERENCE.glob("*.jsonl")))]


def test_csv_reads_back_equal(odd: Run) -> None:
    runs = all_runs(odd)
    back = list(csv.DictReader(io.StringIO(as_csv(runs))))
    cases = [record for run in runs for record in run.cases]
    assert [case_of(row) for row in back] == cases
    assert [row["run"] for row in back] == [run.name for run in runs for _ in run.cases]


def test_parquet_reads_back_equal(odd: Run) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    runs = all_runs(odd)
    table = parquet.read_table(io.BytesIO(as_parquet(runs)))
    assert [case_of(row) for row in table.to_pylist()] == [record for run in runs for record in run.cases]
    assert str(table.schema.field("cold_ms").type) == "double"
    assert str(table.schema.field("ranks").type) == "int64"


def test_without_pyarrow_parquet_is_refused_in_a_sentence(
    odd: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert run(["export", str(odd.path), "-o", str(tmp_path / "x.parquet")]) == 2
    assert capsys.readouterr().err == "Parquet needs pyarrow: pip install -e '.[parquet]'.\n"


def test_openmetrics_has_a_sample_for_each_number_and_escapes_its_labels(odd: Run) -> None:
    text = as_openmetrics([odd])
    assert text.endswith("# EOF\n")
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    found = [SAMPLE.fullmatch(line) for line in samples]
    assert all(found), [line for line, match in zip(samples, found, strict=True) if not match]
    by_name: dict[str, list[float]] = {}
    for match in filter(None, found):
        by_name.setdefault(match[1], []).append(float(match[3]))
    assert by_name["refit_passed"] == [1.0, 0.0]
    assert by_name["refit_warm_seconds"] == [pytest.approx(odd.cases[0].warm_median / 1e3)]
    assert by_name["refit_floor_seconds"] == [pytest.approx(0.0261)]
    assert 'engine="a \\"quoted\\", name"' in text


def test_openmetrics_shows_the_newest_record_of_a_case(tmp_path: Path) -> None:
    runs = [
        read_run(write_run(tmp_path / f"{n}.jsonl", [case("s6", [ms] * 3)], env=environment(f"2030-01-0{n}")))
        for n, ms in ((1, 30.0), (2, 40.0))
    ]
    text = as_openmetrics(runs)
    assert text.count("refit_warm_seconds{") == 1
    assert " 0.04\n" in text


def test_every_column_is_described(odd: Run) -> None:
    described = {field.name: field.described.meaning for field in fields_of(CaseRecord)} | dict(OF_THE_RUN)
    assert set(rows([odd])[0]) == set(described)
    assert all(described.values())


@pytest.mark.parametrize(
    ("output", "sentence"),
    [("cases.xlsx", "must end in one of .csv"), ("odd.jsonl/cases.csv", "cannot be written: ")],
)
def test_what_cannot_be_written_is_said(
    odd: Run, output: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", str(odd.path), "-o", str(tmp_path / output)]) == 2
    assert sentence in capsys.readouterr().err
