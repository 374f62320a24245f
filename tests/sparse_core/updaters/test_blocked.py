"""Updates slot by slot and in blocks of rows are those of whole matrices, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sparse_core import Engine, SparseConfig, sparsify
from sparse_core.naming import drop_rule_named, growth_rule_named
from sparse_core.registry import GROWTH_RULES
from sparse_core.rules import growth_of
from sparse_core.updaters import updater_for
from sparse_core.updaters.base import DropAndGrow, ranks_in_blocks
from sparse_core.updaters.blocked import RankedInBlocks
from sparse_core.updaters.ranked import Ranked
from sparse_core.updaters.scene import Moment
from sparse_core.updaters.slots import RankedSlots, ranks_slots
from sparse_core.weights.condensed import CondensedTensor
from sparse_core.weights.delta import Delta
from tests.sparse_core.networks import batch, mlp, train
from tests.sparse_core.ties import Twins


@contextmanager
def blocks(elements: int) -> Iterator[None]:
    """Every condensed layer is a large one, blocks are small."""
    with (
        patch("sparse_core.weights.condensed.BLOCKS_ABOVE", 0),
        patch("sparse_core.kernels.topk.BLOCK_ELEMENTS", elements),
    ):
        yield


@contextmanager
def no_matrices() -> Iterator[None]:
    """Nobody makes a matrix of scores or a dense gradient."""
    message = AssertionError("a whole matrix was made")
    with (
        patch.object(Ranked, "of", side_effect=message),
        patch("sparse_core.layers.tap.GradientTap.gradient", side_effect=message),
    ):
        yield


def built(optimizer: str, **fields: Any) -> tuple[nn.Module, torch.optim.Optimizer, Engine]:
    torch.manual_seed(0)
    net = mlp(12, 40, 24, 4)
    made: torch.optim.Optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    if optimizer == "sgd":
        made = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    fields = {"sparsity": 0.8, "update_every": 5, "horizon": 400} | fields
    return net, made, sparsify(net, SparseConfig(backend="condensed", **fields), made)


RULES: list[dict[str, Any]] = [
    dict(method="set"),
    dict(method="set", drop="signed"),
    dict(method="set", growth="unfired", structure="constant_fan_in", group=4, drop="signed"),
    dict(method="rigl"),
    dict(method="rigl", structure="constant_fan_in", optimizer_state="layer_mean"),
    dict(method="srigl", ablation_threshold=0.9),
    dict(method="srigl", ablation_threshold=0.9, ablation_sticky=True),
    dict(method="srigl", group=4, ablation_threshold=0.9),
    dict(method="srigl", group=8, ablation=False),
    dict(method="mest", drop="magnitude", slack=0.1),
    dict(method="mest", structure="constant_fan_in", drop="magnitude", growth="unfired"),
]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("fields", RULES, ids=lambda f: "-".join(map(str, f.values())))
def test_blocks_and_matrices_train_alike(fields: dict[str, Any], optimizer: str) -> None:
    """Gradients of a block of rows may be summed in another order than those of a whole matrix."""
    net, made, engine = built(optimizer, **fields)
    twin, twin_made, twin_engine = built(optimizer, **fields)
    twins, moved, ablated = Twins(), 0, 0
    for step in range(0, 60, 5):
        train(net, made, range(step, step + 5))
        with blocks(50), no_matrices():
            train(twin, twin_made, range(step, step + 5))
        if not twins.tensors_alike(engine.tensors, twin_engine.tensors):
            return
        for one, other in zip(engine.tensors, twin_engine.tensors, strict=True):
            assert isinstance(one, CondensedTensor) and isinstance(other, CondensedTensor)
            assert torch.equal(one.weight, other.weight)
            ablated += len(one.layer.pattern.absent)
            if step == 55:
                seen, theirs = one.seen(), other.seen()
                assert seen is not None and theirs is not None and torch.equal(seen, theirs)
                moved += int((seen & ~one.active()).sum())
    assert engine.updates == twin_engine.updates == 12 and moved > 0
    if "ablation_threshold" in fields:
        assert ablated > 0
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        for key in ("exp_avg_sq", "momentum_buffer"):
            if key in made.state[p]:
                assert torch.equal(made.state[p][key], twin_made.state[q][key])


@pytest.mark.parametrize("growth", ["momentum", "adam_momentum", "gradient"])
def test_accumulated_gradients_are_read_in_blocks(growth: str) -> None:
    fields = dict(method="rigl", growth=growth)
    if growth == "gradient":
        fields["gradient_steps"] = 3  # type: ignore[assignment]
    net, made, engine = built("adam", **fields)
    twin, twin_made, twin_engine = built("adam", **fields)
    train(net, made, range(60))
    with blocks(50), patch.object(Ranked, "of", side_effect=AssertionError):
        train(twin, twin_made, range(60))
    for one, other in zip(engine.tensors, twin_engine.tensors, strict=True):
        assert torch.equal(one.active(), other.active())
        assert torch.equal(one.weight, other.weight)


@pytest.mark.parametrize(
    "fields",
    [
        dict(method="gse", growth="sampled_graest"),
        dict(method="set", growth="importance"),
        dict(method="mest"),
        dict(method="rigl", structure="2:4"),
        dict(method="snfs"),
    ],
    ids=lambda f: "-".join(f.values()),
)
def test_what_needs_matrices_gets_them(fields: dict[str, Any]) -> None:
    if fields["method"] == "snfs":
        with pytest.raises(ValueError, match="backend"):
            built("adam", **fields)
        return
    if "structure" in fields:
        fields = fields | {"sparsity": 0.5}
    net, made, engine = built("adam", **fields)
    twin, twin_made, twin_engine = built("adam", **fields)
    train(net, made, range(40))
    with blocks(50):
        train(twin, twin_made, range(40))
    for one, other in zip(engine.tensors, twin_engine.tensors, strict=True):
        assert torch.equal(one.active(), other.active())


def layer(
    rows: int, cols: int, group: int, structure: str, sparsity: float, seed: int, **fields: Any
) -> CondensedTensor:
    """A condensed layer with small integer weights and signals: exact sums, and many ties."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(cols, rows))
    fields = {"method": "rigl", "structure": structure, "group": group} | fields
    config = SparseConfig(backend="condensed", sparsity=sparsity, **fields)
    tensor = sparsify(net, config).tensors[0]
    assert isinstance(tensor, CondensedTensor)
    tensor.write(torch.randint(-3, 4, (rows, cols)).float())
    tensor.tap.inputs = [torch.randint(-2, 3, (3, cols)).float() for _ in range(2)]
    tensor.tap.outputs = [torch.randint(-2, 3, (3, rows)).float() for _ in range(2)]
    tensor.tap.products = list(zip(tensor.tap.inputs, tensor.tap.outputs, strict=True))
    return tensor


def equal(one: Delta, other: Delta) -> bool:
    return all(torch.equal(getattr(one, k), getattr(other, k)) for k in vars(one))


@given(
    rows=st.integers(2, 20),
    cols=st.integers(2, 12),
    group=st.sampled_from([0, 1, 2, 4]),
    elements=st.integers(1, 60),
    fraction=st.floats(0, 1),
    growth=st.sampled_from(["random", "unfired", "gradient"]),
    drop=st.sampled_from(["magnitude", "signed"]),
    seed=st.integers(0, 999),
)
def test_one_update_with_ties(
    rows: int,
    cols: int,
    group: int,
    elements: int,
    fraction: float,
    growth: str,
    drop: str,
    seed: int,
) -> None:
    structure = "constant_fan_in" if group else "unstructured"
    tensor = layer(rows, cols, max(1, group), structure, 0.5, seed)
    scores = drop_rule_named(drop), growth_rule_named(growth)
    moment = Moment(step=10, update=2, fraction=fraction, seed=seed)
    whole = Ranked.of(tensor, moment, *scores)
    tensor.tap.value = None
    with blocks(elements):
        assert ranks_in_blocks(tensor)
        for kind in (RankedSlots, RankedInBlocks):
            parts = kind.of(tensor, moment, *scores)
            assert parts.size == whole.size
            count = int(fraction * parts.size)
            kept, same = whole.strongest(count), parts.strongest(count)
            if group:
                assert torch.equal(whole.counts(kept), parts.counts(same))
                assert torch.equal(whole.promising(count), parts.promising(count))
                live = torch.arange(len(whole.active)) % 2 == 0
                for alive in (None, live):
                    capacity = whole.capacity(alive)
                    kept, same = whole.strongest(count, alive), parts.strongest(count, alive)
                    for most in (capacity, capacity // 2):
                        assert equal(whole.refill(kept, most), parts.refill(same, most))
            delta = parts.refill(same, parts.capacity())
            assert equal(delta, whole.refill(kept, whole.capacity()))
        before = tensor.active()
        tensor.apply(delta)
    before.view(-1)[delta.dropped] = False
    before.view(-1)[delta.grown] = True
    assert torch.equal(tensor.active(), before)
    assert tensor.count() == tensor.budget
    tensor.structure.check(tensor.active(), tensor.budget)


def test_the_rules_that_see_rows_alone() -> None:
    by_rows = {name for name in GROWTH_RULES if growth_of(growth_rule_named(name)).by_rows}
    assert by_rows == {
        *("random", "unfired", "gradient", "momentum", "adam_momentum", "candidates")
    }


def test_small_layers_use_one_matrix_of_grow_scores() -> None:
    tensor = layer(6, 5, 1, "unstructured", 0.5, 0)
    assert ranks_slots(tensor) and not ranks_in_blocks(tensor)
    moment = Moment(step=10, update=2, fraction=0.5)
    update = SparseConfig(method="rigl"), SparseConfig(method="rigl", drop="sensitivity")
    for config, kind in zip(update, (RankedSlots, Ranked), strict=True):
        updater = updater_for(config)
        assert isinstance(updater, DropAndGrow)
        with patch.object(DropAndGrow, "rewire") as rewire:
            updater.propose([tensor], moment)
        assert type(rewire.call_args.args[0]) is kind
    with blocks(10):
        assert ranks_in_blocks(tensor)
        assert list(tensor.row_blocks()) == [slice(0, 2), slice(2, 4), slice(4, 6)]
        tensor.protect(torch.ones(6, 5, dtype=torch.bool))
        assert not ranks_in_blocks(tensor)


# Gradients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_gradient_is_named_and_nothing_changes(bad: float) -> None:
    messages = []
    for elements in (None, 50):
        net, made, engine = built("adam", method="rigl")
        with blocks(elements) if elements else patch.dict({}):
            train(net, made, range(4))
            before = [p.detach().clone() for p in net.parameters()]
            masks = [t.active() for t in engine.tensors]
            made.zero_grad()
            net(batch(4, 12)[0]).square().sum().backward()
            tap = engine.tensors[1].tap
            tap.outputs[0][0, 3] = bad
            with pytest.raises(FloatingPointError, match=r"layer '2\.weight'.*step 5") as error:
                made.step()
            messages.append(str(error.value))
            for p, q in zip(net.parameters(), before, strict=True):
                assert torch.equal(p, q)
            assert all(map(torch.equal, masks, (t.active() for t in engine.tensors)))
    assert messages[0] == messages[1]


def test_a_layer_that_no_gradient_reached_is_named_and_left_alone() -> None:
    net, made, engine = built("adam", method="rigl")
    with blocks(50):
        train(net, made, range(4))
        engine.tensors[0].weight.requires_grad_(False)
        masks = [t.active() for t in engine.tensors]
        with pytest.warns(UserWarning, match=r"layer '0\.weight': it is frozen"):
            train(net, made, range(4, 5))
    assert torch.equal(masks[0], engine.tensors[0].active())
    assert not torch.equal(masks[1], engine.tensors[1].active())


@pytest.mark.parametrize("passes", [1, 2])
def test_loss_scales_and_clipped_norms_count(passes: int) -> None:
    net, made, engine = built("adam", method="rigl")
    taken = []
    with blocks(50):
        train(net, made, range(4))
        made.zero_grad()
        for step in range(passes):
            (1024 * net(batch(step, 12)[0]).square().sum()).backward()
        for p in net.parameters():
            assert p.grad is not None
            p.grad /= 1024
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        engine.on_step.append(
            lambda step: taken.extend(t.tap.gradient_rows(slice(0, 4)) for t in engine.tensors)
        )
        with patch("sparse_core.engine.Engine._update"):
            made.step()
    for tensor, rows in zip(engine.tensors, taken, strict=True):
        assert isinstance(tensor, CondensedTensor) and rows is not None
        active = tensor.active()[:4]
        gradient = tensor.layer.pattern.expand(tensor.weight.grad.numpy())  # type: ignore[union-attr]
        expected = torch.from_numpy(gradient)[:4][active]
        torch.testing.assert_close(rows[active], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("large", [False, True])
def test_a_scale_is_found_in_the_rows_that_gradients_reached(backend: str, large: bool) -> None:
    net = nn.Sequential(nn.Linear(12, 40), nn.Linear(40, 2))
    made = torch.optim.SGD(net.parameters(), lr=0.1)
    config = SparseConfig("rigl", sparsity=0.5, update_every=1, backend=backend, dense=("output",))
    engine = sparsify(net, config, made)
    x, taken = torch.randn(6, 12), []
    rows = patch("sparse_core.weights.dense_gradient._SAMPLED", 1)
    with rows, blocks(50) if large else nullcontext(), patch("sparse_core.engine.Engine._update"):
        (8 * net[0](x)[:, 30:].sum()).backward()
        for p in net.parameters():
            p.grad = None if p.grad is None else p.grad / 8
        tap = engine.tensors[0].tap
        engine.on_step.append(lambda step: taken.append(tap.gradient_rows(slice(0, 40))))
        made.step()
    expected = torch.cat([torch.zeros(30, 12), x.sum(0).expand(10, 12)])
    torch.testing.assert_close(taken[0], expected)


# Memory -------------------------------------------------------------------------------------------

MEMORY = """
import resource, sys
import numpy as np, torch
from torch import nn
from sparse_core import Engine, SparseConfig
from sparse_core.weights.condensed import CondensedTensor
from sparse_core.kernels.format import Pattern
from sparse_core.layers.condensed import store_condensed
from sparse_core.budgets.patterns import structure_for

n, k, method = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rng = np.random.default_rng(0)
columns = np.concatenate([np.sort(rng.choice(n, k, replace=False)) for _ in range(n)])
pattern = Pattern.from_lengths(columns, np.full(n, k), n, n)
net = nn.Sequential(nn.Linear(1, 1, bias=False))
store_condensed(net[0], pattern, rng.normal(size=n * k).astype(np.float32))
config = SparseConfig(method=method, backend="condensed", horizon=10000, update_every=3)
structure = structure_for("constant_fan_in" if method == "srigl" else "unstructured")
tensor = CondensedTensor("0.weight", net[0], "weight", "hidden", structure, n * k)
tensor.may_ablate = method == "srigl"
tensor.remember()
engine = Engine(net, config, [], [tensor])
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
engine.attach(optimizer)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
for step in range(3):
    before = peak()
    optimizer.zero_grad()
    net(torch.randn(4, n)).square().mean().backward()
    optimizer.step()
moved = int((tensor.seen(slice(0, 100)) & ~tensor.active(slice(0, 100))).sum())
print(engine.updates, tensor.count() == n * k, moved > 0, peak() - before)
"""


def additional_memory(n: int, fan_in: int, method: str) -> int:
    """Bytes by which the peak grows in a step with an update of an n x n layer."""
    command = [sys.executable, "-c", MEMORY, str(n), str(fan_in), method]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    updates, exact, moved, more = done.stdout.split()
    assert (updates, exact, moved) == ("1", "True", "True")
    return int(more)


def test_an_update_needs_no_matrix() -> None:
    n = 5000
    assert n * n > 1 << 24
    assert additional_memory(n, 5, "rigl") < n * n


@pytest.mark.slow
@pytest.mark.parametrize("method", ["set", "rigl", "srigl"])
def test_an_update_of_400_million_weights_needs_less_than_a_quarter_of_its_gradient(
    method: str,
) -> None:
    assert additional_memory(20000, 20, method) < 20000 * 20000
