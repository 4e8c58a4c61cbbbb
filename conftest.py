"""Registers the suite's plugins for every test below."""

import logging
import os

# counting GPUs through NVML leaves the driver untouched, so that ranks can still be forked (fixtures/ranks)
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

# megatron-core imports torch's extension builder, which complains where nvcc is installed and no GPU is
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)

pytest_plugins = [
    "fixtures.plugins.options",
    "fixtures.plugins.ranks",
    "fixtures.plugins.refit",
    "fixtures.plugins.records",
]
