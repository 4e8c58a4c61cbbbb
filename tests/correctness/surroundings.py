"""The environment of a pytest that a test runs."""

import os

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
