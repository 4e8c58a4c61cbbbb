import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.cases.scenarios import SCENARIOS
from tools.__main__ import main as run

REQUIRED = {
    "id", "src_bytes_per_gpu", "dst_bytes_per_gpu", "moved_bytes_per_gpu", "floor_ms", "binding",
    "expected_ms", "attainable",
}  # fmt: skip
MEASURED = r"""
import re, sys
from pathlib import Path
from tools.__main__ import main
code = main(["plan", "--json"])
peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
print(int(peak[1]) // 1024, "torch" in sys.modules, file=sys.stderr)
sys.exit(code)
"""
"""VmHWM, not ru_maxrss: the latter keeps the high water mark of the process that forked this one."""


def test_a_reader_that_leaves_early_sees_no_traceback() -> None:
    tool = [sys.executable, "-m", "tools", "plan", "s6", "--json"]
    with subprocess.Popen(
        tool, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == 128 + signal.SIGPIPE


def test_full_kimi_k2_is_planned_in_1_gb_without_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    megabytes, torch = done.stderr.split()[-2:]
    assert int(megabytes) < 1000
    assert torch == "False"
    plans = json.loads(done.stdout)["scenarios"]
    assert [plan["key"] for plan in plans] == [scenario.key for scenario in SCENARIOS]
    for plan in plans:
        assert set(plan) >= REQUIRED
    assert [plan["attainable"] for plan in plans[:7]] == [False] * 5 + [True, True]


def planned(capsys: pytest.CaptureFixture[str], *argv: str) -> dict:
    assert run(["plan", *argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["scenarios"][0]


def test_a_second_model_is_planned_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys, "s1", "--model", "deepseek-v3")
    assert (plan["model"], plan["num_layers"]) == ("deepseek-v3", 61)
    assert round(plan["parameters"] / 1e9, 1) == 671.0
    assert (plan["expected_ms"], plan["attainable"]) == (None, None)
    assert planned(capsys, "s1")["parameters"] == 1_026_408_209_408


def test_json_tells_the_orders_apart(capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys, "s6", "--fabric", "nvlink4")
    assert round(plan["floor_ms"]) == 24
    assert plan["order"] == "best"
    orders = plan["orders"]
    assert orders["megatron"]["placement"] is None
    assert sorted(orders["best"]["placement"]) == list(range(128))
    assert orders["megatron"]["attainable"] == "no"
    assert orders["best"]["attainable"] == "in part"
    for order in orders.values():
        assert sum(order["ranks"]["kept"]) + order["nvlink_bytes"] + order["nic_bytes"] == 128 * 20691951616
        assert sum(order["ranks"]["nvlink_in"]) == sum(order["ranks"]["nvlink_out"]) == order["nvlink_bytes"]


def test_a_found_order_given_back_has_the_same_floor(capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, "s7")
    order = ",".join(map(str, found["orders"]["best"]["placement"]))
    given = planned(capsys, "s7", "--placement", order)
    assert given["floor_ms"] == found["floor_ms"]
    assert given["order"] == "given"
    assert given["id"].endswith("-placed")


def test_calibration_file_changes_the_floor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.jsonl"
    file.write_text(json.dumps({"type": "calibration", "put_gbps": 195.0}))
    slow = planned(capsys, "s1", "--fabric", f"nvlink4,{file}")
    assert round(slow["floor_ms"]) == 350


def test_tables_name_limits_and_placements(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "s2", "s6", "--placement"]) == 0
    output = capsys.readouterr().out
    assert "35,783 sends and receives in one NCCL group" in output
    assert "--placement 0,8,1,9" in output
    assert "stretch over 2 NVLink domains" in output
    assert "nic_gbs: line rate" in output


def test_cost_is_measured_on_request() -> None:
    from fixtures.cases.inventory import KIMI_K2_MINI
    from fixtures.megatron_plan.cold_plan import ladder, measure

    scenario, _ = ladder()[0]
    whole = measure(scenario, KIMI_K2_MINI, 3)
    half = measure(scenario, KIMI_K2_MINI, 2)
    assert (whole.scaled, half.scaled, whole.world_size) == (1.0, 2.0, 8)
    assert whole.transfers == pytest.approx(half.transfers, rel=0.2)
    assert whole.total_s > 0


@pytest.mark.parametrize("name", ["traffic.png", "traffic.svg"])
def test_figure_is_written(tmp_path: Path, name: str) -> None:
    assert run(["plan", "s1", "s6", "--figure", str(tmp_path / name), "--json"]) == 0
    data = (tmp_path / name).read_bytes()
    assert data.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["s9"], "unknown scenario 's9'"),
        (["--fabric", "nic_gbs=0"], "nic_gbs must be a number above 0"),
        (["--fabric", "9xH300"], "unknown fabric '9xH300'"),
        (["--fabric", "nodes=2"], "the scenario needs 96"),
        (["3:8:8:4:non-collocated:nccl"], "attention heads 64 is not divisible by TP 3"),
        (["8:5:8:4:non-collocated:nccl"], "384 experts are not divisible by EP 5"),
        (["--model", "kimi-k9"], "unknown model 'kimi-k9'"),
        (["--num-layers", "62"], "has 61 layers"),
        (["s6", "--placement", "worst"], "placement must be best or ranks"),
        (["s6", "--placement", "0,1"], "must name each target rank"),
        (["s6", "--figure", "x.gif"], "must end in .png"),
        (["s6", "--figure", "/no/such/x.png"], "does not exist"),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(
    argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plan", *argv]) == 2
    out, err = capsys.readouterr()
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""


def test_predictions_are_marked_and_ranked(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--predict"]) == 0
    output = capsys.readouterr().out
    assert "PREDICTED ms on 8xH200: not measured" in output
    assert "s6 s7 s1 s2 s3 s4 s5" in output
    assert "megatron nccl_m2n (0)" in " ".join(output.split())
    assert run(["plan", "s6", "--predict", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    predictions = document["predictions"]
    assert "megatron nccl_m2n (0)" in document["without_prediction"]
    assert [p["order"] for p in predictions] == ["megatron", "best"]
    assert not any(p["measured"] for p in predictions)
    assert "?: more ranks, or NICs, than were ever measured" in output
    assert all("128 ranks (measured: at most 2)" in why for p in predictions for why in p["outside"].values())


def test_predicting_from_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "s6", "--predict", "--runs", str(tmp_path / "none.jsonl")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_exact_topology_is_run_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "s6", "--exact", "--num-layers", "2"]) == 0
    repaired, shipped = capsys.readouterr().out.strip().splitlines()
    assert repaired.startswith("s6 repaired: 128 ranks, ")
    assert repaired.endswith(": exact")
    assert "at fault; first: rank 0, decoder.layers.1.mlp.experts.linear_fc1.weight0" in shipped
