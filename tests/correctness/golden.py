"""Hold a text against a committed file."""

from pathlib import Path


def assert_golden(text: str, golden: Path, scratch: Path) -> None:
    """Fail with the copy command that accepts the new text when `text` is not what `golden` holds."""
    if golden.exists() and golden.read_text(encoding="utf-8") == text:
        return
    fresh = scratch / golden.name
    fresh.write_text(text, encoding="utf-8")
    raise AssertionError(f"output changed; look: diff {golden} {fresh}; accept: cp {fresh} {golden}")
