"""Which policies an algorithm has, and the names that it knows them by."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec

from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from dstrl.policies import actor_critics, actor_value, q_network, simba, simba_value

Algorithm = type[BaseAlgorithm]
Policy = type[BasePolicy]

NAMES = ("SparseMlpPolicy", "SparseCnnPolicy", "SparseMultiInputPolicy")
"""For vectors, images and dictionaries; RecurrentPPO's are `SparseMlpLstmPolicy` and so on."""

SIMBA = "SparseSimbaPolicy"
"""For vectors, with residual networks, where an algorithm has it."""


@cache
def policies() -> Mapping[Algorithm, Mapping[str, Policy]]:
    """Return each algorithm's policies by name; sb3-contrib's too if it is installed."""
    table = _of_stable_baselines3()
    if find_spec("sb3_contrib") is not None:
        table |= _of_contrib()
    return table


def register() -> None:
    """Make the policies known to their algorithms by name."""
    for algorithm, named in policies().items():
        algorithm.policy_aliases.update(named)


def _named(*classes: Policy, names: tuple[str, ...] = NAMES) -> dict[str, Policy]:
    return dict(zip(names, classes, strict=True))


def _of_stable_baselines3() -> dict[Algorithm, dict[str, Policy]]:
    on_policy = _named(
        actor_value.SparseActorCriticPolicy,
        actor_value.SparseActorCriticCnnPolicy,
        actor_value.SparseMultiInputActorCriticPolicy,
    ) | {SIMBA: simba_value.SparseSimbaActorCriticPolicy}
    td3 = _named(
        actor_critics.SparseTD3Policy,
        actor_critics.SparseTD3CnnPolicy,
        actor_critics.SparseTD3MultiInputPolicy,
    ) | {SIMBA: simba.SparseSimbaTD3Policy}
    return {
        PPO: on_policy,
        A2C: on_policy,
        SAC: _named(
            actor_critics.SparseSACPolicy,
            actor_critics.SparseSACCnnPolicy,
            actor_critics.SparseSACMultiInputPolicy,
        )
        | {SIMBA: simba.SparseSimbaSACPolicy},
        TD3: td3,
        DDPG: td3,
        DQN: _named(
            q_network.SparseDQNPolicy,
            q_network.SparseDQNCnnPolicy,
            q_network.SparseDQNMultiInputPolicy,
        ),
    }


def _of_contrib() -> dict[Algorithm, dict[str, Policy]]:
    from sb3_contrib import QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO

    from dstrl.policies import contrib, simba_contrib

    lstm = ("SparseMlpLstmPolicy", "SparseCnnLstmPolicy", "SparseMultiInputLstmPolicy")
    return {
        TQC: _named(
            contrib.SparseTQCPolicy,
            contrib.SparseTQCCnnPolicy,
            contrib.SparseTQCMultiInputPolicy,
        )
        | {SIMBA: simba_contrib.SparseSimbaTQCPolicy},
        QRDQN: _named(
            contrib.SparseQRDQNPolicy,
            contrib.SparseQRDQNCnnPolicy,
            contrib.SparseQRDQNMultiInputPolicy,
        ),
        CrossQ: {
            "SparseMlpPolicy": contrib.SparseCrossQPolicy,
            SIMBA: simba_contrib.SparseSimbaCrossQPolicy,
        },
        TRPO: _named(
            contrib.SparseTRPOPolicy,
            contrib.SparseTRPOCnnPolicy,
            contrib.SparseTRPOMultiInputPolicy,
        ),
        RecurrentPPO: _named(
            contrib.SparseRecurrentPolicy,
            contrib.SparseRecurrentCnnPolicy,
            contrib.SparseRecurrentMultiInputPolicy,
            names=lstm,
        ),
        MaskablePPO: _named(
            contrib.SparseMaskablePolicy,
            contrib.SparseMaskableCnnPolicy,
            contrib.SparseMaskableMultiInputPolicy,
        ),
    }
