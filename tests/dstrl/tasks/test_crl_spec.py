"""`CRLSpec`: what it accepts, what it says otherwise, and which runs are the same run."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from dstrl.runs.hyperparameters import ALGORITHMS, defaults
from dstrl.runs.spec import RLSpec
from dstrl.tasks.baselines import BASELINES
from dstrl.tasks.spec import CRLSpec
from sparse_core.config import SparseConfig
from sparse_core.method import Method
from sweeps.language.spec import delta, load, plain, run_id

DENSE = SparseConfig(method="dense")
OWN_DENSE = Method("A dense network by another name.", drop=None, moves="nowhere", sparse=False)


def test_it_imports_no_torch():
    build = "import sys; from dstrl.tasks.spec import CRLSpec; CRLSpec().canonical()"
    code = f"{build}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sequence": "walker"}, "sequence='walker': must be one of cartpole-physics"),
        ({"algo": "trpo"}, "algo='trpo': must be one of ppo"),
        ({"steps": 0}, "steps=0: must be an integer of at least 1"),
        ({"seed": -1}, "seed=-1: must be"),
        ({"isolation": "soft"}, "isolation='soft': must be one of hard, none"),
        ({"share": "forward"}, "share='forward': must be one of none, reuse"),
        ({"alone": 3}, "alone=3: must be true or false"),
        ({"net_arch": (8, 0)}, "net_arch=0: must be an integer of at least 1"),
        ({"net_arch": ()}, "net_arch=(): must have a hidden layer"),
        ({"eval_every": 0}, "eval_every=0: must be an integer of at least 1"),
        ({"eval_episodes": 0}, "eval_episodes=0: must be an integer of at least 1"),
        ({"critic_sparsity": 1.0}, "critic_sparsity=1.0: must be a number in [0, 1)"),
        ({"actor_method": "dens"}, "actor_method='dens': must be one of dense"),
        ({"hyper": {"gama": 1}}, "hyper='gama': ppo has "),
        ({"hyper": {"normalize": True}}, "hyper.normalize=True: its statistics"),
        ({"sparse": SparseConfig(backend="condensed")}, "backend='condensed': tasks in sequence"),
        ({"sparse": SparseConfig(method="gmp")}, "method='gmp': writes weights outside"),
        ({"sparse": DENSE, "isolation": "hard"}, "method='dense': leaves no room"),
        (
            {"isolation": "apart"},
            "method='rigl': isolation='apart' gives each task a dense network",
        ),
        ({"baseline": "replay"}, "baseline='replay': must be one of finetune, tiny, independent"),
        ({"actor_method": "dense", "isolation": "hard"}, "method='dense': leaves no room"),
    ],
)
def test_wrong_values_are_named_in_one_line(fields, message):
    with pytest.raises(ValueError) as caught:
        CRLSpec(**fields)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_values_are_those_tuned_for_the_environment_of_the_sequence(algo):
    env = "Pendulum-v1" if algo in ("sac", "td3", "ddpg") else "CartPole-v1"
    spec = CRLSpec(algo=algo, sequence=env.partition("-")[0].lower(), steps=700)
    resolved, table = spec.resolve(), defaults(algo, env)
    assert resolved.hyper == {key: table[key] for key in resolved.hyper}
    assert (resolved.steps, resolved.eval_every) == (700, 70)
    assert list(resolved.net_arch) == table["net_arch"]


def test_the_canonical_form_is_complete_and_stable():
    for spec in (CRLSpec(), CRLSpec(sparse=DENSE), CRLSpec(critic_method="static", share="reuse")):
        canonical = spec.canonical()
        assert canonical == canonical.canonical() == load(CRLSpec, plain(canonical))
        assert None not in (canonical.eval_every, canonical.n_envs, canonical.net_arch)
        assert canonical.isolation in ("hard", "none")


def alike(one: CRLSpec, other: CRLSpec) -> bool:
    return run_id("crl", one) == run_id("crl", other)


def test_what_plays_no_part_makes_no_other_run():
    assert alike(CRLSpec(), CRLSpec(isolation="hard", eval_every=2_000))
    auto = dataclasses.replace(CRLSpec().sparse, backend="auto")
    assert alike(CRLSpec(), CRLSpec(sparse=auto))
    assert alike(CRLSpec(isolation="none"), CRLSpec(isolation="none", share="reuse"))
    assert alike(CRLSpec(sparse=DENSE), CRLSpec(sparse=SparseConfig("dense", 0.5), share="reuse"))
    specs = [
        CRLSpec(),
        CRLSpec(isolation="none"),
        CRLSpec(share="reuse"),
        CRLSpec(seed=1),
        CRLSpec(alone=False),
        CRLSpec(sequence="cartpole-twice"),
        CRLSpec(actor_sparsity=0.5),
        CRLSpec(sparse=DENSE),
    ]
    assert len({run_id("crl", spec) for spec in specs}) == len(specs)


def test_baselines_are_one_run_whatever_they_stand_beside():
    rigl = SparseConfig(method="rigl", sparsity=0.9, dense=("input",))
    srigl = dataclasses.replace(rigl, method="srigl", update_every=7)
    few = dataclasses.replace(rigl, sparsity=0.8)
    for name in BASELINES:
        asked = CRLSpec(baseline=name, sparse=rigl)
        assert asked.in_force()["sparse.method"] == name
        assert asked.canonical() == asked.canonical().canonical()
        others = [
            CRLSpec(baseline=name, sparse=srigl, isolation="hard", share="reuse"),
            CRLSpec(baseline=name, sparse=few),
        ]
        sized = BASELINES[name].size == "task"
        same = [alike(asked, other) for other in others]
        assert same == [name in ("finetune", "independent_total"), not sized]
    assert alike(CRLSpec(baseline="finetune"), CRLSpec(sparse=DENSE))
    assert alike(
        CRLSpec(baseline="independent", alone=False), CRLSpec(baseline="independent", alone=True)
    )
    assert len({run_id("crl", CRLSpec(baseline=name)) for name in BASELINES}) == len(BASELINES)


def test_an_option_of_sparsity_leaves_the_others_as_they_are_for_sequences():
    spec = load(CRLSpec, {"sparse.method": "set", "sparse.sparsity": 0.8})
    assert spec.sparse.dense == ("input",) and spec.sparse.update_every == 50
    assert delta(spec) == {"sparse": {"method": "set", "sparsity": 0.8}}


def test_a_dense_method_of_ones_own_is_known_by_what_it_is():
    own = SparseConfig(method=f"{__name__}:OWN_DENSE")
    assert CRLSpec(sparse=own).isolation_in_force == "none"
    assert CRLSpec(actor_method=own.method).isolation_in_force == "none"
    with pytest.raises(ValueError, match="test_crl_spec:OWN_DENSE': leaves no room"):
        CRLSpec(sparse=own, isolation="hard")
    assert RLSpec(sparse=own).canonical() == RLSpec(sparse=DENSE).canonical()
