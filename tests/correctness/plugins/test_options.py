"""What the command line means for a run's cases."""

from types import SimpleNamespace

import pytest

from fixtures.plugins.options import _settings


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
