"""Averages of sparse networks: `torch.optim.swa_utils.AveragedModel` takes them as they are.

    averaged = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    averaged.update_parameters(net)

What is averaged are the dense weights, in which an inactive one counts as zero. Topologies are not:
places of condensed values mean other columns after an update, and masks are no numbers. The
averaged network is masked, whatever the backend of the network, and its masks have all weights that
the average has. It is denser than the network, its engine says how much, and moves no topology. Its
state is that of a dense network; `net.load_state_dict(averaged.module.state_dict(), strict=False)`
gives the network the averaged values of its own active weights.

`AveragedModel` copies the network and registers the copy. One hook on the registration of modules
notices that; it looks at `AveragedModel`s only.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.optim.swa_utils import AveragedModel

from sparse_core.budgets.selection import masked_type
from sparse_core.layers.attention import MaskedMultiheadAttention
from sparse_core.layers.chain import CondensedSequential
from sparse_core.layers.companions import forget, is_companion, key
from sparse_core.layers.condensed_attention import CondensedMultiheadAttention
from sparse_core.layers.dense import become_dense
from sparse_core.layers.kinds import become
from sparse_core.layers.masked import Masked, become_masked, masked_parameters, masked_weight
from sparse_core.layers.state import Condensed
from sparse_core.weights.engine_view import engines_in
from sparse_core.weights.followers import Follower, hooks_of

OURS = "sparse_"
"""How the names of our buffers of a whole network begin, such as that of its clock."""


@functools.cache
def watch_averages() -> None:
    """Notice from now on when an `AveragedModel` takes a copy of a sparse network."""
    register_module_module_registration_hook(_see_registration)


def _see_registration(module: nn.Module, name: str, child: nn.Module | None) -> None:
    if name != "module" or not isinstance(module, AveragedModel) or child is None:
        return
    known = "update_parameters" in vars(module)
    if known or not _can_be_averaged(child):
        return
    _become_average(child)
    vars(module)["update_parameters"] = functools.partial(_update, module)


def _can_be_averaged(root: nn.Module) -> bool:
    """Whether it is a sparse network in training, and not one with several tasks."""
    engines = engines_in(root)
    sparse = bool(engines) or any(isinstance(m, (Masked, Condensed)) for m in root.modules())
    return sparse and not any(engine.many_tasks for engine in engines)


def _become_average(root: nn.Module) -> None:
    """Turn a copy of a sparse network into a masked one whose masks follow from its weights."""
    engines = engines_in(root)
    for hooks, number, owner in hooks_of(root):
        if isinstance(owner, Follower) or any(owner is engine for engine in engines):
            del hooks[number]
    for layer in list(root.modules()):
        if isinstance(layer, Masked):
            _forget_training(layer)
        elif isinstance(layer, CondensedMultiheadAttention):
            _become_masked_attention(layer)
        elif isinstance(layer, Condensed):
            mask = layer.mask()
            become_dense(layer)
            _mask(layer, "weight", masked_type(layer), mask)
    become_dense(root, CondensedSequential)
    for engine in engines:
        engine.retire()
    root.register_load_state_dict_post_hook(_after_load)  # type: ignore[no-untyped-call]


def _become_masked_attention(attention: CondensedMultiheadAttention) -> None:
    masks = {name: c.mask() for name, c in attention.called() if isinstance(c, Condensed)}
    attention._take_dense_form(False)
    become(attention, MaskedMultiheadAttention)
    for name, mask in masks.items():
        _mask(attention, f"{name}_weight", MaskedMultiheadAttention, mask)


def _forget_training(layer: Masked) -> None:
    """Drop all but weights and masks; the weights become what the forward pass reads."""
    for name in masked_parameters(layer):
        mask = layer.get_buffer(key(name, "mask")) != 0
        weight = masked_weight(layer, name).detach().clone()
        forget(layer, name)
        with torch.no_grad():
            layer.get_parameter(name).copy_(weight)
        _mask(layer, name, type(layer), mask)


def _mask(layer: nn.Module, name: str, form: type[nn.Module], mask: Tensor) -> None:
    become_masked(layer, form, name)
    buffer = layer.get_buffer(key(name, "mask"))
    buffer.copy_(mask.reshape(buffer.shape))
    layer._non_persistent_buffers_set.add(key(name, "mask"))  # it follows from the weight


def _after_load(root: nn.Module, incompatible_keys: object) -> None:
    for weight, mask in _masked_in(root):
        mask.copy_(weight != 0)
    for engine in engines_in(root):
        engine.resume()


def _masked_in(root: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the weight and the mask of each sparse weight of an averaged network."""
    for layer in root.modules():
        if isinstance(layer, Masked):
            for name in masked_parameters(layer):
                yield layer.get_parameter(name).detach(), layer.get_buffer(key(name, "mask"))


def _update(averaged: AveragedModel, model: nn.Module) -> None:
    """Update an average with a sparse network, by the class's own rule."""
    source = Dense(model)
    with _only_dense(averaged.module):
        type(averaged).update_parameters(averaged, source)  # type: ignore[arg-type]
    for (weight, mask), active in zip(_masked_in(averaged.module), source.masks, strict=True):
        mask.copy_((weight != 0) | active.to(weight.device))
    for mine, theirs in zip(_own_state(averaged.module), _own_state(model), strict=True):
        mine.copy_(theirs)
    for engine in engines_in(averaged.module):
        engine.resume()


class Dense:
    """A sparse network in the form that `AveragedModel` averages: dense weights and no masks.

    Attributes:
        masks: Where each sparse weight is active, in its shape, bool.
    """

    def __init__(self, model: nn.Module) -> None:
        self.masks: list[Tensor] = []
        self._parameters: dict[int, Tensor] = {}
        self._buffers: dict[int, Tensor] = {}
        for _, _, owner in hooks_of(model):
            if isinstance(owner, Follower):
                owner.catch_up()
        for module in model.modules():
            if isinstance(module, CondensedMultiheadAttention):
                for _, called in module.called():
                    self._take(called)
            self._take(module)
            for name, buffer in module._buffers.items():
                if buffer is not None and not _is_state(module, name):
                    self._buffers.setdefault(id(buffer), buffer)

    def parameters(self) -> Iterator[Tensor]:
        """Yield the parameters, in the order of a dense network."""
        return iter(self._parameters.values())

    def buffers(self) -> Iterator[Tensor]:
        """Yield the buffers of a dense network."""
        return iter(self._buffers.values())

    def _take(self, module: nn.Module) -> None:
        """Take the parameters of a module itself that were not taken before."""
        for name, parameter in module._parameters.items():
            if parameter is not None and not is_companion(module, name):
                if id(parameter) not in self._parameters:
                    self._parameters[id(parameter)] = self._dense(module, name, parameter)

    def _dense(self, module: nn.Module, name: str, parameter: Tensor) -> Tensor:
        if isinstance(module, Condensed) and name == "values":
            shape = module.weight_shape
            self.masks.append(torch.from_numpy(module.pattern.to_mask()).reshape(shape))
            return module.dense_weight().reshape(shape)
        if isinstance(module, Masked) and name in masked_parameters(module):
            self.masks.append(module.get_buffer(key(name, "mask")) != 0)
            with torch.no_grad():
                return masked_weight(module, name)
        return parameter


@contextlib.contextmanager
def _only_dense(root: nn.Module) -> Iterator[None]:
    """Hide the buffers that cannot be averaged, for the length of a block."""
    kept = [(module, dict(module._buffers)) for module in root.modules()]
    for module, buffers in kept:
        for name in [name for name in buffers if _is_state(module, name)]:
            del module._buffers[name]
    try:
        yield
    finally:
        for module, buffers in kept:
            module._buffers.clear()
            module._buffers.update(buffers)


def _is_state(module: nn.Module, name: str) -> bool:
    """Whether a buffer says what is active or how far the training is, so has no average."""
    if isinstance(module, Masked) and is_companion(module, name):
        return True
    return isinstance(module, Condensed) or name.startswith(OURS)


def _own_state(root: nn.Module) -> Iterator[Tensor]:
    """Yield our buffers of a whole network, such as its clock."""
    for module in root.modules():
        for name, buffer in module._buffers.items():
            if name.startswith(OURS) and buffer is not None:
                yield buffer.detach()
