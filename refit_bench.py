"""The console script `refit-bench`: `python -m tools` of the checkout that it was installed from."""

import sys
from pathlib import Path


def main() -> int:
    """Run a command; SystemExit with one sentence where there is no checkout."""
    root = Path(__file__).resolve().parent
    if not (root / "tools" / "__main__.py").is_file():
        raise SystemExit("refit-bench runs from a checkout: install it there with `pip install --editable .`")
    sys.path.insert(0, str(root))
    from tools.__main__ import main as run

    return run(sys.argv[1:])
