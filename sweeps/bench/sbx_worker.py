"""A process that trains agents of SBX, a block of steps at a time.

It reads one JSON object a line and answers with one. The first says what to train, and every other
how many steps; see `sweeps.bench.sbx`, which starts it. It imports nothing of ours that needs more
than Stable-Baselines3, which SBX needs anyway, so it runs in an environment that has no more.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import asdict
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.bench.learning import Learner

WARM_UP = 20
"""Steps in which JAX compiles."""


def learner(algo: str, net_arch: list[int], clock: str) -> Learner:
    """Return an agent of SBX that has been compiled."""
    from sweeps.bench.learning import FreeEnv, Learner, arguments

    kind: Any = getattr(importlib.import_module("sbx"), algo.upper())
    policy_kwargs = {"net_arch": net_arch}
    ready = Learner(
        kind("MlpPolicy", FreeEnv(), policy_kwargs=policy_kwargs, **arguments(algo)), clock
    )
    ready.block(WARM_UP)
    return ready


def main() -> None:
    """Answer until the input ends."""
    # What a library prints must not get among the answers.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1) as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        asked = json.loads(sys.stdin.readline())
        if find_spec("sbx") is None:
            print(json.dumps({"installed": False}), file=answers)
            return
        ready = learner(**asked)
        print(json.dumps({"installed": True}), file=answers)
        for line in sys.stdin:
            print(json.dumps(asdict(ready.block(json.loads(line)))), file=answers)


if __name__ == "__main__":
    main()
