"""What `refit-bench ledger` reads in the report of these tests."""

from collections.abc import Callable

import pytest


@pytest.fixture(autouse=True)
def note_the_defect(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """Name the defect that a test shows."""
    if (marker := request.node.get_closest_marker("defect")) is not None:
        record_property("defect", marker.args[0])
