"""Condensed tasks: they compute what masked ones do, on the weights that a task can see."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from continual import TaskMasks
from continual.avalanche_compat import avalanche
from continual.tasks.overlap import visible_masks
from continual.tasks.rules import SHARING_POLICIES
from continual.tasks.validation import shared_backend
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.weights.condensed import CondensedTensor
from tests.continual.tasks.test_isolation import check_isolation, train
from tests.continual.tasks.test_task_masks import learn
from tests.continual.tiny_tasks import (
    CLASSES,
    FEATURES,
    logits,
    make_config,
    make_mlp,
    make_tasks,
)
from tests.squares import squares

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
METHODS = {
    "static": make_config("static"),
    "set": make_config("set"),
    "rigl": make_config("rigl"),
    "momentum": make_config("rigl", growth="momentum"),
    "itop": make_config("rigl_itop", gradient_steps=2),
    "srigl": make_config("srigl", ablation_threshold=0.6),
    "srigl in groups": make_config("srigl", group=2),
    "mest": make_config("mest", slack=0.1),
}
OPTIMIZERS = ("sgd", "adam", "adamw")
ON_TOP = {"Replay": {"mem_size": 20}, "EWC": {"ewc_lambda": 1.0}}


def condensed(config="rigl", network=make_mlp, **options):
    return TaskMasks(network(), with_backend(config, "condensed"), **options)


def with_backend(config, backend):
    config = make_config(config) if isinstance(config, str) else config
    return type(config)(**{**config.__dict__, "backend": backend})


@pytest.mark.parametrize(
    ("share", "method", "optimizer"), squares(SHARING_POLICIES, METHODS, OPTIMIZERS)
)
def test_tasks_agree_with_masked_ones(method, share, optimizer):
    """In float64, where rounding decides no selection."""
    tasks = make_tasks()
    one, other = (
        TaskMasks(make_mlp().double(), with_backend(METHODS[method], backend), share=share)
        for backend in ("masked", "condensed")
    )
    learn(one, tasks, optimizer)
    learn(other, tasks, optimizer)
    assert all(isinstance(tensor, CondensedTensor) for tensor in other.engine.tensors)
    assert one.engine.updates == other.engine.updates
    assert one.capacity() == other.capacity()
    for label, task in enumerate(tasks):
        masks, others = one.masks(label), other.masks(label)
        assert all(torch.equal(masks[name], others[name]) for name in masks)
        torch.testing.assert_close(
            logits(one, label, task), logits(other, label, task), rtol=1e-7, atol=1e-9
        )


@pytest.mark.parametrize(
    ("share", "method", "optimizer"),
    squares(SHARING_POLICIES, ["static", "set", "rigl", "srigl", "srigl in groups"], OPTIMIZERS),
)
def test_earlier_tasks_answer_as_they_did_to_the_bit(method, share, optimizer):
    model = condensed(METHODS[method], share=share)
    check_isolation(model, make_tasks(), optimizer)


@pytest.mark.parametrize(
    ("share", "optimizer", "name"), squares(SHARING_POLICIES, OPTIMIZERS, ON_TOP)
)
def test_replay_and_ewc_on_top_change_no_bit(share, optimizer, name):
    strategy = getattr(avalanche.training, name)
    model = condensed("srigl", share=share)
    check_isolation(model, make_tasks(), optimizer, strategy=strategy, **ON_TOP[name])


def begun(share):
    """Three tasks learnt, a fourth begun."""
    model = learn(condensed("set", share=share), make_tasks())
    model.begin(3)
    return model.train()


def test_the_forward_pass_uses_the_weights_that_the_task_sees():
    for share in SHARING_POLICIES:
        model = begun(share)
        for tensor in model.engine.tensors:
            assert tensor.layer.pattern.nnz == tensor.budget
            assert torch.equal(tensor.active(), model.masks(3)[tensor.name])
        visible = visible_masks(model, 3)
        for tensor in model._shared:
            shared, seen = tensor.layer.shared, tensor.layer.pattern
            if shared is not None:
                seen, _ = shared.read(seen, tensor.weight.detach().numpy())
            assert torch.equal(torch.from_numpy(seen.to_mask()), visible[tensor.name])
            assert (seen.nnz > tensor.budget) == (share in ("forward", "all"))


def test_reused_weights_are_those_of_the_earlier_task():
    model = begun("reuse")
    met = 0
    for tensor in model._shared:
        reused = tensor.active() & tensor.protected
        for label in range(3):
            own = reused & model.masks(label)[tensor.name]
            weights = model._task(label).weight(tensor)
            assert torch.equal(tensor.values()[own], weights[own])
            met += int(own.sum())
    assert met > 20


def lent_weights(model, tensor):
    """What the fourth task reads beside its own weights, from what earlier tasks stored."""
    found = torch.zeros(tensor.shape)
    read = model.lent(3).get(tensor.name)
    for label in range(3):
        if read is not None:
            mine = read & model.masks(label)[tensor.name]
            found[mine] = model._task(label).weight(tensor)[mine]
    return found


@pytest.mark.parametrize("share", SHARING_POLICIES)
def test_the_gradient_is_that_of_own_weights_only(share):
    model, task = begun(share), make_tasks()[0]
    x = task.train_x
    model(x, 3).square().sum().backward()
    dense = nn.Sequential(
        *(
            nn.Linear(m.in_features, m.out_features) if hasattr(m, "bias") else m
            for m in model.model
        )
    )
    for i, tensor in zip((0, 2, 4), model.engine.tensors, strict=True):
        dense[i].weight.data = tensor.values() + lent_weights(model, tensor)
        dense[i].bias.data = tensor.layer.bias.detach().clone()
    dense(x).square().sum().backward()
    for i, tensor in zip((0, 2, 4), model.engine.tensors, strict=True):
        own = tensor.active()
        if tensor.protected is not None:
            assert (share == "reuse") == bool((own & tensor.protected).any())
            own &= ~tensor.protected
        expected = tensor.stored(dense[i].weight.grad * own)
        torch.testing.assert_close(tensor.weight.grad, expected, **TOLERANCE)
        live = torch.ones(tensor.rows, dtype=torch.bool)
        if share == "forward" and tensor in model._shared:
            live = ~tensor.companion("reserved")
            assert not bool(live.all())
        torch.testing.assert_close(tensor.bias.grad, dense[i].bias.grad * live, **TOLERANCE)


@pytest.mark.parametrize("share", SHARING_POLICIES)
def test_a_mixed_batch_is_one_graph_and_trains_the_task_in_training_only(share):
    tasks, model = make_tasks(), begun(share)
    x, labels = torch.cat([task.train_x[:4] for task in tasks]), torch.tensor([0, 1, 3] * 4)
    model(x, labels).square().sum().backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {
        f"tasks.3.own.{i}/{what}" for i in (0, 2, 4) for what in ("values", "bias")
    }
    model.eval()
    mixed = model(x, labels)
    for label in (0, 1, 3):
        torch.testing.assert_close(
            mixed[labels == label], model(x[labels == label], label), **TOLERANCE
        )


@pytest.mark.parametrize("share", SHARING_POLICIES)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_answers_the_same_and_trains_on_its_own(copied, share):
    tasks = make_tasks()
    model = learn(condensed("srigl", share=share), tasks)
    twin = copied(model)
    for label in range(3):
        assert torch.equal(logits(model, label, tasks[label]), logits(twin, label, tasks[label]))
    before = copy.deepcopy(model.state_dict())
    twin.begin(3)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("share", SHARING_POLICIES)
@pytest.mark.parametrize("ended", [True, False])
def test_a_loaded_model_goes_on_as_the_saved_one_would(share, ended, tmp_path):
    tasks = make_tasks()
    model = learn(condensed("set", share=share), tasks[:2])
    if not ended:
        model.begin(2)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    fresh = condensed("set", share=share)
    fresh.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    for one in (model, fresh):
        learn(one, tasks[2:], "adam", first=2)
    assert list(model.state_dict()) == list(fresh.state_dict())
    for key, value in model.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key]), key


def test_a_checkpoint_of_the_other_backend_is_refused_and_changes_nothing():
    masked = learn(TaskMasks(make_mlp(), make_config()), make_tasks())
    model = learn(condensed(), make_tasks(1))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"checkpoint of another model: 0\.values is absent there"):
        model.load_state_dict(masked.state_dict())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_no_room_changes_nothing():
    model = learn(condensed(make_config("static", sparsity=0.7)), make_tasks(3))
    before = copy.deepcopy(model.state_dict())
    answers = [logits(model, label, task) for label, task in enumerate(make_tasks())]
    with pytest.raises(ValueError, match=r"task 3 does not fit: layer '0.weight' is full"):
        model.begin(3)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    for label, task in enumerate(make_tasks()):
        assert torch.equal(logits(model, label, task), answers[label])


def convolutional():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Unflatten(1, (1, FEATURES)),
        nn.Conv1d(1, 6, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * (FEATURES - 2), 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Linear(16, CLASSES),
    )


@pytest.mark.filterwarnings("ignore:Layers that stay masked")
@pytest.mark.parametrize("share", SHARING_POLICIES)
def test_convolutions_stay_masked_beside_condensed_layers(share):
    config = make_config(distribution="uniform")
    model = condensed(config, convolutional, share=share)
    kinds = [isinstance(tensor, CondensedTensor) for tensor in model.engine.tensors]
    assert kinds == [False, True, True]
    check_isolation(model, make_tasks())
    other = TaskMasks(convolutional(), config, share=share)
    train(other, make_tasks())
    for label, task in enumerate(make_tasks()):
        torch.testing.assert_close(
            logits(model, label, task), logits(other, label, task), **TOLERANCE
        )


def test_auto_condenses_what_pays():
    wide = nn.Sequential(nn.Linear(300, 400), nn.ReLU(), nn.Linear(400, 3))
    model = TaskMasks(wide, make_config(backend="auto"), batch=256)
    assert type(model.model[0]) is CondensedLinear
    small = TaskMasks(make_mlp(), make_config(backend="auto"))
    assert not any(isinstance(tensor, CondensedTensor) for tensor in small.engine.tensors)


@pytest.mark.parametrize("name", ["Naive", "Replay"])
def test_without_isolation_one_condensed_network_goes_on(name):
    strategy = getattr(avalanche.training, name)
    options = {"mem_size": 20} if name == "Replay" else {}
    tasks, models = make_tasks(), []
    for backend in ("masked", "condensed"):
        model = TaskMasks(make_mlp(), make_config("set", backend=backend), isolation="none")
        train(model, tasks, strategy=strategy, **options)
        models.append(model)
    assert [isinstance(t, CondensedTensor) for t in models[1].engine.tensors] == [True, True, False]
    for label, task in enumerate(tasks):
        answers = [logits(model, label, task) for model in models]
        torch.testing.assert_close(*answers, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("share", SHARING_POLICIES)
def test_double_precision_runs_on_the_plain_kernels(share):
    tasks = make_tasks()
    models = []
    for backend in ("masked", "condensed"):
        net = make_mlp().double()
        model = TaskMasks(net, make_config("set", backend=backend), share=share)
        data = [type(t)(t.train_x.double(), t.train_y, t.test_x.double(), t.test_y) for t in tasks]
        models.append(learn(model, data, "adam"))
    for label, task in enumerate(data):
        torch.testing.assert_close(*(logits(model, label, task) for model in models))


def test_tasks_share_condensed_layers_on_the_cpu_only():
    elsewhere = make_mlp().to("meta")
    with pytest.raises(
        ValueError, match=r"^backend='condensed': tasks share .* network is on meta"
    ):
        TaskMasks(elsewhere, make_config("set", backend="condensed"))
    config = make_config("set", backend="auto")
    assert shared_backend(config, elsewhere).backend == "masked"
    assert shared_backend(config, make_mlp()) is config


@pytest.mark.parametrize("move", [lambda m: m.to("meta"), lambda m: m.half()])
def test_condensed_tasks_stay_on_the_cpu(move):
    model = learn(condensed(), make_tasks(2))
    before = logits(model, 0, make_tasks()[0])
    with pytest.raises(ValueError, match="backend='condensed': condensed layers cannot go to"):
        move(model)
    assert torch.equal(logits(model, 0, make_tasks()[0]), before)
    move(TaskMasks(make_mlp(), make_config()))


def test_a_layer_alone_reads_what_it_is_lent():
    """A hook takes a layer out of its chain; one sample goes through matrix-vector products."""
    tasks, model = make_tasks(), begun("all")
    x = tasks[0].test_x
    together = logits(model, 3, tasks[0])
    handle = model.model[2].register_forward_hook(lambda m, i, out: None)
    torch.testing.assert_close(logits(model, 3, tasks[0]), together, **TOLERANCE)
    handle.remove()
    with torch.no_grad():
        one_by_one = torch.cat([model(sample, 3) for sample in x.split(1)])
    torch.testing.assert_close(one_by_one, together, **TOLERANCE)
