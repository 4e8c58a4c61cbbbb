"""Identity is what makes two runs comparable; observation is the rest."""

from fixtures.records.environment import collect_environment, command_line, timing_settings
from fixtures.records.identity import differing_facts, system_name
from fixtures.records.schema import IDENTITY, OBSERVATION, line_problems
from tests.correctness.made_up_runs import environment


def test_the_environment_line_is_valid_and_has_every_documented_fact() -> None:
    line = collect_environment({"process_group": "gloo", "device": "NVIDIA H200"}, run="r", environ={})
    assert line_problems({**line, "schema": "2.0"}) == []
    assert set(line["identity"]) == set(IDENTITY)
    assert set(line["observation"]) == set(OBSERVATION)
    assert line["identity"]["process_group"] == "gloo"
    assert line["identity"]["device"] == "NVIDIA H200"


def test_settings_that_change_timing_are_identity() -> None:
    environ = {"NCCL_ALGO": "Ring", "NCCL_DEBUG_FILE": "/x", "HOME": "/root", "OMP_NUM_THREADS": "4"}
    assert timing_settings(environ) == {"NCCL_ALGO": "Ring", "OMP_NUM_THREADS": "4"}


def test_hosts_make_the_count_not_their_names() -> None:
    two = collect_environment({"host_count": 2}, hosts=["b", "a"], environ={})
    assert two["identity"]["host_count"] == 2
    assert two["observation"]["hosts"] == ["a", "b"]
    assert collect_environment(environ={})["identity"]["host_count"] == 1


def test_differing_facts_are_named_with_both_values() -> None:
    old = environment()["identity"]
    assert differing_facts(old, {**old}) == []
    assert differing_facts(old, {**old, "torch": "2.15"}) == ["torch was '2.11.0' and is '2.15'"]
    assert differing_facts(old, {**old, "torch": "2.15"}, across=["torch"]) == []
    changed = {**old, "settings": {"NCCL_ALGO": "Ring"}}
    assert differing_facts(old, changed) == ["settings.NCCL_ALGO was unset and is 'Ring'"]
    assert differing_facts(old, changed, across=["settings"]) == []
    assert differing_facts({"nvshmem": None}, {}) == []


def test_system_names() -> None:
    assert system_name(environment()["identity"]) == "8x-nvidia-h200"
    assert system_name({**environment()["identity"], "host_count": 12}) == "8x-nvidia-h200-12-hosts"
    cpu = {"device": "AMD EPYC", "devices_per_host": 0, "host_class": "AMD EPYC, 2 cores, 24 GiB"}
    assert system_name(cpu) == "cpu-amd-epyc-2-cores-24-gib"
    assert system_name(cpu | {"host_count": 16}) == "cpu-amd-epyc-2-cores-24-gib-16-hosts"


def test_the_command_line_does_not_tell_where_the_program_is_installed() -> None:
    module = "/opt/venv/lib/site-packages/pytest/__main__.py"
    assert command_line([module, "tests/perf", "-k", "a b"]) == "pytest tests/perf -k 'a b'"
    assert command_line(["/usr/bin/pytest", "-q"]) == "pytest -q"
