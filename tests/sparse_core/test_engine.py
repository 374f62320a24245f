import copy
import pickle

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core import clock as clocks
from sparse_core.layers import MaskedLinear
from tests.sparse_core.networks import batch, built, mlp, train

RIGL = dict(method="rigl", sparsity=0.8, update_every=5, horizon=100)


def state_of(net, optimizer):
    moments = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    return [*net.state_dict().values(), *moments]


def equal(left, right):
    return len(left) == len(right) and all(map(torch.equal, left, right))


def test_parameters_names_and_order_stay():
    net = mlp(4, 8, 2)
    before = list(net.named_parameters())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    sparsify(net, SparseConfig(method="static"), optimizer)
    after = list(net.named_parameters())
    assert [n for n, _ in before] == [n for n, _ in after]
    assert all(p is q for (_, p), (_, q) in zip(before, after, strict=True))
    assert type(net[0]) is MaskedLinear and isinstance(net[0], nn.Linear)


def test_dense_training_is_untouched_to_the_bit():
    torch.manual_seed(0)
    plain = mlp(12, 16, 4)
    ours = copy.deepcopy(plain)
    optimizers = [torch.optim.Adam(net.parameters()) for net in (plain, ours)]
    sparsify(ours, SparseConfig(method="dense"), optimizers[1])
    for net, optimizer in zip((plain, ours), optimizers, strict=True):
        train(net, optimizer, range(10))
    assert equal(list(plain.parameters()), list(ours.parameters()))


def test_a_masked_network_computes_with_its_active_weights_only():
    net, _, engine = built(dict(method="static"))
    x, _ = batch(0, 12)
    by_hand = x
    for layer, tensor in zip(net[::2], engine.tensors, strict=True):
        by_hand = by_hand @ (layer.weight * tensor.active()).T + layer.bias
        by_hand = by_hand.relu() if layer is not net[-1] else by_hand
    torch.testing.assert_close(net(x), by_hand)


def test_the_clipped_norm_is_that_of_active_weights():
    net, _, engine = built(dict(method="rigl", sparsity=0.9, update_every=1))
    x, y = batch(0, 12)
    nn.functional.mse_loss(net(x)[:, 0], y).backward()
    squares = sum(
        float(p.grad[m == 1].square().sum())
        for p, m in ((t.weight, t.mask) for t in engine.tensors)
    )
    squares += sum(float(layer.bias.grad.square().sum()) for layer in net[::2])
    norm = nn.utils.clip_grad_norm_(net.parameters(), 1e9)
    assert float(norm) == pytest.approx(squares**0.5, rel=1e-6)
    assert engine.tensors[0].tap.value.count_nonzero() > engine.tensors[0].count()


def test_the_tapped_gradient_is_that_of_the_dense_weight():
    net, _, engine = built(dict(method="rigl", update_every=1))
    x, y = batch(0, 12)
    nn.functional.mse_loss(net(x)[:, 0], y).backward()
    dense = mlp(12, 16, 16, 4)
    dense.load_state_dict({k: v for k, v in net.state_dict().items() if k.endswith(("t", "s"))})
    nn.functional.mse_loss(dense(x)[:, 0], y).backward()
    for tensor, layer in zip(engine.tensors, dense[::2], strict=True):
        torch.testing.assert_close(tensor.tap.value, layer.weight.grad)


def test_the_tap_follows_the_rules_of_grad():
    net, optimizer, engine = built(dict(method="rigl", update_every=100, gradient_steps=100))
    tap, weight = engine.tensors[0].tap, engine.tensors[0].weight
    tap.arm(True)
    x, y = batch(0, 12)

    def backward(scale):
        (scale * nn.functional.mse_loss(net(x)[:, 0], y)).backward()

    backward(1.0)
    once = tap.value.clone()
    backward(2.0)
    torch.testing.assert_close(tap.value, 3 * once)
    optimizer.zero_grad()
    backward(5.0)
    torch.testing.assert_close(tap.value, 5 * once)
    optimizer.zero_grad(set_to_none=False)
    backward(2.0)
    torch.testing.assert_close(tap.value, 2 * once)
    torch.testing.assert_close(tap.value[weight.grad != 0], weight.grad[weight.grad != 0])


def test_a_layer_that_is_used_twice_in_one_pass_is_tapped_in_full():
    layer = nn.Linear(3, 3, bias=False)
    engine = sparsify(layer, SparseConfig(method="rigl", sparsity=0.5, update_every=1))
    engine.attach(torch.optim.SGD(layer.parameters(), lr=0.1))
    x = torch.eye(3)
    layer(layer(x)).sum().backward()
    weight = (layer.weight * layer.weight_mask).detach().requires_grad_()
    (x @ weight.T @ weight.T).sum().backward()
    torch.testing.assert_close(engine.tensors[0].tap.value, weight.grad)


def test_another_losss_backward_is_forgotten():
    net, optimizer, engine = built(dict(method="rigl", update_every=2))
    x, y = batch(0, 12)
    train(net, optimizer, range(1))
    (100 * net(x).abs().sum()).backward()
    loss = nn.functional.mse_loss(net(x)[:, 0], y)
    optimizer.zero_grad()
    loss.backward()
    tap, weight = engine.tensors[0].tap, engine.tensors[0].weight
    active = engine.tensors[0].mask == 1
    torch.testing.assert_close(tap.value[active], weight.grad[active])


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_is_alive_attached_and_on_its_own(copier):
    net, optimizer, _ = built(RIGL)
    train(net, optimizer, range(7))
    twin, twin_optimizer = copier((net, optimizer))
    frozen = [t.clone() for t in state_of(net, optimizer)]
    train(twin, twin_optimizer, range(7, 20))
    assert equal(frozen, state_of(net, optimizer))
    train(net, optimizer, range(7, 20))
    assert equal(state_of(net, optimizer), state_of(twin, twin_optimizer))
    assert twin.sparse_engine.updates == 4 and twin.sparse_engine.optimizer is twin_optimizer


def test_a_followers_topology_is_the_same_after_every_update():
    net, optimizer, engine = built(RIGL)
    target = mlp(12, 16, 16, 4)
    target.load_state_dict({k: v for k, v in net.state_dict().items() if k in target.state_dict()})
    engine.follow(target)
    for step in range(30):
        train(net, optimizer, range(step, step + 1))
        with torch.no_grad():
            for own, theirs in zip(target.parameters(), net.parameters(), strict=True):
                own.lerp_(theirs, 0.1)
        for tensor, layer in zip(engine.tensors, target[::2], strict=True):
            assert torch.equal(tensor.mask, layer.weight_mask)
            assert bool((layer.weight[layer.weight_mask == 0] == 0).all())
    target.load_state_dict(net.state_dict())


def test_a_target_of_another_shape_cannot_follow():
    _, _, engine = built(RIGL)
    target = mlp(12, 8, 16, 4)
    with pytest.raises(ValueError, match=r"no layer like '0.weight'"):
        engine.follow(target)
    assert type(target[0]) is nn.Linear


def test_the_bias_of_an_ablated_neuron_is_frozen_and_that_of_a_live_one_is_not():
    net, optimizer, engine = built(
        dict(method="srigl", update_every=2, ablation_threshold=1, min_fan_in=1), lr=0.05
    )
    tensor = engine.tensors[1]
    mask = tensor.active()
    mask[3] = False
    tensor.start(mask)
    optimizer.param_groups[0]["weight_decay"] = 0.1
    bias = tensor.bias.detach().clone()
    train(net, optimizer, range(1))
    assert tensor.bias[3] == bias[3]
    assert bool((tensor.bias != bias).sum() == 15)


def test_protected_weights_keep_their_bits_under_momentum_and_decay():
    net, optimizer, engine = built(dict(method="rigl", update_every=3, sparsity=0.8), lr=0.05)
    optimizer.param_groups[0]["weight_decay"] = 0.1
    train(net, optimizer, range(10))
    owned = {t.name: (t.active(), t.values().clone()) for t in engine.tensors}
    for tensor in engine.tensors:
        tensor.protect(owned[tensor.name][0])
    engine.redraw(1, horizon=50)
    train(net, optimizer, range(10, 30))
    assert engine.updates > 8
    for tensor in engine.tensors:
        mask, values = owned[tensor.name]
        assert torch.equal(tensor.values()[mask], values[mask])
        assert not bool((tensor.active() & mask).any())
        assert tensor.count() == int(mask.sum()) == tensor.budget


def test_a_network_without_room_says_so_and_stays_as_it_is():
    net, optimizer, engine = built(dict(method="rigl", sparsity=0.4))
    for tensor in engine.tensors:
        tensor.protect(tensor.active())
    before = [t.clone() for t in state_of(net, optimizer)]
    with pytest.raises(ValueError, match=r"layer '0.weight' is full: .* needs"):
        engine.redraw(1)
    assert equal(before, state_of(net, optimizer))


def test_reused_weights_are_read_but_not_written():
    net, optimizer, engine = built(dict(method="static", sparsity=0.5), lr=0.05)
    tensor = engine.tensors[0]
    own = tensor.active()
    value = tensor.values().clone()
    tensor.protect(own)
    tensor.may_reuse = True
    tensor.start(torch.ones_like(own))
    train(net, optimizer, range(5))
    assert torch.equal(tensor.values()[own], value[own])
    assert bool((tensor.values()[~own] != 0).any())
    probe = torch.eye(12)
    torch.testing.assert_close(net[0](probe).T - net[0].bias[:, None], tensor.values())


def test_an_update_is_observed_with_its_deltas():
    net, optimizer, engine = built(RIGL)
    seen = []
    engine.observers.append(lambda moment, deltas: seen.append((moment.step, deltas)))
    before = engine.tensors[0].active()
    train(net, optimizer, range(5))
    after = engine.tensors[0].active()
    assert [step for step, _ in seen] == [5]
    delta = seen[0][1]["0.weight"]
    flat = before.reshape(-1).clone()
    flat[delta.dropped] = False
    flat[delta.grown] = True
    assert torch.equal(flat.reshape(after.shape), after) and len(delta.grown) > 0


def test_horizon_and_restart():
    net, optimizer, engine = built(dict(method="set", update_every=5))
    assert engine.horizon is None
    train(net, optimizer, range(20))
    assert engine.updates == 4
    engine.set_horizon(20)
    train(net, optimizer, range(20, 40))
    assert engine.updates == 4
    engine.restart(horizon=20)
    train(net, optimizer, range(40, 60))
    assert engine.updates == 6
    with pytest.raises(ValueError, match="horizon=0"):
        engine.set_horizon(0)


def test_detached_engines_count_nothing():
    net, optimizer, engine = built(RIGL)
    engine.detach()
    train(net, optimizer, range(10))
    assert engine.steps == 0
    engine.attach(optimizer)
    train(net, optimizer, range(10))
    assert engine.steps == 10


def test_skipped_steps_move_the_topology_only():
    net, optimizer, engine = built(RIGL | dict(skip_step=True))
    train(net, optimizer, range(4))
    before = [t.values().clone() for t in engine.tensors]
    biases = [layer.bias.detach().clone() for layer in net[::2]]
    masks = [t.active() for t in engine.tensors]
    train(net, optimizer, range(4, 5))
    assert engine.updates == 1
    for tensor, values, mask in zip(engine.tensors, before, masks, strict=True):
        stayed = mask & tensor.active()
        assert torch.equal(tensor.values()[stayed], values[stayed])
    assert equal(biases, [layer.bias.detach() for layer in net[::2]])


def test_a_mean_gradient_is_the_mean_of_the_last_steps():
    net, optimizer, engine = built(dict(method="rigl", update_every=4, gradient_steps=3))
    tensor, taps = engine.tensors[0], []
    engine.on_step.append(lambda step: taps.append(tensor.tap.value))
    train(net, optimizer, range(3))
    assert taps[0] is None
    mean = tensor.companion("gradient_mean").clone()
    torch.testing.assert_close(mean, (taps[1] + taps[2]) / 3)
    train(net, optimizer, range(3, 4))
    assert bool((tensor.companion("gradient_mean") == 0).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("count", [0, 1, 255, 256, 65_537, 20_000_001, 2**48 - 1])
def test_the_clock_is_exact_in_every_precision(dtype, count):
    clock = clocks.new_clock().to(dtype)
    clocks.write(clock, "steps", count)
    assert clocks.read(clock, "steps") == count and clocks.read(clock, "updates") == 0
    with pytest.raises(ValueError, match="steps=-1"):
        clocks.write(clock, "steps", -1)


def test_the_summary_shows_requested_and_achieved():
    _, _, engine = built(dict(method="srigl", sparsity=0.8))
    text = repr(engine)
    assert "srigl" in text and "requested sparsity 0.8" in text and "2.weight" in text
    assert f"achieved {engine.sparsity:.6f}" in text


def test_roles_can_be_given():
    net = mlp(4, 8, 8, 2)
    engine = sparsify(net, SparseConfig(method="static", dense=("output",)), roles={"2": "output"})
    assert [layer.role for layer in engine.layers()] == ["input", "output", "output"]
    assert engine.layers()[1].active == 64
    with pytest.raises(ValueError, match=r"roles=\['9'\]: no such layer; there are 0, 2, 4"):
        sparsify(mlp(4, 8, 8, 2), roles={"9": "output"})


def test_conv_nets_and_models_that_know_nothing_of_us():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.Flatten(),
        nn.Linear(8 * 36, 5),
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    engine = sparsify(net, SparseConfig(method="srigl", sparsity=0.8, update_every=2), optimizer)
    budgets = [layer.active for layer in engine.layers()]
    for step in range(6):
        x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        net(x).pow(2).mean().backward()
        optimizer.step()
    assert engine.updates == 3
    for tensor, budget in zip(engine.tensors, budgets, strict=True):
        fan_in = tensor.active().sum(1)
        live = fan_in > 0
        assert int(fan_in[live].max() - fan_in[live].min()) <= 1
        assert budget - int(live.sum()) < tensor.count() <= budget
