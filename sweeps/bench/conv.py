"""Speed of condensed convolutions in training, modules under autograd: `dst bench conv`.

Measures, in one run and in turns, forward and backward passes of single layers of 3 x 3 (images in,
images out, gradients of input, weights and bias), of four such layers with normalisation and ReLU
behind each, gradient steps of DQN with the CNN of Mnih et al. (2015), and, with `--cases resnet`,
training steps of residual networks (batch 128, SGD with momentum, channels last), which take
minutes. `dense` is the faster of `nchw` and `channels_last`, torch's layouts of dense convolutions;
a mask over the weight is what a simulation of sparsity costs. Convolutions of sparseprop are
measured where it is installed (extra `peers`). Beside a ratio stands the rate of useful operations,
two for each active weight, output pixel, sample and product, and its fraction of the core's
multiply-add peak.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sweeps.bench.command import Calls, Case, Setting, exit_code, run
from sweeps.bench.timing import Record, records

if TYPE_CHECKING:
    import torch
    from torch import nn

LAYERS = ((64, 16, 32), (64, 32, 32), (128, 8, 64), (256, 8, 32))
"""Channels, height and width of images, batch."""

SPARSITIES = (0.9, 0.95)
GROUPS = (1, 4)
DEPTH = 4
DQN_BATCH = 32
RESNETS = {"resnet20x4": (64, 3, 3), "resnet18": (64, 4, 2)}
"""Name -> width, stages and blocks of a stage; 20 layers, four times as wide as usual, and 18."""

RESNET_BATCH = 128


def layer(setting: Setting) -> Iterator[list[Record]]:
    """Forward and backward passes of one layer of 3 x 3."""
    yield from _passes("layer", 1, LAYERS[:1] if setting.quick else LAYERS, setting)


def chain(setting: Setting) -> Iterator[list[Record]]:
    """Forward and backward passes of four layers with normalisation and ReLU behind each."""
    yield from _passes("chain", DEPTH, LAYERS[:1] if setting.quick else LAYERS, setting)


def _passes(
    case: str, depth: int, layers: tuple[tuple[int, int, int], ...], setting: Setting
) -> Iterator[list[Record]]:
    import torch

    for channels, size, batch in layers:
        for sparsity in SPARSITIES[:1] if setting.quick else SPARSITIES:
            nets = _nets(channels, depth, sparsity)
            calls: Calls = {}
            for name, net in nets.items():
                last = name == "channels_last"
                layout = torch.channels_last if last else torch.contiguous_format
                shape = batch, channels, size, size
                calls[name] = _step(net.to(memory_format=layout), shape, layout)  # type: ignore[call-overload]
            medians = setting.turns(calls)
            medians["dense"] = min(medians["nchw"], medians["channels_last"])
            once = 2.0 * 3 * batch * size**2
            work = {name: once * _weights(net) for name, net in nets.items()}
            work["dense"] = work["nchw"]
            if "sparseprop" in work:
                work["sparseprop"] = work["masked"]
            facts = (channels, channels), batch, sparsity, setting.threads
            yield records(f"{case} {size}x{size}", *facts, medians, work, setting.peak)


def _nets(channels: int, depth: int, sparsity: float) -> dict[str, nn.Module]:
    """Return the contestants: modules of the same shape."""
    from sweeps.bench.peers import sparseprop_convolution

    nets = {"nchw": _dense(channels, depth), "channels_last": _dense(channels, depth)}
    nets["masked"] = _sparse(channels, depth, sparsity, "masked", 1)
    peer = sparseprop_convolution(_pruned(channels, sparsity)) if depth == 1 else None
    if peer is not None:
        nets["sparseprop"] = peer
    for group in GROUPS:
        nets[f"condensed:{group}"] = _sparse(channels, depth, sparsity, "condensed", group)
    return nets


def _dense(channels: int, depth: int) -> nn.Module:
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers.append(nn.Conv2d(channels, channels, 3, padding=1))
        layers += [nn.BatchNorm2d(channels), nn.ReLU()] if depth > 1 else []
    return nn.Sequential(*layers)


def _sparse(channels: int, depth: int, sparsity: float, backend: str, group: int) -> nn.Module:
    from sparse_core import SparseConfig, sparsify

    net = _dense(channels, depth)
    config: dict[str, Any] = dict(structure="constant_fan_in", group=group, backend=backend)
    config |= dict(method="static", sparsity=sparsity, distribution="uniform", dense=())
    sparsify(net, SparseConfig(**config), roles={"*": "hidden"})
    return net


def _pruned(channels: int, sparsity: float) -> nn.Conv2d:
    """Return a dense convolution with zeros."""
    from torch import nn

    from sparse_core.layers.dense import become_dense

    net = _sparse(channels, 1, sparsity, "masked", 1)
    become_dense(net)
    found = next(net.children())
    assert isinstance(found, nn.Conv2d)
    return found


def _weights(net: nn.Module) -> float:
    """Return the active weights of a network's convolutions."""
    from torch import nn

    from sparse_core.layers.state import Condensed

    total = 0
    for module in net.modules():
        if isinstance(module, Condensed):
            total += module.pattern.nnz
        elif isinstance(module, nn.Conv2d):
            active = module._buffers.get("weight_mask")
            total += int(((module.weight if active is None else active) != 0).count_nonzero())
    return float(total)


def _step(
    net: nn.Module, shape: tuple[int, ...], layout: torch.memory_format
) -> Callable[[], object]:
    """Return a forward and backward pass; its gradients are new every time."""
    import torch

    x = torch.randn(shape).contiguous(memory_format=layout).requires_grad_()
    dy = torch.randn(shape).contiguous(memory_format=layout)

    def call() -> object:
        x.grad = None
        net.zero_grad()
        out = net(x)
        out.backward(dy)
        return out

    return call


def resnet(setting: Setting) -> Iterator[list[Record]]:
    """Training steps of whole networks, all sparse but for the first layer and the last."""
    for name, shape in RESNETS.items():
        for sparsity in SPARSITIES[:1] if setting.quick else SPARSITIES:
            calls: Calls = {"dense": _resnet_step(shape, 0.0)}
            for distribution in ("erk", "uniform"):
                calls[f"condensed_{distribution}"] = _resnet_step(shape, sparsity, distribution)
            facts = (3, 10), RESNET_BATCH, sparsity, setting.threads
            yield _uncounted(name, facts, setting.turns(calls))


def _resnet_step(
    shape: tuple[int, int, int], sparsity: float, distribution: str = "erk"
) -> Callable[[], object]:
    """Return a training step; `sparsity=0` for a dense network."""
    import torch
    from torch.nn.functional import cross_entropy

    from sparse_core import SparseConfig, sparsify
    from sparse_core.networks.residual import CLASSES
    from sparse_core.networks.residual import resnet as make

    torch.manual_seed(0)
    net = make(*shape).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if sparsity:
        fields: dict[str, Any] = dict(distribution=distribution, dense=("input", "output"))
        fields |= dict(method="static", structure="constant_fan_in", sparsity=sparsity)
        sparsify(net, SparseConfig(backend="auto", **fields), batch=RESNET_BATCH)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    x = torch.randn(RESNET_BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, CLASSES, (RESNET_BATCH,))

    def call() -> object:
        optimizer.zero_grad()
        loss = cross_entropy(net(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss

    return call


def dqn(setting: Setting) -> Iterator[list[Record]]:
    """Gradient steps of DQN on images of 4 x 84 x 84, batch 32, at 90 %."""
    calls: Calls = {"dense": _dqn_step("dense", 1), "masked": _dqn_step("masked", 1)}
    for group in GROUPS:
        calls[f"condensed:{group}"] = _dqn_step("auto", group)
    facts = (4 * 84 * 84, 6), DQN_BATCH, 0.9, setting.threads
    yield _uncounted("dqn", facts, setting.turns(calls))


def _uncounted(
    case: str, facts: tuple[tuple[int, int], int, float, int], medians: dict[str, float]
) -> list[Record]:
    """Return records of steps whose useful operations are not counted."""
    found = records(case, *facts, medians, dict.fromkeys(medians, 0.0), 1.0)
    return [replace(record, gflops=None, of_peak=None) for record in found]


def _dqn_step(backend: str, group: int) -> Callable[[], object]:
    """Return a gradient step, replay included, on random images."""
    import gymnasium as gym
    import numpy as np
    import stable_baselines3 as sb3
    from stable_baselines3.common.logger import Logger

    from dstrl import SparseDQNCnnPolicy

    class Images(gym.Env[Any, Any]):
        """Random images, six actions."""

        observation_space = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
        action_space = gym.spaces.Discrete(6)

        def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
            return self.observation_space.sample(), {}

        def step(self, _: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            return self.observation_space.sample(), 0.0, False, False, {}

    options: dict[str, Any] = dict(buffer_size=500, batch_size=DQN_BATCH, seed=0, device="cpu")
    policy: Any = "CnnPolicy"
    if backend != "dense":
        fields: dict[str, Any] = dict(
            method="srigl", sparsity=0.9, group=group, backend=backend, min_fan_in=1
        )
        policy = SparseDQNCnnPolicy
        options["policy_kwargs"] = {"sparse": fields}
    model = sb3.DQN(policy, Images(), learning_starts=100, train_freq=1000, **options)
    model.set_logger(Logger(None, []))
    model.learn(200)
    return lambda: model.train(1, DQN_BATCH)


CASES: dict[str, Case] = {"layer": layer, "chain": chain, "resnet": resnet, "dqn": dqn}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    return run("dst bench conv", __doc__, CASES, arguments, long=("resnet",))


if __name__ == "__main__":
    sys.exit(exit_code("dst bench conv", main))
