"""Hand-computed scores: one weight matrix, one gradient, every rule."""

import dataclasses

import pytest
import torch

from sparse_core import SparseConfig, sparsify
from sparse_core.naming import drop_rule_named, growth_rule_named
from sparse_core.registry import DROP_RULES, GROWTH_RULES
from sparse_core.updaters.scene import Moment, Scene
from tests.sparse_core.networks import mlp

WEIGHT = torch.tensor([[0.5, -0.1, 0.0], [-0.4, 0.2, 0.3]])
GRADIENT = torch.tensor([[0.1, -2.0, 0.3], [1.0, 0.0, -0.5]])
ACTIVE = torch.tensor([[True, True, False], [True, True, True]])


@pytest.fixture
def scene():
    net = mlp(3, 2, 2)
    engine = sparsify(net, SparseConfig(method="set", sparsity=0.2))
    tensor = engine.tensors[0]
    tensor.start(ACTIVE)
    tensor.remember()
    with torch.no_grad():
        tensor.weight.copy_(WEIGHT)
    tensor.tap.value = GRADIENT.clone()
    return Scene(tensor, Moment(step=100, update=3, fraction=0.5, seed=7), ACTIVE)


DETERMINISTIC = [
    (drop_rule_named, "magnitude", [[0.5, 0.1, 0.0], [0.4, 0.2, 0.3]]),
    # Positive 0.2 < 0.3 < 0.5: 1/6, 3/6, 5/6. Negative 0.1 < 0.4: 1/4, 3/4. Inactive: 0.
    (drop_rule_named, "signed", [[5 / 6, 1 / 4, 0.0], [3 / 4, 1 / 6, 3 / 6]]),
    (drop_rule_named, "sensitivity", [[0.05, 0.2, 0.0], [0.4, 0.0, 0.15]]),
    (drop_rule_named, "magnitude_gradient", [[0.501, 0.12, 0.003], [0.41, 0.2, 0.305]]),
    (growth_rule_named, "gradient", [[0.1, 2.0, 0.3], [1.0, 0.0, 0.5]]),
]


@pytest.mark.parametrize(
    ("find", "name", "expected"), DETERMINISTIC, ids=[name for _, name, _ in DETERMINISTIC]
)
def test_scores_by_hand(scene, find, name, expected):
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(find(name)(scene).double(), expected, rtol=1e-6, atol=1e-7)


def test_signed_drops_equal_fractions_of_each_sign(scene):
    scores = drop_rule_named("signed")(scene)
    lowest = scores.masked_fill(~ACTIVE, 9).flatten().argsort()[:2]
    assert sorted(lowest.tolist()) == [1, 4]


def test_momentum_is_a_running_mean_of_the_dense_gradient():
    net = mlp(3, 2, 2)
    optimizer = torch.optim.Adam(net.parameters(), betas=(0.5, 0.75))
    config = SparseConfig(method="rigl", growth="adam_momentum", sparsity=0.5, update_every=1000)
    engine = sparsify(net, config, optimizer)
    tensor = engine.tensors[0]
    gradients = []
    for step in range(2):
        optimizer.zero_grad()
        x = torch.eye(3) * (step + 1)
        loss = net(x).pow(2).sum()
        hidden = net[0](x).relu() > 0
        loss.backward()
        delta = 2 * net(x).detach() @ (net[2].weight * net[2].weight_mask).detach() * hidden
        gradients.append(delta.T @ x)
        optimizer.step()
    first, second = gradients
    mean = 0.5 * (0.5 * first) + 0.5 * second
    square = 0.75 * (0.25 * first**2) + 0.25 * second**2
    scene = Scene(tensor, Moment(2, 0, 0.5), tensor.active())
    torch.testing.assert_close(
        growth_rule_named("momentum")(scene), mean.abs(), rtol=1e-5, atol=1e-6
    )
    expected = mean.abs() / (square.sqrt() + 1e-12)
    torch.testing.assert_close(
        growth_rule_named("adam_momentum")(scene), expected, rtol=1e-4, atol=1e-4
    )


def test_unfired_weights_come_before_all_others(scene):
    scores = growth_rule_named("unfired")(scene)
    assert scores[0, 2] == scores.max() and scores[0, 2] > 1
    assert bool((scores[ACTIVE] < 1).all())


def test_random_growth_has_a_stream_of_its_own(scene):
    torch.manual_seed(0)
    first = growth_rule_named("random")(scene)
    torch.manual_seed(1)
    assert torch.equal(first, growth_rule_named("random")(scene))
    later = Scene(scene.tensor, Moment(step=100, update=4, fraction=0.5, seed=7), ACTIVE)
    assert not torch.equal(first, growth_rule_named("random")(later))
    other = Scene(scene.tensor, Moment(step=100, update=3, fraction=0.5, seed=8), ACTIVE)
    assert not torch.equal(first, growth_rule_named("random")(other))


def test_sampled_scores_are_gradients_in_the_sample_only(scene):
    scores = growth_rule_named("sampled")(scene)
    sampled = scores > float("-inf")
    assert 1 <= int(sampled.sum()) <= int(ACTIVE.sum())
    assert torch.equal(scores[sampled], GRADIENT.abs()[sampled])


@pytest.mark.parametrize("name", ["sampled_grabo", "sampled_graest"])
def test_guided_samples_avoid_silent_inputs_and_outputs(scene, name):
    scene.tensor.tap.inputs = [torch.tensor([[1.0, 0.0, 2.0], [3.0, 0.0, 1.0]])]
    scene.tensor.tap.outputs = [torch.tensor([[0.0, 1.0], [0.0, 2.0]])]
    sampled = growth_rule_named(name)(scene) > float("-inf")
    assert not sampled[0].any() and not sampled[:, 1].any() and sampled[1].any()


def test_a_scene_shows_all_samples_of_inputs_and_of_output_gradients(scene):
    scene.tensor.tap.inputs = [torch.ones(2, 1, 3), 2 * torch.ones(1, 3)]
    scene.tensor.tap.outputs = [torch.arange(4.0).reshape(2, 1, 2), torch.tensor([[8.0, 9.0]])]
    assert scene.inputs.tolist() == [[1, 1, 1], [1, 1, 1], [2, 2, 2]]
    assert scene.outputs.tolist() == [[0, 1], [2, 3], [8, 9]]
    second = dataclasses.replace(scene, active=ACTIVE[1:], first=1)
    assert second.inputs.shape == (3, 3) and second.outputs.tolist() == [[1], [3], [9]]


def test_a_scene_has_inputs_of_linear_layers_only(scene):
    scene.tensor.tap.inputs, scene.tensor.tap.outputs = [torch.ones(2, 5)], [torch.ones(2, 2)]
    with pytest.raises(RuntimeError, match=r"no inputs of a linear layer were seen in .* step 100"):
        _ = scene.inputs


def test_guided_sampling_needs_a_linear_layer(scene):
    with pytest.raises(RuntimeError, match=r"layer '0.weight': no inputs of a linear layer were"):
        growth_rule_named("sampled_grabo")(scene)


def test_a_gradient_that_did_not_flow_is_named(scene):
    scene.tensor.tap.value = None
    with pytest.raises(RuntimeError, match=r"layer '0.weight': no gradient flowed in .* step 100"):
        growth_rule_named("gradient")(scene)


def test_every_registered_rule_exists():
    assert all(callable(growth_rule_named(name)) for name in GROWTH_RULES)
    assert all(callable(drop_rule_named(name)) for name in DROP_RULES)
