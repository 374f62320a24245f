"""A data set of one's own: which of six waves is it, under noise?"""

from __future__ import annotations

import numpy as np

CLASSES, LENGTH = 6, 48


def waves() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return training inputs and labels, test inputs and labels."""
    rng = np.random.default_rng(0)

    def draw(samples: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(CLASSES, size=samples)
        time = np.linspace(0, 2 * np.pi, LENGTH)
        phases = rng.uniform(0, 2 * np.pi, (samples, 1))
        clean = np.sin((labels[:, None] + 1) * time + phases)
        return (clean + rng.normal(0, 0.5, clean.shape)).astype(np.float32), labels

    return *draw(1_200), *draw(600)
