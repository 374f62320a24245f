"""Evaluation before training: what answers, and that asking changes nothing."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from continual import MaskIsolation, TaskMasks
from continual.avalanche_compat import avalanche
from continual.strategies.evaluating import Beginner
from tests.continual.tasks.test_task_masks import learn
from tests.continual.tiny_tasks import (
    FEATURES,
    OPTIMIZERS,
    make_benchmark,
    make_config,
    make_mlp,
    make_strategy,
    make_tasks,
)

X = torch.randn(5, FEATURES, generator=torch.Generator().manual_seed(2))
KINDS = [
    ("static", {}),
    ("rigl", {"isolation": "none"}),
    ("rigl", {"share": "reuse"}),
    ("set", {"share": "forward"}),
    ("srigl", {"backend": "condensed"}),
    ("srigl", {"backend": "condensed", "share": "all"}),
    ("one_shot", {"share": "all"}),
    ("wsn", {"share": "reuse"}),
    ("edge_popup", {"share": "reuse"}),
]


def made(method="static", backend="masked", sparsity=0.85, **options):
    config = make_config(method, backend=backend, sparsity=sparsity)
    return TaskMasks(make_mlp(), config, **options)


def asked(model, label=7):
    """Ask as an evaluation does."""
    model.eval()
    model.beginner = Beginner(model)
    answer = model(X, label).detach()
    model.beginner = None
    model.train()
    return answer


@pytest.mark.parametrize(("method", "options"), KINDS)
def test_what_was_never_trained_is_answered_by_what_a_task_would_begin_with(method, options):
    model = learn(made(method, **options), [])
    for label, task in enumerate(make_tasks()):
        answer = asked(model)
        model.begin(label)
        assert torch.equal(answer, model.eval()(X, label))
        model.train()
        optimizer = OPTIMIZERS["adam"](model.parameters())
        model.attach(optimizer, 6)
        for _ in range(6):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(task.train_x), task.train_y).backward()
            optimizer.step()
        before = asked(model)  # in training: as if the task ended now
        model.end()
        assert torch.equal(before, asked(model))


@pytest.mark.parametrize(("method", "options"), KINDS)
def test_asking_changes_nothing(method, options):
    model = made(method, **options)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    model.begin(0)
    model.attach(optimizer, 9)
    nn.functional.cross_entropy(model(X), torch.zeros(5, dtype=torch.long)).backward()
    optimizer.step()
    model.engine.observers.append(copy)  # cannot be copied, and need not be
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    asked(model)
    after = model.state_dict()
    assert list(before) == list(after) and torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[key], value) for key, value in after.items())
    assert model.label == 0 and model.engine.optimizer is optimizer


def test_where_no_task_has_room_the_latest_answers():
    model = learn(made(sparsity=0.4, tasks=1), make_tasks(1))
    assert model.room() == 0
    assert torch.equal(asked(model), model.eval()(X, 0))


def test_a_network_may_keep_its_activations():
    class Keeps(nn.Sequential):
        def forward(self, x):
            self.kept, self.all = x, {}
            for place, layer in enumerate(self):
                self.kept = self.all[place] = x = layer(x)
            return x

    model = TaskMasks(Keeps(*make_mlp()), make_config("static"))
    model.begin(0)
    model(X)
    assert not model.model.kept.is_leaf
    asked(model)


@pytest.mark.parametrize("every", [0, 1])
@pytest.mark.parametrize(("method", "options"), KINDS)
def test_avalanche_evaluates_before_during_and_after_training(method, options, every):
    benchmark = make_benchmark(make_tasks())
    strategy = make_strategy(made(method, **options), eval_every=every, epochs=3)
    for experience in benchmark.train_stream:
        strategy.train(experience)
        strategy.train_epochs = 2
    strategy.eval(benchmark.test_stream)
    assert strategy.model.beginner is None


def test_forward_transfer():
    metrics = avalanche.evaluation.metrics
    evaluator = avalanche.training.plugins.EvaluationPlugin(
        metrics.forward_transfer_metrics(experience=True, stream=True),
        loggers=[avalanche.logging.BaseLogger()],
    )
    benchmark = make_benchmark(make_tasks())
    strategy = make_strategy(made(), evaluator=evaluator, eval_every=1, epochs=2)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[benchmark.test_stream])
    found = evaluator.get_last_metrics()
    assert "StreamForwardTransfer/eval_phase/test_stream" in found
    assert all(-1 <= value <= 1 for value in found.values())


def test_a_label_that_was_never_trained_is_an_error_elsewhere():
    benchmark, model = make_benchmark(make_tasks()), made()
    strategy = make_strategy(model, eval_every=1)
    strategy.train(benchmark.train_stream[0])
    strategy.eval(benchmark.test_stream)
    with pytest.raises(ValueError, match="task label 2: was never trained; tasks trained: 0"):
        model(X, 2)


def test_unseen_labels_can_be_an_error_always_or_the_latest_always():
    benchmark = make_benchmark(make_tasks())
    strict = make_strategy(made(unseen="error"))
    strict.train(benchmark.train_stream[0], eval_streams=[])
    with pytest.raises(ValueError, match="task label 1: was never trained"):
        strict.eval(benchmark.test_stream)
    latest = make_strategy(made(unseen="latest"), eval_every=1)
    latest.train(benchmark.train_stream[0], eval_streams=[benchmark.test_stream])
    assert torch.equal(latest.model.eval()(X, 2), latest.model(X, 0))


# Samples without a label, and classes without an output ------------------------------------------


def incremental(zero_based=False):
    """Six classes in three experiences, without task labels."""
    x = torch.randn(60, FEATURES, generator=torch.Generator().manual_seed(1))
    data = torch.utils.data.TensorDataset(x, torch.arange(60) % 6)
    whole = avalanche.benchmarks.utils.as_classification_dataset(Targets(data))
    kind = avalanche.benchmarks.class_incremental_benchmark
    return kind({"train": whole, "test": whole}, num_experiences=3, seed=0)


class Targets(torch.utils.data.Dataset):
    def __init__(self, data):
        self.data = data
        self.targets = data.tensors[1].tolist()

    def __len__(self):
        return len(self.data)

    def __getitem__(self, row):
        x, y = self.data[row]
        return x, int(y)


@pytest.mark.parametrize(("infer", "hints"), [(None, 1), ("entropy", 0)])
def test_without_labels_and_without_a_selector_there_is_a_hint_once(infer, hints, recwarn):
    model = TaskMasks(make_mlp(classes=6), make_config("static"), infer=infer)
    strategy, benchmark = make_strategy(model, epochs=1), incremental()
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
        strategy.eval(benchmark.test_stream)
    said = [str(one.message) for one in recwarn if "infer='max-confidence'" in str(one.message)]
    assert len(said) == hints
    assert all("the network of task 1, the latest" in line for line in said)


@pytest.mark.parametrize("evaluated", [False, True])
def test_a_class_that_has_no_output_is_named(evaluated):
    model = TaskMasks(make_mlp(), make_config("static"))
    strategy = make_strategy(model, plugins=[MaskIsolation()])
    use = strategy.eval if evaluated else strategy.train
    with pytest.raises(ValueError) as caught:
        use(incremental().train_stream)
    said = str(caught.value)
    assert said.startswith("class ") and "the head '4.weight' has 3 outputs; number" in said


def test_classes_that_the_loss_ignores_need_no_output():
    tasks = make_tasks(1)
    tasks[0].train_y[:3] = 255
    strategy = make_strategy(TaskMasks(make_mlp(), make_config("static")))
    strategy._criterion = nn.CrossEntropyLoss(ignore_index=255)
    strategy.train(make_benchmark(tasks).train_stream, eval_streams=[])
    assert strategy.model.labels == [0] and strategy.model.label is None
