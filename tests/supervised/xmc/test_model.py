"""`OneVsAll`: blocks change nothing, gradients are autograd's, predictions the best logits."""

from __future__ import annotations

import pytest
import torch

from sparse_core.checks import InputError
from supervised.data.text import Samples
from supervised.xmc.groups import grouped, label_groups
from supervised.xmc.model import OneVsAll
from supervised.xmc.predict import best_labels
from tests.supervised.data.test_rows import random_matrix, rows_of
from tests.supervised.xmc.test_losses import DENSE, LOSSES, ONE_VS_ALL

SAMPLES, FEATURES, LABELS, GROUPS = 12, 9, 11, 3
X = rows_of(random_matrix(0, SAMPLES, FEATURES, 0.4))
Y = rows_of(random_matrix(1, SAMPLES, LABELS, 0.3) > 0)


def model(block=65_536, intermediate=None, groups=0) -> OneVsAll:
    """Return a model whose weights do not depend on how its labels are cut."""
    torch.manual_seed(0)
    made = OneVsAll(FEATURES, LABELS, intermediate=intermediate, groups=groups, block=block)
    whole = torch.randn(LABELS, (intermediate or FEATURES) + 1, generator=torch.manual_seed(1))
    with torch.no_grad():
        for begin, layer in made.blocks():
            rows = whole[begin : begin + layer.out_features]
            layer.weight.copy_(rows[:, :-1])
            layer.bias.copy_(rows[:, -1])
        if made.auxiliary is not None:
            made.auxiliary.weight.copy_(whole[:groups, :-1])
    return made


def gradients(of: OneVsAll) -> list[torch.Tensor]:
    """Return the gradients, those of the output layer whole."""
    names = ("weight", "bias")
    output = [torch.cat([getattr(layer, name).grad for layer in of.output]) for name in names]
    others = [p.grad for name, p in of.named_parameters() if not name.startswith("output")]
    return output + others


@pytest.mark.parametrize("kind", ONE_VS_ALL)
@pytest.mark.parametrize("block", [1, 4, 11, 100])
@pytest.mark.parametrize(("intermediate", "groups"), [(None, 0), (5, 0), (5, GROUPS)])
def test_gradients_are_those_of_autograd(kind, block, intermediate, groups):
    of_labels = torch.arange(LABELS) % GROUPS
    meta = grouped(Y, of_labels, GROUPS)
    found = model(block, intermediate, groups)
    loss = found.backward(X, Y, LOSSES[kind], groups=meta, group_weight=0.4)

    plain = model(intermediate=intermediate, groups=groups)
    expected = DENSE[kind](plain(X), Y.dense()) / SAMPLES
    total = expected
    if plain.auxiliary is not None:
        logits = plain.auxiliary(plain.inputs(X))
        total = total + 0.4 * DENSE[kind](logits, meta.dense()) / SAMPLES
    total.backward()
    torch.testing.assert_close(loss, expected.detach())
    for one, other in zip(gradients(found), gradients(plain), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_logits_are_held_one_block_at_a_time():
    made = model(block=4, intermediate=5)
    widths = []
    for layer in made.output:
        layer.register_forward_hook(lambda _, __, out: widths.append(tuple(out.shape)))
    made.backward(X, Y, LOSSES["bce"])
    best_labels(made, X, 3, batch=5)
    assert widths[:3] == [(SAMPLES, 4), (SAMPLES, 4), (SAMPLES, 3)]
    assert {width for width, _ in widths[3:]} == {5, 2}


def test_the_intermediate_layer_sums_the_vectors_of_features():
    made = model(intermediate=5)
    hidden = X.dense() @ made.lookup.weight + made.bias
    torch.testing.assert_close(made.inputs(X), hidden.relu(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block", [1, 4, 100])
@pytest.mark.parametrize("batch", [1, 5, 256])
def test_predictions_are_the_best_logits(block, batch):
    made = model(block, intermediate=5)
    labels, scores = best_labels(made, X, 5, batch=batch)
    expected = made(X).topk(5)
    torch.testing.assert_close(scores, expected.values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(made(X).gather(1, labels), expected.values, rtol=1e-5, atol=1e-5)
    assert all(len(set(row)) == 5 for row in labels.tolist())


def test_wrong_input_is_named():
    with pytest.raises(InputError, match="k=12: must be at most 11, the labels"):
        best_labels(model(), X, 12)
    nobody = X.take(torch.tensor([], dtype=torch.int64))
    assert [tuple(found.shape) for found in best_labels(model(), nobody, 2)] == [(0, 2), (0, 2)]
    with pytest.raises(InputError, match="intermediate=0: must be an integer of at least 1"):
        model(intermediate=0)


def test_labels_with_the_same_features_are_a_group():
    """Labels 0, 1, 2 have samples with features 0 to 3, labels 3, 4, 5 with features 4 to 7."""
    x = torch.block_diag(torch.ones(6, 4), torch.ones(6, 4))
    y = torch.eye(6).repeat_interleave(2, 0)
    samples = Samples(rows_of(x), rows_of(y))
    found = [label_groups(samples, 2, seed).tolist() for seed in range(8)]
    # Both first centres may lie in one half; then all labels are one group.
    assert all(len(set(groups[:3])) == len(set(groups[3:])) == 1 for groups in found)
    assert any(len(set(groups)) == 2 for groups in found)


def test_a_group_belongs_to_a_sample_once():
    labels = rows_of([[1.0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]])
    found = grouped(labels, torch.tensor([0, 0, 1, 2]), 4)
    assert found.dense().tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    assert found.width == 4 and found.values is None
