"""Networks, optimizers, strategies and metrics of the user's own: used, or refused in one line."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from continual.runs.benchmarks import load_tasks
from continual.runs.build import make_model, make_optimizer
from continual.runs.spec import CLSpec
from continual.runs.train import run
from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from sweeps.language.spec import load, plain, run_id
from tests.continual.runs.lab import lab  # noqa: F401
from tests.continual.tiny_tasks import logits

pytestmark = pytest.mark.usefixtures("lab")


def tiny(**options) -> CLSpec:
    sparse = SparseConfig(method="rigl", sparsity=0.8, update_every=2)
    small = {"benchmark": "permuted", "dataset": "my.npz", "tasks": 2, "epochs": 2, "hidden": (12,)}
    return CLSpec(**{"sparse": sparse, "batch_size": 16} | small | options)


def result_of(spec, tmp_path):
    return run(spec, tmp_path, lambda done, numbers: None)


def complain(call) -> str:
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_network_learns_tasks(tmp_path):
    spec = tiny(network="cllab:Net", network_kwargs={"width": 20})
    result = result_of(spec, tmp_path)
    assert [layer["name"] for layer in result["layers"]] == [
        "left.weight",
        "right.weight",
        "head.weight",
    ]
    assert [layer["total"] for layer in result["layers"]] == [180, 180, 80]
    assert result["forgetting"] == 0
    assert result == result_of(spec, tmp_path)


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("share", ["none", "reuse", "forward", "all"])
def test_finished_tasks_of_an_own_network_answer_as_they_did_to_the_bit(backend, share):
    spec = tiny(network="cllab:Net", share=share, tasks=3)
    spec = dataclasses.replace(spec, sparse=dataclasses.replace(spec.sparse, backend=backend))
    tasks = load_tasks(spec.benchmark, spec.tasks, dataset=spec.dataset)
    torch.manual_seed(0)
    model = make_model(spec, tasks[0])
    optimizer = make_optimizer(spec, model.parameters())
    before: list[torch.Tensor] = []
    for label, task in enumerate(tasks):
        model.train()
        model.begin(label)
        model.attach(optimizer, steps=8)
        for _ in range(8):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(task.train_x, label), task.train_y).backward()
            optimizer.step()
        model.end()
        for old, answers in enumerate(before):
            assert torch.equal(logits(model, old, tasks[old]), answers)
        before.append(logits(model, label, task))


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("cllab:wrong_head", "makes (2, 5) of (2, 9), must make (2, 4): a value for each class"),
        ("cllab:wrong_input", "cannot take samples (batch, 9): RuntimeError"),
        ("cllab:no_module", "gave a NoneType, must be a function or class (features, classes"),
        ("cllab:no_arguments", "takes (), must be a function or class (features, classes"),
        ("cllab:number", "is an int in 'cllab' ("),
        ("cllab:Nett", "has no 'Nett'; it must be a function or class (features, classes"),
        ("nolab:Net", "there is no module 'nolab' here or among what is installed"),
    ],
)
def test_what_is_no_network_is_refused_in_one_line(network, said, tmp_path):
    message = complain(lambda: result_of(tiny(network=network), tmp_path))
    assert message.startswith(f"network={network!r}: ") and said in message


def test_settings_that_a_network_does_not_have_are_refused(tmp_path):
    spec = tiny(network="cllab:Net", network_kwargs={"depth": 3})
    said = complain(lambda: result_of(spec, tmp_path))
    assert said.startswith("network='cllab:Net': takes (features, classes, width=16), must be")
    assert said.endswith("got an unexpected keyword argument 'depth'")
    said = complain(lambda: tiny(network_kwargs={"width": 3}))
    assert said.startswith("network_kwargs={'width': 3}: are for a network of your own, 'mlp' has")


def test_modules_are_looked_for_before_anything_runs():
    tiny(network="cllab:Net").check_data()
    for field in ("network", "optimizer", "dataset"):
        said = complain(tiny(**{field: "nolab:thing"}).check_data)
        assert said.startswith(f"{field}='nolab:thing': there is no module 'nolab'")
    assert "metrics='nolab:m'" in complain(tiny(metrics=("nolab:m",)).check_data)


def test_hidden_layers_play_no_part_in_an_own_network():
    own = {"network": "cllab:Net"}
    assert tiny(**own, hidden=(9,)).canonical() == tiny(**own).canonical()
    assert tiny(**own, network_kwargs={"width": 9}).canonical() != tiny(**own).canonical()


def test_specs_with_own_code_come_back_from_plain_values():
    spec = tiny(network="cllab:Net", network_kwargs={"width": 5}, metrics=("cllab:strange",))
    assert load(CLSpec, plain(spec)) == spec
    assert run_id("cl", load(CLSpec, plain(spec))) == run_id("cl", spec)


def test_an_optimizer_is_made_with_its_settings(tmp_path):
    spec = tiny(optimizer="cllab:momentum", optimizer_kwargs={"decay": 0.5}, lr=0.25)
    made = make_optimizer(spec, nn.Linear(2, 2).parameters())
    assert made.defaults["momentum"] == 0.5 and made.defaults["weight_decay"] == 0.5
    assert made.defaults["lr"] == 0.25
    assert result_of(tiny(optimizer="torch.optim:RMSprop", lr=0.01), tmp_path)["forgetting"] == 0
    named = make_optimizer(tiny(optimizer_kwargs={"eps": 0.5}), nn.Linear(2, 2).parameters())
    assert isinstance(named, torch.optim.Adam) and named.defaults["eps"] == 0.5


def test_the_learning_rate_has_one_place():
    said = complain(lambda: tiny(optimizer_kwargs={"lr": 1.0}))
    assert said == "optimizer_kwargs.lr: is a field of the run itself, set lr"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimizer": "cllab:Net"}, "optimizer='cllab:Net': takes (features, classes, width=16)"),
        ({"optimizer": "builtins:dict"}, "optimizer='builtins:dict': gave a dict, must be"),
        ({"optimizer_kwargs": {"beta": 1}}, "got an unexpected keyword argument 'beta'"),
    ],
)
def test_what_is_no_optimizer_is_refused_in_one_line(options, said):
    spec, parameters = tiny(**options), list(nn.Linear(2, 2).named_parameters())
    assert said in complain(lambda: make_optimizer(spec, parameters))


def test_a_strategy_of_ones_own_decides_its_settings():
    spec = tiny(strategy="cllab:careful", sparse=SparseConfig(sparsity=0.8))
    config, share = spec.settings
    assert (config.method, config.growth, share) == ("set", "random", "reuse")
    assert spec.isolation_in_force == "hard"
    said = complain(lambda: tiny(strategy="cllab:careful", share="all"))
    assert said == "share='all': strategy 'cllab:careful' decides it, 'reuse'"
    said = complain(lambda: tiny(strategy="cllab:Net"))
    assert "is the class Net in 'cllab'" in said
    assert said.endswith("must be a continual.strategies.recipes.Recipe")


def test_metrics_are_part_of_the_result(tmp_path):
    result = result_of(tiny(metrics=("cllab:strange",)), tmp_path)
    numbers = {"labels": 2.0, "last": result["accuracy_matrix"][1][1]}
    assert result["measured"] == {"cllab:strange": numbers}
    assert "measured" not in result_of(tiny(), tmp_path)


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (("cllab:nothing",), "module 'cllab' ("),
        (("cllab:no_numbers",), "gave name='text', which is no finite number; must be a function"),
        (("cllab:no_arguments",), "takes (), must be a function (model, tasks, accuracy_matrix)"),
    ],
)
def test_what_is_no_metric_is_refused_in_one_line(metrics, said, tmp_path):
    message = complain(lambda: result_of(tiny(metrics=metrics), tmp_path))
    assert message.startswith(f"metrics={metrics[0]!r}: ") and said in message


def test_a_metric_that_cannot_be_called_is_refused_before_training(tmp_path):
    seen = []
    with pytest.raises(InputError, match="takes"):
        run(tiny(metrics=("cllab:no_arguments",)), tmp_path, lambda done, _: seen.append(done))
    assert not seen


@pytest.mark.parametrize("field", ["network", "optimizer", "strategy", "benchmark"])
def test_names_that_are_neither_ours_nor_references_are_refused(field):
    said = complain(lambda: CLSpec(**{field: "nothing"}))
    assert said.startswith(f"{field}='nothing': must be one of ")
    assert said.endswith(", or package.module:NAME of your own")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"network": "cllab:number"}, "network='cllab:number': is an int in 'cllab'"),
        ({"network": "cllab:nothing"}, "network='cllab:nothing': module 'cllab'"),
        ({"optimizer": "cllab:number"}, "optimizer='cllab:number': is an int"),
        ({"metrics": ("cllab:number",)}, "metrics='cllab:number': is an int"),
        ({"benchmark": "cllab:number", "dataset": None}, "benchmark='cllab:number': is an int"),
        ({"dataset": "cllab:number"}, "dataset='cllab:number': is an int"),
    ],
)
def test_what_cannot_be_called_is_found_before_anything_runs(options, said):
    spec = tiny(**options)
    assert complain(spec.check_data).startswith(said)
