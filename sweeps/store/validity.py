"""What makes a result valid, and one of the run that a record describes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeGuard


def fault_of(result: Mapping[str, Any]) -> str | None:
    """Say what is wrong with a runner's result; None if it is valid.

    Required are a finite `score`, a `curve` of finite pairs, `sparsity` with `requested` and
    `achieved`, and `layers` with `name`, `active` and `total`.
    """
    if not is_number(result.get("score")):
        return f"score={result.get('score')!r}: must be a finite number"
    if not is_curve(result.get("curve")):
        return "curve: must be a list of pairs of finite numbers"
    sparsity = result.get("sparsity")
    if not isinstance(sparsity, Mapping) or not all(
        is_number(sparsity.get(key)) for key in {"requested", "achieved", *sparsity}
    ):
        return f"sparsity={sparsity!r}: must hold the numbers 'requested' and 'achieved'"
    layers = result.get("layers")
    if not isinstance(layers, (list, tuple)) or not all(
        isinstance(layer, Mapping)
        and "name" in layer
        and all(is_number(layer.get(key)) for key in ("active", "total"))
        for layer in layers
    ):
        return "layers: must be a list of mappings with 'name' and the numbers 'active' and 'total'"
    return None


def is_curve(value: Any) -> bool:
    """Return whether a value is a list of pairs of finite numbers."""
    return isinstance(value, (list, tuple)) and all(
        isinstance(point, (list, tuple)) and len(point) == 2 and all(map(is_number, point))
        for point in value
    )


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def has_provenance(result: Mapping[str, Any]) -> bool:
    """Return whether a result says where it comes from, in the types that `provenance` writes."""
    origin = result.get("provenance")
    if not isinstance(origin, Mapping) or not is_number(origin.get("wall_s")):
        return False
    git, versions = origin.get("git"), origin.get("versions", {})
    is_commit = isinstance(git, Mapping) and isinstance(git.get("commit"), str) and "dirty" in git
    costs = [
        origin[key] for key in ("setup_s", "start_cpu_s", "cpu_s", "peak_rss_mb") if key in origin
    ]
    return (
        all(map(is_number, costs)) and (git is None or is_commit) and isinstance(versions, Mapping)
    )


def same_run(result: Mapping[str, Any], record: Mapping[str, Any] | None) -> bool:
    """Return whether a result is of the run that the record describes.

    Fields that only one of them has are new or gone and at their defaults; a field of both with two
    values means that a default has changed since, which the identity does not show.
    """
    if record is None or result.get("run_id") != record.get("run_id"):
        return False
    return _agree(result.get("spec"), record.get("spec"))


def _agree(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(_agree(one[key], other[key]) for key in one.keys() & other.keys())
    return bool(one == other)
