"""A run with the user's own environment, networks, callbacks and presets, from files elsewhere."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from stable_baselines3.common.monitor import Monitor
from torch import nn

from dstrl.runs.build import build, make_env
from dstrl.runs.enjoy import enjoy
from dstrl.runs.spec import RLSpec
from dstrl.runs.train import run
from dstrl.tasks.spec import CRLSpec
from sparse_core.checks import InputError
from sweeps.commands.options import parse_train
from sweeps.language.grid import parse
from sweeps.language.kinds import KINDS
from sweeps.language.spec import load, plain, run_id

WORLD = """
import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Corridor(gym.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, length=4, continuous=False, render_mode=None):
        self.length, self.render_mode = length, render_mode
        self.observation_space = spaces.Box(-1.0, 1.0, (4,), dtype=np.float32)
        self.action_space = spaces.Box(-1, 1, (1,)) if continuous else spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return self._seen(), {}

    def step(self, action):
        self.place += 1
        return self._seen(), 1.0, self.place >= self.length, False, {}

    def render(self):
        return np.full((8, 8, 3), self.place, dtype=np.uint8)

    def _seen(self):
        return self.np_random.uniform(-1, 1, 4).astype(np.float32)


class Pair(Corridor):
    def __init__(self):
        super().__init__()
        self.action_space = spaces.Tuple((spaces.Discrete(2), spaces.Discrete(2)))


class Doubled(gym.RewardWrapper):
    def reward(self, reward):
        return 2 * reward


class Task:
    tuned = "CartPole-v1"

    def make(self, render_mode=None):
        return Corridor()

    def performance(self, mean_return):
        return mean_return / 4


tasks = (Task(), Task())
number = 3
"""

NETS = """
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn


class Softsign(nn.Softsign):
    pass


class Wide(BaseFeaturesExtractor):
    def __init__(self, observation_space, width=8):
        super().__init__(observation_space, width)
        self.layer = nn.Linear(observation_space.shape[0], width)

    def forward(self, observations):
        return torch.tanh(self.layer(observations))


class Steps(BaseCallback):
    steps = 0

    def _on_step(self):
        self.steps += 1
        return True

    def result(self):
        return {"steps": self.steps}


class Tensors(Steps):
    def result(self):
        return {"steps": torch.tensor(3)}


class Listed(Steps):
    def result(self):
        return [3]


class Silent(BaseCallback):
    def _on_step(self):
        return True


def wrong():
    return 3


def needy(path):
    return Silent()
"""

PRESET = """
paper: none
ppo:
  env: ownlab_world:Corridor
  net_arch: [12, 12]
  steps: 128
  sparse: {method: set, sparsity: 0.5, update_every: 5}
  hyper: {n_steps: 16, batch_size: 16, n_epochs: 1, learning_rate: 1e-4}
environments:
  ppo:
    CartPole: {steps: 64}
"""

SMALL = {"steps": 64, "n_envs": 2, "eval_every": 32, "eval_episodes": 2, "net_arch": (16, 16)}
SMALL |= {"hyper": {"n_steps": 16, "batch_size": 16, "n_epochs": 1}}


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "ownlab_world.py").write_text(WORLD)
    (tmp_path / "ownlab_nets.py").write_text(NETS)
    (tmp_path / "mine.yaml").write_text(PRESET)
    yield tmp_path
    for name in ("ownlab_world", "ownlab_nets"):
        sys.modules.pop(name, None)


def own(**values):
    return RLSpec.of(**{"env": "ownlab_world:Corridor"} | SMALL | values)


def test_a_run_in_an_environment_of_ones_own(lab):
    spec = own(env_kwargs={"length": 6}, wrappers=["ownlab_world:Doubled"])
    assert load(RLSpec, plain(spec.canonical())) == spec.canonical()
    result = run(spec, lab / "out", lambda done, numbers: None)
    assert result["score"] == 12 and result["returns"][-1] == [12.0, 12.0]
    assert result["sparsity"]["achieved"] > 0.8
    (episode,) = enjoy(spec, lab / "out", lab / "episode.gif", seed=0)
    assert (episode.steps, episode.score) == (6, 12) and (lab / "episode.gif").is_file()


def test_its_environments_are_seeded_and_monitored_like_any_others(lab):
    def observed():
        model = build(own().resolve())
        assert all(isinstance(env, Monitor) for env in model.env.envs)
        return torch.as_tensor(model.env.reset())

    first, second = observed(), observed()
    assert torch.equal(first, second) and not torch.equal(first[0], first[1])


def test_its_actions_must_suit_the_algorithm(lab):
    continuous = own(env_kwargs={"continuous": True})
    build(continuous.resolve())
    hyper = {"buffer_size": 100}
    for algo, env_kwargs in (("sac", {}), ("dqn", {"continuous": True})):
        spec = own(algo=algo, env_kwargs=env_kwargs, hyper=hyper)
        with pytest.raises(InputError, match=f"^algo='{algo}': needs "):
            build(spec.resolve())
    with pytest.raises(InputError, match=r"^algo='ppo': cannot act in Tuple\(Discrete\(2\), "):
        build(own(env="ownlab_world:Pair").resolve())


def test_arguments_that_are_none_play_no_part(lab):
    wrapped = own(wrappers=["ownlab_world:Doubled"], wrapper_kwargs={"Doubled": {}})
    assert run_id("rl", wrapped) == run_id("rl", own(wrappers=("ownlab_world:Doubled",)))


def test_noise_comes_on_top_of_wrappers(lab):
    spec = own(
        wrappers=("NoisyFeatures",),
        wrapper_kwargs={"NoisyFeatures": {"fraction": 0.5}},
        noise=0.5,
    )
    assert make_env(spec).observation_space.shape == (16,)


@pytest.mark.filterwarnings("ignore:.*trains by Stable-Baselines3:UserWarning")
@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_networks_of_ones_own_are_sparse_too(lab, algo, backend):
    small = {"buffer_size": 100, "learning_starts": 5, "batch_size": 4}
    spec = own(
        algo=algo,
        env_kwargs={"continuous": True},
        features_extractor="ownlab_nets:Wide",
        features_extractor_kwargs={"width": 20},
        sparse={"backend": backend, "sparsity": 0.5},
        hyper=(SMALL["hyper"] if algo == "ppo" else small) | {"activation": "ownlab_nets:Softsign"},
    )
    model = build(spec.resolve())
    engines = model.policy.sparse_engines.values()
    shapes = {layer.name: layer.total for engine in engines for layer in engine.layers()}
    assert any(total == 4 * 20 for total in shapes.values())
    kinds = {type(module).__name__ for module in model.policy.modules()}
    assert "Softsign" in kinds and "ReLU" not in kinds
    model.learn(40)


def test_an_activation_of_torch_itself(lab):
    model = build(own(hyper=SMALL["hyper"] | {"activation": "torch.nn:SiLU"}).resolve())
    assert any(isinstance(module, nn.SiLU) for module in model.policy.modules())


def test_callbacks_are_called_and_measured(lab):
    names = ("ownlab_nets:Steps", "ownlab_nets:Silent")
    result = run(own(callbacks=names), lab / "out", lambda done, numbers: None)
    assert result["measured"] == {"ownlab_nets:Steps": {"steps": 32}}
    assert "measured" not in run(own(), lab / "other", lambda done, numbers: None)


@pytest.mark.parametrize(
    ("name", "why"),
    [("Tensors", "Object of type Tensor is not JSON serializable"), ("Listed", "a list is no map")],
)
def test_what_json_cannot_hold_is_refused_with_the_callback_that_measured_it(lab, name, why):
    message = rf"^callbacks='ownlab_nets:{name}': result\(\) must return a mapping .*: {why}"
    with pytest.raises(InputError, match=message):
        run(own(callbacks=(f"ownlab_nets:{name}",)), lab / "out", lambda done, numbers: None)


def test_a_preset_is_a_file(lab):
    path = str(lab / "mine.yaml")
    spec = RLSpec.of(preset=path)
    assert (spec.env, spec.steps, spec.net_arch) == ("ownlab_world:Corridor", 128, (12, 12))
    assert (spec.sparse.method, spec.hyper["learning_rate"]) == ("set", 1e-4)
    assert RLSpec.of(preset=path, env="CartPole-v1").steps == 64
    assert load(RLSpec, {"preset": path, "steps": 32}).steps == 32
    text = f"{{name: own, kind: rl, grid: {{preset: [{path}, srigl]}}}}"
    assert [run.spec.sparse.method for run in parse(text).runs] == ["set", "srigl"]
    (lab / "mine.yaml").write_text(PRESET.replace("steps: 128", "steps: 96"))
    assert run_id("rl", RLSpec.of(preset=path)) != run_id("rl", spec)


def parsed(words):
    return parse_train(KINDS["rl"], words.split(), "dst").spec


def test_the_command_line_writes_all_of_it(lab):
    spec = parsed(
        "--env ownlab_world:Corridor --env-kwargs.length 6 --wrappers NoisyFeatures "
        "ownlab_world:Doubled --wrapper-kwargs.NoisyFeatures.fraction=0.5 --hyper.gamma 0.9 "
        "--features-extractor ownlab_nets:Wide --features-extractor-kwargs.width 5 "
        "--callbacks ownlab_nets:Steps"
    )
    assert spec == RLSpec(
        env="ownlab_world:Corridor",
        env_kwargs={"length": 6},
        wrappers=("NoisyFeatures", "ownlab_world:Doubled"),
        wrapper_kwargs={"NoisyFeatures": {"fraction": 0.5}},
        features_extractor="ownlab_nets:Wide",
        features_extractor_kwargs={"width": 5},
        callbacks=("ownlab_nets:Steps",),
        sparse=spec.sparse,
        hyper={"gamma": 0.9},
    )


def test_a_preset_sees_the_wrappers_on_the_command_line(lab):
    words = "--preset ds-td3 --env Pendulum-v1"
    wrapped = f"{words} --wrappers NoisyFeatures --wrapper-kwargs.NoisyFeatures.fraction 0.9"
    noisy = parsed(f"{words} --noise 0.9").actor_layer_sparsity
    assert parsed(wrapped).actor_layer_sparsity == noisy != parsed(words).actor_layer_sparsity
    assert parsed(f"--preset {lab / 'mine.yaml'} --steps 32").env == "ownlab_world:Corridor"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file or directory"),
        ("[1]", "must be a mapping with a block for ppo or a2c"),
        ("paper: x", "must be a mapping with a block for ppo or a2c"),
        ("ppo: {steps: 1\n", "not valid YAML: "),
        ("ppo: {steps: 1}\nppo: {}", "ppo: given twice (line 2)"),
        ("rlx: {steps: 1}", "algorithm='rlx': must be one of ppo, a2c"),
        ("ppo: 5", "ppo=5: must be a mapping of fields of a run"),
        ("ppo: {stepz: 5}", "ppo.stepz: must be one of algo, env, "),
        ("ppo: {}\nenvironments: 5", "environments: must be a mapping of algorithms to blocks"),
        ("ppo: {}\nenvironments: {sac: {}}", "environments='sac': must be one of ppo"),
        ("ppo: {}\nenvironments: {ppo: {Ant: {n: 1}}}", "environments.ppo.Ant.n: must be one of"),
        ("ppo: {lambdas: {input: 7}}", "ppo.lambdas: needs net_arch beside it"),
    ],
)
def test_a_file_that_is_no_preset_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    for read in (lambda: RLSpec.of(preset=str(path)), lambda: load(RLSpec, {"preset": str(path)})):
        with pytest.raises(InputError) as caught:
            read()
        said = str(caught.value)
        assert said.startswith(f"preset={str(path)!r}: {message}") and "\n" not in said


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"env": "ownlab_world:number"}, "env='ownlab_world:number': is an int in"),
        ({"env_kwargs": {"size": 1}}, "env_kwargs={'size': 1}: got an unexpected keyword argument"),
        ({"wrappers": ["ownlab_world:Nothing"]}, "wrappers='ownlab_world:Nothing': module "),
        ({"wrappers": "Doubled"}, "wrappers='Doubled': must be a list of names"),
        ({"features_extractor": "Wide"}, "features_extractor='Wide': must be package.module:NAME"),
        ({"features_extractor": "ownlab_nets:Steps"}, "is the class Steps in 'ownlab_nets' ("),
        (
            {"features_extractor": "ownlab_nets:Wide", "features_extractor_kwargs": {"wide": 1}},
            "features_extractor_kwargs={'wide': 1}: got an unexpected keyword argument 'wide' of "
            "ownlab_nets:Wide",
        ),
        ({"features_extractor_kwargs": {"width": 1}}, "there is no features_extractor that takes"),
        (
            {"hyper": {"activation": "ownlab_nets:Nothing"}},
            "has no 'Nothing'; it must be a class of",
        ),
        ({"hyper": {"activation": "ownlab_nets:wrong"}}, "must be a class of torch modules"),
        ({"optimizer": "torch.optim:lr_scheduler"}, "must be a class of torch optimizers"),
        ({"callbacks": "ownlab_nets:Steps"}, "callbacks='ownlab_nets:Steps': must be a list of"),
        ({"callbacks": ["ownlab_nets:needy"]}, "must be a class of callbacks, or a function, that"),
        ({"callbacks": ["nolab:x"]}, "callbacks='nolab:x': there is no module 'nolab' here or"),
    ],
)
def test_what_is_wrong_is_one_line(lab, values, message):
    with pytest.raises(InputError) as caught:
        own(**values)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_what_makes_no_callback_is_one_line(lab):
    with pytest.raises(InputError, match=r"^callbacks='ownlab_nets:wrong': returns int, must"):
        run(own(callbacks=("ownlab_nets:wrong",)), lab / "out", lambda done, numbers: None)


def test_a_sequence_of_ones_own_has_the_same_errors(lab):
    assert len(CRLSpec(sequence="ownlab_world:tasks").tasks) == 2
    for name, message in {
        "ownlab_world:number": "is an int in 'ownlab_world' (",
        "ownlab_world:none": "has no 'none'; it must be a tuple of tasks",
        "nolab:x": "sequence='nolab:x': there is no module 'nolab' here",
    }.items():
        with pytest.raises(InputError) as caught:
            CRLSpec(sequence=name)
        assert message in str(caught.value) and "\n" not in str(caught.value)


def test_an_environment_of_ones_own_costs_no_torch(lab):
    code = (
        "import sys; from dstrl.runs.spec import RLSpec;"
        "RLSpec(env='ownlab_world:Corridor', wrappers=('ownlab_world:Doubled',)).canonical();"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(lab)}, check=False)
    assert done.returncode == 0
