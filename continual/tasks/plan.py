"""Whether so many tasks fit beside each other, and which settings would make them fit.

All of it follows from the shapes of the layers, before anything is made sparse: a task that does
not fit would otherwise be refused when the tasks before it have been trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from continual.tasks.capacity import LayerRoom
from continual.tasks.task import head_of
from sparse_core.budgets.distributions import budgets
from sparse_core.budgets.patterns import structure_for
from sparse_core.budgets.selection import Selected
from sparse_core.checks import InputError, at_least
from sparse_core.config import SparseConfig

SPARSITIES = (*(percent / 100 for percent in range(1, 100)), 0.995, 0.998, 0.999)
"""What is tried in place of a sparsity at which tasks do not fit."""


class Plan:
    """How many isolated tasks a network has room for, with the settings given and with others.

    Attributes:
        head: The weight of which each task has its own; empty: there is none.

    Args:
        selected: The layers of the network, dense still.
        config: The sparsity of each task's network.
        share: The sharing policy.
        reserve: With `share="forward"`, the fraction of neurons that each task reserves.
    """

    def __init__(
        self,
        selected: Sequence[Selected],
        config: SparseConfig,
        share: str,
        reserve: float | None = None,
    ) -> None:
        self.config = config
        self.share = share
        self.reserve = reserve if share == "forward" else None
        self.head = head_of(selected) if selected else ""
        self._selected = list(selected)
        structure = structure_for(config.structure_in_force, config.group)
        self._layers = [
            LayerRoom.planned(item, structure)
            for item in selected
            if item.name != self.head and not any(item.matches(p) for p in config.kept_dense)
        ]

    def rooms(self, config: SparseConfig | None = None) -> dict[str, int]:
        """Return how many tasks each shared layer has room for; empty: there is no limit.

        Raises:
            ValueError: If the layers cannot hold the budget.
        """
        config = config or self.config
        if self.share == "reuse" or not self._layers:
            return {}
        structure = structure_for(config.structure_in_force, config.group)
        counts = budgets(self._selected, config, structure, [self.head])
        layers = [dataclasses.replace(at, budget=counts[at.name]) for at in self._layers]
        return {layer.name: layer.room(self.reserve) for layer in layers}

    def check(
        self, tasks: int, prefix: str = "", wider: Callable[[], Sequence[str]] = tuple
    ) -> None:
        """Check that so many tasks fit.

        Args:
            tasks: The number of tasks.
            prefix: Put before the names of fields of the configuration.
            wider: Returns changes of the network with which they fit.

        Raises:
            ValueError: If they do not, naming the layer that is full first, how many tasks there is
                room for, and what helps.
        """
        at_least("tasks", tasks, 1)
        rooms = self.rooms()
        if not rooms or min(rooms.values()) >= tasks:
            return
        first = min(rooms, key=lambda name: rooms[name])
        have = "have" if self.reserve is None else "are sure to have"
        raise InputError(
            f"tasks={tasks}: at sparsity {self.config.sparsity:g} only {rooms[first]} {have} room "
            f"beside each other, then layer {first!r} is full; "
            f"{self.remedies(tasks, prefix, wider)}",
            field="tasks",
        )

    def remedies(
        self, tasks: int, prefix: str = "", wider: Callable[[], Sequence[str]] = tuple
    ) -> str:
        """Say what would make so many tasks fit; each change of settings was tried."""
        if self._fits(tasks):
            return f"TaskMasks(..., tasks={tasks}) keeps the places of ablated neurons free for it"
        helps = [*self._settings(tasks, prefix), *self._reserves(tasks, prefix), *wider()]
        if self.share == "none":
            helps.append("share='reuse'")
        if not helps:
            return f"no sparsity up to {SPARSITIES[-1]} helps, only another network"
        return f"{tasks} fit with {', or '.join(helps)}"

    def _settings(self, tasks: int, prefix: str) -> list[str]:
        uniform, found = f"{prefix}distribution='uniform'", []
        alone = self._sparser(tasks)
        if self._fits(tasks, distribution="uniform"):
            found.append(uniform)
        else:
            both = self._sparser(tasks, distribution="uniform")
            if both is not None and (alone is None or both < alone):
                found.append(f"{uniform} and {prefix}sparsity={both:g}")
        if alone is not None:
            found.append(f"{prefix}sparsity={alone:g}")
        return found

    def _reserves(self, tasks: int, prefix: str) -> list[str]:
        """List what helps if each task keeps as few neurons as can be to itself: one."""
        if not self.reserve:
            return []
        plan = Plan(self._selected, self.config, self.share, 0.0)
        if plan._fits(tasks):
            return ["reserve=0"]
        return [f"reserve=0 and {change}" for change in plan._settings(tasks, prefix)[-1:]]

    def _sparser(self, tasks: int, **changes: object) -> float | None:
        """Return the least of the higher sparsities at which they fit."""
        higher = (sparsity for sparsity in SPARSITIES if sparsity > self.config.sparsity)
        return next((s for s in higher if self._fits(tasks, sparsity=s, **changes)), None)

    def _fits(self, tasks: int, **changes: object) -> bool:
        """Whether they fit with other settings, if those can be had."""
        try:
            changed = dataclasses.replace(self.config, **changes)  # type: ignore[arg-type]
            return min(self.rooms(changed).values(), default=tasks) >= tasks
        except InputError:
            return False
