"""`refit-bench` and `python -m tools`: one list of commands, with an example and exit codes in each help."""

import subprocess
import sys
from pathlib import Path

import pytest

import refit_bench
from fixtures.documents.commands import TOOLS
from tests.correctness.patience import PATIENCE_S
from tools import __main__ as dispatch
from tools import bench, completion

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", sorted(set(TOOLS) - {"bench"}))
def test_every_help_has_an_example_and_exit_codes(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert dispatch.main([name, "--help"]) == 0
    output = capsys.readouterr().out
    assert output.startswith(f"usage: refit-bench {name}")
    assert f"\nexample:    refit-bench {name}" in output
    assert f"exit codes: {TOOLS[name].exits}" in " ".join(output.split())
    assert max(map(len, output.splitlines())) <= 80
    assert "2" in TOOLS[name].exits


def test_the_console_script_is_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["refit-bench", "plan", "s99"])
    assert refit_bench.main() == 2
    assert "unknown scenario 's99'" in capsys.readouterr().err
    assert dispatch.main(["nonsense"]) == 2


def test_without_a_checkout_the_console_script_says_so(tmp_path: Path) -> None:
    alone = tmp_path / "refit_bench.py"
    alone.write_text(Path(refit_bench.__file__).read_text())
    command = [sys.executable, "-c", "import refit_bench; refit_bench.main()"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("refit-bench runs from a checkout")


def test_bench_help_is_the_suites_own() -> None:
    text = "usage\n\ngeneral:\n  -k X\n\nweight refits:\n  --scenario=ID  which\n\nother:\n  --more\n"
    assert bench.own_options(text) == "weight refits:\n  --scenario=ID  which"


def test_completion_completes_commands_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "TOOLS", {name: TOOLS[name] for name in ("compare", "plan", "export")})
    script = completion.script("bash")
    for words, index, wanted in (
        (["refit-bench", "co"], 1, {"compare"}),
        (["refit-bench", "plan", "--ex"], 2, {"--exact"}),
    ):
        asked = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={index}; _refit_bench"
        line = f'{script}\n{asked}; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, timeout=PATIENCE_S, check=True
        )
        assert set(done.stdout.split()) == wanted, done.stderr
    assert completion.script("zsh").startswith("autoload")
