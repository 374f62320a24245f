"""Small data sets whose labels follow from their features, written in the text format."""

from __future__ import annotations

from pathlib import Path

import numpy as np

FEATURES, LABELS = 30, 10


def write(path: Path, samples: int, seed: int = 0) -> Path:
    """Write samples; label i belongs to those with feature 3 i."""
    rng = np.random.default_rng(seed)
    lines = [f"{samples} {FEATURES} {LABELS}"]
    for _ in range(samples):
        own = rng.choice(LABELS, rng.integers(1, 4), replace=False)
        noise = rng.choice(FEATURES, 4, replace=False)
        found = sorted({*(3 * own).tolist(), *(f for f in noise.tolist() if f % 3)})
        lines.append(",".join(map(str, sorted(own))) + "".join(f" {f}:1" for f in found))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path
