"""SAC's gradient step in Stable-Baselines3 with HalfCheetah's shapes: dense, masked, condensed.

    dst bench rl --json docs/results/rl_step.json

A step is `SAC.train(1, batch_size)`: sampling the replay buffer, the entropy coefficient, the
critics, the actor and the target networks, with Stable-Baselines3's own optimizers. Observations
have 17 numbers, actions 6; the buffer holds random transitions, so no simulator is needed.
Contestants are timed in turns. A ratio is the time of the dense step over that of the contestant;
updates of the topology, one in a hundred steps or fewer, are too rare to show in a median.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger

from dstrl import SparseSACPolicy
from sweeps.bench.command import exit_code, parser, set_threads
from sweeps.bench.timing import in_turns, machine

OBSERVATIONS, ACTIONS, BATCH = 17, 6, 256
CAPACITY = 4096
CASES = (((256, 256), 0.9), ((1024, 1024), 0.9), ((1024, 1024), 0.95))
SETTINGS = (("masked", 1), ("condensed", 1), ("condensed", 4))
METHOD = "srigl"


@dataclass(frozen=True)
class Record:
    """One measurement, as it is written to JSON."""

    algo: str
    net_arch: tuple[int, ...]
    sparsity: float
    method: str
    group: int
    backend: str
    median_ms: float
    ratio_to_dense: float


class Shapes(gym.Env[Any, Any]):
    """An environment that has HalfCheetah's spaces and nothing else."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (OBSERVATIONS,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (ACTIONS,), np.float32)


def agent(net_arch: tuple[int, ...], sparse: dict[str, Any] | None) -> SAC:
    """Make an agent with a buffer full of random transitions; `sparse=None` is plain SAC."""
    policy_kwargs: dict[str, Any] = {"net_arch": list(net_arch)}
    if sparse is not None:
        policy_kwargs["sparse"] = sparse
    model = SAC(
        "MlpPolicy" if sparse is None else SparseSACPolicy,
        Shapes(),
        policy_kwargs=policy_kwargs,
        buffer_size=CAPACITY,
        seed=0,
        device="cpu",
    )
    model.set_logger(Logger(None, []))
    random, buffer = np.random.default_rng(0), model.replay_buffer
    assert buffer is not None
    for array in (buffer.observations, buffer.next_observations, buffer.rewards):
        array[:] = random.standard_normal(array.shape)
    buffer.actions[:] = random.uniform(-1, 1, buffer.actions.shape)
    buffer.full = True
    return model


def measure(
    net_arch: tuple[int, ...], sparsity: float, rounds: int, clock: Callable[[], float]
) -> list[Record]:
    """Time the steps of one architecture and sparsity."""
    agents = {("dense", 1): agent(net_arch, None)}
    for backend, group in SETTINGS:
        sparse = dict(method=METHOD, sparsity=sparsity, backend=backend, group=group)
        agents[backend, group] = agent(net_arch, sparse)
    calls: dict[str, Callable[[], object]] = {
        f"{backend}:{group}": lambda model=model: model.train(1, BATCH)  # type: ignore[misc]
        for (backend, group), model in agents.items()
    }
    medians = in_turns(calls, rounds=rounds, block=0.05, clock=clock)
    records = []
    for backend, group in agents:
        dense = backend == "dense"
        median = medians[f"{backend}:{group}"] / 1000
        records.append(
            Record(
                "sac",
                net_arch,
                0.0 if dense else sparsity,
                "dense" if dense else METHOD,
                group,
                backend,
                round(median, 3),
                round(medians["dense:1"] / 1000 / median, 3),
            )
        )
    return records


def line(record: Record) -> str:
    """Return one record as text."""
    arch = "x".join(map(str, record.net_arch))
    return (
        f"{record.algo} {arch:>10s} {record.sparsity:5.0%} {record.backend:>10s} "
        f"group {record.group}: {record.median_ms:8.2f} ms  x{record.ratio_to_dense:.2f}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark, print a line for each measurement and write records."""
    chosen = parser("dst bench rl", __doc__).parse_args(arguments)
    set_threads(chosen.threads)
    print(json.dumps(machine(), indent=1), flush=True)
    records: list[Record] = []
    for net_arch, sparsity in CASES[:1] if chosen.quick else CASES:
        found = measure(
            net_arch,
            sparsity,
            5 if chosen.quick else chosen.rounds,
            time.perf_counter if chosen.clock == "wall" else time.thread_time,
        )
        print("\n".join(map(line, found)), flush=True)
        records += found
    if chosen.json is not None:
        partial = chosen.json.with_name(chosen.json.name + ".tmp")
        partial.write_text(json.dumps([asdict(record) for record in records], indent=1) + "\n")
        os.replace(partial, chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code("dst bench rl", main))
