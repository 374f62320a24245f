"""Which patterns of active weights are allowed: structures see a matrix as lanes of cells.

A cell is what becomes active or inactive as one; a lane holds a fixed number of active cells:

    structure           cell                              lane         active cells in a lane
    unstructured        a weight                          the matrix   the budget
    constant fan-in     a weight                          a row        k = budget // rows
    grouped (group=g)   g weights of g neurons, a column  g rows       k = budget // rows
    N:M                 a weight                          M in a row   N
    neurons             a row                             the matrix   what the budget pays for
    R x C blocks        a block                           the matrix   what the budget pays for

With that, drawing a first mask, choosing what survives and what grows, and checking a mask are the
same few functions for every structure.

Where R, C or g do not divide a layer, cells at its edge hold fewer weights. The score of a cell is
the mean over its weights and a random cell draws one number, so no rank follows from a size (but
the mean of fewer weights varies more). A block at an edge costs the budget what it holds, and the
highest blocks are taken as long as the budget pays for a whole one, so that none gets in for being
small: such a layer is less than a block short of its budget, by a number that changes as its
topology moves. Where blocks are equal it has its budget exactly.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from sparse_core.budgets.ranking import MINUS_INFINITY, top_within


class Structure(ABC):
    """A pattern for a `(rows, cols)` matrix. `mask: (rows, cols) bool`, True = active."""

    @abstractmethod
    def least(self, rows: int, cols: int) -> int:
        """Return the fewest active weights the structure can have."""

    @abstractmethod
    def quantum(self, rows: int, cols: int, *, alike: bool = False) -> int:
        """Return the number of weights that a budget is a multiple of.

        Args:
            rows: Rows of the matrix.
            cols: Its columns.
            alike: Whether all lanes must hold equally many.
        """

    @abstractmethod
    def cells(self, scores: Tensor) -> Tensor:
        """View `(rows, cols)` scores as `(lanes, width)`, the mean over the weights of a cell."""

    @abstractmethod
    def expand(self, cells: Tensor, rows: int, cols: int) -> Tensor:
        """Turn a `(lanes, width)` bool selection into a `(rows, cols)` mask."""

    @abstractmethod
    def capacity(self, budget: int, rows: int, cols: int, live: Tensor | None = None) -> Tensor:
        """Return `(lanes,)` int64: how many cells of each lane are active, times their prices.

        Args:
            budget: Active weights in the matrix.
            rows: Its rows.
            cols: Its columns.
            live: `(lanes,)` bool, lanes that are not ablated; None: all.
        """

    def prices(self, rows: int, cols: int) -> Tensor | None:
        """Return `(lanes, width)` int64: how much of its lane's capacity a cell uses; None: one."""
        return None

    def alike(self, draws: Tensor) -> Tensor:
        """Give all weights of a cell the number of its first one, `(rows, cols)`."""
        return draws

    def any_in_cell(self, mask: Tensor) -> Tensor:
        """Return `(lanes, width)` bool: the cells that hold a True of a `(rows, cols)` mask."""
        return self.cells(mask.to(torch.float32)) > 0

    def highest(
        self, cells: Tensor, budget: int, rows: int, cols: int, live: Tensor | None = None
    ) -> Tensor:
        """Return the `(rows, cols)` mask of the highest `(lanes, width)` scores; -inf: never.

        Args:
            cells: The scores.
            budget: Active weights.
            rows: Rows of the matrix.
            cols: Its columns.
            live: `(lanes,)` bool, lanes that get weights; None: all.
        """
        capacity = self.capacity(budget, rows, cols, live)
        return self.expand(top_within(cells, capacity, self.prices(rows, cols)), rows, cols)

    def initial(
        self,
        rows: int,
        cols: int,
        budget: int,
        scores: Tensor,
        available: Tensor | None = None,
        live: Tensor | None = None,
    ) -> Tensor:
        """Return the mask with `budget` active weights of the highest scores that is allowed.

        Args:
            rows: Rows of the matrix.
            cols: Its columns.
            budget: Active weights.
            scores: `(rows, cols)`, random ones, `alike` in a cell, for a random mask.
            available: `(rows, cols)` bool, where weights may be; None: everywhere.
            live: `(lanes,)` bool, lanes that get weights; None: all.

        Raises:
            ValueError: If too few weights are available.
        """
        if live is not None and not bool(live.any()):
            raise ValueError(f"no lane of its {self} is left")
        per_cell = self.cells(scores)
        if available is not None:
            free = ~self.any_in_cell(~available.to(scores.device))
            left = self.held(free, rows, cols)
            capacity = self.capacity(budget, rows, cols, live).to(scores.device)
            short = capacity - left
            if bool((short > 0).any()):
                lane = int(short.argmax())
                raise ValueError(
                    f"lane {lane} of its {self} needs {int(capacity[lane])} free places, "
                    f"{int(left[lane])} are left"
                )
            per_cell = per_cell.masked_fill(~free, MINUS_INFINITY)
        return self.highest(per_cell, budget, rows, cols, live)

    def held(self, cells: Tensor, rows: int, cols: int) -> Tensor:
        """Return `(lanes,)` int64: how much of each lane's capacity a set of cells uses."""
        prices = self.prices(rows, cols)
        return cells.sum(1) if prices is None else (cells * prices.to(cells.device)).sum(1)

    def refill(
        self,
        kept: Tensor,
        keep_scores: Tensor,
        grow_scores: Tensor,
        capacity: Tensor,
        prices: Tensor | None = None,
    ) -> Tensor:
        """Bring every lane to its capacity: truncate by `keep_scores`, grow by `grow_scores`.

        Args:
            kept: `(lanes, width)` bool, cells that survived the drop.
            keep_scores: `(lanes, width)`, the higher the likelier to survive a truncation.
            grow_scores: `(lanes, width)`, the higher the likelier to grow. Cells that were just
                dropped are candidates like any other (RigL, Alg. 1).
            capacity: `(lanes,)` int64.
            prices: As the method of this name gives them.

        Returns:
            `(lanes, width)` bool with as many cells in each lane as `capacity` pays for.
        """
        kept = top_within(keep_scores.masked_fill(~kept, MINUS_INFINITY), capacity, prices) & kept
        spent = kept.sum(1) if prices is None else (kept * prices.to(kept.device)).sum(1)
        left = capacity.to(kept.device) - spent
        return kept | top_within(grow_scores.masked_fill(kept, MINUS_INFINITY), left, prices)

    def check(self, mask: Tensor, budget: int) -> None:
        """Check that a `(rows, cols)` mask obeys the structure; ablated lanes are allowed.

        Raises:
            ValueError: Saying which lane holds how much.
        """
        rows, cols = mask.shape
        cells = self.any_in_cell(mask)
        if not torch.equal(self.expand(cells, rows, cols), mask):
            raise ValueError(f"mask cuts through a cell of its {self}")
        held = self.held(cells, rows, cols)
        live = held > 0
        if not bool(live.any()):
            raise ValueError(f"mask of its {self} is empty")
        capacity = self.capacity(budget, rows, cols, live).to(held.device)
        prices = self.prices(rows, cols)
        dearest = 1 if prices is None else int(prices.max())
        wrong = live & ((held > capacity) | (capacity - held >= dearest))
        if bool(wrong.any()):
            lane = int(wrong.int().argmax())
            unit = "cells" if prices is None else "weights"
            raise ValueError(
                f"lane {lane} of its {self} has {int(held[lane])} of {int(capacity[lane])} {unit}"
            )
