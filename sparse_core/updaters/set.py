"""SET: drop the smallest weights, grow at random."""

from __future__ import annotations

from sparse_core.updaters.base import DropAndGrow


class SET(DropAndGrow):
    """Sparse Evolutionary Training (Mocanu et al. 2018).

    Deviations: drops by magnitude unless `drop="signed"` is asked for, the fraction follows the
    schedule, and grown weights start at zero. All three as in RigL's comparison (Evci et al. 2020).
    """
