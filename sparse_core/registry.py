"""The registries: methods, growth rules, drop rules and distributions by name.

A new rule is one line here and one function where the line points to. Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass

ROLES = ("input", "hidden", "output", "qkv")


@dataclass(frozen=True)
class GrowthRule:
    """Where a growth rule lives and what it needs to see.

    Attributes:
        function: Import string of the score function.
        needs: `nothing`, the dense `gradient` of the step before an update, its running
            `momentum`, or the gradient with the layer's inputs and outputs, `signals`.
        by_rows: Whether the scores of some rows follow from what a `Scene` shows of these rows, so
            that those of a large layer can be computed a block of rows at a time, in order.
        samples: Whether it looks at a sample of the gradient only, as many positions as there are
            active weights.
    """

    function: str
    needs: str = "nothing"
    by_rows: bool = False
    samples: bool = False


GROWTH_RULES = {
    "random": GrowthRule("sparse_core.updaters.scores:random", by_rows=True),
    "unfired": GrowthRule("sparse_core.updaters.scores:unfired", by_rows=True),
    "gradient": GrowthRule("sparse_core.updaters.scores:gradient", needs="gradient", by_rows=True),
    "momentum": GrowthRule("sparse_core.updaters.scores:momentum", needs="momentum", by_rows=True),
    "adam_momentum": GrowthRule(
        "sparse_core.updaters.scores:adam_momentum", needs="momentum", by_rows=True
    ),
    "importance": GrowthRule("sparse_core.updaters.scores:importance", needs="gradient"),
    "sampled": GrowthRule("sparse_core.updaters.sampling:uniform", needs="gradient", samples=True),
    "sampled_grabo": GrowthRule(
        "sparse_core.updaters.sampling:grabo", needs="signals", samples=True
    ),
    "sampled_graest": GrowthRule(
        "sparse_core.updaters.sampling:graest", needs="signals", samples=True
    ),
}

DROP_RULES = {
    "magnitude": "sparse_core.updaters.scores:magnitude",
    "signed": "sparse_core.updaters.scores:signed",
    "sensitivity": "sparse_core.updaters.scores:sensitivity",
    "magnitude_gradient": "sparse_core.updaters.scores:magnitude_gradient",
}
DROP_NEEDS_GRADIENT = ("sensitivity", "magnitude_gradient")

DISTRIBUTIONS = {
    "erk": "sparse_core.budgets.densities:erk",
    "er": "sparse_core.budgets.densities:er",
    "uniform": "sparse_core.budgets.densities:uniform",
}

BLIND = ("random", "unfired")
SIGHTED = ("gradient", "momentum", "adam_momentum")
SAMPLED = ("sampled", "sampled_grabo", "sampled_graest")


@dataclass(frozen=True)
class Method:
    """What a method is.

    Attributes:
        summary: What it does, in one line.
        updater: Import string of its updater; None if the topology never moves.
        growth: The growth rules that it can use, its own first.
        structure: Its own structure.
        starts_dense: Whether it prunes a dense network down to the budget.
        latent: Whether inactive weights keep a value of their own (and may be trained).
        needs_horizon: Whether its schedule is a function of the training's length.
        stops: Whether the topology is frozen at `stop_at`.
        drop: Its own drop rule.
        global_scope: Whether it can rank weights over all layers.
        every_step: Whether it updates the mask after every optimizer step.
    """

    summary: str
    updater: str | None = None
    growth: tuple[str, ...] = ()
    structure: str = "unstructured"
    starts_dense: bool = False
    latent: bool = False
    needs_horizon: bool = False
    stops: bool = True
    drop: str = "magnitude"
    global_scope: bool = False
    every_step: bool = False


METHODS = {
    "dense": Method("The network as it is, without a mask."),
    "static": Method("A random mask that never moves.", global_scope=True),
    "set": Method(
        "Drop the smallest weights, grow at random (SET, Mocanu et al. 2018).",
        "sparse_core.updaters.set:SET",
        (*BLIND, "importance"),
    ),
    "rigl": Method(
        "Drop the smallest weights, grow where the gradient is largest (RigL, Evci et al. 2020).",
        "sparse_core.updaters.rigl:RigL",
        SIGHTED,
    ),
    "rigl_itop": Method(
        "RigL whose topology moves until the end of training (ITOP, Liu et al. 2021).",
        "sparse_core.updaters.rigl:RigL",
        SIGHTED,
        stops=False,
    ),
    "srigl": Method(
        "RigL with constant fan-in and ablation of neurons (SRigL, Lasby et al. 2024).",
        "sparse_core.updaters.srigl:SRigL",
        SIGHTED,
        "constant_fan_in",
    ),
    "snfs": Method(
        "Grow by momentum, move weights between layers (SNFS, Dettmers and Zettlemoyer 2019).",
        "sparse_core.updaters.snfs:SNFS",
        ("momentum", "adam_momentum", "gradient"),
    ),
    "mest": Method(
        "Drop by magnitude and gradient, grow at random, with slack (MEST, Yuan et al. 2021).",
        "sparse_core.updaters.mest:MEST",
        BLIND,
        drop="magnitude_gradient",
    ),
    "gse": Method(
        "Grow from a guided sample of the gradient, then drop (GSE, Heddes et al. 2024).",
        "sparse_core.updaters.gse:GSE",
        SAMPLED,
        global_scope=True,
    ),
    "topkast": Method(
        "Use the largest weights, train somewhat more of them (Top-KAST, Jayakumar et al. 2020).",
        "sparse_core.updaters.topkast:TopKAST",
        latent=True,
        stops=False,
    ),
    "sr_ste": Method(
        "N:M patterns by a straight-through estimator that decays the rest (Zhou et al. 2021).",
        "sparse_core.updaters.sr_ste:SRSTE",
        latent=True,
        stops=False,
        every_step=True,
    ),
    "edge_popup": Method(
        "Train scores of fixed random weights, use the highest (Ramanujan et al. 2020).",
        "sparse_core.updaters.edge_popup:EdgePopup",
        latent=True,
        stops=False,
        every_step=True,
    ),
    "wsn": Method(
        "Train weights and their scores together, use the highest (WSN, Kang et al. 2022).",
        "sparse_core.updaters.edge_popup:WSN",
        latent=True,
        stops=False,
        every_step=True,
    ),
    "granet": Method(
        "Prune gradually, and regrow by gradient at every step of it (GraNet, Liu et al. 2021).",
        "sparse_core.updaters.granet:GraNet",
        SIGHTED,
        starts_dense=True,
        needs_horizon=True,
        global_scope=True,
    ),
    "gmp": Method(
        "Prune the smallest weights, cubically in time (GMP, Zhu and Gupta 2017).",
        "sparse_core.updaters.pruning:GMP",
        starts_dense=True,
        needs_horizon=True,
        global_scope=True,
    ),
    "one_shot": Method(
        "Prune the smallest weights, all at once.",
        "sparse_core.updaters.pruning:GMP",
        starts_dense=True,
        needs_horizon=True,
        global_scope=True,
    ),
}
