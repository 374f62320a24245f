"""`TaskMasks` as a module: mixed batches, saving and loading, messages, what it can tell."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from continual import TaskMasks
from continual.avalanche_compat import avalanche
from sparse_core import sparsify
from sparse_core.bits import pack, packed_size, unpack
from tests.continual.tiny_tasks import (
    CLASSES,
    FEATURES,
    OPTIMIZERS,
    logits,
    make_config,
    make_mlp,
    make_tasks,
)


def learn(model, tasks, optimizer="sgd", steps=8, first=0):
    """Train without Avalanche: begin, attach, step, end; the first task's label is `first`."""
    dtype = next(model.parameters()).dtype
    for label, task in enumerate(tasks, first):
        model.train()
        model.begin(label)
        trained = OPTIMIZERS[optimizer](model.parameters())
        model.attach(trained, steps)
        for _ in range(steps):
            trained.zero_grad()
            nn.functional.cross_entropy(model(task.train_x.to(dtype)), task.train_y).backward()
            trained.step()
        model.end()
    return model


def learnt(count=3, **options):
    return learn(TaskMasks(make_mlp(), make_config(), **options), make_tasks(count))


@pytest.mark.parametrize("structure", ["unstructured", "constant_fan_in", "3x2"])
@pytest.mark.parametrize("share", ["none", "all"])
def test_as_many_tasks_fit_as_the_sparsity_says(structure, share):
    # 240 and 320 weights in the shared layers; 3 classes of 16 inputs in each head.
    fields = dict(distribution="uniform", structure=structure, min_fan_in=1)
    config = make_config("static", sparsity=6 / 7, **fields)
    model = TaskMasks(make_mlp(), config, share=share, tasks=7)
    assert model.room() >= 7
    for label in range(7):
        model.begin(label)
        model.end()
    if structure == "unstructured":
        assert model.room() == 0
        assert [tensor.budget for tensor in model.engine.tensors] == [34, 45, 8]
    assert [t.budget for t in TaskMasks(make_mlp(), config, share="reuse").engine.tensors] == [
        tensor.budget for tensor in sparsify(make_mlp(), config).tensors
    ]


@pytest.mark.parametrize("shape", [(1,), (7,), (8,), (3, 5), (2, 3, 4, 5), (0,)])
def test_bits_pack_and_unpack(shape):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.4
    packed = pack(mask)
    assert packed.dtype == torch.uint8 and packed.numel() == packed_size(mask.numel())
    assert torch.equal(unpack(packed, mask.shape), mask)


def test_bits_by_hand():
    assert pack(torch.tensor([True, False, True] + [False] * 4 + [True, True])).tolist() == [133, 1]


@pytest.mark.parametrize("isolation", ["hard", "none"])
def test_a_mixed_batch_gives_each_sample_its_task_s_logits(isolation):
    tasks = make_tasks()
    model = learnt(isolation=isolation).eval()
    x = torch.cat([task.test_x[:4] for task in tasks])
    labels = torch.arange(3).repeat_interleave(4)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    mixed = model(x[order], labels[order])
    for label in range(3):
        own = order[labels[order] == label]
        # products of 12 rows and of 4 may be summed in another order, of at most 20 terms each
        torch.testing.assert_close(
            mixed[labels[order] == label], model(x[own], label), rtol=1e-5, atol=1e-5
        )


def test_a_mixed_batch_is_one_graph():
    tasks = make_tasks()
    model = learnt(2)
    model.begin(2)
    model.zero_grad()
    x, labels = torch.cat([task.train_x[:4] for task in tasks]), torch.tensor([0, 1, 2] * 4)
    model(x, labels).square().sum().backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert all(bool(torch.isfinite(grad).all()) for grad in grads.values())
    assert not any(name.startswith(("tasks.0", "tasks.1")) for name in grads)
    for tensor in model._shared:
        assert not bool(tensor.weight.grad[tensor.protected].any())
        assert bool(tensor.weight.grad.any())


def test_without_a_label_the_task_in_training_answers_then_the_latest():
    task = make_tasks(1)[0]
    model = TaskMasks(make_mlp(), make_config())
    assert torch.equal(model(task.test_x), model.model(task.test_x))  # nothing learnt yet
    learn(model, make_tasks(2))
    assert torch.equal(model(task.test_x), model(task.test_x, 1))


def test_none_gives_all_tasks():
    task = make_tasks(1)[0]
    model = learnt()
    answers = model(task.test_x, None)
    assert sorted(answers) == [0, 1, 2]
    assert torch.equal(answers[1], model(task.test_x, 1))


def write_over(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)


@pytest.mark.parametrize("share", ["none", "reuse", "forward", "all"])
def test_whoever_writes_into_the_parameters_changes_no_answer_of_an_finished_task(share):
    tasks, model = make_tasks(), learnt(share=share)
    before = [logits(model, label, task) for label, task in enumerate(tasks)]
    write_over(model)
    for one_more in (False, True):
        if one_more:
            model.begin(3)
            write_over(model)
            model.end()
        for label, task in enumerate(tasks):
            assert torch.equal(logits(model, label, task), before[label])


@pytest.mark.parametrize("share", ["none", "reuse", "forward", "all"])
def test_what_was_written_into_the_parameters_is_not_saved_of_finished_tasks(share):
    tasks, model = make_tasks(), learnt(share=share)
    before = [logits(model, label, task) for label, task in enumerate(tasks)]
    write_over(model)
    fresh = TaskMasks(make_mlp(), make_config(), share=share)
    fresh.load_state_dict(model.state_dict())
    write_over(fresh)
    for label, task in enumerate(tasks):
        assert torch.equal(logits(fresh, label, task), before[label])


@pytest.mark.parametrize("isolation", ["hard", "none"])
@pytest.mark.parametrize("ended", [True, False])
def test_saved_and_loaded_all_tasks_answer_the_same_to_the_bit(isolation, ended, tmp_path):
    tasks = make_tasks()
    model = learnt(isolation=isolation)
    if not ended:
        model.begin(3)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    fresh = TaskMasks(make_mlp(), make_config(seed=5), isolation=isolation)
    fresh.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert (fresh.labels, fresh.label) == (model.labels, model.label)
    for label in model.labels:
        task = tasks[label % 3]
        assert torch.equal(logits(model, label, task), logits(fresh, label, task))
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, fresh.state_dict()[key])


def test_a_loaded_model_goes_on_as_the_saved_one_would():
    tasks = make_tasks()
    model = learnt()
    fresh = TaskMasks(make_mlp(), make_config())
    fresh.load_state_dict(model.state_dict())
    before = logits(fresh, 0, tasks[0])
    for one in (model, fresh):
        learn(one, tasks[:1], "adam", first=3)
    assert torch.equal(logits(fresh, 0, tasks[0]), before)
    assert torch.equal(logits(fresh, 3, tasks[0]), logits(model, 3, tasks[0]))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_answer_the_same_and_stay_apart(copied):
    tasks = make_tasks()
    model = learnt()
    twin = copied(model)
    assert torch.equal(logits(model, 0, tasks[0]), logits(twin, 0, tasks[0]))
    with torch.no_grad():
        model.tasks["0"].value("0.bias").add_(1)
    assert not torch.equal(logits(model, 0, tasks[0]), logits(twin, 0, tasks[0]))


def test_a_checkpoint_of_another_model_changes_nothing():
    other = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, CLASSES))
    state = TaskMasks(other, make_config(sparsity=0.5)).state_dict()
    model = learnt()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"another model: 0.weight is \(8, 12\) there, \(20"):
        model.load_state_dict(state)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_masks_are_stored_as_bits():
    model = learnt()
    for tensor in model.engine.tensors:
        stored = model.tasks["1"].masks.get_buffer(tensor.name.replace(".", "/"))
        assert stored.dtype == torch.uint8 and stored.numel() == -(-tensor.weight.numel() // 8)


def test_a_full_network_says_so_and_stays_as_it_is():
    model = learn(
        TaskMasks(make_mlp(), make_config(sparsity=0.6, distribution="uniform")), make_tasks(2)
    )
    assert model.room() == 0
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"task 2 does not fit: .*'0.weight'.*share='reuse'"):
        model.begin(2)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_room_counts_the_tasks_that_fit():
    model = TaskMasks(make_mlp(), make_config(sparsity=0.7, distribution="uniform"))
    assert model.room() == 3
    learn(model, make_tasks(1))
    assert model.room() == 2
    assert [layer.used for layer in model.capacity()] == [72, 96]
    assert TaskMasks(make_mlp(), make_config(), share="reuse").room() is None


@pytest.mark.parametrize("label", [3, 17])
def test_an_unseen_label_is_named(label):
    with pytest.raises(ValueError, match=rf"label {label}: was never trained.*: 0, 1, 2"):
        learnt()(torch.zeros(2, FEATURES), torch.tensor([0, label]))


def test_an_unseen_label_can_mean_the_latest_task():
    x = torch.ones(2, FEATURES)
    model = learnt(unseen="latest").eval()
    assert torch.equal(model(x, 9), model(x, 2))


def test_finished_tasks_are_not_trained_again_under_isolation():
    with pytest.raises(ValueError, match="task 1 has ended"):
        learnt().begin(1)
    model = learnt(isolation="none")
    model.begin(1)
    assert model.label == 1


def test_tasks_end_before_the_next_begins():
    model = TaskMasks(make_mlp(), make_config())
    with pytest.raises(RuntimeError, match="no task is in training"):
        model.end()
    model.begin(0)
    model.begin(0)
    with pytest.raises(RuntimeError, match=r"task 0 is still in training.*MaskIsolation"):
        model.begin(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"isolation": "soft"}, "isolation='soft': must be one of hard, none"),
        ({"share": "some"}, "share='some': must be one of none, reuse, forward, all"),
        ({"unseen": "guess"}, "unseen='guess': must be one of evaluation, error, latest"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        TaskMasks(make_mlp(), make_config(), **options)


def test_networks_that_tasks_cannot_share_are_refused():
    with pytest.raises(ValueError, match="method 'dense' needs all weights"):
        TaskMasks(make_mlp(), make_config("dense", sparsity=0.0))
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].bias = tied[0].bias
    with pytest.raises(ValueError, match=r"'0.bias' and '1.bias' are one tensor"):
        TaskMasks(tied, make_config(sparsity=0.5))
    growing = nn.Sequential(avalanche.models.IncrementalClassifier(4, 2))
    with pytest.raises(ValueError, match=r"layer '0' \(IncrementalClassifier\) grows by itself"):
        TaskMasks(growing, make_config())
    with pytest.raises(ValueError, match="TaskMasks is sparse already: pass the dense network"):
        TaskMasks(TaskMasks(make_mlp(), make_config()), make_config())
    with pytest.raises(ValueError, match="ReLU has no layer that can be sparse"):
        TaskMasks(nn.ReLU(), isolation="none")


def test_a_lazy_layer_is_named_until_it_has_seen_a_batch():
    net = nn.Sequential(nn.LazyLinear(20), nn.ReLU(), nn.Linear(20, CLASSES))
    with pytest.raises(ValueError, match=r"layer '0' \(LazyLinear\) does not know its shape yet"):
        TaskMasks(net, make_config())
    net(torch.zeros(1, FEATURES))
    assert TaskMasks(net, make_config()).engine.layers()[0].total == 20 * FEATURES


def test_a_network_that_is_cast_in_training_keeps_its_statistics():
    task = make_tasks(1)[0]
    net = nn.Sequential(nn.Linear(FEATURES, 20), nn.BatchNorm1d(20), nn.Linear(20, CLASSES))
    model = TaskMasks(net, make_config())
    model.begin(0)
    model.double()
    model(task.train_x.double())
    expected = model.eval()(task.test_x.double(), 0)
    model.end()
    assert torch.equal(model(task.test_x.double(), 0), expected)


def test_statistics_of_an_finished_task_stand_still_while_the_network_is_used():
    task = make_tasks(1)[0]
    net = nn.Sequential(nn.Linear(FEATURES, 20), nn.BatchNorm1d(20), nn.Linear(20, CLASSES))
    model = learn(TaskMasks(net, make_config()), [task])
    before = logits(model, 0, task)
    net.train()(task.train_x)
    assert torch.equal(logits(model, 0, task), before)


def test_without_isolation_a_task_that_begins_changes_the_head_alone():
    model = learnt(1, isolation="none")
    before = [(tensor.active(), tensor.values().clone()) for tensor in model._shared]
    head = model.engine.tensors[-1].active()
    model.begin(1)
    for tensor, (mask, weights) in zip(model._shared, before, strict=True):
        assert torch.equal(tensor.active(), mask) and torch.equal(tensor.values(), weights)
    assert not torch.equal(model.engine.tensors[-1].active(), head)


def test_a_task_that_goes_on_begins_its_schedule_anew():
    model = learnt(2, isolation="none")
    assert model.engine.phase == 8
    model.begin(0)
    assert model.engine.phase == 0


def test_sparse_embeddings_are_refused():
    net = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 2))
    with pytest.raises(ValueError, match="embeddings=True: tasks do not share sparse embeddings"):
        TaskMasks(net, make_config("rigl", embeddings=True))
    assert type(net[0]) is nn.Embedding
