"""`CRLSpec`: everything that can be said about one run of continual reinforcement learning.

No torch is imported here, so that a sweep's driver can read and check a run at no cost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dstrl.runs.spec import METHOD, RLSpec
from dstrl.settings import SPLIT_KEYS, Settings
from dstrl.tasks.baselines import BASELINES
from dstrl.tasks.rules import supported
from envs.sequences import Task, sequence
from sparse_core.baselines import FINETUNE, Baseline
from sparse_core.checks import InputError, at_least, one_of
from sparse_core.config import SparseConfig
from sparse_core.naming import method_named

EVALUATIONS = 10
"""How many evaluations a task has while it is learnt unless `eval_every` says otherwise."""

SHARED = (
    "algo",
    "steps",
    "seed",
    "sparse",
    "actor_sparsity",
    "critic_sparsity",
    "actor_method",
    "critic_method",
    "n_envs",
    "net_arch",
    "eval_every",
    "eval_episodes",
    "plasticity",
    "hyper",
)
"""The fields that mean what they mean in `RLSpec`, for each task."""


SPLIT = tuple(name for name in SPLIT_KEYS if name in SHARED)
"""Those of them that tell actor and critic apart."""


def _usual() -> SparseConfig:
    return SparseConfig(dense=("input",), update_every=50)


@dataclass(frozen=True)
class CRLSpec:
    """A sequence of tasks learnt one after the other by one policy with a head for each task.

    Whatever is None comes from `dstrl/runs/tuned`: the values for the environment that the
    sequence's first task names.

    Attributes:
        sequence: One of `envs.sequences.SEQUENCES`, or `package.module:NAME` of a tuple of tasks of
            your own (`envs.sequences.Task`).
        algo: `ppo`, `a2c` or `dqn` for the discrete actions of CartPoles; `ppo`, `a2c`, `sac`,
            `td3` or `ddpg` for the continuous ones of Pendulums.
        steps: Environment steps of each task.
        seed: Seeds weights, masks, environments and exploration, each by a stream of its own.
        sparse: The sparsity of each task's network; its `seed` is mixed with the run's. Unless
            given, `dense` is `input`: each task has a first layer of its own under hard isolation.
            Layers are masked.
        actor_sparsity: Sparsity of the actor; None: that of `sparse`.
        critic_sparsity: Sparsity of the critic; None: that of `sparse`.
        actor_method: Method of the actor; None: that of `sparse`.
        critic_method: Method of the critic; None: that of `sparse`.
        isolation: `hard` keeps what a task has learnt, to the bit; `none` trains one trunk
            throughout; `apart`, of dense methods, gives each task a network of its own. None:
            `hard`, but `none` if the method is dense.
        share: Under hard isolation, whether a task may read weights of earlier ones (`reuse`) or
            has masks of its own (`none`). Otherwise it plays no part.
        baseline: One of `dstrl.tasks.baselines.BASELINES`, to compare sparse policies with; None:
            none. Method, isolation and sharing play no part then; with `tiny` and `independent` the
            sparsity says how small the dense policies are.
        alone: Learn each task alone too, which forward transfer is measured against; where tasks
            are apart they are.
        n_envs: Environments that are stepped together.
        net_arch: Widths of the hidden layers of each network.
        eval_every: Environment steps between evaluations; None: 10 evaluations of each task.
        eval_episodes: Episodes of an evaluation, each in an environment of its own.
        plasticity: Also measure at each evaluation how able to learn the networks still are
            (`dstrl.watching.plasticity`).
        hyper: Overrides of the algorithm's hyper-parameters.
    """

    sequence: str = "cartpole"
    algo: str = "ppo"
    steps: int = 20_000
    seed: int = 0
    sparse: SparseConfig = field(default_factory=_usual)
    actor_sparsity: float | None = None
    critic_sparsity: float | None = None
    actor_method: str | None = None
    critic_method: str | None = None
    isolation: str | None = None
    share: str = "none"
    baseline: str | None = None
    alone: bool = True
    n_envs: int | None = None
    net_arch: tuple[int, ...] | None = None
    eval_every: int | None = None
    eval_episodes: int = 10
    plasticity: bool = False
    hyper: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.net_arch is not None:
            object.__setattr__(self, "net_arch", tuple(self.net_arch))
        at_least("steps", self.steps, 1)
        if self.baseline is not None:
            one_of("baseline", self.baseline, BASELINES)
        if not isinstance(self.alone, bool):
            raise InputError(f"alone={self.alone!r}: must be true or false", field="alone")
        if self.net_arch == ():
            raise InputError(
                "net_arch=(): must have a hidden layer, there is nothing else that tasks can share",
                field="net_arch",
            )
        run = self.run
        self.settings()
        if run.resolve().hyper["normalize"]:
            raise InputError(
                "hyper.normalize=True: its statistics would be shared by all tasks",
                field="hyper.normalize",
            )

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks in their order."""
        return sequence(self.sequence)

    @property
    def run(self) -> RLSpec:
        """The run of a single task, whose environment only says which values are tuned for it."""
        given = {name: getattr(self, name) for name in SHARED}
        small = self.baseline_in_force is not None and self.baseline_in_force.size == "task"
        if self.baseline_in_force is not None and not small:
            given |= dict.fromkeys(SPLIT, None) | {"sparse": self.sparse.as_dense()}
        return RLSpec(env=self.tasks[0].tuned, compiled=False, tiny=small, **given)

    @property
    def baseline_in_force(self) -> Baseline | None:
        """The baseline; None: it is no run of one."""
        return None if self.baseline is None else BASELINES[self.baseline]

    @property
    def isolation_in_force(self) -> str:
        """The configured isolation, else the one that suits the methods."""
        if self.baseline_in_force is not None:
            return "apart" if self.baseline_in_force.apart else "none"
        names = [own or self.sparse.method for own in (self.actor_method, self.critic_method)]
        dense = not all(method_named(name).sparse for name in names)
        return self.isolation or ("none" if dense else "hard")

    def settings(self) -> Settings:
        """Return what the policy is told about sparsity."""
        settings = self.run.settings()
        if self.baseline is not None:
            return supported(settings.dense(), self.isolation_in_force, "none")
        return supported(settings, self.isolation_in_force, self.share)

    def in_force(self) -> dict[str, Any]:
        """Return the rules of actor and critic where they are two; see `RLSpec.in_force`.

        The method of a run with a baseline is called by the baseline's name.
        """
        if self.baseline is not None:
            return {"baseline": None, "isolation": None, METHOD: self.baseline}
        return {"baseline": None} | self.run.in_force()

    def resolve(self) -> CRLSpec:
        """Return the spec with everything spelled out, but for sparsities that are not split."""
        run = dataclasses.replace(
            self.run, eval_every=self.eval_every or max(1, self.steps // EVALUATIONS)
        ).resolve()
        found = ("n_envs", "net_arch", "eval_every", "hyper")
        values = {name: getattr(run, name) for name in found}
        return dataclasses.replace(self, isolation=self.isolation_in_force, **values)

    def canonical(self) -> CRLSpec:
        """Return the equal spec in one form: resolved, and nothing in it that plays no part."""
        spec = self.resolve()
        run = spec.run.canonical()
        split = {name: getattr(run, name) for name in SPLIT}
        return dataclasses.replace(
            spec,
            baseline=None if self.baseline == FINETUNE else self.baseline,
            sparse=dataclasses.replace(run.sparse, backend="masked"),
            share=self.share if spec.isolation == "hard" else "none",
            alone=self.alone or spec.isolation == "apart",
            **split,
        )
