"""The published strategies: isolation to the bit, exact budgets, and the rule of each by hand."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from continual import MaskIsolation, TaskMasks
from continual.avalanche_compat import avalanche
from continual.runs.spec import CLSpec
from continual.runs.train import run
from continual.strategies import named
from continual.strategies.recipes import RECIPES, resolve
from continual.tasks.inference import infer_tasks
from continual.tasks.overlap import visible_masks
from sparse_core.config import SparseConfig
from tests.continual.tiny_tasks import (
    OPTIMIZERS,
    logits,
    make_benchmark,
    make_mlp,
    make_strategy,
    make_tasks,
)

SPARSITY = 0.8
NAMED = {
    "cldst": (named.CLDST, SparseConfig(sparsity=SPARSITY, update_every=2)),
    "spacenet": (named.SpaceNet, SparseConfig(sparsity=SPARSITY, update_every=2)),
    "packnet": (named.PackNet, SparseConfig(sparsity=SPARSITY)),
    "wsn": (named.WSN, SparseConfig(sparsity=SPARSITY)),
    "supsup": (named.SupSup, SparseConfig(sparsity=SPARSITY)),
    "static": (named.StaticMasks, SparseConfig(sparsity=SPARSITY)),
    "srigl": (named.SRigLCL, SparseConfig(sparsity=SPARSITY, update_every=2, ablation=False)),
}


OPTIONS = ("isolation", "infer", "unseen", "roles", "tasks", "eval_every", "evaluator")


def made(name, optimizer="sgd", plugins=(), epochs=4, network=make_mlp, **changes):
    kind, sparse = NAMED[name]
    net = network()
    silent = avalanche.training.plugins.EvaluationPlugin(loggers=[avalanche.logging.BaseLogger()])
    options = {option: changes.pop(option) for option in OPTIONS if option in changes}
    return kind(
        model=net,
        optimizer=OPTIMIZERS[optimizer](net.parameters()),
        criterion=nn.CrossEntropyLoss(),
        sparse=type(sparse)(**{**sparse.__dict__, **changes}),
        train_mb_size=16,
        train_epochs=epochs,
        plugins=plugins,
        **{"evaluator": silent} | options,
    )


def trained(name, after=lambda model, label: None, **options):
    tasks = make_tasks()
    strategy = made(name, **options)
    for label, experience in enumerate(make_benchmark(tasks).train_stream):
        strategy.train(experience, eval_streams=[])
        after(strategy.model, label)
    return strategy.model


def test_every_recipe_is_a_strategy():
    assert set(NAMED) == set(RECIPES) - {"masks"}
    assert all(kind.recipe == name for name, (kind, _) in NAMED.items())


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("name", NAMED)
def test_earlier_tasks_answer_as_they_did_to_the_bit(name, optimizer):
    tasks, answers = make_tasks(), {}

    def compare(model, label):
        answers[label] = logits(model, label, tasks[label])
        for earlier, answer in answers.items():
            assert torch.equal(logits(model, earlier, tasks[earlier]), answer), (label, earlier)

    model = trained(name, compare, optimizer=optimizer)
    assert isinstance(model, TaskMasks) and len(answers) == 3
    assert not torch.equal(answers[0], logits(model, 1, tasks[0]))


@pytest.mark.parametrize("name", ["cldst", "spacenet", "packnet", "static", "srigl"])
def test_condensed_ones_agree_with_masked_ones(name):
    models = [trained(name, backend=backend) for backend in ("masked", "condensed")]
    for label, task in enumerate(make_tasks()):
        answers = [logits(model, label, task) for model in models]
        torch.testing.assert_close(*answers, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMED)
def test_replay_and_ewc_on_top_change_no_bit(name):
    parts = avalanche.training.plugins
    tasks, answers = make_tasks(), {}

    def compare(model, label):
        answers[label] = logits(model, label, tasks[label])
        for earlier, answer in answers.items():
            assert torch.equal(logits(model, earlier, tasks[earlier]), answer), (label, earlier)

    trained(name, compare, plugins=[parts.ReplayPlugin(mem_size=20), parts.EWCPlugin(1.0)])
    assert len(answers) == 3


@pytest.mark.parametrize("name", NAMED)
def test_every_task_has_its_budget_in_every_layer(name):
    model = trained(name)
    for label in range(3):
        masks = model.masks(label)
        for tensor in model.engine.tensors:
            assert int(masks[tensor.name].sum()) == tensor.budget


@pytest.mark.parametrize("name", NAMED)
def test_they_learn(name):
    """A third is chance; the tasks are linear."""
    tasks = make_tasks()
    model = trained(name, optimizer="adam", epochs=30)
    hits = [(logits(model, t, tasks[t]).argmax(1) == tasks[t].test_y).float() for t in range(3)]
    assert float(torch.cat(hits).mean()) > 0.5


@pytest.mark.parametrize("name", ["packnet", "wsn"])
def test_each_layer_keeps_the_same_fraction_and_heads_are_dense_where_published_so(name):
    """By hand: a fifth of 12 x 20 and of 20 x 16, and all of 16 x 3."""
    model = trained(name)
    counts = {layer.name: layer.active for layer in model.engine.layers()}
    assert counts == {"0.weight": 48, "2.weight": 64, "4.weight": 48}
    for label in range(3):
        assert {k: int(mask.sum()) for k, mask in model.masks(label).items()} == {
            "0.weight": 48,
            "2.weight": 64,
        }


def test_dense_heads_are_each_task_s_own():
    heads = []
    model = trained("packnet", lambda model, k: heads.append(model._task(k).named("4.weight")))
    copies = [head.clone() for head in heads]
    assert all(bool((head != 0).all()) for head in heads)
    assert not torch.equal(heads[0], heads[1]) and model._task(0).named("4.weight") is heads[0]
    assert torch.equal(copies[0], heads[0])


def test_what_a_recipe_leaves_dense_is_added_to_what_the_caller_does():
    config, _ = resolve("packnet", SparseConfig(dense=("input",)), "none")
    assert (config.distribution, config.dense) == ("uniform", ("input", "output"))
    assert resolve("packnet", config, "all")[0] == config
    assert resolve("supsup", SparseConfig(), "none")[0].distribution == "erk"
    with pytest.raises(ValueError, match="distribution='er': strategy 'wsn' decides it, 'uniform'"):
        resolve("wsn", SparseConfig(distribution="er"), "none")


def test_packnet_trains_all_that_is_free_then_the_largest_of_it():
    seen = {}

    class Watch(avalanche.core.SupervisedPlugin):
        def after_training_iteration(self, strategy, **kwargs):
            model = strategy.model
            tensor = model._shared[0]
            key = (model.label, model.engine.steps - 12 * model.label)
            seen[key] = (tensor.active(), tensor.values().clone())

    model = trained("packnet", plugins=[Watch()])  # 12 steps a task, pruned after the sixth
    tensor = model._shared[0]
    for label in range(3):
        taken = torch.zeros(tensor.shape, dtype=torch.bool)
        for earlier in range(label):
            taken |= model.masks(earlier)[tensor.name]
        assert torch.equal(seen[label, 5][0], ~taken)
        before, after = seen[label, 5][1] * ~taken, seen[label, 6][0]
        assert int(after.sum()) == tensor.budget and not bool((after & taken).any())
        assert torch.equal(after, model.masks(label)[tensor.name])
        assert torch.equal(visible_masks(model, label)[tensor.name], after | taken)
        # The one step between moves weights by little: the largest before are the largest after.
        largest = before.abs().flatten().argsort(descending=True)[: tensor.budget // 2]
        assert float(after.flatten()[largest].float().mean()) > 0.9


def test_packnet_stops_before_it_is_pruned():
    _, sparse = NAMED["packnet"]
    model = TaskMasks(make_mlp(), resolve("packnet", sparse, "none")[0], share="all")
    model.begin(0)
    with pytest.raises(RuntimeError, match=r"'one_shot' was to prune to \d+ weights, \d+ are left"):
        model.end()
    assert model.label == 0


def test_supsup_has_the_same_weights_for_all_tasks_and_masks_that_overlap():
    before = {}

    def note(model, label):
        before.setdefault("weights", [t.weight.detach().clone() for t in model._shared])

    model = trained("supsup", note)
    for tensor, weight in zip(model._shared, before["weights"], strict=True):
        assert torch.equal(tensor.weight, weight)
        assert len(weight.abs().unique()) == 1
    name = model._shared[0].name
    counts = sum(model.masks(label)[name].int() for label in range(3))
    assert int(counts.max()) > 1
    scores = [model._task(label).named("0.weight_scores") for label in range(3)]
    for label in range(3):
        budget = model._shared[0].budget
        highest = scores[label].abs().flatten().argsort(descending=True)[:budget]
        assert bool(model.masks(label)[name].flatten()[highest].all())


def test_wsn_trains_new_weights_and_reads_earlier_ones():
    weights = []
    model = trained("wsn", lambda model, _: weights.append(model._shared[0].values().clone()))
    masks = [model.masks(label)["0.weight"] for label in range(3)]
    assert bool((masks[0] & masks[1]).any()) and bool((masks[1] & ~masks[0]).any())
    assert torch.equal(weights[0][masks[0]], weights[2][masks[0]])
    assert not torch.equal(weights[0][masks[1] & ~masks[0]], weights[1][masks[1] & ~masks[0]])


def test_srigl_runs_condensed():
    model = trained("srigl", backend="condensed")
    assert all(type(tensor).__name__ == "CondensedTensor" for tensor in model.engine.tensors)
    for label in range(3):
        fan_ins = [mask.sum(1) for mask in model.masks(label).values()]
        assert all(int(each.max() - each.min()) <= 1 for each in fan_ins)


@pytest.mark.parametrize(
    ("strategy", "sparse", "share", "message"),
    [
        ("pack", {}, "none", "strategy='pack': must be one of masks, cldst"),
        ("packnet", {"method": "gmp"}, "none", "method='gmp': strategy 'packnet' decides it"),
        ("spacenet", {"method": "set", "growth": "random"}, "none", "growth='random': strategy"),
        ("cldst", {"method": "srigl"}, "none", "method='srigl': strategy 'cldst' can use rigl,"),
        ("cldst", {}, "forward", "share='forward': strategy 'cldst' decides it, 'reuse'"),
    ],
)
def test_contradictions_are_said_in_one_line(strategy, sparse, share, message):
    with pytest.raises(ValueError) as caught:
        CLSpec(strategy=strategy, share=share, sparse=SparseConfig(**sparse))
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    if strategy in NAMED:
        with pytest.raises(ValueError, match=message.split(":")[0]):
            kind, net = NAMED[strategy][0], make_mlp()
            optimizer = OPTIMIZERS["sgd"](net.parameters())
            kind(model=net, optimizer=optimizer, sparse=SparseConfig(**sparse), share=share)


@pytest.mark.parametrize("name", NAMED)
def test_what_a_recipe_leaves_open_can_be_said(name):
    """All of `TaskMasks` but the batch, which is the strategy's own."""
    theirs, ours = (inspect.signature(kind).parameters for kind in (TaskMasks, NAMED[name][0]))
    assert set(theirs) - set(ours) == {"config", "batch"} and "sparse" in ours
    options = {"infer": "entropy", "unseen": "latest", "roles": {"4": "output"}, "tasks": 3}
    strategy = made(name, **options)
    assert (strategy.model.infer, strategy.model.unseen) == ("entropy", "latest")
    x = make_tasks(1)[0].test_x
    assert torch.equal(strategy.model.eval()(x, 7), strategy.model(x))


def test_a_head_that_is_registered_first_can_be_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.first, self.second = (nn.Linear(*n) for n in ((9, 3), (12, 8), (8, 9)))

        def forward(self, x):
            return self.head(self.second(self.first(x).relu()).relu())

    roles = {"head": "output", "first": "input", "second": "hidden"}
    model = made("static", network=Net, roles=roles).model
    assert [tensor.name for tensor in model._shared] == ["first.weight", "second.weight"]


def test_selectors_infer_tasks():
    strategy = made("supsup", infer="max-confidence")
    tasks = make_tasks()
    for experience in make_benchmark(tasks).train_stream:
        strategy.train(experience, eval_streams=[])
    model = strategy.model.eval()
    chosen = infer_tasks(model, tasks[0].test_x)
    assert torch.equal(model(tasks[0].test_x), model(tasks[0].test_x, chosen))
    assert len(set(chosen.tolist())) > 1


def test_a_wrapped_network_is_not_wrapped_again():
    net = make_mlp()
    model = TaskMasks(net, SparseConfig(sparsity=SPARSITY))
    with pytest.raises(ValueError, match="CLDST makes the TaskMasks by itself: pass the dense"):
        named.CLDST(model=model, optimizer=OPTIMIZERS["sgd"](net.parameters()))


@pytest.mark.parametrize(
    ("plugin", "why"),
    [
        ("BiCPlugin", "corrects the logits of one head"),
        ("LFLPlugin", "needs the features beside the logits"),
        ("CWRStarPlugin", "writes into the head of a task that has ended"),
    ],
)
def test_plugins_that_cannot_go_with_tasks_are_refused_at_once(plugin, why):
    """Their own complaints come with the first training, and say less."""
    arguments = {"BiCPlugin": (), "LFLPlugin": (1.0,), "CWRStarPlugin": (make_mlp(),)}[plugin]
    part = getattr(avalanche.training.plugins, plugin)(*arguments)
    net = make_mlp()
    with pytest.raises(ValueError, match=f"{plugin} cannot go with MaskIsolation: it {why}"):
        made("packnet", plugins=[part], network=lambda: net)
    assert type(net[0]) is nn.Linear
    with pytest.raises(ValueError, match=f"{plugin} cannot go with MaskIsolation: it {why}"):
        model = TaskMasks(make_mlp(), SparseConfig(method="static", sparsity=SPARSITY))
        strategy = make_strategy(model, plugins=[MaskIsolation(), part])
        strategy.train(make_benchmark(make_tasks(1)).train_stream)


def test_named_strategies_are_isolated():
    with pytest.raises(ValueError, match="isolation='none': strategy 'wsn' needs 'hard'"):
        made("wsn", isolation="none")
    with pytest.raises(ValueError, match="isolation='none': strategy 'packnet' needs 'hard'"):
        CLSpec(strategy="packnet", isolation="none")
    assert CLSpec(strategy="packnet").isolation_in_force == "hard"


@pytest.mark.parametrize("name", NAMED)
def test_canonical_specs_say_what_runs(name):
    spec = CLSpec(strategy=name)
    canonical = spec.canonical()
    assert canonical.canonical() == canonical
    assert (canonical.sparse.method, canonical.share) == (spec.settings[0].method, spec.settings[1])
    assert canonical != CLSpec().canonical()


@pytest.mark.parametrize("name", NAMED)
def test_a_run_of_each(name, tmp_path):
    sparse = SparseConfig(sparsity=0.9, update_every=5)
    spec = CLSpec(strategy=name, tasks=2, epochs=2, hidden=(40, 40), lr=0.01, sparse=sparse)
    result = run(spec, tmp_path, lambda done, numbers: None)
    assert result["forgetting"] == 0
    assert result["score"] > 0.2  # chance is 0.1
    assert len(result["flops"]["tasks"]) == 2
    assert (result["updates"].get("network", 0) > 0) == (name != "static")
