"""Presets: what each resolves to, by hand; what overrides what; tiny runs of all of them."""

from __future__ import annotations

import math

import pytest

from dstrl.policies.mixin import SparsePolicy
from dstrl.runs.build import build
from dstrl.runs.presets import PRESETS, layer_sparsities, merge
from dstrl.runs.replay import DynamicReplayBuffer
from dstrl.runs.spec import RLSpec
from dstrl.runs.train import run
from sparse_core.checks import InputError
from sweeps.language.grid import parse
from sweeps.language.spec import canonical, load, plain, run_id

ALGORITHMS = {
    "ds-td3": ("td3",),
    "ds-sac": ("sac",),
    "rlx2": ("td3", "sac"),
    "sost": ("dqn", "ppo", "sac"),
    "anf": ("td3", "sac"),
    "tar": ("td3", "sac"),
    "rnm-td3": ("td3",),
    "mst": ("sac", "td3"),
    "ne": ("td3",),
    "simba": ("sac", "td3", "ddpg", "ppo"),
    "srigl": ("ppo", "a2c", "dqn", "sac", "td3", "ddpg"),
}
ALL = [(name, algo) for name, algos in ALGORITHMS.items() for algo in algos]

ENVS = {"ppo": "CartPole-v1", "a2c": "CartPole-v1", "dqn": "CartPole-v1"}

SET = {"method": "set", "drop_fraction": 0.05, "decay": "constant", "update_every": 1_000}
RLX2 = {"method": "rigl", "distribution": "er", "drop_fraction": 0.5, "update_every": 10_000}
RLX2 |= {"skip_step": True, "initialisation": "keep", "optimizer_state": "keep"}
GRAESSER = {"method": "rigl", "sparsity": 0.9, "distribution": "erk", "optimizer_state": "zero"}

TABLE = (
    {
        ("ds-td3", "td3"): (
            {"steps": 10**6, "net_arch": (256, 256), "target": "density"},
            SET | {"drop": "signed", "stop_at": 0.95, "dense": ("output",)},
            {"learning_rate": 1e-3, "weight_decay": 2e-4, "batch_size": 100, "noise_std": 0.1},
        ),
        ("ds-sac", "sac"): (
            {"steps": 10**6, "net_arch": (256, 256), "target": "density"},
            SET | {"drop": "signed", "stop_at": 0.95, "dense": ("output",)},
            {"learning_rate": 3e-4, "weight_decay": 0.0, "batch_size": 256},
        ),
        ("rlx2", "td3"): (
            {
                "steps": 3 * 10**6,
                "actor_sparsity": 0.9,
                "critic_sparsity": 0.85,
                "target": "online",
            },
            RLX2,
            {"n_steps": 3, "n_steps_from": 300_000, "buffer_distance": 0.2, "buffer_least": 100_000}
            | {"buffer_size": 10**6, "buffer_check": 10_000, "batch_size": 256, "noise_std": 0.1},
        ),
        ("rlx2", "sac"): (
            {"steps": 3 * 10**6, "actor_sparsity": 0.9, "critic_sparsity": 0.8, "target": "online"},
            RLX2,
            {"n_steps": 3, "buffer_least": 200_000, "buffer_size": 3 * 10**6},
        ),
        ("sost", "dqn"): (
            {"net_arch": (512, 512), "target": "copy"},
            GRAESSER | {"update_every": 1_000, "drop_fraction": 0.5, "stop_at": 0.75},
            {"weight_decay": 1e-6},
        ),
        ("sost", "ppo"): (
            {"net_arch": (64, 64)},
            GRAESSER | {"update_every": 250, "drop_fraction": 0.3, "stop_at": 0.77},
            {"weight_decay": 1e-4},
        ),
        ("sost", "sac"): (
            {"net_arch": (256, 256), "target": "online"},
            GRAESSER | {"update_every": 1_000, "drop_fraction": 0.5, "stop_at": 0.8},
            {"weight_decay": 1e-6},
        ),
        ("anf", "td3"): (
            {"target": "density"},
            SET | {"sparsity": 0.8, "dense": ("hidden", "output"), "stop_at": 1.0},
            {"learning_rate": 1e-3, "weight_decay": 2e-4, "batch_size": 100, "noise_std": 0.1},
        ),
        ("anf", "sac"): (
            {"target": "density"},
            SET | {"sparsity": 0.8, "dense": ("hidden", "output"), "stop_at": 1.0},
            {"learning_rate": 1e-3, "weight_decay": 2e-4, "batch_size": 100},
        ),
        ("rnm-td3", "td3"): (
            {"steps": 10**6, "net_arch": (256, 256), "target": "online"},
            {"method": "rnm", "structure": "2:4", "sparsity": 0.5, "update_every": 1_000},
            {"learning_rate": 3e-4, "batch_size": 256, "noise_std": 0.1},
        ),
        ("ne", "td3"): (
            {"steps": 6 * 10**6, "net_arch": (256, 256), "eval_every": 5_000},
            {"method": "ne", "initial_sparsity": 0.8, "sparsity": 0.25, "dormant_threshold": 0.0},
            {"learning_rate": 3e-4, "batch_size": 256, "learning_starts": 25_000},
        ),
    }
    | {
        ("mst", algo): (
            {"actor_method": "static", "critic_method": "rigl", "network": "simba"},
            {"sparsity": 0.6, "distribution": "er", "update_every": 1_000},
            {"learning_rate": 1e-4, "weight_decay": 1e-2, "gradient_steps": 2},
        )
        for algo in ("sac", "td3")
    }
    | {
        ("tar", algo): (
            {"steps": 10**6, "net_arch": (256, 256), "target": "online"},
            {"method": "tar", "sparsity": 0.9, "distribution": "er", "initial_sparsity": None},
            {"learning_rate": 3e-4, "batch_size": 256},
        )
        for algo in ("td3", "sac")
    }
    | {
        ("simba", algo): (
            {"network": "simba", "net_arch": ()},
            {"method": "static", "sparsity": 0.8, "distribution": "er"},
            {"weight_decay": 1e-2, "activation": "relu"}
            | ({} if algo == "ppo" else {"learning_rate": 1e-4, "gradient_steps": 2}),
        )
        for algo in ALGORITHMS["simba"]
    }
    | {
        ("srigl", algo): ({}, {"method": "srigl", "sparsity": 0.9, "update_every": 100}, {})
        for algo in ALGORITHMS["srigl"]
    }
)


def named(preset, algo, **values):
    return RLSpec.of(preset=preset, algo=algo, **{"env": ENVS.get(algo, "Pendulum-v1")} | values)


def test_these_are_all():
    assert set(PRESETS) == set(ALGORITHMS) and set(TABLE) == set(ALL)


@pytest.mark.parametrize(("preset", "algo"), ALL)
def test_a_preset_resolves_to(preset, algo):
    spec = named(preset, algo).resolve()
    fields, sparse, hyper = TABLE[preset, algo]
    assert {name: getattr(spec, name) for name in fields} == fields
    assert {name: getattr(spec.sparse, name) for name in sparse} == sparse
    assert {name: spec.hyper[name] for name in hyper} == hyper


def test_densities_of_ds_td3_are_the_published_ones():
    # HalfCheetah, 17 + 6: the actor's layers are 56 % and 50 % sparse, the critic's first one 67 %.
    lambdas = {"input": 7, "hidden": 64}
    found = layer_sparsities(lambdas, 256, 17, 6)
    actor, critic = dict(found["actor_layer_sparsity"]), dict(found["critic_layer_sparsity"])
    assert (round(actor["input"], 2), actor["hidden"]) == (0.56, 0.5)
    assert (round(critic["input"], 2), critic["hidden"]) == (0.67, 0.5)
    assert actor["input"] == 1 - 7 * 273 / (17 * 256)
    assert dict(layer_sparsities(lambdas, 256, 3, 1)["actor_layer_sparsity"])["input"] == 0.0


def test_a_library_that_the_environment_lacks_is_named(monkeypatch):
    monkeypatch.setattr("dstrl.runs.presets.missing_library", lambda env: "needs MuJoCo")
    with pytest.raises(InputError, match=r"^env='HalfCheetah-v5': needs MuJoCo$"):
        RLSpec.of(preset="ds-td3", algo="td3", env="HalfCheetah-v5")


@pytest.mark.parametrize("algo", ["td3", "sac"])
def test_layers_of_ds_have_these_densities(algo):
    preset = "ds-" + algo
    policy = build(named(preset, algo, noise=0.9).resolve()).policy
    assert isinstance(policy, SparsePolicy)
    first = {"actor": 30, "critic": 31}
    for net, engine in policy.sparse_engines.items():
        for layer in engine.layers():
            inputs = {"input": first[net], "hidden": 256}.get(layer.role, 0)
            lam = {"input": 7, "hidden": 64}.get(layer.role)
            share = 1 if lam is None else lam * (inputs + 256) / (inputs * 256)
            assert layer.active == round(min(1, share) * layer.total)


def test_sparsities_of_rlx2_are_those_of_the_table():
    table = {
        ("td3", "HalfCheetah-v5"): (0.9, 0.85),
        ("td3", "Hopper-v4"): (0.98, 0.95),
        ("td3", "Walker2d"): (0.97, 0.95),
        ("td3", "Ant-v5"): (0.96, 0.88),
        ("sac", "Ant-v5"): (0.9, 0.75),
        ("sac", "Swimmer-v5"): (0.9, 0.8),
    }
    for (algo, env), wanted in table.items():
        fields = RLSpec.expand({"preset": "rlx2", "algo": algo, "env": env})
        assert (fields["actor_sparsity"], fields["critic_sparsity"]) == wanted
    sac = [
        RLSpec.expand({"preset": "rlx2", "algo": "sac", "env": env})
        for env in ("HalfCheetah", "Hopper", "Walker2d", "Ant")
    ]
    assert sum(fields["actor_sparsity"] for fields in sac) / 4 == pytest.approx(0.92)
    assert sum(fields["critic_sparsity"] for fields in sac) / 4 == pytest.approx(0.85)


def test_anf_is_sparse_in_its_input_layers_only():
    policy = build(named("anf", "td3", noise=0.9).resolve()).policy
    assert isinstance(policy, SparsePolicy)
    for engine in policy.sparse_engines.values():
        for layer in engine.layers():
            share = 0.2 if layer.role == "input" else 1
            assert layer.active == pytest.approx(share * layer.total, abs=1)


def test_sost_has_the_other_methods_too():
    gmp = named("sost", "ppo", sparse={"method": "gmp"}).canonical().sparse
    assert (gmp.method, gmp.prune_from, gmp.stop_at, gmp.sparsity) == ("gmp", 0.2, 0.77, 0.9)
    for method in ("set", "static"):
        assert named("sost", "sac", sparse={"method": method}).sparse.method == method


def test_what_is_given_overrides_the_preset_even_where_it_is_the_default():
    default = RLSpec()
    spec = named("rlx2", "td3", steps=500, hyper={"n_steps": 1}, sparse={"update_every": 100})
    assert (spec.steps, spec.hyper["n_steps"], spec.sparse.update_every) == (500, 1, 100)
    assert default.sparse.update_every == 100
    assert spec.hyper["n_steps_from"] == 300_000 and spec.sparse.skip_step
    loaded = load(RLSpec, {"preset": "srigl", "sparse.method": default.sparse.method})
    assert loaded.sparse.method == "rigl"


def test_a_run_is_known_by_what_its_preset_stands_for():
    short = {"preset": "anf", "algo": "sac", "env": "Pendulum-v1", "seed": 3}
    spec = load(RLSpec, short)
    assert spec.preset is None
    assert spec == RLSpec.of(**short)
    assert load(RLSpec, plain(canonical(spec))) == canonical(spec)
    assert run_id("rl", spec) == run_id("rl", RLSpec(**vars(spec)))
    assert run_id("rl", spec) != run_id("rl", load(RLSpec, short | {"preset": "srigl"}))


def test_a_grid_can_have_an_axis_of_presets():
    text = """
        name: systems
        kind: rl
        base: {env: Pendulum-v1, algo: sac, steps: 1000, hyper.batch_size: 7}
        grid: {preset: [null, ds-sac, rlx2, srigl]}
    """
    specs = [run.spec for run in parse(text).runs]
    assert [spec.sparse.method for spec in specs] == ["rigl", "set", "rigl", "srigl"]
    assert {(spec.steps, spec.hyper["batch_size"]) for spec in specs} == {(1000, 7)}


def test_the_algorithm_is_the_first_of_the_preset_if_none_is_given():
    assert RLSpec.of(preset="rlx2").algo == "td3"
    assert RLSpec.of(preset="srigl").algo == "ppo"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "rlx3"}, "preset='rlx3': must be one of anf, ds-sac, ds-td3, mst, ne, rlx2"),
        ({"preset": "rlx2", "algo": "ppo"}, "preset='rlx2': is for td3, sac, not for ppo"),
        ({"preset": "tar", "algo": "dqn"}, "preset='tar': is for td3, sac, not for dqn"),
        ({"preset": "rnm-td3", "algo": "sac"}, "preset='rnm-td3': is for td3, not for sac"),
        ({"preset": "ne", "algo": "ppo"}, "preset='ne': is for td3, not for ppo"),
        ({"preset": "ds-td3", "algo": "sac"}, "preset='ds-td3': is for td3, not for sac"),
        ({"preset": "ds-td3"}, "env=None: must be given"),
        ({"preset": "ds-td3", "env": "Nothing-v0"}, "env='Nothing-v0': Environment `Nothing`"),
        ({"preset": "ds-td3", "env": "CartPole-v1"}, "env='CartPole-v1': the preset needs vectors"),
        ({"preset": "ds-td3", "env": "Pendulum-v1", "noise": 1.0}, "noise=1.0: must be a number"),
    ],
)
def test_bad_presets_are_refused_in_one_line(values, message):
    for read in (lambda: RLSpec.of(**values), lambda: load(RLSpec, values)):
        with pytest.raises(ValueError) as caught:
            read()
        assert message in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(InputError):
        load(RLSpec, values)


def test_merging_goes_into_mappings_and_changes_neither():
    base, over = {"a": 1, "sparse": {"x": 1, "y": 2}}, {"a": 2, "sparse": {"y": 3}, "b": [4]}
    assert merge(base, over) == {"a": 2, "sparse": {"x": 1, "y": 3}, "b": [4]}
    assert base == {"a": 1, "sparse": {"x": 1, "y": 2}} and over["sparse"] == {"y": 3}
    deep = {"wrapper_kwargs": {"Noise": {"fraction": 0.5, "kind": "copy"}}}
    given = {"wrapper_kwargs": {"Noise": {"fraction": 0.9}}}
    assert merge(deep, given)["wrapper_kwargs"]["Noise"] == {"fraction": 0.9, "kind": "copy"}


@pytest.mark.parametrize(("preset", "algo"), ALL)
def test_a_tiny_run_of_each(preset, algo, tmp_path):
    hyper = {"learning_starts": 20, "batch_size": 4, "buffer_size": 1000}
    if algo == "a2c":
        hyper = {"n_steps": 1}
    if algo == "ppo":
        hyper = {"n_steps": 4, "batch_size": 8}
    if preset == "rlx2":
        hyper |= {"n_steps_from": 10, "buffer_check": 20, "buffer_least": 30}
    spec = named(
        preset,
        algo,
        steps=96,
        net_arch=(32, 32),
        eval_every=40,
        eval_episodes=1,
        sparse={"update_every": 3},
        hyper=hyper,
    )
    result = run(spec, tmp_path, lambda done, numbers: None)
    assert math.isfinite(result["score"])
    assert spec.sparse.facts.updater is None or min(result["updates"].values()) > 0
    assert 0 < result["sparsity"]["achieved"] < 1
    wanted = DynamicReplayBuffer if preset == "rlx2" else None
    if wanted is not None:
        assert type(build(spec.resolve()).replay_buffer) is wanted
