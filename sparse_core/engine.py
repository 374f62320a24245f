"""The engine: moves the topology of a sparse network on the steps of its optimizer.

    loss.backward()   -> the dense gradient is kept, on the steps before an update only
    optimizer.step()  -> post-step hook: is it time? -> updater -> Delta
                      -> weights, optimizer state, followers (target networks), observers

All state lives in the module's `state_dict` (masks, clock), so saving and loading need nothing of
ours. Hooks are lost when an optimizer is copied or pickled; the engine attaches itself again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from sparse_core import counts, unknown_optimizers
from sparse_core.averages import watch_averages
from sparse_core.budgets.selection import Selected
from sparse_core.checks import InputError
from sparse_core.clock import Clock, HasClock, checked_horizon
from sparse_core.config import SparseConfig
from sparse_core.layers.choice import TYPICAL_BATCH
from sparse_core.layers.copies import release
from sparse_core.schedule import Schedule
from sparse_core.updaters import updater_for
from sparse_core.updaters.scene import Moment
from sparse_core.weights.conversion import masked_from
from sparse_core.weights.delta import Delta
from sparse_core.weights.dormant import Neurons
from sparse_core.weights.followers import Followers, follower_of
from sparse_core.weights.foreign import foreign
from sparse_core.weights.gradients import GradientSource, has_closure
from sparse_core.weights.initialisation import redraw
from sparse_core.weights.loading import check_budgets
from sparse_core.weights.masked import MaskedTensor
from sparse_core.weights.ranks import RankFinder, Ranks
from sparse_core.weights.tensor import SparseTensor
from sparse_core.weights.trainers import Trainers

Observer = Callable[[Moment, Mapping[str, Delta]], None]


class Engine(HasClock):
    """Moves the topology of one module on the steps of one optimizer.

    Made by `sparsify`, found as `module.sparse_engine`.

    Attributes:
        root: The module.
        config: The configuration.
        selected: The weights that could be sparse, those that stay dense included.
        tensors: Its sparse weights.
        batch: Samples of a training batch, for which backends were chosen.
        observers: Called after each update with its moment and the Delta of each tensor by name.
        on_step: Called after each optimizer step with the number of steps done.
        neurons: What watches its neurons, and lets dormant ones start anew.
        many_tasks: Whether weights of other tasks may lie outside the masks; set by whoever keeps
            the tasks.
        retired: Whether the layers hold an average of a network, so that the topology never moves.
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
        self.batch = TYPICAL_BATCH
        self.many_tasks = False
        self.retired = False
        self._watchful = True
        self.observers: list[Observer] = []
        self.on_step: list[Callable[[int], None]] = []
        self.updater = updater_for(config)
        self.selected = list(selected)
        self._schedule = Schedule.of(config)
        needs = self.updater.needs if self.updater else "nothing"
        self._gradients = GradientSource(needs, config.gradient_steps)
        watching = self.updater is not None and self.updater.watches_neurons
        self.neurons = Neurons.of(root, config, watching)
        self._followers = Followers()
        self._trainers = Trainers(config.optimizer_state)
        self._rank_finder = RankFinder(root)
        self._clock = Clock(root)
        root.register_load_state_dict_pre_hook(self._before_load)  # type: ignore[no-untyped-call]
        root.register_load_state_dict_post_hook(self._after_load)  # type: ignore[no-untyped-call]
        self._gradients.prepare(self.tensors)
        if config.horizon is not None:
            self.set_horizon(config.horizon)

    # The clock ------------------------------------------------------------------------------------

    @property
    def fraction(self) -> float:
        """Fraction of the active weights that an update would move now."""
        return self._schedule.fraction(self.phase, self.horizon)

    def set_horizon(self, steps: int) -> None:
        """Say how long training will be, in optimizer steps since the last `restart`."""
        self._clock["horizon"] = checked_horizon(steps)
        self._arm()

    def restart(self, horizon: int | None = None) -> None:
        """Begin the schedule again (a new task). The streams of random growth go on."""
        self._clock["horizon"] = 0 if horizon is None else checked_horizon(horizon)
        self._clock["origin"] = self.steps
        for tensor in self.tensors:
            self._gradients.clear(tensor)
        self._arm()

    def redraw(
        self, index: int, horizon: int | None = None, *, names: Collection[str] | None = None
    ) -> None:
        """Begin anew (a new task) with new random masks and weights beside the protected weights.

        Args:
            index: Names the draw: each index has masks and weights of its own.
            horizon: Optimizer steps until the next one, if known.
            names: Redraw these tensors only; None: all.

        Raises:
            ValueError: If a layer has too few free weights left. Nothing is changed then.
        """
        tensors = [tensor for tensor in self.tensors if names is None or tensor.name in names]
        redraw(tensors, self.config, index)
        for tensor in tensors:
            if self.updater is not None:
                self.updater.start(tensor, index)
            if tensor.seen() is not None:
                tensor.remember()
            self._gradients.forget(tensor)
            self._trainers.clear(tensor)
        self.restart(horizon)

    # What it knows --------------------------------------------------------------------------------

    def layers(self) -> list[counts.LayerCount]:
        """Return the active weights of each selected layer, dense ones included."""
        return counts.of_layers(self.selected, self.tensors)

    @property
    def sparsity(self) -> float:
        """The achieved sparsity, over the layers that the requested one counts."""
        return counts.counted_sparsity(self.layers(), self.selected, self.config)

    @property
    def network_sparsity(self) -> float:
        """The sparsity over all weight matrices of the module, also those that stay dense."""
        return counts.network_sparsity(self.root)

    def __repr__(self) -> str:
        return (
            f"Engine({self.config.method}, requested {self.config.asked}, "
            f"achieved {self.sparsity:.6f}, of the whole network {self.network_sparsity:.6f}, "
            f"{self.updates} updates in {self.steps} steps)\n{counts.table(self.layers())}"
            + counts.products(self.selected)
        )

    # Attaching ------------------------------------------------------------------------------------

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimizer whose steps count; None while detached."""
        return self._trainers.counting

    @property
    def trainers(self) -> list[Optimizer]:
        """All optimizers that train its weights, as far as it knows."""
        return self._trainers.optimizers

    @property
    def stepping(self) -> bool:
        """Whether the optimizer is making a step."""
        return self._trainers.stepping

    def attach(self, optimizer: Optimizer, *also: Optimizer) -> None:
        """Count the steps of this optimizer from now on, instead of any other's.

        Args:
            optimizer: Whose steps count.
            also: Optimizers that train some of the weights too; their moments are kept in order.
        """
        self.detach()
        for tensor in self.tensors:
            release(tensor.layer)
        self._trainers.take([optimizer, *also], self.tensors)
        self._trainers.hook(self._before_step, self._after_step)
        self._arm()
        self._watchful = True
        unknown_optimizers.watch(self)

    def detach(self) -> None:
        """Stop counting: from now on the topology does not move."""
        self._watchful = False
        unknown_optimizers.leave(self)
        self._trainers.leave()
        self._gradients.disarm(self.tensors)
        self.neurons.leave()

    def unite(self, group: Any = None) -> None:
        """Keep one topology with other processes, each of which calls this too.

        Not needed under `DistributedDataParallel` (`sparse_core.weights.ranks`); this is for loops
        that average `.grad` themselves.

        Args:
            group: The process group; None: all processes.
        """
        self._rank_finder.unite(group)

    def follow(self, target: nn.Module, *, lagging: bool = False, partial: bool = False) -> None:
        """Let a target network of the same architecture follow the topology from now on.

        Args:
            target: Dense still; its weights become sparse, and condensed where they are here.
            lagging: Whether it stands still between its own updates and takes the online masks
                with each, instead of having the online topology at every moment; see
                `sparse_core.weights.followers`.
            partial: Whether it may lack some of the sparse layers.

        Raises:
            ValueError: If the target lacks one of the sparse layers, or all of them, or the method
                keeps scores.
        """
        if any(tensor.companion("scores") is not None for tensor in self.tensors):
            raise InputError(
                f"method={self.config.method!r}: no target can follow its scores", field="method"
            )
        made = follower_of(self.tensors, target, lagging=lagging, partial=partial)
        if not partial:
            target.register_buffer("sparse_clock", self._clock.buffer.clone())
        self._followers.append(made)

    def retire(self) -> None:
        """Stop moving the topology for good: the layers are masked now and hold an average."""
        self.tensors = [
            MaskedTensor(t.name, *t.dense_place, t.role, t.structure, t.budget)
            for t in self.tensors
        ]
        self.detach()
        self.retired = True
        self.updater = None
        self._gradients = GradientSource("nothing", 1)
        self._followers = Followers()

    def resume(self) -> None:
        """Read the counters again from the module's state, after they were written from outside."""
        self._clock.reload()
        self._arm()

    def __setstate__(self, state: dict[str, Any]) -> None:
        watch_averages()
        self.__dict__.update(state)
        if self.optimizer is not None:
            self._trainers.hook(self._before_step, self._after_step)
        if self._watchful:
            unknown_optimizers.watch(self)

    def use_masks(self) -> None:
        """Make condensed linear layers masked ones, here and in networks that follow.

        Condensed layers are for the CPU: call this before a network leaves it, between two
        optimizer steps. See `sparse_core.weights.conversion`.
        """
        self._followers.catch_up()
        self.tensors = [masked_from(tensor, *self.trainers) for tensor in self.tensors]
        self._followers.use_masks(self.tensors)
        self._gradients.keep_signals(self.tensors)
        self.config = replace(self.config, backend="masked")
        if self.trainers:
            self.attach(*self.trainers)

    def refresh(self) -> None:
        """Derive anew what depends on the topology, after tensors were replaced in the module."""
        for tensor in self.tensors:
            tensor.refresh()

    def enforce(self) -> None:
        """Zero all inactive weights, of targets too, after weights were written from outside.

        They stay where the method's inactive weights keep values, where there are several tasks
        (they may be weights of other tasks), and in an average (its masks follow from its weights).
        """
        if self.many_tasks or self.retired:
            return
        for tensor in self.tensors:
            tensor.enforce()
        self._followers.enforce()

    def _before_load(
        self, module: nn.Module, state_dict: Mapping[str, Any], prefix: str, *rest: object
    ) -> None:
        own = [tensor for tensor in self.tensors if tensor.layer._lineage is None]
        check_budgets(own, self.config, state_dict, prefix)
        self._trainers.foreign = foreign(own, state_dict, prefix)

    def _after_load(self, module: nn.Module, incompatible_keys: object) -> None:
        self.enforce()
        self.refresh()
        self._followers.refresh()
        self.resume()

    # Stepping -------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Watch the gradient of the next step if an update will need it."""
        self._gradients.arm(self.tensors, self.phase, self._schedule, self.horizon)
        self.neurons.arm(self.steps + 1, due=self._schedule.due(self.phase + 1, self.horizon))

    def _ranks(self) -> Ranks | None:
        return self._rank_finder.find(lambda: f"{self.config} {self._clock}", self.tensors)

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        closure = has_closure(args, kwargs)
        if self.updater is not None:
            self.updater.check_step(self.horizon, closure=closure)
        for tensor in self.tensors:
            release(tensor.layer)
        self._followers.catch_up()
        due = self.updater is not None and self._schedule.due(self.phase + 1, self.horizon)
        with torch.no_grad():
            ranks = self._ranks()
            if not closure:
                self._gradients.check(self.tensors, optimizer, self.steps + 1, due=due, ranks=ranks)
            if self.updater is not None:
                self.updater.before_step(self.tensors)
        if self.config.skip_step and due:
            self._trainers.skip_step()
        self._trainers.before_step(self.tensors)

    @torch.no_grad()
    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._trainers.after_step(self.tensors)
        if has_closure(args, kwargs):
            self._gradients.collect(self.tensors, self._rank_finder.ranks)
        self._gradients.accumulate(self.tensors, optimizer)
        self._clock["steps"] = self.steps + 1
        for observe in self.on_step:
            observe(self.steps)
        if self.updater is not None and self._schedule.due(self.phase, self.horizon):
            if has_closure(args, kwargs):
                self._gradients.require(self.tensors, optimizer, self.steps)
            self._update()
        self.neurons.reset(self.tensors, self.trainers, self.steps, self._rank_finder.ranks)
        if self.updater is not None or self.neurons.every is not None:
            self._arm()

    def update(self) -> Mapping[str, Delta]:
        """Update the topology now; called by the optimizer's hook when it is time.

        A layer that no gradient reached sits out an update that needs one, with one warning.

        Returns:
            The Delta of each tensor by name.

        Raises:
            RuntimeError: If growth needs a gradient and none flowed at all. Nothing is changed
                then.
            FloatingPointError: If a weight or gradient is NaN or infinite. Nothing is changed then.
        """
        if self.updater is None:
            raise RuntimeError(f"method={self.config.method!r}: has no updates")
        self._gradients.collect(self.tensors, self._ranks())
        self._gradients.require(self.tensors, self.optimizer, self.steps)
        return self._update()

    def _update(self) -> Mapping[str, Delta]:
        assert self.updater is not None
        idle = self._gradients.idle(self.tensors, self.steps)
        seed, activity = self.config.seed, self.neurons.activity
        moment = Moment.now(self, self._schedule, seed, idle, activity)
        with torch.no_grad():
            changes = self.updater.changes(self.tensors, moment)
            if self._rank_finder.ranks is not None:
                changes = self._rank_finder.ranks.of_first(changes)
            deltas = {t.name: delta for t, delta in zip(self.tensors, changes, strict=True)}
            self._followers.catch_up()
            for tensor in self.tensors:
                self.apply(tensor, deltas[tensor.name])
            self.updater.after_update(self.tensors)
        self._clock["updates"] = moment.update + 1
        for observe in self.observers:
            observe(moment, deltas)
        return deltas

    def apply(self, tensor: SparseTensor, delta: Delta) -> None:
        """Make a Delta true: in a weight, its followers and the state of its optimizers."""
        tensor.apply(delta)
        self._followers.apply(tensor.name, delta)
        self._trainers.apply(tensor, delta)
        self._gradients.clear(tensor)
