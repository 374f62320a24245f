"""What an optimizer does with a weight that it has never trained: found out by a trial.

A twin of the optimizer, of its class and with the options of one of its groups, makes steps on a
few numbers of its own. What it first writes into its state is what an untrained weight starts from:
zero for most moments, `lr` for Rprop's step size, `initial_accumulator_value` for Adagrad's sum.
Whether a zero stays a zero while its gradient is zero says whether inactive weights can be left to
it. So optimizers that are not torch's are treated by what they do, whatever their names.

State that is not kept for each weight, such as Adam's step counter, stays as it is.
"""

from __future__ import annotations

import inspect
import warnings
from collections import UserDict
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.optim import Optimizer

Options = dict[str, Any]


class _FirstValues(UserDict[str, Any]):
    """The state of a parameter, which remembers what each entry was at first."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.first: dict[str, Tensor] = {}
        super().__init__(state)

    def __setitem__(self, key: str, value: Any) -> None:
        if torch.is_tensor(value):
            self.first.setdefault(key, value.detach().clone())
        super().__setitem__(key, value)


_STARTS: WeakKeyDictionary[Optimizer, dict[Any, tuple[Options, Mapping[str, float]]]]
_STARTS = WeakKeyDictionary()
_LEAVES_ZEROS: WeakKeyDictionary[Optimizer, tuple[int, bool]] = WeakKeyDictionary()


def initial_state(optimizer: Optimizer, parameter: Tensor) -> Mapping[str, float]:
    """Return the initial state of a weight by name: entries that are kept for each weight.

    Args:
        optimizer: Any optimizer.
        parameter: One that it trains; the options of its group count, as they are now.
    """
    groups = enumerate(optimizer.param_groups)
    found = [(i, g) for i, g in groups if any(p is parameter for p in g["params"])]
    if not found:
        return {}
    index, group = found[0]
    known = _STARTS.setdefault(optimizer, {})
    key = (index, parameter.dim(), parameter.dtype, parameter.device)
    options = {name: _plain(value) for name, value in _options(group).items()}
    if key not in known or known[key][0] != options:
        known[key] = options, _ask(optimizer, group, parameter)
    return known[key][1]


def leaves_zeros(optimizer: Optimizer) -> bool:
    """Whether a weight stays zero while its gradient is zero; with LBFGS and Muon it does not."""
    groups = len(optimizer.param_groups)
    if _LEAVES_ZEROS.get(optimizer, (0, False))[0] != groups:
        found = all(_leaves_zeros(optimizer, group) for group in optimizer.param_groups)
        _LEAVES_ZEROS[optimizer] = groups, found
    return _LEAVES_ZEROS[optimizer][1]


def _ask(optimizer: Optimizer, group: Options, parameter: Tensor) -> Mapping[str, float]:
    probe = parameter.new_zeros((2,) * parameter.dim()).requires_grad_()
    try:
        twin = _twin(optimizer, group, probe)
        state = _FirstValues(twin.state.get(probe, {}))
        twin.state[probe] = state
        _step(twin, probe, torch.zeros_like(probe))
    except Exception as error:  # whatever a class of somebody else's may raise
        warnings.warn(
            f"optimizer {type(optimizer).__name__}: what it starts a weight from cannot be tried "
            f"({type(error).__name__}: {error}); the state of grown weights starts from zero",
            stacklevel=2,
        )
        return {}
    own = {name: value for name, value in state.first.items() if value.shape == probe.shape}
    return {name: float(value.flatten()[0]) for name, value in own.items()}


def _leaves_zeros(optimizer: Optimizer, group: Options) -> bool:
    most = max(group["params"], key=torch.Tensor.dim, default=None)
    if most is None:
        return True
    probe = most.new_ones((3,) * most.dim())
    probe.view(-1)[-1] = 0
    falling = torch.arange(probe.numel(), 0, -1, dtype=probe.dtype, device=probe.device)
    gradient = falling.reshape(probe.shape) * probe
    probe.requires_grad_()
    moving = {"lr": 0.1} if isinstance(group.get("lr"), float) else {}
    try:
        twin = _twin(optimizer, group | moving, probe)
        for sign in (1, 1, -1):
            _step(twin, probe, sign * gradient)
    except Exception:  # needs a closure, another optimizer, ...
        return False
    return not bool(probe.detach().view(-1)[-1])


def _twin(optimizer: Optimizer, group: Options, probe: Tensor) -> Optimizer:
    """Make another optimizer of the same class, with the options of a group, for one parameter."""
    kind, options = type(optimizer), _options(group)
    known = inspect.signature(kind).parameters
    named = {name: value for name, value in options.items() if name in known}
    return kind([{"params": [probe], **options}], **named)


def _step(twin: Optimizer, probe: Tensor, gradient: Tensor) -> None:
    probe.grad = gradient
    quiet = warnings.catch_warnings(action="ignore")  # what it has to say, it says in real steps
    with quiet, torch.random.fork_rng([probe.device] if probe.is_cuda else []):
        twin.step()


def _options(group: Options) -> Options:
    return {name: value for name, value in group.items() if name not in ("params", "param_names")}


def _plain(value: Any) -> Any:
    return value.tolist() if torch.is_tensor(value) else value
