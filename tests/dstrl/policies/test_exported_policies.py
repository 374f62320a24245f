"""Policies traced and exported as Stable-Baselines3's documentation does it, and by `to_onnx`."""

from __future__ import annotations

import io

import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO, SAC, TD3
from torch import nn
from torch.distributions import Distribution

import dstrl
from sparse_core import to_onnx
from sparse_core.layers.condensed import CondensedLinear

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{said}")  # of torch itself, and its distributions
    for said in (
        r"`torch.jit.\w+` is deprecated:DeprecationWarning",
        "You are using the legacy TorchScript-based ONNX export:DeprecationWarning",
        "The feature will be removed:DeprecationWarning",
        ".*LeafSpec:FutureWarning",
        ":torch.jit.TracerWarning",
    )
]

ALGORITHMS = (PPO, SAC, TD3, DQN)
SHORT = dict(learning_starts=10, batch_size=16, buffer_size=200)


class Deterministic(nn.Module):
    """The wrapper of the documentation; TD3's actor is deterministic by itself."""

    def __init__(self, policy: nn.Module, **fields: bool) -> None:
        super().__init__()
        self.policy = policy
        self.fields = fields

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return self.policy(observation, **self.fields)


def trained(algorithm, backend, **extra):
    dstrl.register()
    sparse = dict(method="srigl", sparsity=0.8, update_every=5, backend=backend)
    short = dict(n_steps=32, batch_size=16, n_epochs=1) if algorithm is PPO else SHORT
    return algorithm(
        "SparseMlpPolicy",
        "CartPole-v1" if algorithm in (PPO, DQN) else "Pendulum-v1",
        policy_kwargs=dict(sparse=sparse, net_arch=[32, 32], **extra),
        seed=0,
        device="cpu",
        **short,
    ).learn(32)


def wrapped(algorithm, policy):
    if algorithm is DQN:  # its values, which say more than the action that is best
        return Deterministic(policy.q_net).eval()
    if algorithm is TD3:
        return Deterministic(policy.actor).eval()
    return Deterministic(policy.actor if algorithm is SAC else policy, deterministic=True).eval()


def observations(space, *batches):
    assert isinstance(space, spaces.Box)
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, *space.shape, generator=generator) for batch in batches]


def outputs(of):
    return [out.detach() for out in (of if isinstance(of, tuple) else (of,))]


def computed(graph, x):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(graph)
    (name,) = [one.name for one in session.get_inputs()]
    return [torch.from_numpy(out) for out in session.run(None, {name: x.numpy()})]


def close(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other.to(one.dtype), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["policy", "condense"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_recipes_of_the_documentation(algorithm, form):
    pytest.importorskip("onnx")
    model = trained(algorithm, "condensed")
    policy = model.policy if form == "policy" else model.policy.condense()
    assert any(isinstance(layer, CondensedLinear) for layer in policy.modules())
    module = wrapped(algorithm, policy)
    x, other = observations(model.observation_space, 1, 1)
    expected = outputs(module(other))
    assert any(not torch.equal(*pair) for pair in zip(expected, outputs(module(x)), strict=True))
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            traced = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(module, x)))
        file = io.BytesIO()
        torch.jit.save(traced, file)
        file.seek(0)
        close(outputs(torch.jit.load(file)(other)), expected)
    file = io.BytesIO()
    torch.onnx.export(module, (x,), file, opset_version=17, input_names=["input"], dynamo=False)
    close(computed(file.getvalue(), other), expected)


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_to_onnx(algorithm, backend, tmp_path):
    pytest.importorskip("onnxscript")
    model = trained(algorithm, backend)
    module = wrapped(algorithm, model.policy)
    x, other = observations(model.observation_space, 3, 5)
    module(x)  # a distribution of actions keeps a part of this graph
    checked = Distribution._validate_args
    to_onnx(module, x, tmp_path / "policy.onnx")
    assert Distribution._validate_args is checked
    close(computed(tmp_path / "policy.onnx", other), outputs(module(other)))


def test_state_dependent_exploration(tmp_path):
    pytest.importorskip("onnxscript")
    model = trained(SAC, "condensed", use_sde=True)
    module = wrapped(SAC, model.policy)
    x, other = observations(model.observation_space, 3, 5)
    to_onnx(module, x, tmp_path / "policy.onnx")
    close(computed(tmp_path / "policy.onnx", other), outputs(module(other)))


def test_a_condensed_policy_keeps_nothing_of_the_last_batch():
    model = trained(PPO, "condensed")
    small = model.policy.condense()
    assert model.policy.action_dist.distribution is not None
    assert small.action_dist.distribution is None
