"""Inputs of which few features are other than zero, such as a batch of bags of words.

Of a layer of a million inputs a batch of 32 texts reads a few thousand columns. `CompactInput`
holds those columns only, and a condensed layer that is given one computes with the weights that lie
in them (`sparse_core.layers.compact_pass`).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class CompactInput:
    """A batch in which most features are zero in every sample; it takes no gradient.

    Attributes:
        numbers: `(n, some)`, the features that are not.
        columns: `(some,) int64`, which these are, ascending, each once.
        width: How many features there are.
    """

    numbers: Tensor
    columns: Tensor
    width: int

    def dense(self) -> Tensor:
        """Return the `(n, width)` matrix."""
        full = self.numbers.new_zeros(len(self.numbers), self.width)
        full[:, self.columns] = self.numbers
        return full
