"""Random streams that are derived by name, so that no two parts share one.

A stream is a function of the seed and of what it is for ("growth", update 7, layer "0.weight"),
not of what was drawn before it. Masks and growth therefore never disturb the streams of data or
environments, and a resumed run needs no generator state: the clock is enough.
"""

from __future__ import annotations

import hashlib

import torch


def stream(seed: int, *names: object) -> torch.Generator:
    """Return a CPU generator for one purpose.

    Args:
        seed: The run's seed.
        names: What the stream is for; any values with a stable `str`.
    """
    text = "/".join(map(str, (seed, *names)))
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
