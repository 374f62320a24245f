"""How much the topology changes: churn, overlap, neurons ablated and revived."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass

from torch import Tensor

from sparse_core.engine import Engine
from sparse_core.updaters.scene import Moment
from sparse_core.weights.delta import Delta


@dataclass(frozen=True)
class Overlap:
    """How alike two masks A and B are.

    Attributes:
        jaccard: |A and B| / |A or B|; 1 where both are empty.
        retained: |A and B| / |A|; 1 where A is empty.
        divergence: Positions in which they differ (SAD; Zhou et al. 2021, section 3.3).
    """

    jaccard: float
    retained: float
    divergence: int


def overlap(before: Tensor, after: Tensor) -> Overlap:
    """Compare two bool masks of equal shape, True = active."""
    if before.shape != after.shape:
        raise ValueError(f"masks of shapes {tuple(before.shape)} and {tuple(after.shape)}")
    both = int((before & after).sum())
    return Overlap(
        _share(both, int((before | after).sum()), empty=1.0),
        _share(both, int(before.sum()), empty=1.0),
        int((before ^ after).sum()),
    )


@dataclass(frozen=True)
class Change:
    """What one update changed in one layer, or the sum over several.

    Attributes:
        before: Weights that were active before the update.
        dropped: Of these, how many are no longer.
        grown: Weights that have become active.
        ablated: Neurons that lost their last weight.
        revived: Neurons that had none and got some.
    """

    before: int = 0
    dropped: int = 0
    grown: int = 0
    ablated: int = 0
    revived: int = 0

    @property
    def after(self) -> int:
        """Weights that are active after the update."""
        return self.before - self.dropped + self.grown

    @property
    def churn(self) -> float:
        """Fraction of the active weights that the update replaced: dropped / before."""
        return _share(self.dropped, self.before, empty=0.0)

    @property
    def divergence(self) -> int:
        """Positions in which the masks before and after differ.

        The sparse architecture divergence of an update (SAD; Zhou et al. 2021, section 3.3), by
        which RNM-TD3 (Vrce et al. 2026) follows N:M masks in reinforcement learning.
        """
        return self.dropped + self.grown

    @property
    def jaccard(self) -> float:
        """|A and B| / |A or B| of the masks before and after."""
        return _share(self.before - self.dropped, self.before + self.grown, empty=1.0)

    def __add__(self, other: Change) -> Change:
        return Change(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


class TopologyMeter:
    """Observes an engine's updates from the moment it is made.

    Copying or pickling the network takes the meter along with the engine that it observes.

    Attributes:
        updates: Updates seen.
        last: Layer -> what the last update changed.
        total: Layer -> the sum over all updates; its `churn` is the mean churn.
    """

    def __init__(self, engine: Engine) -> None:
        self.updates = 0
        self.last = {tensor.name: Change() for tensor in engine.tensors}
        self.total = dict(self.last)
        self._engine = engine
        self._start = {tensor.name: tensor.active().clone() for tensor in engine.tensors}
        engine.observers.append(self)

    def __call__(self, moment: Moment, deltas: Mapping[str, Delta]) -> None:
        """Take note of an update; the engine calls this when it is done."""
        for tensor in self._engine.tensors:
            delta = deltas[tensor.name]
            dropped, grown = delta.dropped.numel(), delta.grown.numel()
            self.last[tensor.name] = Change(
                tensor.count() - grown + dropped,
                dropped,
                grown,
                delta.ablated.numel(),
                delta.revived.numel(),
            )
            self.total[tensor.name] += self.last[tensor.name]
        self.updates += 1

    def since_start(self) -> dict[str, Overlap]:
        """Compare each layer's mask with the one it had when the meter was made."""
        return {
            tensor.name: overlap(self._start[tensor.name], tensor.active())
            for tensor in self._engine.tensors
        }

    def detach(self) -> None:
        """Stop observing."""
        self._engine.observers.remove(self)


def overall(changes: Iterable[Change]) -> Change:
    """Add up the changes of several layers."""
    return sum(changes, Change())


def _share(part: int, whole: int, empty: float) -> float:
    return part / whole if whole else empty
