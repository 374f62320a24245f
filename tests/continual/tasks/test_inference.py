"""Tasks without labels: the selector believes the surest network."""

from __future__ import annotations

import pytest
import torch

from continual import TaskMasks
from continual.avalanche_compat import avalanche
from continual.runs.benchmarks import load_tasks
from continual.tasks.inference import infer_tasks
from tests.continual.tasks.test_task_masks import learn, learnt
from tests.continual.tiny_tasks import FEATURES, make_config, make_mlp, make_strategy, make_tasks


class Known:
    """Stands for a model whose tasks answer with given probabilities."""

    labels = (4, 2)

    def __init__(self, probabilities):
        self.logits = {k: torch.tensor(p).log() for k, p in probabilities.items()}

    def __call__(self, x, label):
        return self.logits[label]


def test_selectors_by_hand():
    # one row is one sample; entropies: 0.943 and 0.693, then 0.325 and 0.639 nats
    model = Known(
        {4: [[0.6, 0.2, 0.2], [0.1, 0.9, 0.0001]], 2: [[0.5, 0.5, 0.0001], [0.2, 0.75, 0.05]]}
    )
    x = torch.zeros(2, 1)
    assert infer_tasks(model, x, "max-confidence").tolist() == [4, 4]
    assert infer_tasks(model, x, "entropy").tolist() == [2, 4]
    model.logits[2] += 9  # which changes no probability
    assert infer_tasks(model, x, "max-confidence").tolist() == [4, 4]
    assert infer_tasks(model, x, "entropy").tolist() == [2, 4]


@pytest.mark.parametrize("selector", ["max-confidence", "entropy"])
def test_among_equally_sure_tasks_it_is_the_first(selector):
    model = Known({4: [[0.6, 0.4]], 2: [[0.6, 0.4]]})
    assert infer_tasks(model, torch.zeros(1, 1), selector).tolist() == [4]


def test_without_labels_each_sample_goes_to_its_likeliest_task():
    x = torch.cat([task.test_x[:5] for task in make_tasks()])
    model = learn(TaskMasks(make_mlp(), make_config(), infer="entropy"), make_tasks()).eval()
    chosen = infer_tasks(model, x, "entropy")
    assert len(set(chosen.tolist())) > 1
    assert torch.equal(model(x), model(x, chosen))
    assert torch.equal(model(x, 1), learnt().eval()(x, 1))  # given labels are obeyed


def test_wrong_selectors_are_named():
    with pytest.raises(ValueError, match="infer='guess': must be one of max-confidence, entropy"):
        TaskMasks(make_mlp(), make_config(), infer="guess")
    with pytest.raises(ValueError, match="no task was trained"):
        infer_tasks(TaskMasks(make_mlp(), make_config()), torch.zeros(1, FEATURES))


def test_a_class_incremental_benchmark_without_task_labels():
    digits = load_tasks("split-digits", 1)[0]
    parts = {}
    for name in ("train", "test"):
        data = torch.utils.data.TensorDataset(
            getattr(digits, f"{name}_x"), getattr(digits, f"{name}_y")
        )
        data.targets = getattr(digits, f"{name}_y").tolist()
        parts[name] = avalanche.benchmarks.utils.as_classification_dataset(data)
    benchmark = avalanche.benchmarks.class_incremental_benchmark(parts, num_experiences=2, seed=0)
    net = torch.nn.Sequential(torch.nn.Linear(64, 80), torch.nn.ReLU(), torch.nn.Linear(80, 10))
    model = TaskMasks(net, make_config(), infer="max-confidence")
    strategy = make_strategy(model, epochs=2)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
    strategy.eval(benchmark.test_stream)
    assert model.labels == [0, 1]
    model.eval()
    with torch.no_grad():
        right = model(digits.test_x).argmax(1) == digits.test_y
    assert float(right.float().mean()) > 0.45  # one network alone can reach half at most
