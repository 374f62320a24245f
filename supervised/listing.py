"""What a supervised run can name: presets, a line for each. No torch is imported."""

from __future__ import annotations

from collections.abc import Mapping

from sparse_core.checks import one_of
from sparse_core.listing import Entry

PRESETS: Mapping[str, Mapping[str, str]] = {
    "rec": {
        "dsl": 'Wang et al. 2024, "Dynamic Sparse Learning: A Novel Paradigm for Efficient '
        'Recommendation" (WSDM)',
        "sparserec": "SparseRec 2024 (arXiv 2411.12205), three changes to dsl",
    },
    "vision": {
        "rigl": 'Evci et al. 2020, "Rigging the Lottery: Making All Tickets Winners" (ICML)',
        "srigl": 'Lasby et al. 2024, "Dynamic Sparse Training with Structured Sparsity" (ICLR)',
    },
}
"""Papers of presets by kind of run."""


def described(kind: str) -> list[Entry]:
    """List what there is of a kind.

    Args:
        kind: `presets`.

    Raises:
        InputError: On another kind.
    """
    one_of("kind", kind, ("presets",))
    return [
        Entry(name, f"{run}: {paper}", f"supervised/{run}/presets.py")
        for run, papers in PRESETS.items()
        for name, paper in papers.items()
    ]
