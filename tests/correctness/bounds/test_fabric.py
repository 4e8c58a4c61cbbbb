import json
from pathlib import Path

import pytest

from fixtures.bounds.fabric import PRESETS, parse_fabric
from fixtures.cases.errors import CaseError


def test_later_settings_override_earlier_ones() -> None:
    fabric = parse_fabric(["8xH100,nic_gbs=100", "nic_gbs=25"])
    assert (fabric.nvlink_gbs, fabric.nic_gbs, fabric.gpu_memory_gb) == (390, 25, 85)
    assert fabric.sources["nic_gbs"] == "given by the user"


def test_every_preset_names_the_source_of_its_rates() -> None:
    for preset in PRESETS.values():
        assert preset.sources, preset.name
    for name in ("8xH100", "8xH200", "GB200-NVL72"):
        assert set(PRESETS[name].sources) >= {"nvlink_gbs", "nic_gbs", "copy_gbs", "gpu_memory_gb"}


def test_presets_are_found_in_any_case_and_by_nickname() -> None:
    assert parse_fabric(["8xh200+400G"]).name == "8xH200"
    assert parse_fabric(["nvl72"]).nvlink_domain == 72


def test_a_node_of_another_size_takes_its_nvlink_along() -> None:
    fabric = parse_fabric(["gpus_per_node=4"])
    assert (fabric.gpus_per_node, fabric.nvlink_domain) == (4, 4)


def test_calibration_of_a_run_replaces_its_rates_only(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    lines = [
        {"type": "environment"},
        {"type": "calibration", "put_gbps": 111.0},
        {
            "type": "calibration",
            "put_gbps": 371.5,
            "device_copy_gbps": 4001.0,
            "nccl_one_way_gbps": 300.0,
        },
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    fabric = parse_fabric(["8xH200", str(file)])
    assert (fabric.nvlink_gbs, fabric.copy_gbs, fabric.nic_gbs) == (371.5, 4001.0, 50)
    assert fabric.sources["nvlink_gbs"] == "measured in run.jsonl"


def test_calibration_without_put_uses_nccl(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    file.write_text(json.dumps({"type": "calibration", "nccl_one_way_gbps": 369.0}))
    assert parse_fabric([str(file)]).nvlink_gbs == 369.0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nic_gbs=0", "nic_gbs must be a number above 0, not 0.0"),
        ("nvlink_gbs=nan", "nvlink_gbs must be a number above 0"),
        ("nvlink_gbs=fast", "must be a number, not 'fast'"),
        ("gpus_per_node=0", "at least 1, not 0"),
        ("colour=red", "unknown fabric setting 'colour'"),
        ("9xH300", "unknown fabric '9xH300'; known: 8xH100"),
    ],
)
def test_bad_fabric_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(CaseError) as error:
        parse_fabric([text])
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{broken", "cannot read a calibration"),
        ('{"type": "case"}', "no line of type calibration"),
        ('{"type": "calibration"}', "holds none of put_gbps"),
        ('{"type": "calibration", "put_gbps": "x"}', "not a number"),
        ('{"type": "calibration", "put_gbps": -1}', "above 0"),
    ],
)
def test_unusable_calibration_is_one_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    file = tmp_path / "run.jsonl"
    file.write_text(content)
    with pytest.raises(CaseError, match=sentence):
        parse_fabric([str(file)])
