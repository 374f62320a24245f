"""Copies of sparse networks for inference.

A copy leaves the network as it is. It is in eval mode on the CPU, and has no engine and no
optimizer: it can be saved, copied and run, not trained.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from types import FunctionType, ModuleType

from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_core.weights.followers import Follower, hooks_of

LEFT_ALONE = (nn.Module, Optimizer, type, FunctionType, ModuleType)
"""Objects that are not searched for tensors of a graph: modules are searched one by one."""


def inference_copy(module: nn.Module) -> nn.Module:
    """Return a copy in eval mode on the CPU, without engines and optimizers."""
    engine = object()
    memo: dict[int, object] = {}
    for child in module.modules():
        if "sparse_engine" in child.__dict__:
            memo[id(child.__dict__["sparse_engine"])] = engine
        for value in child.__dict__.values():
            if isinstance(value, Optimizer):
                memo[id(value)] = None
    for _, _, owner in hooks_of(module):
        if isinstance(owner, Follower):
            owner.catch_up()
            memo[id(owner)] = engine
    for tensor in _left_by_forward(module):  # `deepcopy` refuses to copy a part of a graph
        memo[id(tensor)] = tensor.detach().clone()
    result = copy.deepcopy(module, memo)
    for child in result.modules():
        child.__dict__.pop("sparse_engine", None)
        child._buffers.pop("sparse_clock", None)
    for hooks, key, owner in hooks_of(result):
        if owner is engine:
            del hooks[key]
    return result.cpu().eval()


def _left_by_forward(module: nn.Module) -> Iterator[Tensor]:
    """Yield the tensors in a module's attributes that are part of an autograd graph."""
    looked_at: set[int] = set()
    waiting: list[object] = [vars(child) for child in module.modules()]
    while waiting:
        value = waiting.pop()
        if id(value) in looked_at or isinstance(value, LEFT_ALONE):
            continue
        looked_at.add(id(value))
        if isinstance(value, Tensor):
            if value.grad_fn is not None:
                yield value
        elif isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, (list, tuple, set)):
            waiting.extend(value)
        elif hasattr(value, "__dict__"):
            waiting.append(vars(value))
