"""Registers the suite's plugins for every test below."""

import os

# counting GPUs through NVML leaves the driver untouched, so that ranks can still be forked (fixtures/ranks)
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

pytest_plugins = [
    "fixtures.plugins.options",
    "fixtures.plugins.ranks",
    "fixtures.plugins.refit",
    "fixtures.plugins.records",
]
