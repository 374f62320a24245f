"""Run Avalanche's own tests as they are, then with `TaskMasks` in the place of its models.

    python -m tests.avalanche.run [arguments of pytest]

The tests are those of the installed version's source distribution, which is downloaded from PyPI
once into `.cache`. What passes as it is has to pass with our models; the pytest plugin beside this
file swaps them, and names the exceptions.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.sdist import CACHE, unpacked

HERE = Path(__file__).resolve().parent

FILES = (
    "training/test_strategies",
    "training/test_strategies_accuracy",
    "training/test_plugins",
    "training/test_replay",
    "training/test_regularization",
    "training/test_online_strategies",
    "training/test_stream_completeness",
    "training/test_losses",
    "training/test_update_utils",
    "models/test_packnet",
    "models/test_helper_method",
    "models/test_dynamic_optimizers",
    "test_core",
    "test_loggers",
)
"""The test files that train or hold a model."""


def main(arguments: list[str]) -> int:
    """Run the tests twice and return the exit code of the second time."""
    folder = unpacked("avalanche-lib")
    paths = [str(Path("tests") / f"{name}.py") for name in FILES]
    chosen = [] if any(a.startswith("tests/") for a in arguments) else paths
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    options = ["-p", "avalanche_plugin", "-p", "no:cacheprovider", "-n0", "-q", "--tb=short"]
    command = [sys.executable, "-m", "pytest", *options, *chosen, *arguments]
    environment = os.environ | {
        "PYTHONPATH": path,
        "FAST_TEST": "true",
        "AVALANCHE_FAILURES": str(CACHE / "avalanche_failures.json"),
    }
    print("Avalanche's tests as they are", flush=True)
    plain = environment | {"AVALANCHE_MODELS": "theirs"}
    subprocess.run([*command, "-rfE"], cwd=folder, env=plain)
    print("Avalanche's tests with TaskMasks", flush=True)
    ours = environment | {"AVALANCHE_MODELS": "ours"}
    return subprocess.run([*command, "-rfEX"], cwd=folder, env=ours).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
