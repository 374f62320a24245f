"""MEST: drop by magnitude and gradient, grow at random, with a soft memory bound."""

from __future__ import annotations

from sparse_core.updaters.ranked import Ranking
from sparse_core.updaters.scene import Moment
from sparse_core.updaters.set import SET
from sparse_core.weights.delta import Delta


class MEST(SET):
    """Memory-economic sparse training (Yuan et al. 2021, section 3).

    The fraction that moves shrinks with the schedule (elastic mutation). With `slack` > 0 the
    memory bound is soft (EM&S): between updates a layer holds up to `slack` times its budget more,
    so that new weights are trained before they compete; the surplus shrinks with the fraction and
    the last update leaves the budget exactly. `slack=0` is the hard bound (EM).

    Deviation: the fraction follows the configured decay instead of steps at given epochs.
    """

    def rewire(self, layer: Ranking, moment: Moment) -> Delta:
        """Return what the update changes in one layer."""
        capacity = layer.capacity()
        paid = layer.paid(capacity)
        kept = layer.strongest(paid - int(moment.fraction * paid))
        scale = moment.fraction / self.config.drop_fraction if self.config.drop_fraction else 0.0
        slack = 0.0 if moment.last else self.config.slack * scale
        return layer.refill(kept, capacity + (capacity * slack).long())
