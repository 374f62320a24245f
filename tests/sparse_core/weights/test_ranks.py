"""Two processes under `DistributedDataParallel` have one topology: that of the whole batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.multiprocessing

from tests.sparse_core.weights import two_ranks
from tests.sparse_core.weights.two_ranks import METHODS, STEPS, alone, network, train

Found = list[dict[Any, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(two_ranks.work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two results are the same to the bit."""
    return (
        one["updates"] == other["updates"]
        and all(map(torch.equal, one["masks"], other["masks"]))
        and one["state"].keys() == other["state"].keys()
        and all(map(torch.equal, one["state"].values(), other["state"].values()))
    )


@pytest.mark.parametrize("exchanged", [True, False])
@pytest.mark.parametrize("name", METHODS)
def test_ranks_are_one_network_that_learns_from_the_whole_batch(found, name, exchanged):
    first, second = (results[name, exchanged] for results in found)
    assert same(first, second)
    whole = alone(name)
    assert whole["updates"] == first["updates"]
    assert all(map(torch.equal, whole["masks"], first["masks"]))
    for key, value in whole["state"].items():
        torch.testing.assert_close(first["state"][key], value, rtol=1e-6, atol=1e-9)


def test_the_topologies_of_the_cases_move():
    for name in METHODS:
        if name not in ("static", "sr_ste"):
            net, optimizer, engine = network(name)
            before = [tensor.active() for tensor in engine.tensors]
            train(name, net, optimizer, None)
            after = [tensor.active() for tensor in engine.tensors]
            assert not all(map(torch.equal, before, after)), name
    net, optimizer, engine = network("srigl")
    train("srigl", net, optimizer, None)
    assert any(tensor.companion("live") is not None for tensor in engine.tensors)


@pytest.mark.parametrize("case", ["one head each", "one head each, samples"])
def test_a_layer_that_only_one_rank_uses_takes_part(found, case):
    first, second = (results[case] for results in found)
    assert same(first, second) and not first["said"] and not second["said"]
    moved = [not torch.equal(b, a) for b, a in zip(first["before"], first["masks"], strict=True)]
    assert moved == [True, True, True]


@pytest.mark.parametrize("case", ["one head for both", "fewer samples"])
def test_a_layer_that_no_rank_uses_sits_out_on_all(found, case):
    first, second = (results[case] for results in found)
    assert same(first, second)
    moved = [not torch.equal(b, a) for b, a in zip(first["before"], first["masks"], strict=True)]
    assert moved == [True, True, False]
    for said in (first["said"], second["said"]):
        assert len(said) == 1 and "layer 'right.weight': no gradient" in said[0]


def test_a_loop_that_averages_gradients_itself_names_its_group(found):
    first, second = (results["united"] for results in found)
    assert same(first, second)
    assert all(map(torch.equal, first["masks"], alone("rigl")["masks"]))


def test_ranks_that_begin_differently_are_refused_before_their_first_step(found):
    for rank, results in enumerate(found):
        said = results["different"]["said"]
        assert "the 2 ranks of a sparse network begin differently" in said and "seed" in said
        assert results["different"]["updates"] == 0
        _, _, engine = network("rigl", seed=0)
        weights = [t.weight.detach() for t in engine.tensors]
        state = results["different"]["state"]
        kept = [torch.equal(state[t.name], w) for t, w in zip(engine.tensors, weights, strict=True)]
        assert all(kept), rank


def test_what_is_wrapped_already_gets_no_new_parameters(found):
    first, second = (results["late"] for results in found)
    assert same(first, second) and first["updates"] == 3
    assert len(first["said"]) == 6
    for said in first["said"]:
        assert "wrapped in DistributedDataParallel already; make it sparse first" in said


def test_one_rank_and_ranks_apart_are_plain_training_to_the_bit(found):
    for rank, results in enumerate(found):
        for (name, _), apart in results["apart"].items():
            net, optimizer, engine = network(name)
            train(name, net, optimizer, rank, range(STEPS))
            assert same(apart, two_ranks.result(engine))
