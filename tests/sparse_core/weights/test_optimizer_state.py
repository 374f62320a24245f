import pytest
import torch
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

from sparse_core import SparseConfig, sparsify
from sparse_core.weights.delta import Delta
from sparse_core.weights.optimizer_state import carry_moments, clear_inactive, clear_moments
from tests.sparse_core.networks import mlp, train


def at_work(make, **fields):
    """A net with all moments set to 5, and a Delta that drops, grows and ablates."""
    torch.manual_seed(0)
    net = mlp(4, 3, 2)
    optimizer = make(net.parameters())
    engine = sparsify(net, SparseConfig(method="srigl", sparsity=0.5, **fields), optimizer)
    train(net, optimizer, range(2), n_in=4)
    tensor = engine.tensors[0]
    for parameter in (tensor.weight, tensor.bias):
        for value in optimizer.state[parameter].values():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                value.fill_(5.0)
    before = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 1]]).bool()
    after = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0], [0, 1, 1, 1]]).bool()
    tensor.start(before)
    delta = Delta.between(before, after)
    tensor.apply(delta)
    return optimizer, tensor, delta


OPTIMIZERS = [
    (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), "momentum_buffer", 0.0),
    (lambda p: torch.optim.Adam(p, amsgrad=True), "max_exp_avg_sq", 0.0),
    (lambda p: torch.optim.Adam(p), "exp_avg", 0.0),
    (lambda p: torch.optim.AdamW(p), "exp_avg_sq", 0.0),
    (lambda p: torch.optim.RMSprop(p, momentum=0.5), "momentum_buffer", 0.0),
    (lambda p: torch.optim.RMSprop(p, centered=True), "square_avg", 0.0),
    (lambda p: RMSpropTFLike(p), "square_avg", 1.0),
    (lambda p: torch.optim.Rprop(p, lr=0.25), "step_size", 0.25),
    (lambda p: torch.optim.Rprop(p, lr=0.25), "prev", 0.0),
    (lambda p: torch.optim.Adagrad(p, initial_accumulator_value=0.5), "sum", 0.5),
]


@pytest.mark.parametrize(("make", "key", "initial"), OPTIMIZERS)
def test_moved_weights_start_as_if_never_trained(make, key, initial):
    optimizer, tensor, delta = at_work(make)
    assert key in optimizer.state[tensor.weight]
    carry_moments(optimizer, tensor, delta, "zero")
    assert delta.moved.tolist() == [4, 6, 2, 9]
    expected = torch.full((3, 4), 5.0)
    expected.view(-1)[[4, 6, 2, 9]] = initial
    assert torch.equal(optimizer.state[tensor.weight][key], expected)
    bias = optimizer.state[tensor.bias][key]
    assert bias.tolist() == [5.0, initial, 5.0]


def test_a_neuron_that_comes_back_starts_its_bias_as_if_never_trained():
    optimizer, tensor, _ = at_work(lambda p: torch.optim.Rprop(p, lr=0.25))
    assert not tensor.active()[1].any()
    delta = Delta.between(tensor.active(), torch.ones(3, 4).bool())
    assert delta.revived.tolist() == [1]
    tensor.apply(delta)
    carry_moments(optimizer, tensor, delta, "zero")
    assert optimizer.state[tensor.bias]["step_size"].tolist() == [5.0, 0.25, 5.0]


def test_a_bias_starts_as_its_own_group_says():
    def grouped(parameters):
        matrices, vectors = [], []
        for parameter in parameters:
            (matrices if parameter.dim() > 1 else vectors).append(parameter)
        return torch.optim.Rprop([{"params": matrices}, {"params": vectors, "lr": 0.5}], lr=0.25)

    optimizer, tensor, delta = at_work(grouped)
    carry_moments(optimizer, tensor, delta, "zero")
    assert float(optimizer.state[tensor.weight]["step_size"][0, 2]) == 0.25
    assert optimizer.state[tensor.bias]["step_size"].tolist() == [5.0, 0.5, 5.0]


def test_state_that_rows_and_columns_share_is_left_alone():
    optimizer, tensor, delta = at_work(torch.optim.Adafactor)
    state = optimizer.state[tensor.weight]
    shared = {key: state[key].clone() for key in ("row_var", "col_var")}
    carry_moments(optimizer, tensor, delta, "zero")
    clear_inactive(optimizer, tensor)
    clear_moments(optimizer, tensor)
    assert all(torch.equal(state[key], value) for key, value in shared.items())


def test_a_new_task_starts_weights_and_biases_as_if_never_trained():
    optimizer, tensor, _ = at_work(lambda p: torch.optim.Rprop(p, lr=0.25))
    clear_moments(optimizer, tensor)
    assert bool((optimizer.state[tensor.weight]["step_size"] == 0.25).all())
    assert bool((optimizer.state[tensor.bias]["step_size"] == 0.25).all())


def test_keep_leaves_the_weights_moments_alone():
    optimizer, tensor, delta = at_work(torch.optim.Adam)
    carry_moments(optimizer, tensor, delta, "keep")
    assert bool((optimizer.state[tensor.weight]["exp_avg"] == 5).all())


def test_layer_mean_warms_up_second_moments_of_grown_weights_only():
    optimizer, tensor, delta = at_work(torch.optim.Adam)
    second = optimizer.state[tensor.weight]["exp_avg_sq"]
    second.copy_(torch.arange(12.0).reshape(3, 4))
    carry_moments(optimizer, tensor, delta, "layer_mean")
    # Active and not grown: positions 0 1 10 11, mean 5.5. Dropped 4 and 6, grown 2 and 9.
    assert second.flatten()[[2, 9]].tolist() == [5.5, 5.5]
    assert second.flatten()[[4, 6]].tolist() == [0, 0]
    assert optimizer.state[tensor.weight]["exp_avg"].flatten()[[2, 9]].tolist() == [0, 0]


def test_the_first_step_of_a_grown_weight_under_adam():
    # Zero moments late: (1 - b1) / sqrt(1 - b2) = 3.16 learning rates; the mean avoids it.
    steps = {}
    for policy in ("zero", "layer_mean"):
        parameter = torch.nn.Parameter(torch.zeros(8, 8))
        optimizer = torch.optim.Adam([parameter], lr=1.0)
        for _ in range(5000):
            parameter.grad = torch.ones(8, 8)
            optimizer.step()
        state = optimizer.state[parameter]
        state["exp_avg"][0, 0] = 0
        state["exp_avg_sq"][0, 0] = 0 if policy == "zero" else state["exp_avg_sq"][1:].mean()
        before = parameter[0, 0].item()
        optimizer.step()
        steps[policy] = before - parameter[0, 0].item()
    assert steps["zero"] == pytest.approx(0.1 / 0.001**0.5, rel=1e-2)
    assert steps["layer_mean"] == pytest.approx(0.1, rel=1e-2)


@pytest.mark.parametrize(
    ("make", "key", "initial"),
    [
        (torch.optim.AdamW, "exp_avg", 0.0),
        (lambda p: torch.optim.Adagrad(p, initial_accumulator_value=0.5), "sum", 0.5),
    ],
)
def test_a_network_that_was_trained_dense_starts_with_clean_moments(make, key, initial):
    torch.manual_seed(0)
    net = mlp(12, 16, 4)
    optimizer = make(net.parameters())
    train(net, optimizer, range(3))
    engine = sparsify(net, SparseConfig(method="static"), optimizer)
    for tensor in engine.tensors:
        moments = optimizer.state[tensor.weight][key]
        assert bool((moments[tensor.mask == 0] == initial).all())
        assert bool((moments[tensor.mask == 1] != initial).any())


def test_frozen_moments_stand_still_while_a_weight_is_inactive():
    # Adam with a mask: m and v of a weight move only in steps in which it is active.
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2, bias=False)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    config = SparseConfig(method="set", sparsity=0.5, optimizer_state="freeze", update_every=1000)
    engine = sparsify(layer, config, optimizer)
    tensor = engine.tensors[0]
    m, v = torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    masks = [[[1, 1, 0], [1, 0, 0]], [[0, 1, 1], [1, 0, 0]], [[1, 1, 0], [0, 1, 0]]]
    for step in range(9):
        before, after = tensor.active(), torch.tensor(masks[step // 3]).bool()
        delta = Delta.between(before, after)
        tensor.apply(delta)
        carry_moments(optimizer, tensor, delta, "freeze")
        old = tensor.weight.detach().clone().double()
        gradient = torch.arange(6.0).reshape(2, 3) + step
        optimizer.zero_grad()
        (tensor.weight * tensor.mask * gradient).sum().backward()
        optimizer.step()
        m = torch.where(after, 0.9 * m + 0.1 * gradient, m)
        v = torch.where(after, 0.999 * v + 0.001 * gradient**2, v)
        rate = 0.1 / (1 - 0.9 ** (step + 1))
        moved = rate * m / ((v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
        state = optimizer.state[tensor.weight]
        torch.testing.assert_close(state["exp_avg"].double(), m, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(state["exp_avg_sq"].double(), v, rtol=1e-5, atol=1e-7)
        expected = torch.where(after, old - moved, 0)
        torch.testing.assert_close(tensor.weight.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("policy", ["zero", "keep", "freeze", "layer_mean"])
def test_inactive_weights_are_zero_under_every_policy(policy):
    torch.manual_seed(0)
    net = mlp(12, 16, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    config = SparseConfig(method="rigl", update_every=3, optimizer_state=policy)
    engine = sparsify(net, config, optimizer)
    train(net, optimizer, range(20))
    assert engine.updates == 6
    for tensor in engine.tensors:
        assert bool((tensor.weight[tensor.mask == 0] == 0).all())
