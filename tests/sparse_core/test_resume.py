"""A run that is stopped anywhere and taken up again equals the run that never stopped, to the bit.

`python -m tests.sparse_core.test_resume FOLDER` is the second process: it goes on from what the
first one saved.
"""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparse_core import SparseConfig, sparsify
from sparse_core.registry import METHODS
from tests.sparse_core.networks import mlp

ROOT = Path(__file__).resolve().parents[2]
STEPS = 12

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.9),
    "tf": lambda p: _rmsprop_tf_like(p),
}

METHOD_FIELDS: dict[str, dict[str, Any]] = {
    name: dict(method=name, sparsity=0.7, update_every=3, horizon=STEPS) for name in METHODS
}
for name in ("sr_ste", "rnm"):
    METHOD_FIELDS[name] |= dict(structure="1:4", sparsity=0.75)
CASES: dict[str, dict[str, Any]] = {
    **METHOD_FIELDS,
    "unfired": dict(method="set", growth="unfired", update_every=2),
    "signed": dict(method="set", drop="signed", update_every=2),
    "mean": dict(method="rigl", gradient_steps=4, update_every=4),
    "momentum": dict(method="srigl", growth="adam_momentum", update_every=4, sparsity=0.7),
    "grouped": dict(method="srigl", group=2, update_every=2, sparsity=0.7, ablation_threshold=0.9),
    "keep": dict(method="rigl", optimizer_state="keep", update_every=2, sparsity=0.6),
    "freeze": dict(method="rigl", optimizer_state="freeze", update_every=2, sparsity=0.6),
    "layer_mean": dict(method="rigl", optimizer_state="layer_mean", update_every=2),
    "skip": dict(method="rigl", skip_step=True, update_every=2, sparsity=0.6),
    "growing": dict(
        method="rigl", sparsity=0.3, initial_sparsity=0.8, update_every=2, horizon=STEPS
    ),
    "shrinking": dict(
        method="srigl",
        sparsity=0.8,
        initial_sparsity=0.3,
        min_fan_in=1,
        update_every=3,
        horizon=9,
    ),
    "pattern": dict(method="rigl", structure="2:4", sparsity=0.5, update_every=2),
    "guided": dict(method="gse", growth="sampled_graest", scope="global", update_every=2),
}


def _rmsprop_tf_like(parameters: Any) -> torch.optim.Optimizer:
    pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

    return RMSpropTFLike(parameters, lr=1e-3, momentum=0.9)


def built(fields: dict[str, Any], optimizer: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(3)
    net = mlp(8, 10, 10, 4)
    made = OPTIMIZERS[optimizer](net.parameters())
    sparsify(net, SparseConfig(**fields), made)
    return net, made


def train(net: nn.Module, optimizer: torch.optim.Optimizer, start: int, stop: int) -> None:
    for step in range(start, stop):
        optimizer.zero_grad(set_to_none=bool(step % 2))
        for part in range(2):
            generator = torch.Generator().manual_seed(2 * step + part)
            x = torch.randn(6, 8, generator=generator)
            (net(x) - x[:, :4]).pow(2).mean().backward()
        optimizer.step()


def everything(net: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    state = optimizer.state_dict()["state"]
    moments = [
        torch.as_tensor(value)
        for index in sorted(state)
        for _, value in sorted(state[index].items())
        if value is not None
    ]
    return [*(v.clone() for v in net.state_dict().values()), *(m.clone() for m in moments)]


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return len(left) == len(right) and all(map(torch.equal, left, right))


def stop_of(case: str, optimizer: str) -> int:
    """Somewhere in the run, elsewhere for each case: before, on, after and between updates."""
    place = list(CASES).index(case) * len(OPTIMIZERS) + list(OPTIMIZERS).index(optimizer)
    return place % (STEPS + 1)


def resume(folder: Path) -> None:
    for place in sorted(folder.glob("*.pt")):
        case, optimizer_name = place.stem.split("-")
        net, optimizer = built(CASES[case], optimizer_name)
        saved = torch.load(place, weights_only=True)
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])
        train(net, optimizer, stop_of(case, optimizer_name), STEPS)
        torch.save(everything(net, optimizer), place.with_suffix(".end"))


@pytest.mark.parametrize("each", [2, pytest.param(len(OPTIMIZERS), marks=pytest.mark.slow)])
def test_a_new_process_goes_on_to_the_bit(each, tmp_path):
    """Each case with some optimizers, each optimizer with as many cases."""
    pytest.importorskip("stable_baselines3")
    ends = {}
    for number, (case, fields) in enumerate(CASES.items()):
        for name in [*OPTIMIZERS, *OPTIMIZERS][number % len(OPTIMIZERS) :][:each]:
            net, optimizer = built(fields, name)
            stop = stop_of(case, name)
            train(net, optimizer, 0, stop)
            saved = {"net": net.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(saved, tmp_path / f"{case}-{name}.pt")
            train(net, optimizer, stop, STEPS)
            ends[f"{case}-{name}"] = everything(net, optimizer)
    command = [sys.executable, "-m", "tests.sparse_core.test_resume", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=200)
    wrong = [
        name
        for name, end in ends.items()
        if not same(end, torch.load(tmp_path / f"{name}.end", weights_only=True))
    ]
    assert wrong == []


COPIERS = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda both: pickle.loads(pickle.dumps(both)),
    "optimizer first": lambda both: pickle.loads(pickle.dumps(both[::-1]))[::-1],
}


@pytest.mark.parametrize("copier", COPIERS)
@pytest.mark.parametrize("case", CASES)
def test_a_copy_goes_on_to_the_bit(case, copier):
    stop = 3 + list(CASES).index(case) % 4
    net, optimizer = built(CASES[case], "adam")
    train(net, optimizer, 0, stop)
    twin, twin_optimizer = COPIERS[copier]((net, optimizer))
    train(net, optimizer, stop, STEPS)
    frozen = everything(net, optimizer)
    train(twin, twin_optimizer, stop, STEPS)
    assert same(everything(twin, twin_optimizer), frozen)
    assert same(everything(net, optimizer), frozen)
    assert twin.sparse_engine.optimizer is twin_optimizer
    assert twin.sparse_engine.root is twin


def test_a_copy_of_the_network_alone_is_whole_and_on_its_own():
    net, optimizer = built(CASES["mean"], "adam")
    train(net, optimizer, 0, 6)
    twin = copy.deepcopy(net)
    before = [v.clone() for v in net.state_dict().values()]
    engine = twin.sparse_engine
    assert engine.root is twin and engine.optimizer is not optimizer
    assert all(t.layer in set(twin.modules()) for t in engine.tensors)
    train(twin, engine.optimizer, 6, STEPS)
    assert same(before, list(net.state_dict().values()))
    train(net, optimizer, 6, STEPS)
    assert same(everything(net, optimizer), everything(twin, engine.optimizer))


def test_a_new_optimizer_can_take_over_a_copied_network():
    net, optimizer = built(CASES["rigl"], "adam")
    train(net, optimizer, 0, 2)
    twin = copy.deepcopy(net)
    old = twin.sparse_engine.optimizer
    new = torch.optim.SGD(twin.parameters(), lr=0.01)
    twin.sparse_engine.attach(new)
    train(twin, new, 2, 7)
    assert twin.sparse_engine.steps == 7 and twin.sparse_engine.updates == 2
    with pytest.warns(UserWarning, match="engine is attached to another optimizer"):
        old.step()
    assert twin.sparse_engine.steps == 7


def test_a_whole_saved_model_goes_on(tmp_path):
    net, optimizer = built(CASES["srigl"], "adam")
    train(net, optimizer, 0, 4)
    torch.save(net, tmp_path / "model.pt")
    twin = torch.load(tmp_path / "model.pt", weights_only=False)
    train(net, optimizer, 4, STEPS)
    train(twin, twin.sparse_engine.optimizer, 4, STEPS)
    assert same(everything(net, optimizer), everything(twin, twin.sparse_engine.optimizer))


@pytest.mark.parametrize("source", [1, 2])
@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("case", ["rigl", "mean", "snfs", "guided"])
def test_loading_another_step_arms_the_tap_as_that_step_does(case, source, place):
    """Step 2 of every 3 precedes an update, so one of the two has an armed tap."""
    net, optimizer = built(CASES[case], "adam")
    train(net, optimizer, 0, source)
    saved = copy.deepcopy({"net": net.state_dict(), "optimizer": optimizer.state_dict()})
    armed = [t.tap.armed for t in net.sparse_engine.tensors]
    train(net, optimizer, source, STEPS)

    other, other_optimizer = built(CASES[case], "adam")
    train(other, other_optimizer, 0, place)
    other(torch.randn(4, 8)).sum().backward()
    other.load_state_dict(saved["net"])
    other_optimizer.load_state_dict(saved["optimizer"])
    assert [t.tap.armed for t in other.sparse_engine.tensors] == armed
    assert all(t.tap.value is None for t in other.sparse_engine.tensors)
    train(other, other_optimizer, source, STEPS)
    assert same(everything(net, optimizer), everything(other, other_optimizer))


def test_state_may_be_loaded_before_the_optimizer_is_attached():
    """Of moments kept at inactive weights, and of latent weights, nothing is lost."""
    for case in ("keep", "topkast", "sr_ste", "rigl"):
        net, optimizer = built(CASES[case], "sgd")
        train(net, optimizer, 0, 5)
        saved = copy.deepcopy({"net": net.state_dict(), "optimizer": optimizer.state_dict()})
        train(net, optimizer, 5, STEPS)
        twin = mlp(8, 10, 10, 4)
        engine = sparsify(twin, SparseConfig(**CASES[case]))
        twin_optimizer = OPTIMIZERS["sgd"](twin.parameters())
        twin.load_state_dict(saved["net"])
        twin_optimizer.load_state_dict(saved["optimizer"])
        engine.attach(twin_optimizer)
        train(twin, twin_optimizer, 5, STEPS)
        assert same(everything(net, optimizer), everything(twin, twin_optimizer)), case


def test_a_horizon_told_late_and_a_restart_are_part_of_the_state():
    def told(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        net.sparse_engine.set_horizon(STEPS)
        train(net, optimizer, 2, 4)
        net.sparse_engine.restart(10)
        train(net, optimizer, 4, 6)

    fields = dict(method="rigl", sparsity=0.6, update_every=2)
    net, optimizer = built(fields, "adam")
    train(net, optimizer, 0, 2)
    told(net, optimizer)
    saved = copy.deepcopy({"net": net.state_dict(), "optimizer": optimizer.state_dict()})
    twin, twin_optimizer = built(fields, "adam")
    twin.load_state_dict(saved["net"])
    twin_optimizer.load_state_dict(saved["optimizer"])
    assert twin.sparse_engine.horizon == 10
    assert twin.sparse_engine.fraction == net.sparse_engine.fraction
    for each, its_optimizer in ((net, optimizer), (twin, twin_optimizer)):
        train(each, its_optimizer, 6, 14)
    assert same(everything(net, optimizer), everything(twin, twin_optimizer))


def test_loading_into_a_part_of_a_larger_module_is_noticed():
    net, optimizer = built(CASES["srigl"], "adam")
    whole = nn.ModuleDict({"net": net})
    train(net, optimizer, 0, 3)
    saved = copy.deepcopy(whole.state_dict())
    train(net, optimizer, 3, 8)
    whole.load_state_dict(saved)
    assert net.sparse_engine.steps == 3 and net.sparse_engine.updates == 1


if __name__ == "__main__":
    torch.set_num_threads(1)
    resume(Path(sys.argv[1]))
