"""The registries: methods, growth rules, drop rules and distributions by name.

A new rule is one line here and one function where the line points to; a new method is one entry
here and its updater. Nothing here imports torch. `sparse_core.naming` finds what a name stands for.
"""

from __future__ import annotations

from sparse_core.method import Method

ROLES = ("input", "hidden", "output", "qkv")

GROWTH_RULES = {
    "random": "sparse_core.updaters.scores:random",
    "unfired": "sparse_core.updaters.scores:unfired",
    "gradient": "sparse_core.updaters.scores:gradient",
    "momentum": "sparse_core.updaters.scores:momentum",
    "adam_momentum": "sparse_core.updaters.scores:adam_momentum",
    "importance": "sparse_core.updaters.scores:importance",
    "epitopological": "sparse_core.updaters.epitopology:epitopological",
    "epitopological_soft": "sparse_core.updaters.epitopology:epitopological_soft",
    "candidates": "sparse_core.updaters.candidates:candidates",
    "sampled": "sparse_core.updaters.sampling:uniform",
    "sampled_grabo": "sparse_core.updaters.sampling:grabo",
    "sampled_graest": "sparse_core.updaters.sampling:graest",
}

DROP_RULES = {
    "magnitude": "sparse_core.updaters.scores:magnitude",
    "signed": "sparse_core.updaters.scores:signed",
    "sensitivity": "sparse_core.updaters.scores:sensitivity",
    "magnitude_gradient": "sparse_core.updaters.scores:magnitude_gradient",
    "soft_magnitude": "sparse_core.updaters.epitopology:soft_magnitude",
}

DISTRIBUTIONS = {
    "erk": "sparse_core.budgets.densities:erk",
    "er": "sparse_core.budgets.densities:er",
    "uniform": "sparse_core.budgets.densities:uniform",
}

BLIND = ("random", "unfired")
EPITOPOLOGICAL = ("epitopological_soft", "epitopological")
SIGHTED = ("gradient", "momentum", "adam_momentum")
LIKELY = (*SIGHTED, "candidates")
SAMPLED = ("sampled", "sampled_grabo", "sampled_graest")
ABLATION = ("ablation", "ablation_threshold", "ablation_sticky")
DENSITY = ("initial_sparsity", "prune_from", "density_curve")

DENSE_METHOD = "dense"
"""The name for all methods that leave the network dense, in a configuration's canonical form."""

METHODS = {
    DENSE_METHOD: Method(
        "The network as it is, without a mask.", drop=None, moves="nowhere", sparse=False
    ),
    "static": Method(
        "A random mask that never moves.", drop=None, moves="nowhere", global_scope=True
    ),
    "ticket": Method(
        "Train, prune, rewind and train again (lottery tickets, Frankle and Carbin 2019).",
        drop=None,
        structures=("unstructured",),
        moves="nowhere",
        fields=("rounds", "rewind_step"),
        in_rounds=True,
        needs_masks=True,
        global_scope=True,
    ),
    "ticket_reinit": Method(
        "A lottery ticket's mask, trained with new weights (its control, Frankle and Carbin 2019).",
        drop=None,
        structures=("unstructured",),
        moves="nowhere",
        fields=("rounds", "rewind_step"),
        in_rounds=True,
        redraws=True,
        needs_masks=True,
        global_scope=True,
    ),
    "set": Method(
        "Drop the smallest weights, grow at random (SET, Mocanu et al. 2018).",
        updater="sparse_core.updaters.set:SET",
        growth=(*BLIND, "importance", *EPITOPOLOGICAL),
        fields=DENSITY,
    ),
    "rigl": Method(
        "Drop the smallest weights, grow where the gradient is largest (RigL, Evci et al. 2020).",
        updater="sparse_core.updaters.rigl:RigL",
        growth=LIKELY,
        fields=DENSITY,
    ),
    "rigl_itop": Method(
        "RigL whose topology moves until the end of training (ITOP, Liu et al. 2021).",
        updater="sparse_core.updaters.rigl:RigL",
        growth=LIKELY,
        fields=DENSITY,
        stops=False,
    ),
    "srigl": Method(
        "RigL with constant fan-in and ablation of neurons (SRigL, Lasby et al. 2024).",
        updater="sparse_core.updaters.srigl:SRigL",
        growth=LIKELY,
        structure="constant_fan_in",
        structures=("constant_fan_in",),
        moves="between lanes",
        fields=(*ABLATION, *DENSITY),
    ),
    "snfs": Method(
        "Grow by momentum, move weights between layers (SNFS, Dettmers and Zettlemoyer 2019).",
        updater="sparse_core.updaters.snfs:SNFS",
        growth=("momentum", "adam_momentum", "gradient"),
        structures=("unstructured",),
        moves="between layers",
    ),
    "mest": Method(
        "Drop by magnitude and gradient, grow at random, with slack (MEST, Yuan et al. 2021).",
        updater="sparse_core.updaters.mest:MEST",
        growth=BLIND,
        drop="magnitude_gradient",
        fields=("slack", *DENSITY),
    ),
    "chts": Method(
        "Grow by the shape of the network, without gradients (CHTs, Zhang et al. 2025).",
        updater="sparse_core.updaters.chts:CHTs",
        growth=EPITOPOLOGICAL,
        drop="soft_magnitude",
        fields=DENSITY,
    ),
    "ne": Method(
        "Grow by gradient, drop weights of neurons that do not fire (NE, Liu et al. 2025).",
        updater="sparse_core.updaters.expansion:NeuroplasticExpansion",
        growth=SIGHTED,
        structures=("unstructured",),
        fields=(*DENSITY, "dormant_threshold"),
        begins=0.5,
        needs_horizon=True,
    ),
    "tar": Method(
        "A random mask to which a small reserve is added once (TAR, Jin et al. 2026).",
        updater="sparse_core.updaters.revival:TAR",
        growth=BLIND,
        structures=("unstructured",),
        fields=("initial_sparsity", "prune_from"),
        begins=0.95,
        prunes_once=True,
        needs_horizon=True,
    ),
    "gse": Method(
        "Grow from a guided sample of the gradient, then drop (GSE, Heddes et al. 2024).",
        updater="sparse_core.updaters.gse:GSE",
        growth=SAMPLED,
        structures=("unstructured", "constant_fan_in"),
        moves="between lanes",
        samples=True,
        global_scope=True,
    ),
    "topkast": Method(
        "Use the largest weights, train somewhat more of them (Top-KAST, Jayakumar et al. 2020).",
        updater="sparse_core.updaters.topkast:TopKAST",
        drop=None,
        fields=("backward_sparsity", "penalty"),
        latent=True,
        stops=False,
    ),
    "sr_ste": Method(
        "N:M patterns by a straight-through estimator that decays the rest (Zhou et al. 2021).",
        updater="sparse_core.updaters.sr_ste:SRSTE",
        drop=None,
        structures=("N:M",),
        fields=("penalty",),
        latent=True,
        stops=False,
        every_step=True,
    ),
    "rnm": Method(
        "N:M patterns of the largest weights, chosen anew now and then (RNM, Vrce et al. 2026).",
        updater="sparse_core.updaters.rnm:RNM",
        drop=None,
        structures=("N:M",),
        latent=True,
        stops=False,
    ),
    "edge_popup": Method(
        "Train scores of fixed random weights, use the highest (Ramanujan et al. 2020).",
        updater="sparse_core.updaters.edge_popup:EdgePopup",
        drop=None,
        latent=True,
        adds_parameters=True,
        stops=False,
        every_step=True,
    ),
    "wsn": Method(
        "Train weights and their scores together, use the highest (WSN, Kang et al. 2022).",
        updater="sparse_core.updaters.edge_popup:WSN",
        drop=None,
        latent=True,
        adds_parameters=True,
        stops=False,
        every_step=True,
    ),
    "granet": Method(
        "Prune gradually, and regrow by gradient at every step of it (GraNet, Liu et al. 2021).",
        updater="sparse_core.updaters.granet:GraNet",
        growth=SIGHTED,
        structures=("unstructured",),
        moves="between lanes",
        fields=DENSITY,
        starts_dense=True,
        needs_horizon=True,
        global_scope=True,
    ),
    "gmp": Method(
        "Prune the smallest weights gradually (GMP, Zhu and Gupta 2017).",
        updater="sparse_core.updaters.pruning:GMP",
        fields=DENSITY,
        starts_dense=True,
        needs_horizon=True,
        global_scope=True,
    ),
    "one_shot": Method(
        "Prune the smallest weights, all at once.",
        updater="sparse_core.updaters.pruning:GMP",
        fields=DENSITY,
        starts_dense=True,
        prunes_once=True,
        needs_horizon=True,
        global_scope=True,
    ),
}


def owned_fields() -> set[str]:
    """Return the fields of `SparseConfig` that mean something to some methods and not to all."""
    return {field for method in METHODS.values() for field in method.fields}
