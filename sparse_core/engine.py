"""The engine: makes a network sparse and moves its topology on the steps of its optimizer.

    loss.backward()   -> the dense gradient is kept, on the step before an update only
    optimizer.step()  -> post-step hook: is it time? -> updater -> Delta
                      -> weights, optimizer state, followers (target networks), observers

All state lives in the module's `state_dict` (masks, clock), so saving and loading need nothing of
ours. Hooks are lost when an optimizer is copied or pickled; the engine attaches itself again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from sparse_core import clock
from sparse_core.config import SparseConfig
from sparse_core.distributions import budgets
from sparse_core.initialisation import initialise
from sparse_core.layers import MASKED
from sparse_core.layers.masked import become_masked
from sparse_core.optimizer_state import clear_inactive, clear_moments, settle
from sparse_core.schedule import Schedule
from sparse_core.scores import Moment
from sparse_core.selection import Selected, select
from sparse_core.streams import stream
from sparse_core.structure import STRUCTURES
from sparse_core.topology import Delta, SparseTensor
from sparse_core.updaters import updater_for

Observer = Callable[[Moment, Mapping[str, Delta]], None]


@dataclass(frozen=True)
class LayerCount:
    """How many weights of a layer are active.

    Attributes:
        name: The parameter's full name.
        role: `input`, `hidden` or `output`.
        active: Active weights.
        total: All weights.
    """

    name: str
    role: str
    active: int
    total: int


class Engine:
    """Moves the topology of one module on the steps of one optimizer.

    Made by `sparsify`.

    Attributes:
        root: The module.
        config: The configuration.
        tensors: Its sparse weights.
        optimizer: The optimizer whose steps count; None while detached.
    """

    def __init__(
        self,
        root: nn.Module,
        config: SparseConfig,
        selected: Sequence[Selected],
        tensors: Sequence[SparseTensor],
    ) -> None:
        self.root = root
        self.config = config
        self.tensors = list(tensors)
        self.optimizer: Optimizer | None = None
        self.observers: list[Observer] = []
        self.updater = updater_for(config)
        self._selected = list(selected)
        self._schedule = Schedule.of(config)
        self._followers: list[list[SparseTensor]] = []
        self._handles: list[RemovableHandle] = []
        self._before: list[tuple[nn.Parameter, Tensor, Tensor]] = []
        root.register_buffer("sparse_clock", clock.new_clock())
        root.register_load_state_dict_post_hook(self._after_load)  # type: ignore[no-untyped-call]
        if config.horizon is not None:
            self.set_horizon(config.horizon)

    # The clock ------------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """Optimizer steps done."""
        return clock.read(self._clock, "steps")

    @property
    def updates(self) -> int:
        """Updates of the topology done."""
        return clock.read(self._clock, "updates")

    @property
    def horizon(self) -> int | None:
        """Length of the training in optimizer steps since the last `restart`; None: unknown."""
        return clock.read(self._clock, "horizon") or None

    def set_horizon(self, steps: int) -> None:
        """Say how long training will be, in optimizer steps since the last `restart`."""
        if steps < 1:
            raise ValueError(f"horizon={steps}: must be at least 1 optimizer step")
        clock.write(self._clock, "horizon", steps)
        self._arm()

    def restart(self, horizon: int | None = None) -> None:
        """Begin the schedule again (a new task). The streams of random growth go on."""
        clock.write(self._clock, "origin", self.steps)
        clock.write(self._clock, "horizon", horizon or 0)
        self._arm()

    def redraw(self, index: int, horizon: int | None = None) -> None:
        """Begin anew (a new task) with new random masks and weights beside the protected weights.

        Args:
            index: Names the draw: each index has masks of its own.
            horizon: Optimizer steps until the next one, if known.

        Raises:
            ValueError: If a layer has too few free weights left. Nothing is changed then.
        """
        seed = self.config.seed
        drawn = []
        for tensor in self.tensors:
            generator = stream(seed, "mask", index, tensor.name)
            try:
                mask = tensor.structure.initial(
                    tensor.rows, tensor.cols, tensor.budget, generator, tensor.available()
                )
            except ValueError as error:
                raise ValueError(f"layer {tensor.name!r} is full: {error}") from None
            drawn.append(mask.to(tensor.weight.device))
        for tensor, mask in zip(self.tensors, drawn, strict=True):
            tensor.start(mask)
            initialise(tensor, "kaiming", seed, index)
            if self.optimizer is not None:
                clear_moments(self.optimizer, tensor)
        self.restart(horizon)

    @property
    def _clock(self) -> Tensor:
        return self.root.get_buffer("sparse_clock")

    def _phase(self) -> int:
        return self.steps - clock.read(self._clock, "origin")

    # What it knows --------------------------------------------------------------------------------

    def layers(self) -> list[LayerCount]:
        """Return the active weights of each selected layer, dense ones included."""
        active = {tensor.name: tensor.count() for tensor in self.tensors}
        return [
            LayerCount(s.name, s.role, active.get(s.name, s.numel), s.numel) for s in self._selected
        ]

    @property
    def sparsity(self) -> float:
        """The achieved sparsity, over the layers that the requested one counts."""
        sparse = {tensor.name for tensor in self.tensors}
        counted = [
            layer for layer in self.layers() if self.config.dense_in_budget or layer.name in sparse
        ]
        total = sum(layer.total for layer in counted)
        return 1 - sum(layer.active for layer in counted) / total if total else 0.0

    def __repr__(self) -> str:
        config = self.config
        lines = [
            f"Engine({config.method}, requested sparsity {config.sparsity}, "
            f"achieved {self.sparsity:.6f}, {self.updates} updates in {self.steps} steps)"
        ]
        lines += [
            f"  {layer.name:<40} {layer.role:<7} {layer.active:>9} / {layer.total:<9} "
            f"{layer.active / layer.total:.4f}"
            for layer in self.layers()
        ]
        return "\n".join(lines)

    # Attaching ------------------------------------------------------------------------------------

    def attach(self, optimizer: Optimizer) -> None:
        """Count the steps of this optimizer from now on, instead of any other's."""
        self.detach()
        self.optimizer = optimizer
        self._handles = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]
        for tensor in self.tensors:
            clear_inactive(optimizer, tensor)
        self._arm()

    def detach(self) -> None:
        """Stop counting; the topology stays as it is."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.optimizer = None

    def follow(self, target: nn.Module) -> None:
        """Let a target network of the same architecture have the same topology from now on.

        Raises:
            ValueError: If the target lacks one of the sparse layers.
        """
        known = dict(target.named_modules())
        copies = []
        for tensor in self.tensors:
            layer = known.get(tensor.name.rpartition(".")[0])
            if layer is None or getattr(layer, "weight", tensor.mask).shape != tensor.mask.shape:
                raise ValueError(f"target has no layer like {tensor.name!r}: it cannot follow")
            become_masked(layer, MASKED[type(layer)])
            copy = SparseTensor(tensor.name, layer, tensor.role, tensor.structure, tensor.budget)
            copy.start(tensor.active())
            copies.append(copy)
        target.register_buffer("sparse_clock", self._clock.clone())
        self._followers.append(copies)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handles": [], "_before": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.optimizer is not None:
            self._handles = [
                self.optimizer.register_step_pre_hook(self._before_step),
                self.optimizer.register_step_post_hook(self._after_step),
            ]

    def _after_load(self, module: nn.Module, incompatible_keys: object) -> None:
        for tensor in [*self.tensors, *(copy for copies in self._followers for copy in copies)]:
            tensor.refresh()
        self._arm()

    # Stepping -------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Keep the dense gradient of the next step if an update that needs it will follow."""
        if self.updater is None:
            return
        wanted = self.updater.needs_gradient and self._schedule.due(self._phase() + 1, self.horizon)
        for tensor in self.tensors:
            if tensor.tap.armed != wanted or wanted:
                tensor.tap.arm(wanted)

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._before = [
            (parameter, parameter.detach().clone(), fixed)
            for tensor in self.tensors
            for parameter, fixed in tensor.fixed()
        ]

    @torch.no_grad()
    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for parameter, before, fixed in self._before:
            parameter.copy_(torch.where(fixed, before, parameter))
        self._before = []
        if self.config.optimizer_state == "keep":
            for tensor in self.tensors:
                tensor.enforce()
        clock.write(self._clock, "steps", self.steps + 1)
        if self.updater is None:
            return
        if self._schedule.due(self._phase(), self.horizon):
            self.update()
        self._arm()

    def update(self) -> Mapping[str, Delta]:
        """Update the topology now; called by the optimizer's hook when it is time.

        Returns:
            The Delta of each tensor by name.

        Raises:
            RuntimeError: If growth needs a gradient that did not flow. Nothing is changed then.
            FloatingPointError: If a weight or gradient is NaN or infinite. Nothing is changed then.
        """
        if self.updater is None:
            raise RuntimeError(f"method={self.config.method!r}: has no updates")
        moment = Moment(
            self.steps,
            self.updates,
            self._schedule.fraction(self._phase(), self.horizon),
            self.config.seed,
        )
        with torch.no_grad():
            proposed = self.updater.propose(self.tensors, moment)
            for i, (tensor, delta) in enumerate(zip(self.tensors, proposed, strict=True)):
                tensor.apply(delta)
                for copies in self._followers:
                    copies[i].apply(delta)
                if self.optimizer is not None:
                    settle(self.optimizer, tensor, delta, self.config.optimizer_state)
        clock.write(self._clock, "updates", moment.update + 1)
        deltas = {tensor.name: delta for tensor, delta in zip(self.tensors, proposed, strict=True)}
        for observe in self.observers:
            observe(moment, deltas)
        return deltas


def sparsify(
    module: nn.Module,
    config: SparseConfig | None = None,
    optimizer: Optimizer | None = None,
    *,
    roles: Mapping[str, str] | None = None,
) -> Engine:
    """Make a module sparse, in place, and move its topology on the optimizer's steps.

    Names, parameters and their order stay as they are, so optimizers built before keep working.

    Args:
        module: Any module; its linear and convolutional weights are selected.
        config: What kind of sparsity; None: the defaults of `SparseConfig`.
        optimizer: Whose steps count. None: call `Engine.attach` later.
        roles: Wildcard on a layer's name -> `input`, `hidden` or `output`, for modules whose order
            does not say which layer is the output.

    Returns:
        The engine, also found as `module.sparse_engine`.

    Raises:
        ValueError: If the module has nothing to select, is sparse already, or cannot hold the
            budget. The module is unchanged then.
    """
    config = config or SparseConfig()
    if any(type(child) in MASKED.values() for child in module.modules()):
        raise ValueError(f"{type(module).__name__} is sparse already: sparsify it once")
    selected = select(module, roles)
    if not selected:
        raise ValueError(
            f"{type(module).__name__} has no layer that can be sparse: "
            f"looked for {', '.join(kind.__name__ for kind in MASKED)}"
        )
    structure = STRUCTURES[config.structure_in_force]()
    chosen = [] if config.method == "dense" else _sparse_part(selected, config)
    counts = dict(
        zip((s.name for s in selected), budgets(selected, config, structure), strict=True)
    )
    tensors = []
    for item in chosen:
        become_masked(item.layer, MASKED[type(item.layer)])
        tensor = SparseTensor(item.name, item.layer, item.role, structure, counts[item.name])
        tensor.may_ablate = config.method == "srigl" and config.ablation and item.role != "output"
        generator = stream(config.seed, "mask", item.name)
        mask = structure.initial(tensor.rows, tensor.cols, tensor.budget, generator)
        tensor.start(mask.to(tensor.weight.device))
        initialise(tensor, config.initialisation, config.seed)
        tensors.append(tensor)
    engine = Engine(module, config, selected, tensors)
    module.sparse_engine = engine  # type: ignore[assignment]
    if optimizer is not None:
        engine.attach(optimizer)
    return engine


def _sparse_part(selected: Sequence[Selected], config: SparseConfig) -> list[Selected]:
    known = [p for p in config.dense if any(s.matches(p) for s in selected)]
    if len(known) < len(config.dense):
        unknown = sorted(set(config.dense) - set(known))
        raise ValueError(
            f"dense={unknown}: no such layer or role; there are "
            f"{', '.join(s.name for s in selected)} and the roles input, hidden, output"
        )
    return [s for s in selected if not any(s.matches(p) for p in config.dense)]
