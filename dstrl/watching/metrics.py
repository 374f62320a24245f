"""What `SparseCallback` logs: topology, how it moved, silent neurons, gradients, rank, operations.

Everything is read off the networks; nothing is drawn from a random stream.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

from dstrl.watching.losses import losses_of, samples_of, undisturbed_streams
from dstrl.watching.transitions import last_observed
from sparse_core import Engine
from sparse_core.metrics import (
    ActivationMeter,
    TopologyMeter,
    effective_rank,
    exploration,
    gradient_snr,
    neurons,
)
from sparse_core.metrics.changes import overall
from sparse_core.metrics.flops import FlopCounter, active_weights, trained_weights
from sparse_core.metrics.probing import undisturbed
from sparse_core.metrics.training_flops import Cost, seen_by, training_flops

SAMPLES = 256
"""Observations that silent neurons are looked for with."""

SNR_SAMPLES = 16
"""Samples whose gradients are compared."""

DORMANCY = (0.0, 0.025)
"""Thresholds of dormancy (Sokar et al. 2023)."""


def topology_numbers(engine: Engine, meter: TopologyMeter) -> dict[str, float]:
    """Describe the topology of one network and its last update.

    Args:
        engine: Of the network.
        meter: Has observed it since training began.
    """
    numbers: dict[str, float] = {"updates": engine.updates}
    if engine.tensors:
        numbers["itop_rs"] = exploration(engine).overall
    if engine.neurons.resets:
        numbers["n_reset"] = sum(engine.neurons.last.values())
    if meter.updates:
        last = overall(meter.last.values())
        numbers["n_dropped"] = last.dropped
        numbers["n_grown"] = last.grown
        numbers["n_ablated"] = last.ablated
        numbers["churn"] = last.churn
        numbers["divergence"] = last.divergence
        start = meter.since_start()
        sizes = {tensor.name: tensor.count() for tensor in engine.tensors}
        shared = sum(start[name].retained * size for name, size in sizes.items())
        numbers["overlap"] = shared / sum(sizes.values())
    return numbers


@dataclass(frozen=True)
class Flops:
    """Theoretical operations, with active weights only and with all.

    Attributes:
        act: To act once.
        act_dense: The same of the dense network.
        train: To train all networks on one sample, updates of the topology included.
        train_dense: The same of the dense networks.
    """

    act: int
    act_dense: int
    train: float
    train_dense: float

    @property
    def acting(self) -> float:
        """Sparse over dense to act; 1 where nothing is counted."""
        return self.act / self.act_dense if self.act_dense else 1.0

    @property
    def training(self) -> float:
        """Sparse over dense to train; 1 where nothing is counted."""
        return self.train / self.train_dense if self.train_dense else 1.0

    def result(self) -> dict[str, Any]:
        """Return the numbers as results hold them."""
        return {
            "sparse": self.act,
            "dense": self.act_dense,
            "training": {"sparse": self.train, "dense": self.train_dense},
        }


def active_neurons(engine: Engine) -> dict[str, float]:
    """Return the fraction of neurons with weights, and the number that no other neuron reads."""
    counts = neurons(engine)
    if not counts:
        return {}
    unread = [count.dead_output for count in counts if count.dead_output is not None]
    return {
        "active_frac": sum(count.active for count in counts) / sum(c.total for c in counts),
        "dead_out": sum(unread),
    }


def activity(model: BaseAlgorithm) -> dict[str, float]:
    """Return the fraction of dormant neurons of each network, on what was last observed."""
    policy: Any = model.policy
    batch = last_observed(model, SAMPLES)
    if batch is None:
        return {}
    with ExitStack() as stack:
        meters = {
            name: stack.enter_context(ActivationMeter(engine.root))
            for name, engine in policy.sparse_engines.items()
            if any(_is_activation(module) for module in engine.root.modules())
        }
        stack.enter_context(undisturbed(policy))
        policy.run_networks(*batch)
    return {
        f"{name}/dormant_{tau:g}": meter.dormancy(tau).fraction
        for name, meter in meters.items()
        for tau in DORMANCY
    }


def gradient_noise(model: BaseAlgorithm) -> dict[str, float]:
    """Return the signal-to-noise ratio of each network's gradient, the mean over its weights.

    It is that of single samples (Graesser et al. 2022, section 5), see `sparse_core.metrics`.
    Networks whose loss is not known, or without sparse weights that a gradient reaches, are absent.
    """
    policy: Any = model.policy
    losses = losses_of(model)
    if not losses or last_observed(model, 1) is None:
        return {}
    samples = samples_of(model, SNR_SAMPLES)
    found = {}
    for name, loss in losses.items():
        engine = policy.sparse_engines[name]
        if not engine.tensors or len(samples) < 2:
            continue
        with undisturbed_streams():
            ratios = gradient_snr(engine, loss, samples)
        sizes = {tensor.name: tensor.numel for tensor in engine.tensors}
        known = {layer: r.overall for layer, r in ratios.items() if np.isfinite(r.overall)}
        if known:
            weights = sum(sizes[layer] for layer in known)
            found[name] = sum(sizes[layer] * ratio for layer, ratio in known.items()) / weights
    return found


def representation_rank(model: BaseAlgorithm) -> float | None:
    """Return the effective rank of what the value network's last layer reads, on what was observed.

    It is the mean over critics; None where nothing was observed or no such layer is evident.
    """
    policy: Any = model.policy
    batch = last_observed(model, SAMPLES)
    engines = policy.sparse_engines
    name = next((name for name in ("q_net", "critic", "policy") if name in engines), None)
    if batch is None or name is None:
        return None
    root = engines[name].root
    heads = [layer.name for layer in engines[name].layers() if layer.role == "output"]
    if name == "policy":
        heads = [head for head in heads if "value_net" in head]
    ranks: list[int] = []

    def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(inputs[0], Tensor) and inputs[0].dim() == 2:
            ranks.append(effective_rank(inputs[0]))

    modules = [root.get_submodule(head.rpartition(".")[0]) for head in heads]
    handles = [module.register_forward_pre_hook(look) for module in modules]
    try:
        with undisturbed(policy):
            policy.run_networks(*batch)
    finally:
        for handle in handles:
            handle.remove()
    return float(np.mean(ranks)) if ranks else None


def flops_ratios(model: BaseAlgorithm) -> dict[str, float]:
    """Return operations relative to the dense networks: to act once, and to train on one sample."""
    found = flops(model)
    return {} if found is None else {"infer_ratio": found.acting, "train_ratio": found.training}


def flops(model: BaseAlgorithm) -> Flops | None:
    """Return the operations of a model's networks, as they are now; None before it has acted.

    Training counts each network that is trained by the formulas of
    `sparse_core.metrics.training_flops`; target networks are left out.
    """
    policy: Any = model.policy
    batch = last_observed(model, 1)
    if batch is None:
        return None
    engines = policy.sparse_engines.values()
    active: dict[str, int] = {}
    trained: dict[str, int] = {}
    for engine in engines:
        active |= active_weights(engine, policy)
        trained |= trained_weights(engine, policy)
    with FlopCounter(policy) as acting, undisturbed(policy):
        policy.act(batch[0])
    with FlopCounter(policy) as training, undisturbed(policy):
        policy.run_networks(*batch)
    layers = {layer.name: layer for layer in training.count(active).layers}
    backward = {layer.name: layer.sparse for layer in training.count(trained).layers}
    spent = whole = 3.0 * sum(layer.dense for name, layer in layers.items() if name not in active)
    for engine in engines:
        names = layers.keys() & active_weights(engine, policy).keys()
        dense = sum(layers[name].dense for name in names)
        cost = Cost(
            sum(layers[name].sparse for name in names),
            dense,
            engine.config.update_every,
            engine.config.gradient_steps,
            sum(backward[name] for name in names),
        )
        spent += training_flops(seen_by(engine.config), cost)
        whole += 3.0 * dense
    acted = acting.count(active)
    return Flops(acted.sparse, acted.dense, spent, whole)


def _is_activation(module: nn.Module) -> bool:
    return type(module).__module__.endswith("modules.activation")
