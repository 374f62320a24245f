"""Run Stable-Baselines3's own tests with sparse policies, masked and condensed.

    python -m tests.sb3.run [arguments of pytest]

The tests are those of the installed version's source distribution, which is downloaded from PyPI
once into `.cache`. The pytest plugin beside this file swaps the policies. `DSTRL_SB3_SPARSE` holds
other settings as JSON and makes it one run; `null` is Stable-Baselines3 as it is.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.sdist import run_tests

PLUGIN = Path(__file__).resolve().with_name("sb3_plugin.py")

SETTINGS = {"method": "rigl", "sparsity": 0.5, "update_every": 10}
BACKENDS = ("masked", "condensed")

FILES = (
    "callbacks",
    "cnn",
    "custom_policy",
    "deterministic",
    "dict_env",
    "distributions",
    "gae",
    "her",
    "identity",
    "n_step_replay",
    "predict",
    "run",
    "save_load",
    "sde",
    "spaces",
    "tensorboard",
    "train_eval_mode",
    "vec_check_nan",
    "vec_normalize",
)
"""The test files that train or hold a policy."""


def main(arguments: list[str]) -> int:
    """Run the tests and return pytest's exit code, the first that is not zero."""
    files = [f"test_{name}.py" for name in FILES]
    given = os.environ.get("DSTRL_SB3_SPARSE")
    codes = []
    for settings in [given] if given else [json.dumps(SETTINGS | {"backend": b}) for b in BACKENDS]:
        print(f"Stable-Baselines3's tests with sparse={settings}", flush=True)
        options = ["-c", "pyproject.toml", "-rfEX", *arguments]
        environment = {"DSTRL_SB3_SPARSE": settings}
        codes.append(run_tests("stable-baselines3", PLUGIN, files, options, environment))
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
