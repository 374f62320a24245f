"""Learn environments of your own one after another, in an ordinary Stable-Baselines3 program.

python examples/continual_rl.py --steps 20000

Each task has its own masks on the trunk and its own heads; when it has ended, it acts as it did, to
the bit, whatever is learnt after it. The same on a command line, with metrics: `dst train crl`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from dstrl import ContinualActorCriticPolicy, SparseCallback
from dstrl.tasks.switching import begin_task
from sparse_core import InputError


class Mirrored(gym.ActionWrapper[Any, Any, Any]):
    """Left is right and right is left."""

    def action(self, action: Any) -> Any:
        """Swap the two actions."""
        return 1 - action


def upright() -> gym.Env[Any, Any]:
    """Make the first task."""
    return gym.make("CartPole-v1")


def mirrored() -> gym.Env[Any, Any]:
    """Make the second task."""
    return Mirrored(gym.make("CartPole-v1"))


TASKS = (upright, mirrored)


def main(arguments: Sequence[str] | None = None) -> None:
    """Learn the tasks, and print what the policy earns on each after each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=20_000, help="of each task")
    parser.add_argument("--sparsity", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    # The first layer has four inputs only: it stays dense, and each task has its own.
    sparse = dict(method="rigl", sparsity=given.sparsity, dense=("input",), update_every=50)
    model = PPO(
        ContinualActorCriticPolicy,
        make_vec_env(TASKS[0], n_envs=8),
        n_steps=32,
        batch_size=256,
        n_epochs=20,
        gae_lambda=0.8,
        gamma=0.98,
        learning_rate=0.003,
        policy_kwargs={"sparse": sparse},
        seed=given.seed,
        device="cpu",
    )
    for label, make in enumerate(TASKS):
        begin_task(model, label, make_vec_env(make, n_envs=8, seed=given.seed))
        model.learn(given.steps, callback=SparseCallback())
        model.policy.end_task()
        for seen in range(label + 1):
            env = Monitor(TASKS[seen]())
            env.reset(seed=given.seed)
            with model.policy.task(seen):
                mean, _ = evaluate_policy(model, env, n_eval_episodes=5)
            print(f"after task {label}: return {mean:.1f} on task {seen}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:  # such as a sparsity that leaves no room for the second task
        print(f"continual_rl.py: {error}", file=sys.stderr)
        sys.exit(2)
