"""A scenario, a model and an engine, planted in a copy of the tree with exactly CONTRIBUTING.md's edits."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.correctness.cli.inner_runs import ROOT, environment
from tests.correctness.patience import PATIENCE_S

ROW = re.compile(r"one row of `(\w+)` in `([\w/.]+)`:\n\n```python\n(.*?)```", re.DOTALL)
FILE = re.compile(r"The file `([\w/.]+)`:\n\n```python\n(.*?)```", re.DOTALL)
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "shared")


def add_row(file: Path, table: str, row: str) -> None:
    """Put the row behind the last one of the tuple that the name is assigned."""
    source = file.read_text(encoding="utf-8")
    (assigned,) = (
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == table
    )
    rows = next(node for node in ast.walk(assigned) if isinstance(node, ast.Tuple))
    lines = source.splitlines(keepends=True)
    lines.insert(rows.elts[-1].end_lineno, f"{row.rstrip()},\n")
    file.write_text("".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The copy, with two runs of the planted case."""
    copy = tmp_path_factory.mktemp("adding") / "copy"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    for left in (copy / "results").iterdir():
        if left.name != "reference":
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for table, file, row in ROW.findall(text):
        add_row(copy / file, table, row)
    for file, content in FILE.findall(text):
        (copy / file).write_text(content, encoding="utf-8")
    for name in ("first", "second"):
        done = run(copy, "-m", "pytest", "tests/perf", "-q", *BENCH, "--run-name", name)
        assert done.returncode == 0, done.stdout + done.stderr
    return copy


BENCH = ("--scenario=s8", "--method=gloo", "--engine=plain", "--engine=megatron", "--model=little-moe-mini",
         "--ranks=2", "--iterations=2", "--warmup=0")  # fmt: skip


def run(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=tree, env=environment(), capture_output=True, text=True,
        timeout=PATIENCE_S, check=False,
    )  # fmt: skip


def tool(tree: Path, *arguments: str) -> str:
    """What a command of `refit-bench` says, which must succeed."""
    done = run(tree, "-m", "tools", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_the_edits_are_one_row_each_and_one_file(tree: Path) -> None:
    text = (tree / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [table for table, _, _ in ROW.findall(text)] == ["SCENARIOS", "FULL_MODELS", "ENGINES"]
    assert [file for file, _ in FILE.findall(text)] == ["fixtures/engines/plain.py"]


def test_bench_refits_it_to_the_bit(tree: Path) -> None:
    lines = map(json.loads, (tree / "results" / "first.jsonl").read_text().splitlines())
    cases = [line for line in lines if line["type"] == "case"]
    assert [case["engine"] for case in cases] == ["plain", "megatron"]
    for case in cases:
        assert (case["status"], case["model"], case["mismatches"]) == ("passed", "little-moe-mini", 0)
        assert case["scenario"] == "s8-collocated-tp8ep4-to-tp4ep8"
        assert case["elements_verified"] > 0
        assert len(case["warm_ms"]) == 2


def test_plan_and_predictions_know_it(tree: Path) -> None:
    (plan,) = json.loads(tool(tree, "plan", "s8", "--model", "little-moe", "--json"))["scenarios"]
    assert (plan["key"], plan["model"], plan["expected_ms"]) == ("s8", "little-moe", None)
    assert plan["parameters"] > 4e9
    assert plan["floor_ms"] > 0
    assert "s8 s6" in tool(tree, "plan", "--predict")


def test_the_exact_topology_is_checked(tree: Path) -> None:
    said = tool(tree, "plan", "s8", "--model", "little-moe", "--exact", "--num-layers", "3")
    assert said.startswith("s8 repaired: 32 ranks, ")
    assert said.splitlines()[0].endswith(": exact")


def test_the_documents_and_the_batch_script_list_it(tree: Path) -> None:
    tool(tree, "docs")
    tool(tree, "docs", "--check")
    summary = (tree / "KIMI_K2_CONFIG_SUMMARY.md").read_text(encoding="utf-8")
    assert "| s8 | TP8,EP4 | TP4,EP8 | 32 | 4 | collocated | nccl | collocated refit of 32 GPUs |" in summary
    assert "collocated (s6, s7, s8)" in summary
    assert "s8: TP8,EP4 to TP4,EP8, collocated, 32 GPUs" in summary
    assert "Tests: collocated refit of 32 GPUs: TP 8 to 4, EP 4 to 8, collocated over nccl\n" in summary
    assert "Expected overhead: 15-30 ms, the least\n" in summary
    assert "What do fewer GPUs cost? (against s6)" in summary
    batch = (tree / "benchmark_refit_kimi_k2.sh").read_text(encoding="utf-8")
    assert '  "8:4:4:8:collocated:nccl:collocated refit of 32 GPUs"\n' in batch


def test_the_page_asks_its_question(tree: Path) -> None:
    tool(tree, "report", "results/first.jsonl", "-o", "page.html")
    page = (tree / "page.html").read_text(encoding="utf-8")
    assert "What do fewer GPUs cost? (s8 against s6)" in page
    assert "s8" in page
    assert "plain over gloo" in page
    assert "#6b5b95" in page


def test_compare_and_history_follow_it(tree: Path) -> None:
    done = run(tree, "-m", "tools", "compare", "results/first.jsonl", "results/second.jsonl")
    assert done.returncode in (0, 1, 2), done.stderr
    assert "s8" in done.stdout
    assert "plain" in done.stdout
    assert "plain" in tool(tree, "history", "s8")
