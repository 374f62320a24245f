"""Reinforcement learning, whole steps of the environment with all that is done at each.

    dst bench rl --json docs/results/rl_step.json

`learn()` of Stable-Baselines3's SAC, TD3 and PPO: acting, the buffer, the gradient step, the
optimizers, updates of the topology. The environment has HalfCheetah's sizes, 17 observed numbers
and 6 actions, and costs next to nothing, so no simulator is needed; replay buffers hold random
transitions. Contestants are dense, masked and condensed networks, the compiled training step, and
SBX, the JAX sister of Stable-Baselines3, with dense networks (extra `peers`; it has a process of
its own). They take turns of 20 steps, PPO of one rollout. Records `learn` are milliseconds of a
step of the environment; records `train` of a gradient step alone, of PPO's update phase. A median
leaves out updates of the topology, one in a hundred gradient steps; a mean has them, as whole
hundreds of steps are timed. `sac-simba-90` is SAC with SimBa's networks, actor 128 x 1 and critics
512 x 2 (SBX has none); `simba` is the critic of SimBa by itself, 512 x 2 and 128 x 1: forward and
backward pass and AdamW's step.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from sweeps.bench.command import Parser, exit_code, parser, set_threads
from sweeps.bench.learning import Times
from sweeps.bench.rl_cases import CASES, METHOD, Case
from sweeps.bench.rl_records import Record, line, records, write
from sweeps.bench.timing import machine

STEPS = 20
"""Environment steps of a turn."""

INTERVAL = 100
"""Gradient steps between two updates of the topology, the default."""

NAMES = ("sac", "td3", "ppo", *(case.name for case in CASES), "simba")
"""What `--cases` takes: all of an algorithm's, or one."""


class Turns(Protocol):
    """Whoever learns in turns."""

    def block(self, steps: int) -> Times:
        """Learn for so many environment steps."""


def measure(
    case: Case, chosen: Sequence[str], rounds: int, clock: str, threads: int, peer: str | None
) -> list[Record]:
    """Time the contestants of one case in turns.

    Args:
        case: What to train.
        chosen: Names of contestants, `dense` among them.
        rounds: Turns of each.
        clock: Name of a clock of `sweeps.bench.learning.CLOCKS`.
        threads: Threads of all contestants.
        peer: Interpreter that has SBX; None: this one.
    """
    from sweeps.bench.agents import CONTESTANTS, compiled, learner
    from sweeps.bench.sbx import INSTALL, SbxLearner

    with ExitStack() as opened:
        ready: dict[str, Turns] = {}
        for name in chosen:
            contestant = CONTESTANTS[name]
            if contestant.net_arch and contestant.net_arch >= case.net_arch:
                continue
            if case.network != "mlp" and (contestant.net_arch or contestant.library == "sbx"):
                continue
            if contestant.library == "dstrl" and compiled(case.algo) is None:
                continue
            if contestant.library == "sbx":
                try:
                    other = SbxLearner(case.algo, case.net_arch, clock, threads, peer)
                except ImportError:
                    print(f"sbx: {INSTALL}", flush=True)
                    continue
                opened.callback(other.close)
                ready[name] = other
            else:
                ready[name] = learner(case, contestant, METHOD, clock)
        times = in_turns(ready, rounds, {n for n in ready if CONTESTANTS[n].backend != "dense"})
        for name, turns in ready.items():
            why = getattr(getattr(turns, "model", None), "uncompiled", None)
            if why is not None:
                print(f"{name}: was not compiled, since {why}", flush=True)
    return [*records(case, "learn", times), *records(case, "train", times)]


def in_turns(ready: Mapping[str, Turns], rounds: int, sparse: Collection[str]) -> dict[str, Times]:
    """Let learners take turns, after a turn that does not count; sparse ones meet an update in it.

    Args:
        ready: Learners by name.
        rounds: Turns of each.
        sparse: Names of those whose topology moves.
    """
    for name, learner in ready.items():
        learner.block(INTERVAL if name in sparse else STEPS)
    times = {name: Times([], []) for name in ready}
    for _ in range(rounds):
        for name, learner in ready.items():
            spent = learner.block(STEPS)
            times[name].steps.extend(spent.steps)
            times[name].trains.extend(spent.trains)
    return times


def options() -> Parser:
    """Return the command line."""
    from sweeps.bench.agents import CONTESTANTS

    made = parser("dst bench rl", __doc__)
    made.add_argument(
        "--cases", nargs="+", choices=NAMES, default=NAMES, metavar="CASE",
        help=f"some of {', '.join(NAMES)}; default: all",
    )  # fmt: skip
    made.add_argument(
        "--contestants", nargs="+", choices=tuple(CONTESTANTS), default=tuple(CONTESTANTS),
        metavar="NAME", help=f"some of {', '.join(CONTESTANTS)}, beside dense; default: all",
    )  # fmt: skip
    made.add_argument(
        "--peer-python", metavar="FILE", help="Python of an environment that has sbx-rl"
    )
    return made


def measured(given: Any) -> Iterator[list[Record]]:
    """Yield the records of each case that was asked for."""
    rounds = 5 if given.quick else given.rounds
    chosen = ["dense", *(name for name in given.contestants if name != "dense")]
    cases = [case for case in CASES if {case.algo, case.name} & {*given.cases}]
    for case in cases[:1] if given.quick else cases:
        # A turn of PPO is a rollout, of 320 gradient steps.
        turns = -(-rounds // 3) if case.algo == "ppo" else -(-rounds // 5) * 5
        yield measure(case, chosen, turns, given.clock, given.threads, given.peer_python)
    if "simba" in given.cases:
        from sweeps.bench.simba import SIZES
        from sweeps.bench.simba import measure as measure_critic

        for size in SIZES:
            yield measure_critic(size, rounds, given.clock)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark, print a line for each measurement and write records."""
    given = options().parse_args(arguments)
    set_threads(given.threads)
    from sweeps.bench.peak import limits

    print(json.dumps(machine() | limits(given.threads).facts(), indent=1), flush=True)
    everything: list[Record] = []
    for found in measured(given):
        print("\n".join(map(line, found)), flush=True)
        everything += found
    if given.json is not None:
        write(given.json, everything)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code("dst bench rl", main))
