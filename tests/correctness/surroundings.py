"""What surrounds a pytest that a test runs: its environment, and the JUnit file that it leaves."""

import os
import xml.etree.ElementTree as ET
from pathlib import Path

OF_A_LAUNCHER = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_",
    "MASTER_",
    "SLURM_",
    "OMPI_",
    "PMI",
    "TORCHELASTIC_",
    "PYTEST_",
    "REFIT_",
)


def clean_environment(**extra: str) -> dict[str, str]:
    """This process's environment without GPUs, or anything a launcher or an outer pytest has set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OF_A_LAUNCHER)}
    return {**kept, "COLUMNS": "200", "CUDA_VISIBLE_DEVICES": "", **extra}


def read_junit(path: Path) -> dict[str, tuple[str, str]]:
    """Case name -> (outcome, message and text) from a JUnit file; {} when there is none."""
    if not path.exists():
        return {}
    cases: dict[str, tuple[str, str]] = {}
    for case in ET.parse(path).getroot().iter("testcase"):
        names = {"failure": "failed", "error": "error", "skipped": "skipped"}
        found = [(names[child.tag], child) for child in case if child.tag in names]
        outcome, child = found[0] if found else ("passed", None)
        text = "" if child is None else f"{child.get('message')}\n{child.text or ''}"
        cases[case.get("name", "")] = (outcome, text)
    return cases
