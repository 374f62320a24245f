"""`RLSpec`: what it accepts, what it stands for, and that it costs no torch."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys

import pytest

from dstrl.runs.build import ALGORITHMS as CLASSES
from dstrl.runs.build import FOR_POLICY, FOR_REPLAY
from dstrl.runs.hyperparameters import ALGORITHMS, defaults
from dstrl.runs.spec import OWN_FIELDS, RLSpec
from sparse_core.config import SparseConfig
from sweeps.language.grid import parse
from sweeps.language.spec import load, plain, run_id


def test_it_imports_no_torch():
    build = "import sys; from dstrl.runs.spec import RLSpec; RLSpec().canonical()"
    code = f"{build}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_defaults_are_those_of_stable_baselines3(algo):
    parameters = inspect.signature(CLASSES[algo].__init__).parameters
    ours = defaults(algo, "no-such-environment")
    theirs = {name: parameters[name].default for name in ours if name in parameters}
    assert {name: ours[name] for name in theirs} == theirs
    extra = set(ours) - set(theirs)
    known = {*OWN_FIELDS, *FOR_POLICY, *FOR_REPLAY}
    known |= {"normalize", "activation", "noise_std", "weight_decay"}
    assert extra <= known


def test_tuned_values_override_defaults():
    cartpole = RLSpec().resolve()
    assert (cartpole.steps, cartpole.n_envs, cartpole.net_arch) == (100_000, 8, (64, 64))
    assert cartpole.hyper["learning_rate"] == "lin_0.001"
    assert cartpole.hyper["max_grad_norm"] == 0.5
    pendulum = RLSpec(algo="sac", env="Pendulum-v1", hyper={"gamma": 0.9}).resolve()
    assert (pendulum.steps, pendulum.net_arch) == (20_000, (256, 256))
    assert pendulum.hyper["learning_rate"] == 0.001
    assert pendulum.hyper["gamma"] == 0.9
    assert defaults("ppo", "Hopper-v5")["gamma"] == 0.999


def test_the_canonical_form_is_complete_and_stable():
    spec = RLSpec(steps=1000, hyper={"gamma": 0.98})
    canonical = spec.canonical()
    assert canonical == canonical.canonical() == RLSpec(steps=1000).canonical()
    assert load(RLSpec, plain(canonical)) == canonical
    assert None not in (canonical.eval_every, canonical.n_envs, canonical.net_arch)


def test_all_dense_runs_are_alike_and_sparse_ones_are_not():
    dense = SparseConfig(method="dense")
    same = SparseConfig(method="dense", sparsity=0.5, distribution="uniform")
    assert run_id("rl", RLSpec(sparse=dense)) == run_id("rl", RLSpec(sparse=same, target="union"))
    assert run_id("rl", RLSpec()) != run_id("rl", RLSpec(critic_method="static"))
    assert run_id("rl", RLSpec()) != run_id("rl", RLSpec(seed=1))


def test_what_only_one_network_uses_is_kept():
    base = SparseConfig(method="static", sparsity=0.8, update_every=7)
    spec = RLSpec(sparse=base, actor_method="rigl")
    assert spec.canonical().settings() == spec.settings()
    assert spec.canonical().settings().actor.update_every == 7


def test_masks_are_seeded_by_the_run():
    seeds = {RLSpec(seed=s).settings().actor.seed for s in range(5)}
    assert len(seeds) == 5
    other = RLSpec(sparse=SparseConfig(seed=1)).settings().actor.seed
    assert other not in seeds


def test_actor_and_critic_can_differ():
    settings = RLSpec(actor_sparsity=0.95, critic_method="static").settings()
    assert (settings.actor.sparsity, settings.actor.method) == (0.95, "rigl")
    assert (settings.critic.sparsity, settings.critic.method) == (0.9, "static")
    assert settings.split


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"algo": "alphazero"}, "algo='alphazero': must be one of ppo"),
        ({"env": "CartPole-v9"}, "env='CartPole-v9': Environment version `v9`"),
        ({"env": "default"}, "env='default': "),
        ({"env": "Hopper-v99"}, "env='Hopper-v99': Environment version `v99`"),
        ({"env": "Nothing-v0"}, "env='Nothing-v0': Environment `Nothing` doesn't exist"),
        ({"steps": 0}, "steps=0: must be an integer of at least 1"),
        ({"seed": -1}, "seed=-1: must be an integer of at least 0"),
        ({"seed": 2**32}, "seed=4294967296: must be less than 2^32"),
        ({"noise": 1.0}, "noise=1.0: must be a number in [0, 0.99]"),
        ({"net_arch": (64, 0)}, "net_arch=0: must be an integer of at least 1"),
        ({"max_seconds": 0}, "max_seconds=0: must be a positive number"),
        ({"preset": "rlx2"}, "preset='rlx2': make the spec with RLSpec.of"),
        ({"eval_episodes": 0}, "eval_episodes=0: must be an integer of at least 1"),
        ({"target": "soft"}, "target='soft': must be one of online, copy, density, union"),
        ({"actor_sparsity": 1.0}, "actor_sparsity=1.0: must be a number in [0, 1)"),
        ({"critic_method": "magic"}, "critic_method='magic': must be one of dense"),
        ({"hyper": {"gama": 0.9}}, "hyper='gama': ppo has steps"),
        ({"hyper": {"gamma": "high"}}, "hyper.gamma='high': must be a number"),
        ({"hyper": {"n_steps": 2.5}}, "hyper.n_steps=2.5: must be an integer"),
        ({"hyper": {"use_sde": 1}}, "hyper.use_sde=1: must be true or false"),
        ({"hyper": {"learning_rate": "cos_1"}}, "must be a number or lin_<number>"),
        ({"hyper": {"activation": "sin"}}, "hyper.activation='sin': must be one of tanh"),
        ({"hyper": {"steps": 5}}, "hyper='steps': is a field of the run itself, set steps"),
    ],
)
def test_bad_values_are_refused_in_one_line(values, message):
    with pytest.raises(ValueError) as caught:
        RLSpec(**values)
    text = str(caught.value)
    assert message in text
    assert "\n" not in text


def test_fields_have_defaults_so_that_later_ones_do_not_change_identities():
    assert all(
        field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        for field in dataclasses.fields(RLSpec)
    )


def test_lottery_tickets_are_an_axis_of_a_grid():
    text = """
        name: tickets
        kind: rl
        base: {sparse.sparsity: 0.9, sparse.rounds: 2}
        grid: {sparse.method: [static, ticket]}
    """
    static, ticket = (run.spec for run in parse(text).runs)
    assert (static.rounds, ticket.rounds) == (0, 2)
    assert static.sparse.canonical() == SparseConfig(method="static", backend="auto")
    assert ticket.sparse.canonical().rounds == 2
