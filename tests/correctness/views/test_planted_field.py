"""A field that is planted in the record shows in every view, with no other edit."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.correctness.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]
MEASURED_IN = "class Timed:\n"
FIELD = """
    hops_ms: float | None = fact(
        "time between hosts",
        None,
        unit="ms",
        column=Column(head="hops", says="what crosses between hosts"),
        card="of which hops",
        gated=Gated(relative=0.1, absolute=1.0),
    )
"""
SHOW_ALL = """
import re
from pathlib import Path
from rich.console import Console
from fixtures.documents.tables import columns, export_columns
from fixtures.gates.comparison import compare
from fixtures.gates.index import Index
from fixtures.records.reader import read_run
from fixtures.records.errors import RecordError
from fixtures.views.comparison import comparison_markdown, print_comparison
from fixtures.views.export import as_csv, as_openmetrics
from fixtures.views.markdown import schema_markdown
from fixtures.views.report.markdown import markdown
from fixtures.views.report.page import page
from fixtures.views.table import render
from fixtures.views.trend import trend_of, trend_text
from tests.correctness.made_up_runs import case, environment, write_run

def night(n, hops):
    env = {**environment(f"2030-01-{n + 1:02d}T02:00:00+00:00"), "run": f"night{n}"}
    return read_run(write_run(Path(f"night{n}.jsonl"), [case("s6", hops_ms=hops)], env=env))

runs = [night(n, 12.5 if n < 5 else 47.5) for n in range(10)]
console = Console(width=200)
def view(name):
    print(f"\\n=== {name}")

view("terminal"); render(runs[0].cases, console)
view("columns"); print(columns())
view("schema"); print(schema_markdown())
view("page"); print(page(runs[:1]))
view("card"); print(page(runs[:1]))
view("markdown"); print(markdown(runs[:1]))
view("exports"); print(export_columns(), as_csv(runs[:1]))
view("metrics"); print(as_openmetrics(runs[:1]))
view("compare"); print_comparison(compare(runs[:5], runs[5:]), console)
view("history")
index = Index(); index.refresh(run.path for run in runs)
print("\\n".join(trend_text(trend_of(index.series()[0], "hops_ms"))))
view("validation")
text = runs[0].path.read_text()
Path("bad.jsonl").write_text(re.sub('("hops_ms": ?)12.5', r"\\g<1>-1", text))
try:
    read_run(Path("bad.jsonl"))
except RecordError as error:
    print(error)
"""
SHOWN = {
    "terminal": "hops",
    "columns": "| hops | what crosses between hosts |",
    "schema": "| `hops_ms` | number or null | ms | time between hosts |",
    "page": '<th scope="col" class="n">hops</th>',
    "card": '<th scope="col" class="n">of which hops</th>',
    "markdown": " | hops | ",
    "exports": "hops_ms",
    "metrics": "refit_hops_seconds",
    "compare": "hops +280.0%",
    "history": "hops_ms: 10 runs, newest 47.5 ms",
    "validation": "has -1 for 'hops_ms', which is not a number",
}


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each view shows in a copy of the tree whose record has one more field."""
    copy = tmp_path_factory.mktemp("copy")
    for folder in ("fixtures", "tests", "results/reference"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    record = copy / "fixtures/records/record.py"
    before, found, after = record.read_text().partition(MEASURED_IN)
    docstring, _, fields = after.partition('"""\n')
    assert found
    record.write_text(f'{before}{found}{docstring}"""\n{FIELD}{fields}')
    done = subprocess.run(
        [sys.executable, "-c", SHOW_ALL],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    parts = (part.partition("\n") for part in done.stdout.split("=== ")[1:])
    return {name: text for name, _, text in parts}


@pytest.mark.parametrize("view", SHOWN)
def test_a_planted_field_shows_in(views: dict[str, str], view: str) -> None:
    assert SHOWN[view] in views[view]
