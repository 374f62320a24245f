"""Comparing runs that compute the same in another order of summation.

Rounding differs between backends and between processors. Two scores at the edge of a selection may
then be closer than their rounding errors, and the runs select one weight for another: from there on
they are two different runs, and nothing of them can be compared any more. In float32 that happens
to about one run in a hundred; in float64 to none, so what must hold exactly is tested there.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from sparse_core.budgets.patterns import Unstructured
from sparse_core.budgets.structure import Structure
from sparse_core.weights.tensor import SparseTensor


def is_a_tie(one: Tensor, other: Tensor, structure: Structure) -> bool:
    """Whether two `(rows, cols)` bool masks differ in a single swap: one cell for another."""
    here, there = (
        int((structure.cells((a & ~b).float()) > 0).sum()) for a, b in ((one, other), (other, one))
    )
    return here == there == 1


class Twins:
    """Two runs, compared after each update until a tie parts them.

    Attributes:
        compared: Comparisons in which everything was equal.
        parted: Whether a tie has parted the runs.
    """

    def __init__(self) -> None:
        self.compared = 0
        self.parted = False

    def alike(
        self, masks: Iterable[tuple[str, Tensor, Tensor]], structure: Structure | None = None
    ) -> bool:
        """Compare masks, `(name, one, other)` each; return whether the runs are still together."""
        if self.parted:
            return False
        different = [entry for entry in masks if bool((entry[1] ^ entry[2]).any())]
        if different:
            names = [name for name, _, _ in different]
            assert len(different) == 1, f"{names} differ after {self.compared} equal comparisons"
            name, one, other = different[0]
            tie = is_a_tie(one, other, structure or Unstructured())
            assert tie, f"{name}: {int((one ^ other).sum())} places differ, which is no tie"
            self.parted = True
        else:
            self.compared += 1
        return not self.parted

    def tensors_alike(self, ones: Iterable[SparseTensor], others: Iterable[SparseTensor]) -> bool:
        """Compare the topologies of the weights of two engines."""
        pairs = list(zip(ones, others, strict=True))
        return self.alike(
            [(one.name, one.active(), other.active()) for one, other in pairs],
            pairs[0][0].structure,
        )
