"""`refit-bench` and `python -m tools`: one list of commands, with an example and exit codes in each help."""

import os
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


def test_a_mistyped_command_is_told_the_one_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch.main(["comapre"]) == 2
    assert capsys.readouterr().err == "unknown command 'comapre'; did you mean compare?\n"
    assert dispatch.main(["xyz"]) == 2
    assert "known: baseline, bench," in capsys.readouterr().err


@pytest.mark.parametrize("word", ["s6", "6,s7", "8:8:4:16:collocated:nccl:mine"])
def test_a_scenario_without_its_option_is_no_file_to_look_for(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch.main(["bench", word]) == pytest.ExitCode.USAGE_ERROR
    assert capsys.readouterr().err == f"{word} is a scenario: refit-bench bench --scenario {word}\n"


def test_the_list_of_commands_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, dispatch.usage().splitlines())) <= 80


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


def test_results_lie_where_the_command_was_typed(tmp_path: Path) -> None:
    """And a checkout of megatron-core that cannot be imported is one sentence."""
    broken = tmp_path / "broken" / "megatron" / "core"
    broken.mkdir(parents=True)
    (broken / "package_info.py").write_text("MAJOR = 0\n")
    (broken / "__init__.py").touch()
    words = ["--scenario=s6", "--engine=packed", "--ranks=2", "--iterations=1", "--warmup=0", "--method=nccl"]
    main = "import refit_bench, sys; sys.exit(refit_bench.main())"
    program = [sys.executable, "-c", main, "bench", *words, "--results=here", "--run-name=x"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}  # others may be on it
    options = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": PATIENCE_S, "check": False}
    done = subprocess.run(program, env=environment, **options)  # type: ignore[call-overload]
    assert (tmp_path / "here" / "x.jsonl").is_file(), done.stdout + done.stderr
    broken_one = environment | {"MEGATRON": str(tmp_path / "broken")}
    done = subprocess.run(program, env=broken_one, **options)  # type: ignore[call-overload]
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    said = f"torch or megatron-core (of MEGATRON, {tmp_path / 'broken'}) cannot be imported: "
    assert said in done.stderr
    assert "Traceback" not in done.stderr


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
