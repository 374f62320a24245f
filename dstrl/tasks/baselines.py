"""What policies for tasks in sequence have to beat: dense ones (`sparse_core.baselines`)."""

from __future__ import annotations

from collections.abc import Mapping

from sparse_core.baselines import Baseline, baselines

BASELINES: Mapping[str, Baseline] = baselines(Baseline, "policy")
