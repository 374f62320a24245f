"""The README's examples run as they stand, only shorter."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def example(word: str) -> str:
    found = [block for block in BLOCKS if word in block]
    assert len(found) == 1, f"README has {len(found)} examples with {word}"
    return found[0]


def test_sparse_sac_in_three_lines(monkeypatch):
    code = example("SparseSACPolicy")
    assert len(code.strip().splitlines()) == 3
    names: dict = {}
    shorter = code.replace("SAC(Sparse", "model = SAC(Sparse").replace("5_000", "120")
    exec(compile(shorter, "README.md", "exec"), names)
    engine = names["model"].policy.actor.sparse_engine
    assert engine.sparsity == pytest.approx(0.9, abs=0.01)
    assert engine.steps > 0


def test_sparse_avalanche_in_five_lines():
    from torch.optim import SGD

    from continual import MaskIsolation, TaskMasks
    from continual.runs.benchmarks import as_avalanche, load_tasks

    from avalanche.training import Naive  # isort: skip

    code = example("MaskIsolation")
    assert len(code.strip().splitlines()) == 5
    net = nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 5))
    names = dict(
        net=net,
        benchmark=as_avalanche(load_tasks("split-digits", tasks=2)),
        TaskMasks=TaskMasks,
        MaskIsolation=MaskIsolation,
        SparseConfig=SparseConfig,
        Naive=Naive,
        SGD=SGD,
    )
    exec(compile(code, "README.md", "exec"), names)
    for layer in names["model"].capacity():
        assert 0 < layer.used <= layer.total


def test_tasks_in_sequence():
    import numpy as np
    from stable_baselines3 import PPO

    from dstrl import ContinualActorCriticPolicy, SparseCallback
    from dstrl.tasks.switching import begin_task
    from envs import CartPoleTask

    code = example("begin_task").replace("20_000", "64")
    small = code.replace("policy_kwargs=", "n_steps=32, batch_size=32, policy_kwargs=")
    names = dict(
        PPO=PPO,
        ContinualActorCriticPolicy=ContinualActorCriticPolicy,
        SparseCallback=SparseCallback,
        begin_task=begin_task,
        envs=[CartPoleTask().make(), CartPoleTask(gravity=20.0).make()],
        observation=np.zeros(4, dtype=np.float32),
    )
    exec(compile(small, "README.md", "exec"), names)
    assert names["model"].policy.finished_tasks == [0, 1]
    assert names["action"] in (0, 1)


def test_any_module_in_one_line():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    names = dict(
        model=model,
        optimizer=torch.optim.Adam(model.parameters()),
        sparsify=sparsify,
        SparseConfig=SparseConfig,
    )
    exec(compile(example("engine = sparsify"), "README.md", "exec"), names)
    model(torch.randn(4, 8)).sum().backward()
    names["optimizer"].step()
    assert names["engine"].steps == 1


def test_the_grid_in_the_readme_is_a_grid(tmp_path):
    from sweeps.language.grid import load_grid

    text = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "mine.yaml"
    path.write_text(text[1])
    assert len(load_grid(str(path)).runs) == 3 * 3 * 5
