"""How tasks can share a network, and how a sample's task can be found: the words for both.

No torch is imported here.
"""

from __future__ import annotations

from sparse_core.checks import InputError, one_of

ISOLATIONS = ("hard", "none")
SHARING_POLICIES = ("none", "reuse", "forward", "all")
SELECTORS = ("max-confidence", "entropy")


def check_isolation(isolation: str, method: str) -> None:
    """Check that an isolation exists and that a method can be used under it.

    Raises:
        ValueError: Naming the value and what is allowed.
    """
    one_of("isolation", isolation, ISOLATIONS)
    if isolation == "hard" and method == "dense":
        raise InputError(
            "isolation='hard': method 'dense' needs all weights for one task", field="isolation"
        )
