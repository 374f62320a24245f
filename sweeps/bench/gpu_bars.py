"""What condensed layers must reach on a GPU, and whether they do.

The first three are SRigL's layer and its figures (Lasby et al. 2024, section 4.4), which were
measured with inputs that lay transposed already; here they are rows, as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """Something to reach.

    Attributes:
        name: A short one.
        what: What is measured.
        least: What it must be at least.
    """

    name: str
    what: str
    least: float


BARS = (
    Bar("forward", "3072 -> 768, 90 %, batch 256: forward, times as fast as dense float32", 1.7),
    Bar("csr", "the same, times as fast as torch's CSR", 13.0),
    Bar("backward", "the same: twice the forward's time over the backward's", 1.0),
    Bar("sac", "SAC's gradient step, [1024, 1024], 90 %: times as fast as dense", 1.5),
)


def verdicts(measured: Mapping[str, float]) -> list[str]:
    """Return a line for each bar: met, missed, or not measured.

    Args:
        measured: Figures by name of the bar, as far as there are any.
    """
    lines = []
    for bar in BARS:
        found = measured.get(bar.name)
        if found is None:
            verdict = "not measured"
        else:
            verdict = f"{'met' if found >= bar.least else 'missed'}: {found:.2f}"
        lines.append(f"{bar.what}; at least {bar.least:g}: {verdict}")
    return lines
