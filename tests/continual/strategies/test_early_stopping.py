"""Early stopping: a task that ends before its pruning, or behind it, is pruned at its end."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from continual import MaskIsolation, TaskMasks
from continual.avalanche_compat import avalanche
from sparse_core.config import SparseConfig
from tests.continual.strategies.test_named_strategies import made
from tests.continual.tiny_tasks import (
    logits,
    make_benchmark,
    make_config,
    make_mlp,
    make_strategy,
    make_tasks,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Metric Top1_Acc_Stream used by the EarlyStopping"),
    pytest.mark.filterwarnings("ignore:No loggers specified"),
]


def stopping(patience):
    """No accuracy is better by 2: the first state stays the best, `patience` epochs are trained."""
    return avalanche.training.plugins.EarlyStoppingPlugin(patience, "train_stream", margin=2.0)


def watching():
    accuracy = avalanche.evaluation.metrics.accuracy_metrics(stream=True)
    silent = avalanche.logging.BaseLogger()
    return avalanche.training.plugins.EvaluationPlugin(accuracy, loggers=[silent])


def packnet(patience, **options):
    net = make_mlp()
    return made(
        "packnet",
        network=lambda: net,
        plugins=[stopping(patience)],
        evaluator=watching(),
        eval_every=1,
        epochs=8,
        **options,
    )


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("patience", [2, 6])  # pruned after the fourth of eight epochs
def test_packnet_is_pruned_at_the_end_and_says_so(patience, backend):
    tasks = make_tasks()
    strategy = packnet(patience, backend=backend)
    model, answers = strategy.model, []
    for label, experience in enumerate(make_benchmark(tasks).train_stream):
        with pytest.warns(UserWarning, match=rf"task {label}: training ended, or went back"):
            strategy.train(experience)
        assert strategy.clock.train_exp_epochs == patience
        assert model.labels == [*range(label + 1)] and model.label is None
        counts = {name: int(mask.sum()) for name, mask in model.masks(label).items()}
        assert counts == {"0.weight": 48, "2.weight": 64}
        answers.append(logits(model, label, tasks[label]))
    assert all(torch.equal(logits(model, k, tasks[k]), answers[k]) for k in range(3))


@pytest.mark.parametrize("method", ["one_shot", "gmp", "granet"])
@pytest.mark.parametrize("drop", [None, "sensitivity"])
def test_the_largest_weights_stay(method, drop):
    """Whatever the rule: after training there is no gradient to rank by."""
    config = SparseConfig(method=method, sparsity=0.8, drop=drop, distribution="uniform")
    model = TaskMasks(make_mlp(), config)
    model.begin(0)
    weight = model.engine.tensors[0].values().clone()
    seen = []
    model.engine.observers.append(lambda moment, deltas: seen.append(deltas))
    with pytest.raises(RuntimeError, match=r"was to prune to \d+ .*, or prune\(\) it"):
        model.end()
    assert model.prune() and not model.prune()
    model.end()
    order = weight.abs().flatten().argsort(descending=True)
    expected = torch.zeros(weight.numel(), dtype=torch.bool)
    expected[order[:48]] = True
    assert torch.equal(model.masks(0)["0.weight"].flatten(), expected)
    assert len(seen) == 1 and len(seen[0]["0.weight"].dropped) == 240 - 48


@pytest.mark.parametrize("method", ["rigl", "srigl", "wsn"])
def test_a_task_that_goes_back_to_its_first_state_can_end(method):
    """It was trained, though its clock stands at zero again."""
    model = TaskMasks(make_mlp(), make_config(method), share="reuse")
    plugins = [stopping(2), MaskIsolation()]
    strategy = make_strategy(model, plugins=plugins, evaluator=watching(), eval_every=1, epochs=5)
    for experience in make_benchmark(make_tasks(2)).train_stream:
        strategy.train(experience)
    assert model.labels == [0, 1] and model.label is None


def test_what_was_pruned_in_time_is_left_alone():
    strategy = made("packnet")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        strategy.train(make_benchmark(make_tasks(1)).train_stream, eval_streams=[])
    assert strategy.model.labels == [0] and strategy.model.label is None
    assert not strategy.model.prune()


@pytest.mark.filterwarnings("ignore:update_every=100")
def test_no_training_at_all_is_no_task():
    strategy = made("packnet", epochs=0)
    with pytest.raises(RuntimeError, match="'one_shot' was to prune to"):
        strategy.train(make_benchmark(make_tasks(1)).train_stream, eval_streams=[])


def test_the_first_value_is_that_of_the_network_which_the_task_begins_with():
    """Else an earlier task's network would be compared, and an untrained one brought back."""
    task = make_tasks(1)[0]
    model = TaskMasks(make_mlp(), SparseConfig(method="static", sparsity=0.8), share="none")
    plugins = [MaskIsolation(), Values()]
    strategy = make_strategy(model, plugins=plugins, evaluator=watching(), eval_every=1, epochs=2)
    for experience in make_benchmark([task, task]).train_stream:
        strategy.train(experience)
    (first, began), (second, then) = plugins[1].seen
    assert first == began and second == then


class Values(avalanche.core.SupervisedPlugin):
    """Notes the last measured accuracy at the start of a task, and the accuracy there is."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def before_training_exp(self, strategy, **kwargs):
        values = strategy.evaluator.get_last_metrics()
        label = strategy.experience.task_label
        measured = values[f"Top1_Acc_Stream/eval_phase/train_stream/Task{label:03d}"]
        data = strategy.experience.dataset
        x = torch.stack([row[0] for row in data])
        y = torch.tensor([int(row[1]) for row in data])
        model: nn.Module = strategy.model.eval()
        with torch.no_grad():
            actual = float((model(x, label).argmax(1) == y).float().mean())
        model.train()
        self.seen.append((pytest.approx(measured), actual))
