"""Sampled labels: over all samples that can be drawn, losses are on average those of all labels."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.checks import InputError
from sparse_core.layers.condensed import CondensedLinear
from supervised.xmc.model import OneVsAll
from supervised.xmc.sampled import Drawn, draw, scores
from supervised.xmc.spec import XMCSpec
from supervised.xmc.train import run
from tests.supervised.data.test_rows import random_matrix, rows_of
from tests.supervised.planted import write
from tests.supervised.xmc.test_losses import LOSSES

LABELS, FEATURES, COUNT = 7, 6, 3
X = rows_of(random_matrix(0, 4, FEATURES, 0.5))
TARGETS = torch.zeros(4, LABELS)
TARGETS[[0, 1, 1, 3], [2, 2, 5, 5]] = 1
Y = rows_of(TARGETS.numpy() > 0)
OTHERS = [label for label in range(LABELS) if label not in (2, 5)]
DRAWN = [
    Drawn(torch.tensor([2, 5, *some]), 2, len(OTHERS) / COUNT)
    for some in combinations(OTHERS, COUNT)
]
EVERY = Drawn(torch.tensor([2, 5, *OTHERS]), 2, 1.0)


def trained(kind: str, drawn: Drawn | None, block: int = 3) -> list[torch.Tensor]:
    """Return the loss of a small network, and its gradients, output layer and all."""
    torch.manual_seed(0)
    net = OneVsAll(FEATURES, LABELS, intermediate=4, block=block)
    loss = net.backward(X, Y, LOSSES[kind], drawn=drawn)
    return [loss, *(parameter.grad for parameter in net.parameters())]


@pytest.mark.parametrize("kind", ["bce", "squared_hinge"])
def test_value_and_gradient_are_on_average_those_of_all_labels(kind):
    found = [trained(kind, drawn) for drawn in DRAWN]
    for one, samples in zip(trained(kind, None), zip(*found, strict=True), strict=True):
        torch.testing.assert_close(torch.stack(samples).mean(0), one, rtol=1e-5, atol=1e-6)


def test_the_corrected_sum_of_exponentials_is_on_average_that_of_all_labels():
    logits = torch.randn(4, LABELS, dtype=torch.float64, generator=torch.manual_seed(1))
    sums = []
    for drawn in DRAWN:
        some = logits[:, drawn.labels]
        some[:, drawn.own :] += math.log(drawn.scale)
        sums.append(some.exp().sum(1))
    torch.testing.assert_close(torch.stack(sums).mean(0), logits.exp().sum(1))


@pytest.mark.parametrize("kind", LOSSES)
def test_a_sample_of_all_labels_is_no_sample(kind):
    for one, other in zip(trained(kind, EVERY, 99), trained(kind, None, 99), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_labels_are_those_of_the_batch_and_others_each_as_often():
    generator, times = torch.Generator().manual_seed(0), torch.zeros(LABELS)
    for _ in range(2000):
        drawn = draw(Y.columns, LABELS, COUNT, generator)
        assert drawn.labels[: drawn.own].tolist() == [2, 5] and drawn.scale == 5 / 3
        assert len(set(drawn.labels.tolist())) == 2 + COUNT
        times[drawn.labels] += 1
    assert times[[2, 5]].tolist() == [2000, 2000]
    expected, spread = 2000 * 3 / 5, math.sqrt(2000 * 3 / 5 * 2 / 5)
    assert bool(((times[OTHERS] - expected).abs() < 5 * spread).all())


def test_no_more_labels_are_drawn_than_there_are():
    generator = torch.Generator().manual_seed(0)
    assert sorted(draw(Y.columns, LABELS, 99, generator).labels.tolist()) == list(range(LABELS))
    assert draw(torch.arange(LABELS), LABELS, 5, generator).scale == 1


@pytest.mark.parametrize("kind", ["dense", "masked", "condensed", "compact", "unstructured"])
def test_scores_of_some_labels_are_those_of_all(kind):
    born = kind in ("condensed", "compact")
    net = OneVsAll(40, LABELS, block=4, born=born)
    if kind != "dense":
        fields = {"structure": "constant_fan_in"} if born else {}
        backend = "masked" if kind == "masked" else "condensed"
        config = SparseConfig(method="static", sparsity=0.8, backend=backend, **fields)
        sparsify(net, config, roles={"output.*": "output"})
    few = rows_of(random_matrix(0, 4, 40, 0.05 if kind == "compact" else 0.6))
    x, labels = net.inputs(few), torch.tensor([6, 0, 3, 5])
    expected = torch.cat([layer(x) for _, layer in net.blocks()], 1)[:, labels]
    found = scores(net.blocks(), x, labels)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    parameters = list(net.parameters())
    pairs = [torch.autograd.grad(y.square().sum(), parameters) for y in (found, expected)]
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_layers_without_scores_of_single_labels_are_refused():
    with pytest.raises(InputError, match="group=2: sampled labels need rows of their own columns"):
        scores([(0, CondensedLinear(8, 4, fan_in=2, group=2))], torch.ones(1, 8), torch.tensor([0]))
    with pytest.raises(InputError, match="Identity has no scores"):
        scores([(0, nn.Identity())], torch.ones(1, 8), torch.tensor([0]))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"method": "rigl"}, "sampled=5: growth by 'gradient' looks at the gradient of all labels"),
        (
            {"method": "set", "structure": "constant_fan_in", "group": 2},
            "sampled=5: needs sparse.group=1, or sparse.backend='masked'",
        ),
    ],
)
def test_what_cannot_be_sampled_is_refused(fields, said):
    with pytest.raises(InputError) as error:
        XMCSpec(sampled=5, sparse=SparseConfig(**fields, backend="condensed"))
    assert str(error.value).startswith(said)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_run_looks_at_a_sample(loss, tmp_path, monkeypatch):
    monkeypatch.setenv("DST_DATA", str(tmp_path))
    write(tmp_path / "xmc" / "planted_data.txt", 60)
    sparse = SparseConfig(
        method="set", sparsity=0.5, structure="constant_fan_in", backend="condensed", update_every=2
    )
    asked = XMCSpec(dataset="planted", epochs=2, batch_size=8, sampled=2, loss=loss, sparse=sparse)
    one, other = (run(asked, tmp_path, lambda *_: None) for _ in range(2))
    assert one == other and one["updates"]["network"] > 0


def test_a_softmax_is_not_cut_into_blocks(tmp_path, monkeypatch):
    monkeypatch.setenv("DST_DATA", str(tmp_path))
    write(tmp_path / "xmc" / "planted_data.txt", 60)
    with pytest.raises(InputError, match="block=4: of loss 'softmax' must be at least"):
        run(XMCSpec(dataset="planted", loss="softmax", block=4), tmp_path, lambda *_: None)
