"""Registers the suite's plugins for every test below."""

import logging
import sys

from fixtures.cases.checkout import use_checkout
from fixtures.cases.errors import CaseError

if sys.version_info < (3, 12):  # noqa: UP036 (a bare pytest may be started with any interpreter)
    raise SystemExit(f"megatron-core 0.19 needs Python >= 3.12, this is {sys.version.split()[0]}")

try:
    use_checkout()
except CaseError as error:
    raise SystemExit(str(error)) from None

# megatron-core imports torch's extension builder, which complains where nvcc is installed and no GPU is
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)

pytest_plugins = [
    "fixtures.plugins.gpu",
    "fixtures.plugins.ranks",
    "fixtures.plugins.options",
    "fixtures.plugins.progress",
    "fixtures.plugins.terminal",
    "fixtures.plugins.gate",
    "fixtures.plugins.resume",
    "fixtures.plugins.workers",
    "fixtures.plugins.records",
]
