"""Run the own tests of Stable-Baselines3 or sb3-contrib with sparse policies, masked and condensed.

    python -m tests.sb3.run stable-baselines3 [arguments of pytest]
    python -m tests.sb3.run sb3-contrib [arguments of pytest]

The tests are all of the installed version's source distribution, which is downloaded from PyPI once
into `.cache`. The pytest plugin beside this file swaps the policies, and names the exceptions.
Vectors get the usual networks and then SimBa's. `DSTRL_SB3_SPARSE` holds other settings as JSON
instead of both backends, `null` is the package as it is; `DSTRL_SB3_NETWORK` names one of the
networks. Condensed layers are for the CPU, so a GPU is hidden.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from pathlib import Path

from tests.sdist import run_tests, test_files

PLUGIN = Path(__file__).resolve().with_name("sb3_plugin.py")

PACKAGES = ("stable-baselines3", "sb3-contrib")
SETTINGS = {"method": "rigl", "sparsity": 0.5, "update_every": 10}
BACKENDS = ("masked", "condensed")
NETWORKS = ("mlp", "simba")


def main(package: str, arguments: list[str]) -> int:
    """Run a package's tests and return pytest's exit code, the first that is not zero."""
    given, chosen = os.environ.get("DSTRL_SB3_SPARSE"), os.environ.get("DSTRL_SB3_NETWORK")
    sparse = [given] if given else [json.dumps(SETTINGS | {"backend": b}) for b in BACKENDS]
    codes = []
    for network, settings in itertools.product([chosen] if chosen else NETWORKS, sparse):
        print(f"The tests of {package} with {network} networks and sparse={settings}", flush=True)
        options = ["-c", "pyproject.toml", "-rfEX", *arguments]
        environment = {
            "DSTRL_SB3_SPARSE": settings,
            "DSTRL_SB3_NETWORK": network,
            "DSTRL_SB3_PACKAGE": package,
            "CUDA_VISIBLE_DEVICES": "",
        }
        codes.append(run_tests(package, PLUGIN, test_files(package), options, environment))
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    if sys.argv[1:2] == [] or sys.argv[1] not in PACKAGES:
        sys.exit(f"python -m tests.sb3.run {'|'.join(PACKAGES)} [arguments of pytest]")
    sys.exit(main(sys.argv[1], sys.argv[2:]))
