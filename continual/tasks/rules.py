"""How tasks can share a network, and how a sample's task can be found: the words for both.

No torch is imported here.
"""

from __future__ import annotations

from sparse_core.checks import InputError, one_of
from sparse_core.config import SparseConfig

ISOLATIONS = ("hard", "none")
SHARING_POLICIES = ("none", "reuse", "forward", "all")
SELECTORS = ("max-confidence", "entropy")


def check_isolation(isolation: str, config: SparseConfig) -> None:
    """Check that an isolation exists and that a configuration's method can be used under it.

    Raises:
        ValueError: Naming the value and what is allowed.
    """
    one_of("isolation", isolation, ISOLATIONS)
    if isolation == "hard" and (not config.facts.sparse or config.facts.in_rounds):
        raise InputError(
            f"isolation='hard': method {config.method!r} needs all weights for one task",
            field="isolation",
        )
