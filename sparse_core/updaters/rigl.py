"""RigL: SET that grows where the dense gradient is largest."""

from __future__ import annotations

from sparse_core.updaters.set import SET


class RigL(SET):
    """Rigging the Lottery (Evci et al. 2020, Alg. 1): growth by the dense gradient's magnitude.

    Deviation: the update follows the optimizer step instead of replacing it.
    """
