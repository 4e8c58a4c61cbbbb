"""Compare rosters at the exact size of every scenario; prints [key, rank, differences] of each as JSON."""

import json

from fixtures.cases.scenarios import SCENARIOS, Scenario
from fixtures.megatron_plan.exact_topology import narrow_model
from fixtures.megatron_plan.rosters import build_rosters
from tests.correctness.megatron_plan.extracted import differences, fake_rank_rosters


def roster_differences(scenario: Scenario, rank: int) -> list[str]:
    """Sentences on one rank; raises AssertionError where megatron-core extracts next to nothing."""
    model = narrow_model()
    mine = build_rosters(scenario, model, repairs=False)[rank]
    theirs = fake_rank_rosters(scenario, model, rank)
    assert sum(map(len, theirs)) > 30
    return [text for a, b in zip(mine, theirs, strict=True) for text in differences(a, b)]


def main() -> None:
    """Five ranks of each scenario: first, last and some of both sides."""
    ranks = {s.key: sorted({0, 7, 41, 64, s.world_size - 1}) for s in SCENARIOS}
    differing = [[s.key, rank, roster_differences(s, rank)] for s in SCENARIOS for rank in ranks[s.key]]
    print(json.dumps(differing))


if __name__ == "__main__":
    main()
