"""TAR: a static network to which a small reserve of weights is added once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sparse_core.budgets.selection import Selected
from sparse_core.updaters.base import DropAndGrow
from sparse_core.updaters.ranked import Ranking
from sparse_core.updaters.scene import Moment
from sparse_core.updaters.snfs import share
from sparse_core.weights.delta import Delta


class TAR(DropAndGrow):
    """Topology-aware revival (Jin et al. 2026, section 3).

    The network begins with fewer weights than its budget (`initial_sparsity`). After one step, that
    at `prune_from`, the rest of the budget is grown, at random in each layer, and the topology
    stays. Layers get of it what they lack to their floor of connectivity, N ln N / 2 links for N
    nodes, inputs and neurons together: with about so many a random graph hangs together.

    Deviations:

    - A reserve that exceeds what all layers lack is shared in proportion to these floors; one that
      is smaller, in proportion to what they lack. (The published rule beyond the floors was not
      available.)
    - The sparsity asked for is that after the revival.
    - Weights that are revived start at zero, as all that grow here.
    """

    def budgets(
        self, sparse: Sequence[Selected], initial: Mapping[str, int], final: Mapping[str, int]
    ) -> dict[str, int]:
        """Share the reserve among the layers.

        Args:
            sparse: The weights.
            initial: Active weights of each at the beginning.
            final: Their budgets by the distribution, of which the sum counts.

        Returns:
            Name -> budget.
        """
        counts = {item.name: initial[item.name] for item in sparse}
        left = sum(final[item.name] for item in sparse) - sum(counts.values())
        floors = {item.name: floor(item.rows, item.cols) for item in sparse}
        free = {item.name: item.numel - counts[item.name] for item in sparse}
        lacking = {
            name: min(free[name], max(0, math.ceil(floors[name]) - counts[name])) for name in counts
        }
        first = min(left, sum(lacking.values()))
        for wishes, room, reserve in (
            (lacking, lacking, first),
            (floors, {name: free[name] - lacking[name] for name in counts}, left - first),
        ):
            given = share(reserve, [float(wishes[n]) for n in counts], [room[n] for n in counts])
            counts = {name: counts[name] + n for name, n in zip(counts, given, strict=True)}
        return dict(final) | counts

    def rewire(self, layer: Ranking, moment: Moment) -> Delta:
        """Return what the update changes in one layer."""
        return layer.refill(layer.active, layer.capacity())


def floor(rows: int, cols: int) -> float:
    """Return N ln N / 2 of the bipartite graph of a weight."""
    nodes = rows + cols
    return nodes * math.log(nodes) / 2
