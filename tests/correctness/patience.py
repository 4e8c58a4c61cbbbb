"""How long a test waits for what must come: only a hang lasts so long, so no verdict is a matter of speed."""

PATIENCE_S = 900.0
"""Seconds; longer than anything here takes while other work holds the cores."""
