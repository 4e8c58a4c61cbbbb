import math

from fixtures.bounds.cells import cells_of
from fixtures.cases.inventory import KIMI_K2, KIMI_K2_MINI
from fixtures.cases.scenarios import find_scenario
from fixtures.megatron_plan.ops import planned_ops
from fixtures.megatron_plan.quality import Quality, plan_quality


def quality_of(row: str, mini: bool = False) -> Quality:
    model = KIMI_K2_MINI if mini else KIMI_K2
    return plan_quality(model, cells_of(model, find_scenario(row)))


def test_scenario_1_as_shipped_has_the_transfers_that_were_counted_in_megatron() -> None:
    cells = cells_of(KIMI_K2, find_scenario("s1"))
    shipped = sum(op.total for op in planned_ops(KIMI_K2, cells, repairs=False))
    assert round(shipped, -3) == 396_000


def test_every_scenario_passes_the_size_of_nccl_group_that_is_known_to_work() -> None:
    for key in ("s1", "s2", "s3", "s4", "s5", "s6", "s7"):
        (warning,) = [text for text in quality_of(key).warnings if "in one NCCL group" in text]
        assert "upstream #7189" in warning


def test_a_small_plan_is_not_warned_of() -> None:
    assert quality_of("2:1:1:2:collocated:nccl", mini=True).warnings == ()


def test_one_dense_replica_makes_a_hot_sender() -> None:
    hot = quality_of("1:8:1:4:non-collocated:nccl", mini=True)
    assert hot.hottest_sender == 0
    assert any(text.startswith("rank 0 is a hot sender") for text in hot.warnings)
    assert not any("hot sender" in text for text in quality_of("s1").warnings)


def test_task_ids_of_the_nvshmem_service_run_out_on_many_ranks() -> None:
    many = quality_of("8:8:8:96:non-collocated:nvshmem")
    assert many.transfers > 1_000_000
    assert any("1,000,000 task ids" in text for text in many.warnings)
    assert not any("task ids" in text for text in quality_of("s1").warnings)


def test_steps_of_the_nvshmem_service_hold_the_bytes() -> None:
    q = quality_of("s1")
    assert q.nvshmem_steps >= math.ceil(68_255_358_976 / 2**28)
    assert any(f"at least {q.nvshmem_steps} steps" in text for text in q.warnings)


def test_strided_slices_are_staged_only_where_tp_changes() -> None:
    assert quality_of("s1").staging_bytes == quality_of("s3").staging_bytes == 0
    assert round(quality_of("s6").staging_bytes / 1e9, 1) == 6.4
