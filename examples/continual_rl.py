"""Learn three CartPoles one after another with one sparse policy, and print what was kept.

python examples/continual_rl.py --steps 20000 --seeds 3
python examples/continual_rl.py --steps 20000 --seeds 3 --isolation none
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from dstrl.sequence import SequenceSpec, report, run_sequence
from dstrl.spec import RLSpec
from envs.sequences import SEQUENCES, sequence
from sparse_core.config import SparseConfig


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the seeds and print their table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sequence", default="cartpole", choices=list(SEQUENCES))
    parser.add_argument("--algo", default="ppo", choices=["ppo", "a2c", "dqn"])
    parser.add_argument("--steps", type=int, default=20_000, help="of each task")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--method", default="rigl")
    parser.add_argument("--sparsity", type=float, default=0.8)
    parser.add_argument("--isolation", default="hard", choices=["hard", "none"])
    parser.add_argument("--share", default="none", choices=["none", "reuse"])
    parser.add_argument("--no-baselines", action="store_true", help="learn no task alone")
    parser.add_argument("--json", type=Path, help="write all results here")
    given = parser.parse_args(arguments)
    # The first layer has four inputs only: it stays dense, and each task has its own.
    sparse = SparseConfig(
        method=given.method, sparsity=given.sparsity, dense=("input",), update_every=50
    )
    results = []
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        spec = SequenceSpec(
            RLSpec(
                algo=given.algo,
                steps=given.steps,
                seed=seed,
                sparse=sparse,
                eval_every=max(1, given.steps // 10),
            ),
            sequence(given.sequence),
            given.isolation,
            given.share,
            not given.no_baselines,
        )
        results.append(
            run_sequence(spec, lambda what, p, seed=seed: print(f"seed {seed}, {what}: {p:.3f}"))
        )
        if given.json:
            given.json.write_text(json.dumps(results) + "\n", encoding="utf-8")
    print(report(results))


if __name__ == "__main__":
    main()
