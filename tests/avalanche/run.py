"""Run Avalanche's own tests as they are, then with `TaskMasks` in the place of its models.

    python -m tests.avalanche.run [arguments of pytest]

The tests are those of the installed version's source distribution, which is downloaded from PyPI
once into `.cache`. What passes as it is has to pass with our models; the pytest plugin beside this
file swaps them, and names the exceptions.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.sdist import CACHE, run_tests

PLUGIN = Path(__file__).resolve().with_name("avalanche_plugin.py")

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
    files = [f"{name}.py" for name in FILES]
    common = {"FAST_TEST": "true", "AVALANCHE_FAILURES": str(CACHE / "avalanche_failures.json")}

    def run(whose: str, *options: str) -> int:
        environment = common | {"AVALANCHE_MODELS": whose}
        given = ["-n0", "--tb=short", *options, *arguments]
        return run_tests("avalanche-lib", PLUGIN, files, given, environment)

    print("Avalanche's tests as they are", flush=True)
    run("theirs", "-rfE")
    print("Avalanche's tests with TaskMasks", flush=True)
    return run("ours", "-rfEX")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
