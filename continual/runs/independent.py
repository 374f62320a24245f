"""`Independent`: for each task a dense network of its own, the plainest way to forget nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from continual.avalanche_compat import avalanche
from sparse_core.building import sparsify
from sparse_core.config import SparseConfig
from sparse_core.engine import Engine
from sparse_core.streams import stream


class Independent(avalanche.models.MultiTaskModule):  # type: ignore[name-defined, misc]
    """A multi-task module whose tasks share nothing.

    The first network is drawn from torch's global stream, as any network is, the others are from
    streams of their own: with one task it is that network, to the bit. A network is trained in its
    own task only, for an optimizer leaves alone what has no gradient.

    Attributes:
        networks: One a task.
        engines: That of each network, by `task 0` and so on.
    """

    def __init__(
        self, build: Callable[[], nn.Module], tasks: int, config: SparseConfig, seed: int = 0
    ) -> None:
        """Build the networks.

        Args:
            build: Returns a new dense network.
            tasks: How many.
            config: A dense configuration.
            seed: Seeds all networks but the first.
        """
        super().__init__()
        networks = [build()]
        with torch.random.fork_rng(devices=[]):
            for task in range(1, tasks):
                torch.manual_seed(stream(seed, "independent", task).initial_seed())
                networks.append(build())
        self.networks = nn.ModuleList(networks)
        self.engines: dict[str, Engine] = {
            f"task {task}": sparsify(network, config) for task, network in enumerate(networks)
        }

    @property
    def labels(self) -> list[int]:
        """The labels of all tasks."""
        return list(range(len(self.networks)))

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        """Compute the logits of `(batch, ...)` with one task's network."""
        logits: Tensor = self.networks[task_label](x)
        return logits

    def forward(self, x: Tensor, task_labels: Tensor | int) -> Tensor:
        """Compute the logits of each sample with its task's network.

        Args:
            x: `(batch, ...)`.
            task_labels: `(batch,) int64`, or one label for all.

        Returns:
            `(batch, classes)`.
        """
        if isinstance(task_labels, int):
            return self.forward_single_task(x, task_labels)
        found: Tensor = torch.unique(task_labels)
        # A network without samples would get gradients of zero, and an optimizer still moves it.
        rows = {label: (task_labels == label).nonzero().squeeze(1) for label in found.tolist()}
        parts = [self.forward_single_task(x[mine], label) for label, mine in rows.items()]
        return torch.cat(parts)[torch.cat([*rows.values()]).argsort()]
