"""Where the connections of input layers end up: at true features or at distractors.

In a grid or a spec, with `noise`:

    callbacks: ["dstrl.watching.inputs:InputConnections"]
"""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback

from dstrl.policies.mixin import SparsePolicy


class InputConnections(BaseCallback):
    """Counts the active weights of sparse input layers by feature when training has ended.

    Of environments with distractors (`envs.noise.NoisyFeatures`); the true features come first. In
    a critic that also reads actions these count as neither.
    """

    def _on_step(self) -> bool:
        return True

    def result(self) -> dict[str, Any]:
        """Return what was found; nothing without distractors or without sparse input layers.

        Returns:
            `features`, the mean number of connections of each feature in an input layer, and
            `true`, the percentage of connections at true features.
        """
        counts = self._counts()
        distractors = self._distractors()
        if counts is None or not distractors:
            return {}
        true = counts[: len(counts) - distractors]
        share = float(true.sum() / counts.sum()) if counts.sum() else 0.0
        return {"features": counts.tolist(), "true": 100 * share}

    def _distractors(self) -> int:
        try:
            found = self.training_env.get_attr("distractors", 0)
        except AttributeError:  # the environment has no such wrapper
            return 0
        return int(found[0])

    def _counts(self) -> torch.Tensor | None:
        """Return the connections of each feature, `(features,)`, the mean over input layers."""
        assert isinstance(self.model.policy, SparsePolicy)
        shape = self.training_env.observation_space.shape
        if shape is None or len(shape) != 1:
            return None
        found = [
            tensor.active().sum(0)[: shape[0]].double()
            for engine in self.model.policy.sparse_engines.values()
            for tensor in engine.tensors
            if tensor.role == "input"
        ]
        return torch.stack(found).mean(0) if found else None
