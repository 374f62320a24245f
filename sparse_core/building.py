"""`sparsify`: makes a module sparse, in place."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_core import unknown_optimizers
from sparse_core.averages import watch_averages
from sparse_core.budgets.distributions import budgets, budgets_by_score
from sparse_core.budgets.patterns import ConstantFanIn, Unstructured, structure_for
from sparse_core.budgets.selection import Selected, select, selectable
from sparse_core.budgets.starved import warn_starved
from sparse_core.budgets.structure import Structure
from sparse_core.checks import InputError, at_least
from sparse_core.config import SparseConfig
from sparse_core.engine import Engine
from sparse_core.layers.choice import TYPICAL_BATCH
from sparse_core.layers.embedding import why_dense
from sparse_core.layers.fused import forbid_fused_encoders
from sparse_core.left_dense import by_reason, left_dense, matches_any, warn_left_dense
from sparse_core.naming import growth_rule_named
from sparse_core.rules import growth_of
from sparse_core.updaters import updater_for
from sparse_core.updaters.demands import demands
from sparse_core.weights.born import born_tensor, check_born
from sparse_core.weights.initialisation import draw_mask, initialise
from sparse_core.weights.masked import MaskedTensor
from sparse_core.weights.ranks import is_wrapped
from sparse_core.weights.tensor import SparseTensor


def sparsify(
    module: nn.Module,
    config: SparseConfig | None = None,
    optimizer: Optimizer | None = None,
    *,
    roles: Mapping[str, str] | None = None,
    scores: Mapping[str, Tensor] | None = None,
    batch: int = TYPICAL_BATCH,
    acts: float = 0.0,
    keep_masked: Collection[str] = (),
    apart: Sequence[str] | None = None,
) -> Engine:
    """Make a module sparse, in place, and move its topology on the optimizer's steps.

    Names, parameters and their order stay as they are, so optimizers built before keep working.

    Args:
        module: Any module; its linear, convolutional and attention weights are selected, and with
            `config.embeddings` its embeddings.
        config: What kind of sparsity; None: the defaults of `SparseConfig`.
        optimizer: Whose steps count. None: call `Engine.attach` later.
        roles: Wildcard on a layer's name -> `input`, `hidden` or `output`, for modules whose order
            does not say which layer is the output.
        scores: Parameter name -> score of each weight, in the weight's shape: the first mask keeps
            the highest instead of random ones (`sparse_core.budgets.saliency`). With
            `scope="global"` they are ranked over all layers and the distribution plays no part.
        batch: Samples of a training batch, which `backend="auto"` asks for.
        acts: Single samples that the module is asked about for each training batch, as a policy
            that acts is; `backend="auto"` counts them, too.
        keep_masked: Names of parameters that stay masked whatever the backend.
        apart: For tasks that have disjoint masks in the module: roles or name patterns of the
            layers of which each task has its own copy. Budgets of the other layers are rounded so
            that as many tasks fit as exact densities allow (`sparse_core.budgets.distributions`).
            None: no tasks.

    A linear layer that has no memory yet, such as one that was built under
    `torch.device("meta")`, gets it here, for its active weights only. Layers that were born
    condensed (`CondensedLinear(..., fan_in=32)`) keep topology and weights. Both need constant
    fan-in and the condensed backend.

    Returns:
        The engine, also found as `module.sparse_engine`.

    Raises:
        ValueError: If the module has nothing to select, is sparse already, or cannot hold the
            budget. The module is unchanged then.
    """
    config = config or SparseConfig()
    at_least("batch", batch, 1)
    if any(hasattr(child, "sparse_engine") for child in module.modules()):
        raise InputError(f"{type(module).__name__} is sparse already: sparsify it once")
    _check_unwrapped(module, config)
    selected = select(module, roles, embeddings=config.embeddings)
    dense = left_dense(module, selected, embeddings=config.embeddings)
    if not selected:
        found = f"; there are {by_reason(dense)}" if dense else ""
        raise InputError(
            f"{type(module).__name__} has no layer that can be sparse: looked for "
            f"{', '.join(kind.__name__ for kind in selectable(config.embeddings))}{found}"
        )
    _check_patterns(selected, dense, config)
    structure = structure_for(config.structure_in_force, config.group)
    sparse = [s for s in selected if not any(s.matches(p) for p in config.kept_dense)]
    if not config.facts.sparse:
        sparse = []
    _check_unshared(module, sparse)
    check_born(module, sparse, config, scored=scores is not None)
    _check_embeddings(sparse, structure)
    _check_rules(sparse, config)
    _check_scores(sparse, scores)
    counts = budgets(selected, config, structure, apart)
    initial = counts
    if config.density_moves:
        initial = budgets(selected, replace(config, sparsity=config.first_sparsity), structure)
    updater = updater_for(config)
    if updater is not None:
        counts |= updater.budgets(sparse, initial, counts)
    if scores is not None and config.scope == "global":
        counts |= budgets_by_score(sparse, sum(counts[s.name] for s in sparse), scores)
    masked = _masked(sparse, config, structure)
    if config.facts.sparse:
        asked = config.backend == "condensed"
        warn_left_dense(dense, masked if asked else {}, config, stacklevel=2)
        if apart is None:
            warn_starved(sparse, counts, structure, config, stacklevel=2)
    tensors = []
    for item in sparse:
        divided = apart is not None and not any(item.matches(pattern) for pattern in apart)
        own = _equal(structure) if divided else structure
        tensor: SparseTensor
        if item.born and isinstance(own, ConstantFanIn):
            tensor = born_tensor(item, config, own, counts[item.name])
        else:
            tensor = _build(item, config, own, counts[item.name])
        tensor.initial_budget = initial[item.name]
        tensors.append(tensor)
    engine = Engine(module, config, selected, tensors)
    engine.batch = batch
    for tensor in tensors:
        _start(engine, tensor, None if scores is None else scores[tensor.name])
    if config.backend != "masked" and config.needs_masks is None:
        _condense(engine, module, batch, acts, {*masked, *keep_masked})
    forbid_fused_encoders(module)
    watch_averages()
    module.sparse_engine = engine  # type: ignore[assignment]
    unknown_optimizers.watch(engine)
    if optimizer is not None:
        engine.attach(optimizer)
    return engine


def _equal(structure: Structure) -> Structure:
    """Return the structure for a layer that tasks divide among them."""
    return replace(structure, equal=True) if isinstance(structure, ConstantFanIn) else structure


def _build(item: Selected, config: SparseConfig, structure: Structure, budget: int) -> MaskedTensor:
    item.mask()
    tensor = MaskedTensor(item.name, item.layer, item.parameter, item.role, structure, budget)
    tensor.may_ablate = (
        config.ablates
        and item.role not in config.never_ablate
        and not isinstance(item.layer, nn.Embedding)
    )
    tensor.latent = config.facts.latent
    tensor.reader = item.reader
    return tensor


def _masked(
    sparse: Sequence[Selected], config: SparseConfig, structure: Structure
) -> dict[str, str]:
    """Return which weights stay masked whatever the backend, by name, and why."""
    from sparse_core.weights.condensing import reasons_to_mask

    if config.backend == "masked":
        return {}
    return reasons_to_mask(sparse, structure)


def _condense(
    engine: Engine, module: nn.Module, batch: int, acts: float, keep_masked: Collection[str]
) -> None:
    """Turn the layers that can and shall be condensed into their condensed form."""
    from sparse_core.layers.chaining import chain
    from sparse_core.weights.condensing import capacity_of, worth_condensing
    from sparse_core.weights.conversion import condensed_from

    config = engine.config
    capacities: dict[SparseTensor, int] = {
        tensor: capacity_of(tensor, config.slack)
        for tensor in engine.tensors
        if tensor.name not in keep_masked and isinstance(tensor, MaskedTensor)
    }
    kept = {tensor.reader for tensor in engine.tensors if tensor not in capacities}
    capacities = {t: c for t, c in capacities.items() if t.reader is None or t.reader not in kept}
    if config.backend == "auto":
        capacities = worth_condensing(capacities, module, batch, acts)
    for i, tensor in enumerate(engine.tensors):
        if isinstance(tensor, MaskedTensor) and tensor in capacities:
            engine.tensors[i] = condensed_from(tensor, capacities[tensor])
    chain(module)


def _start(engine: Engine, tensor: SparseTensor, scores: Tensor | None) -> None:
    config = engine.config
    method = config.facts
    if not isinstance(tensor, MaskedTensor):
        pass
    elif not config.density_moves:
        tensor.start(draw_mask(tensor, config, scores=scores))
        if not method.latent:
            initialise(tensor, config.initialisation, config.seed)
    elif config.first_sparsity > 0:
        tensor.start(draw_mask(tensor, config, scores=scores, initial=True))
        initialise(tensor, config.initialisation, config.seed)
    elif (available := tensor.available()) is not None:
        tensor.start(available)
    if engine.updater is not None:
        engine.updater.start(tensor)
        tensor.remember()


def _check_patterns(
    selected: Sequence[Selected], left: Mapping[str, str], config: SparseConfig
) -> None:
    layered = [pattern for pattern, _ in config.layer_sparsity]
    for field, patterns in (("dense", config.dense), ("layer_sparsity", layered)):
        for pattern in patterns:
            if any(item.matches(pattern) for item in selected):
                continue
            found = {name: why for name, why in left.items() if matches_any(name, [pattern])}
            if found and field == "layer_sparsity":
                raise InputError(f"{field}={pattern!r}: {by_reason(found)}", field=field)
            if not found:
                raise InputError(
                    f"{field}={pattern!r}: no such layer or role; there are "
                    f"{', '.join(item.name for item in selected)} and the roles input, hidden, "
                    "output, qkv",
                    field=field,
                )


def _check_scores(sparse: Sequence[Selected], scores: Mapping[str, Tensor] | None) -> None:
    if scores is None:
        return
    for item in sparse:
        if item.name not in scores or tuple(scores[item.name].shape) != item.shape:
            raise InputError(f"scores: need one for {item.name!r} of shape {item.shape}")
        bad = int((~scores[item.name].isfinite()).sum())
        if bad:
            raise InputError(
                f"scores: {bad} of {item.numel} of layer {item.name!r} are NaN or infinite"
            )


def _check_unwrapped(module: nn.Module, config: SparseConfig) -> None:
    """Refuse new parameters in a wrapped module: the wrapper would not average their gradients."""
    condenses = config.backend != "masked" and config.needs_masks is None
    if (condenses or config.facts.adds_parameters) and is_wrapped(module):
        what = f"backend={config.backend!r}" if condenses else f"method={config.method!r}"
        raise InputError(
            f"{what}: makes new parameters, and {type(module).__name__} is wrapped in "
            "DistributedDataParallel already; make it sparse first, then wrap it",
            field=what.partition("=")[0],
        )


def _check_unshared(module: nn.Module, sparse: Sequence[Selected]) -> None:
    """Refuse weights that layers share: the others would read and train them without a mask."""
    users: dict[int, dict[tuple[int, str], str]] = {}
    for path, child in module.named_modules():
        for name, parameter in child.named_parameters(recurse=False, remove_duplicate=False):
            full = f"{path}.{name}" if path else name
            users.setdefault(id(parameter), {}).setdefault((id(child), name), full)
    for item in sparse:
        names = list(users[id(item.weight)].values())
        if len(names) > 1:
            raise InputError(
                f"layer {item.name!r}: its weight is shared by {len(names)} layers "
                f"({', '.join(names)}); keep it dense"
            )


def _check_embeddings(sparse: Sequence[Selected], structure: Structure) -> None:
    single = isinstance(structure, Unstructured) or structure == ConstantFanIn(1)
    for item in sparse:
        if not isinstance(item.layer, nn.Embedding):
            continue
        reason = why_dense(item.layer)
        if reason is None and item.layer.padding_idx is not None and not single:
            reason = (
                f"padding_idx={item.layer.padding_idx}: its row can be left out of unstructured "
                f"masks and constant fan-in without groups only, not of a {structure}"
            )
        if reason is not None:
            raise InputError(f"layer {item.name!r}: {reason}; keep it dense")


def _check_rules(sparse: Sequence[Selected], config: SparseConfig) -> None:
    """Check that the rules in force can be used, together and in each layer."""
    if updater_for(config) is None:
        return
    for field, needs in demands(config).items():
        if needs == "signals":
            _check_signals(sparse, config, field)


def _check_signals(sparse: Sequence[Selected], config: SparseConfig, field: str) -> None:
    growth, rule = config.facts.growth, config.in_force()[field]
    others = [n for n in growth if _needs(n) != "signals"] if field == "growth" else []
    remedies = [*(f"use {name!r}" for name in others), "keep it dense"]
    for item in sparse:
        linear = isinstance(item.layer, nn.Linear) and item.parent is None
        if not linear:
            raise InputError(
                f"{field}={rule!r}: layer {item.name!r} of shape {item.shape} is no "
                "linear layer, whose inputs and output gradients this rule looks at; "
                f"{' or '.join(remedies)}",
                field=field,
            )


def _needs(growth: str) -> str | None:
    facts = growth_of(growth_rule_named(growth))
    return None if facts is None else facts.needs
