"""All that an error must leave as it was."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def snapshot(net: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> list[Any]:
    """All that an error must not change, to the byte."""

    def raw(value: Any) -> Any:
        if not torch.is_tensor(value):
            return value
        return value.dtype, value.shape, value.detach().clone().contiguous().numpy().tobytes()

    modules = [
        (name, type(m), sorted(m._buffers), len(m._forward_pre_hooks), len(m._forward_hooks),
         len(m._load_state_dict_post_hooks), sorted(k for k in vars(m) if k != "training"))
        for name, m in net.named_modules()
    ]  # fmt: skip
    tensors = [(k, raw(v)) for k, v in net.state_dict().items()]
    gradients = [None if p.grad is None else raw(p.grad) for p in net.parameters()]
    if optimizer is None:
        return [modules, tensors, gradients]
    state = [
        {key: raw(value) for key, value in optimizer.state.get(p, {}).items()}
        for group in optimizer.param_groups
        for p in group["params"]
    ]
    hooks = len(optimizer._optimizer_step_pre_hooks), len(optimizer._optimizer_step_post_hooks)
    return [modules, tensors, gradients, state, hooks]
