"""SET: drop the smallest weights, grow at random."""

from __future__ import annotations

from sparse_core.updaters.base import Updater


class SET(Updater):
    """Sparse Evolutionary Training (Mocanu et al. 2018).

    Deviations: drops by magnitude regardless of sign, and the fraction follows the schedule; grown
    weights start at zero. All three as in RigL's comparison (Evci et al. 2020, section 4).
    """
