"""Run the test suite under settings that stand for other processors.

    python -m tests.portable [arguments of pytest]

The linear algebra of old processors, narrower vectors in our own kernels, and four processes that
compete for two cores. What a test demands must hold in all of them; CONTRIBUTING.md has the rule.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from sparse_core.kernels import isa

SETTINGS: dict[str, tuple[dict[str, str], int]] = {
    "old linear algebra": ({"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default"}, 2),
    "256-bit vectors": ({isa.VECTOR_BITS_VARIABLE: "256"}, 2),
    "128-bit vectors": ({isa.VECTOR_BITS_VARIABLE: "128"}, 2),
    "four processes": ({}, 4),
}
"""Name -> environment variables, and processes that run tests."""


def possible(variables: dict[str, str]) -> bool:
    """Whether this machine's vectors are as wide as the variables ask for."""
    return int(variables.get(isa.VECTOR_BITS_VARIABLE, 0)) <= isa.host().lanes * 32


def main(arguments: list[str]) -> int:
    """Run the suite once for each setting; return pytest's exit code, the first that is not 0."""
    codes = []
    for name, (variables, processes) in SETTINGS.items():
        if not possible(variables):
            print(f"{name}: this machine has narrower ones, left out", flush=True)
            continue
        print(f"{name}: {' '.join(f'{k}={v}' for k, v in variables.items())}", flush=True)
        command = [sys.executable, "-m", "pytest", "-n", str(processes), *arguments]
        began = time.perf_counter()
        codes.append(subprocess.run(command, env=os.environ | variables).returncode)
        print(f"{name}: {time.perf_counter() - began:.0f} s, exit code {codes[-1]}", flush=True)
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
