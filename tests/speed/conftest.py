"""The projects of their own in which the control plane is timed are those of its tests."""

from tests.correctness.ranks.conftest import inner, project

__all__ = ["inner", "project"]
