"""The delta kernels compiled for a CPU: their arithmetic, though not their races and bulk copies."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

from fixtures.engines.delta_kernels import SOURCE, WARPS

SHIM = Path(__file__).with_name("emulated.h")
COMPILER = shutil.which("g++")
KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\)\s*)?(\w+)\(([^)]*)\)')
LOADS = re.compile(
    r"__device__ __forceinline__ Vector load\(.*?(?=__device__ __forceinline__ u64 odd)", re.DOTALL
)
BULK = re.compile(r"#if __CUDA_ARCH__ >= 900.*?#else\n(.*?)#endif\n", re.DOTALL)
PLAIN = """
static Vector load(const void *p) { Vector v; memcpy(&v, p, 16); return v; }
static void store(void *p, const Vector &v) { memcpy(p, &v, 16); }
"""


class Emulated:
    """Launches kernels like a Module; `source` is the text of delta_kernel.cu, or of one with a fault."""

    def __init__(self, folder: Path, source: str = SOURCE.read_text()) -> None:
        text = BULK.sub(r"\1", LOADS.sub(PLAIN, source))
        text = text.replace("extern __shared__ __align__(128) u8 memory[];", "u8 *memory = dynamic_memory;")
        calls = [_call(name, parameters) for name, parameters in KERNEL.findall(source)]
        file, library = folder / "kernel.cpp", folder / "kernel.so"
        file.write_text("\n".join([f'#include "{SHIM}"', text, *calls]))
        flags = ["-O1", "-w", "-std=c++17", "-shared", "-fPIC", f"-DWARPS={WARPS}"]
        subprocess.run([COMPILER or "g++", *flags, "-o", library, file], check=True)
        self._library = ctypes.CDLL(str(library))

    def launch(
        self, name: str, blocks: int, threads: int, stream: int, *values: int, shared_bytes: int = 0
    ) -> None:
        """Run a kernel to its end."""
        del stream, shared_bytes
        getattr(self._library, f"run_{name}")(
            blocks, threads, (ctypes.c_uint64 * len(values))(*values), len(values)
        )


def _call(name: str, parameters: str) -> str:
    """A function that any kernel of 64-bit arguments is called through."""
    types = [re.sub(r"\w+$", "", parameter.strip()) for parameter in parameters.split(",")]
    passed = ", ".join(f"({kind})arguments[{i}]" for i, kind in enumerate(types))
    return (
        f"static void call_{name}() {{ {name}({passed}); }}\n"
        f'extern "C" void run_{name}(unsigned b, unsigned t, const uint64_t *v, unsigned n) '
        f"{{ run(call_{name}, b, t, v, n); }}"
    )
