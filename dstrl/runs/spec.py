"""`RLSpec`: everything that can be said about one run of reinforcement learning.

This module imports no torch, so that a sweep's driver can read and check a run at no cost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from dstrl.runs import presets, prolonging, references
from dstrl.runs.hyperparameters import ALGORITHMS, check, defaults, is_tuned
from dstrl.runs.libraries import missing_for_wrappers, missing_library
from dstrl.seeds import derive
from dstrl.settings import SPLIT_KEYS, TARGET_RULES, Settings
from sparse_core.checks import InputError, at_least, one_of, positive, within
from sparse_core.config import SparseConfig

if TYPE_CHECKING:
    from envs.making import EnvBuilder

CONTRIB = ("tqc", "qrdqn", "trpo", "crossq", "ppo_lstm", "ppo_mask")
"""Algorithms, as rl-baselines3-zoo calls them, that have sparse policies but no runs."""

COMPILED = ("sac", "td3", "ddpg", "dqn", "ppo")
"""Algorithms whose gradient steps can be compiled."""

NETWORKS = ("mlp", "simba", "bro")
"""Kinds of networks; those behind the first are residual (`dstrl.policies.residual`)."""

EVALUATIONS = 20
"""How many evaluations a run has unless `eval_every` says otherwise."""

METHOD = "sparse.method"

OWN_FIELDS = ("steps", "n_envs", "net_arch")
"""Hyper-parameters that are fields of the spec and not part of `hyper`."""


def _automatic() -> SparseConfig:
    return SparseConfig(backend="auto")


@dataclass(frozen=True)
class RLSpec:
    """One run: an algorithm learns an environment with a sparse policy.

    Whatever is None comes from the tables in `dstrl/runs/tuned`: Stable-Baselines3's defaults,
    overridden by rl-baselines3-zoo's tuned values where there are some for the environment.

    Attributes:
        algo: One of `ALGORITHMS`.
        env: Gymnasium's id of the environment, `module:id` of one that a module registers, or
            `package.module:NAME` of a class or function that returns one.
        env_kwargs: Arguments of the environment.
        wrappers: What to wrap it with, the innermost first: `envs.wrappers.WRAPPERS` or
            `package.module:NAME`, Gymnasium's too (`gymnasium.wrappers:TimeLimit`).
        wrapper_kwargs: Arguments of wrappers, by the last part of a wrapper's name.
        steps: Environment steps.
        seed: Seeds weights, masks, environments and exploration, each by a stream of its own.
        sparse: How sparse the networks are; its `seed` is mixed with the run's, and its backend is
            `auto` unless given.
        actor_sparsity: Sparsity of the actor; None: that of `sparse`.
        critic_sparsity: Sparsity of the critic; None: that of `sparse`.
        actor_method: Method of the actor; None: that of `sparse`.
        critic_method: Method of the critic; None: that of `sparse`.
        actor_layer_sparsity: The actor's `layer_sparsity`; None: that of `sparse`.
        critic_layer_sparsity: The critic's `layer_sparsity`; None: that of `sparse`.
        target: How target networks follow, one of `TARGET_RULES`; None: the policy's default.
        tiny: Train dense networks instead, of as many weights as the sparse ones have active, see
            `dstrl.policies.tiny`.
        compiled: Compile gradient steps where that can be done, see `dstrl.compiled`; the
            algorithms of `COMPILED` only.
        noise: Fraction of the observation that is distractor features, in [0, 0.99]; they come
            on top of all wrappers.
        n_envs: Environments that are stepped together.
        network: One of `NETWORKS`; `simba` and `bro` are for vectors as observations, and not for
            DQN.
        net_arch: Widths of the hidden layers of each network, or of its residual blocks; None with
            residual networks: an actor of 128, a critic of 512, 512.
        features_extractor: `package.module:NAME` of a class of Stable-Baselines3's
            `BaseFeaturesExtractor`; None: the one that suits the observations.
        features_extractor_kwargs: Its arguments.
        optimizer: `package.module:NAME` of a class of torch optimizers, such as
            `sparse_core.optim:AdamW`; None: the algorithm's own.
        callbacks: `package.module:NAME` of callbacks of Stable-Baselines3, or of functions that
            return one; what a method `result` of theirs returns is part of the run's result.
        eval_every: Environment steps between evaluations; None: 20 evaluations.
        eval_episodes: Episodes of an evaluation, each in an environment of its own.
        plasticity: Also measure at each evaluation how able to learn the networks still are
            (`dstrl.watching.plasticity`); it takes about as long as a few training steps.
        hyper: Overrides of the algorithm's hyper-parameters.
        max_seconds: Training ends after so many seconds of CPU time, evaluations not counted, even
            if `steps` are not done; None: no limit. Schedules run over `steps` all the same.
        preset: A system whose values stand beneath those given: `dstrl.runs.presets.PRESETS` or the
            path of a YAML file like theirs. Grids, the command line and `RLSpec.of` put them in; a
            spec itself has none.
    """

    algo: str = "ppo"
    env: str = "CartPole-v1"
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[str, ...] = ()
    wrapper_kwargs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    steps: int | None = None
    seed: int = 0
    sparse: SparseConfig = field(default_factory=_automatic)
    actor_sparsity: float | None = None
    critic_sparsity: float | None = None
    actor_method: str | None = None
    critic_method: str | None = None
    actor_layer_sparsity: tuple[tuple[str, float], ...] | None = None
    critic_layer_sparsity: tuple[tuple[str, float], ...] | None = None
    target: str | None = None
    tiny: bool = False
    compiled: bool = True
    noise: float = 0.0
    n_envs: int | None = None
    network: str = "mlp"
    net_arch: tuple[int, ...] | None = None
    features_extractor: str | None = None
    features_extractor_kwargs: Mapping[str, Any] = field(default_factory=dict)
    optimizer: str | None = None
    callbacks: tuple[str, ...] = ()
    eval_every: int | None = None
    eval_episodes: int = 10
    plasticity: bool = False
    hyper: Mapping[str, Any] = field(default_factory=dict)
    max_seconds: float | None = None
    preset: str | None = None

    EXPAND_READS: ClassVar = presets.READS

    @classmethod
    def expand(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Put a preset's values beneath those that are given, see `dstrl.runs.presets.expand`."""
        return presets.expand(values, [item.name for item in dataclasses.fields(cls)])

    @classmethod
    def of(cls, **values: Any) -> RLSpec:
        """Make a spec from fields, `preset` among them; `sparse` may be a mapping of its fields.

        Raises:
            ValueError: On an unknown preset, or one that does not suit the algorithm.
        """
        fields = cls.expand(values)
        sparse = fields.get("sparse", {})
        if isinstance(sparse, Mapping):
            fields["sparse"] = dataclasses.replace(_automatic(), **sparse)
        return cls(**fields)

    def __post_init__(self) -> None:
        if self.algo in CONTRIB:
            raise InputError(
                f"algo={self.algo!r}: must be one of {', '.join(ALGORITHMS)}; for sb3-contrib's "
                "algorithms there are policies, for programs of your own (dstrl.policies.contrib)",
                field="algo",
            )
        one_of("algo", self.algo, ALGORITHMS)
        at_least("seed", self.seed, 0)
        if self.seed >= 2**32:
            raise InputError(f"seed={self.seed!r}: must be less than 2^32", field="seed")
        within("noise", self.noise, 0, 0.99)
        at_least("eval_episodes", self.eval_episodes, 1)
        for name in ("steps", "n_envs", "eval_every"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 1)
        if self.net_arch is not None:
            object.__setattr__(self, "net_arch", tuple(self.net_arch))
            for width in self.net_arch:
                at_least("net_arch", width, 1)
        for name in ("tiny", "compiled", "plasticity"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise InputError(f"{name}={value!r}: must be true or false", field=name)
        self._check_network()
        if self.max_seconds is not None:
            positive("max_seconds", self.max_seconds)
        if self.target is not None:
            one_of("target", self.target, TARGET_RULES)
        if self.preset is not None:
            raise InputError(
                f"preset={self.preset!r}: make the spec with RLSpec.of", field="preset"
            )
        self.settings()
        self._check_environment()
        self._check_references()
        own = [name for name in OWN_FIELDS if name in self.hyper]
        if own:
            raise InputError(
                f"hyper={own[0]!r}: is a field of the run itself, set {own[0]}", field="hyper"
            )
        check(self.algo, self.env, self.hyper)

    def _check_network(self) -> None:
        one_of("network", self.network, NETWORKS)
        if self.network == NETWORKS[0]:
            return
        if self.algo == "dqn":
            raise InputError(
                f"network={self.network!r}: algo 'dqn' has no residual networks, use 'mlp'",
                field="network",
            )
        if len(set(self.net_arch or ())) > 1:
            raise InputError(
                f"net_arch={list(self.net_arch or ())}: blocks of network {self.network!r} must "
                "have one width",
                field="net_arch",
            )

    @property
    def env_builder(self) -> EnvBuilder:
        """What makes the run's environments, but for the distractors of `noise`."""
        from envs.making import EnvBuilder

        return EnvBuilder.of(vars(self))

    def _check_environment(self) -> None:
        named = self.env_kwargs or self.wrappers or self.wrapper_kwargs
        if named or not is_tuned(self.algo, self.env):
            self.env_builder.check()
        object.__setattr__(self, "wrappers", tuple(self.wrappers))

    def _check_references(self) -> None:
        if not isinstance(self.callbacks, (list, tuple)):
            raise InputError(
                f"callbacks={self.callbacks!r}: must be a list of names", field="callbacks"
            )
        object.__setattr__(self, "callbacks", tuple(self.callbacks))
        for name in self.callbacks:
            references.check_callback(name)
        if self.optimizer is not None:
            references.optimizer(self.optimizer)
        if self.features_extractor is not None:
            references.features_extractor(self.features_extractor, self.features_extractor_kwargs)
        elif self.features_extractor_kwargs:
            raise InputError(
                f"features_extractor_kwargs={dict(self.features_extractor_kwargs)!r}: there is no "
                "features_extractor that takes them",
                field="features_extractor_kwargs",
            )

    def check_data(self) -> None:
        """Look for the libraries that the environment and its wrappers need.

        Raises:
            InputError: If one is missing, with the extra to install if it is one of this project's.
        """
        missing = missing_library(self.env)
        if missing is not None:
            raise InputError(f"env={self.env!r}: {missing}", field="env")
        missing = missing_for_wrappers(self.wrappers)
        if missing is not None:
            raise InputError(f"wrappers={list(self.wrappers)}: {missing}", field="wrappers")

    def settings(self) -> Settings:
        """Return what the policy is told about sparsity; masks are seeded by the run's seed."""
        own = {key: getattr(self, key) for key in SPLIT_KEYS}
        given = {key: value for key, value in own.items() if value is not None}
        seed = derive(self.seed, "sparse", self.sparse.seed)
        fields = {f.name: getattr(self.sparse, f.name) for f in dataclasses.fields(self.sparse)}
        return Settings.read(fields | {"seed": seed, "target": self.target} | given)

    @property
    def rounds(self) -> int:
        """How often networks are pruned and trained again; 0: they are trained once."""
        settings = self.settings()
        configs = (settings.actor, settings.critic)
        return max(config.rounds if config.facts.in_rounds else 0 for config in configs)

    def in_force(self) -> dict[str, Any]:
        """Return the rules of actor and critic where they are two, as `SparseConfig.in_force`.

        The method of a tiny run is called `tiny`.
        """
        settings = self.settings()
        if self.tiny:
            return {METHOD: "tiny"}
        if not settings.split:
            return {}
        actor, critic = settings.actor.in_force(), settings.critic.in_force()
        rules = {name: (rule or "none", critic[name] or "none") for name, rule in actor.items()}
        return {
            f"sparse.{name}": "/".join(map(str, pair)) if len(set(pair)) > 1 else actor[name]
            for name, pair in rules.items()
        }

    def resolve(self) -> RLSpec:
        """Return the spec with everything spelled out: no field is None, `hyper` is complete."""
        table = defaults(self.algo, self.env)
        own = {name: table.pop(name) for name in OWN_FIELDS}
        if self.network != NETWORKS[0]:
            own["net_arch"] = ()
        steps = self.steps or own["steps"]
        return dataclasses.replace(
            self,
            steps=steps,
            n_envs=self.n_envs or own["n_envs"],
            net_arch=tuple(own["net_arch"]) if self.net_arch is None else self.net_arch,
            eval_every=self.eval_every or max(1, steps // EVALUATIONS),
            wrapper_kwargs={name: given for name, given in self.wrapper_kwargs.items() if given},
            hyper=table | dict(self.hyper),
        )

    def canonical(self) -> RLSpec:
        """Return the equal spec in one form: resolved, and nothing in it that plays no part.

        The tuned values are part of it, so that a run's identity changes when they do.
        """
        spec = self.resolve()
        if self.algo not in COMPILED:
            spec = dataclasses.replace(spec, compiled=True)
        settings = self.settings()
        if not settings.actor.facts.sparse and not settings.critic.facts.sparse:
            unused: dict[str, Any] = dict.fromkeys((*SPLIT_KEYS, "target"), None)
            sparse = settings.actor.canonical()
            return dataclasses.replace(spec, sparse=sparse, tiny=False, **unused)
        if settings.split:
            return spec
        sparse = settings.static().actor if self.tiny else self.sparse.canonical()
        return dataclasses.replace(spec, sparse=dataclasses.replace(sparse, seed=self.sparse.seed))

    def part_of(self, longer: RLSpec) -> float | None:
        """Return what part of a longer run this one is, see `dstrl.runs.prolonging.part_of`."""
        return prolonging.part_of(self, longer)
