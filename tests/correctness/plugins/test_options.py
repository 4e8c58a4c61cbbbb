"""What the command line means for a run's cases."""

from types import SimpleNamespace

import pytest

from fixtures.cases.scenarios import find_scenarios
from fixtures.plugins.options import SETTINGS, _cases, _settings
from fixtures.refit.case import RunSettings
from fixtures.refit.devices import Devices


@pytest.mark.parametrize(
    ("engines", "snapshots"),
    [(None, False), (["direct", "package.module:Class"], False), (["direct", "delta"], True)],
)
def test_all_cases_of_a_run_with_delta_leave_memory_for_its_snapshot(
    pytestconfig: pytest.Config, engines: list[str] | None, snapshots: bool
) -> None:
    """So that the engines of one run refit the same model."""
    asked = SimpleNamespace(
        getoption=lambda name: engines if name == "engine" else pytestconfig.getoption(name)
    )
    assert _settings(asked, "cuda").snapshots is snapshots  # type: ignore[arg-type]


def test_a_case_that_is_named_twice_runs_once() -> None:
    asked = SimpleNamespace(
        stash={SETTINGS: RunSettings()},
        getoption=lambda name: ["packed", "packed"] if name == "engine" else None,
    )
    scenarios = find_scenarios(["s6", "s6", "s6-collocated", "s1"])
    cases = _cases(asked, scenarios, Devices(kind="cpu", ranks=8))  # type: ignore[arg-type]
    assert [(case.full.key, case.id.engine) for case in cases] == [("s6", "packed"), ("s1", "packed")]
