"""Presets: published systems by name, values that stand beneath those given. No torch is imported.

    dsl          Dynamic Sparse Learning: RigL on one table of all users and items, LightGCN
    sparserec    SparseRec's three changes to it: the first mask from a non-negative factorisation,
                 growth by a gradient accumulated over batches, in a sample of the vectors

Where they differ from the systems: DSL's update ratio falls by a cosine to 0.005, here to 0; masks
are exact where DSL draws each weight; moments of moved weights are reset (DSL keeps Adam's); the
epoch is chosen on pairs held out, not on the test pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparse_core.checks import InputError

_DSL: dict[str, Any] = {
    "model": "lightgcn",
    "layers": 3,
    "size": 64,
    "loss": "bpr",
    "penalty": 1e-4,
    "batch_size": 1024,
    "epochs": 1000,
    "lr": 0.01,
    "lazy": False,
}
_SPARSE: dict[str, Any] = {
    "method": "rigl",
    "sparsity": 0.5,
    "distribution": "uniform",
    "update_every": 3000,
    "drop_fraction": 0.5,
    "stop_at": 1.0,
    "backend": "auto",
}

PRESETS: Mapping[str, dict[str, Any]] = {
    "dsl": {**_DSL, "sparse": _SPARSE},
    "sparserec": {
        **_DSL,
        "start": "nmf",
        "sparse": {
            **_SPARSE,
            "growth": "supervised.rec.growth:sampled_rows",
            "gradient_steps": 100,
        },
    },
}


def expand(values: Mapping[str, Any]) -> dict[str, Any]:
    """Put the values of the preset that is named beneath those that are given.

    Args:
        values: Fields of a run, nested; `preset` among them or not.

    Returns:
        The fields, without `preset`.

    Raises:
        InputError: If there is no such preset.
    """
    said = dict(values)
    name = said.pop("preset", None)
    if name is None:
        return said
    if name not in PRESETS:
        raise InputError(f"preset={name!r}: must be one of {', '.join(PRESETS)}", field="preset")
    preset = PRESETS[name]
    sparse = said.get("sparse", {})
    if isinstance(sparse, Mapping):
        said["sparse"] = preset["sparse"] | dict(sparse)
    return preset | said
