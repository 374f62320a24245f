"""Sparse weights that were never dense: of condensed layers, and of layers on the meta device.

A layer on the meta device has a shape and no memory. It gets a topology and weights of its own at
once (`sparse_core.layers.born`), so that nothing of the size of its matrix is ever made. One that
was born condensed has both already, and keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from sparse_core.budgets.patterns import ConstantFanIn
from sparse_core.budgets.selection import Selected
from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from sparse_core.layers.born import drawn_bias, drawn_pattern, drawn_values
from sparse_core.layers.condensed import CondensedLinear, store_condensed
from sparse_core.streams import stream
from sparse_core.weights.condensed import CondensedTensor
from sparse_core.weights.condensing import capacity_of


def check_born(
    module: nn.Module, sparse: Sequence[Selected], config: SparseConfig, *, scored: bool
) -> None:
    """Check that layers which were never dense can stay so, and that no others are without memory.

    Args:
        module: The network.
        sparse: Its weights that become sparse.
        config: What was asked for.
        scored: Whether first masks follow from scores.

    Raises:
        InputError: In one line that names the layer and the ways out.
    """
    born = [item for item in sparse if item.born]
    taken = {id(parameter) for item in born for parameter in item.layer.parameters(recurse=False)}
    for name, parameter in module.named_parameters():
        if parameter.is_meta and id(parameter) not in taken:
            raise InputError(
                f"parameter {name!r}: is on the meta device and has no condensed form; build its "
                "layer on the CPU"
            )
    for item in born:
        why = _why_not(item, config, scored)
        if why is not None:
            raise InputError(f"layer {item.name!r}: was born sparse, {why}")


def _why_not(item: Selected, config: SparseConfig, scored: bool) -> str | None:
    if not isinstance(item.layer, nn.Linear) or item.parent is not None:
        return "which linear layers can be only; build it on the CPU"
    if item.weight.dtype not in (torch.float32, torch.float64):
        return f"its dtype is {item.weight.dtype}, must be float32 or float64"
    if config.structure_in_force != "constant_fan_in":
        return (
            f"which needs structure='constant_fan_in'; {config.method!r} has "
            f"{config.structure_in_force!r} here"
        )
    if config.backend == "masked":
        return "which needs backend='condensed' or 'auto'"
    if config.needs_masks is not None:
        return config.needs_masks
    if scored or config.receptive_field is not None:
        field = "scores" if scored else "receptive_field"
        return f"so its first topology is random, {field} must be None"
    if config.density_moves:
        return f"method={config.method!r} would change how many weights it has"
    if not isinstance(item.layer, CondensedLinear):
        return None
    pattern = item.layer.pattern
    if any(item.matches(pattern) for pattern, _ in config.layer_sparsity):
        return "it has a fan-in already, layer_sparsity must leave it out"
    if pattern.fan_in is None or pattern.absent.size:
        return "its neurons must have one fan-in"
    if config.fan_in not in (None, pattern.fan_in):
        return f"its fan-in is {pattern.fan_in}, fan_in={config.fan_in} says otherwise"
    if config.group != pattern.group:
        return f"its groups have {pattern.group} neurons, group={config.group} says otherwise"
    return None


def born_tensor(
    item: Selected, config: SparseConfig, structure: ConstantFanIn, budget: int
) -> CondensedTensor:
    """Return the sparse weight of a layer that was never dense, with a first topology and weights.

    Args:
        item: What `check_born` has checked.
        config: Seeds and initialisation.
        structure: Its structure.
        budget: Its active weights.
    """
    layer, dense = item.layer, item.weight
    assert isinstance(layer, nn.Linear)
    if not isinstance(layer, CondensedLinear):
        _draw(item, layer, config, structure, budget)
    assert isinstance(layer, CondensedLinear)
    tensor = CondensedTensor(item.name, layer, item.parameter, item.role, structure, budget)
    tensor.may_ablate = config.ablates and item.role not in config.never_ablate
    room = capacity_of(tensor, config.slack)
    if room > layer.values.numel():
        values = layer.values.new_zeros(room, requires_grad=False)
        values[: layer.values.numel()] = layer.values.detach()
        store_condensed(layer, layer.pattern, values)
    layer.values.requires_grad_(dense.requires_grad)
    if layer.values is not dense:
        tensor.stand_for(dense)
    tensor.refresh()
    return tensor


def _draw(
    item: Selected, layer: nn.Linear, config: SparseConfig, structure: ConstantFanIn, budget: int
) -> None:
    """Give a layer on the meta device its first topology, weights and bias."""
    rows, cols, name, dtype = item.rows, item.cols, item.name, item.weight.dtype
    lengths = structure.capacity(budget, rows, cols).numpy()
    generator = stream(config.seed, "mask", 0, name)
    pattern = drawn_pattern((rows, cols), lengths, structure.group, generator)
    generator = stream(config.seed, "initialisation", 0, name)
    values = drawn_values(pattern, config.initialisation, generator, dtype)
    bias = layer.bias
    store_condensed(layer, pattern, values)
    if bias is not None and bias.is_meta:
        drawn = drawn_bias((rows, cols), stream(config.seed, "bias", 0, name), dtype)
        # In place, so that optimizers which were made before train it.
        torch.utils.swap_tensors(bias, nn.Parameter(drawn, bias.requires_grad))  # type: ignore[no-untyped-call]
