"""Seeds that are derived by name, so that no two parts of a run share a random stream."""

from __future__ import annotations

import hashlib


def derive(seed: int, *names: object) -> int:
    """Return a seed below 2^31 for one purpose.

    Args:
        seed: The run's seed.
        names: What the seed is for; any values with a stable `str`.
    """
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
