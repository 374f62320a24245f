"""`GridCNN`: sizes, a hand-computed filter, and training on MinAtar and Atari where they are."""

from __future__ import annotations

import gymnasium as gym
import pytest
import torch
from stable_baselines3 import DQN

from dstrl.policies import names
from dstrl.policies.grids import GridCNN
from dstrl.runs.spec import RLSpec
from dstrl.runs.train import run
from sparse_core.checks import InputError

STEPS = 400
GRID = gym.spaces.Box(0.0, 1.0, (10, 9, 4), dtype=bool)


class Grid(gym.Env):
    """Ten steps of random objects; the reward is the action."""

    observation_space = GRID
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 10
        return self.observed(), {}

    def observed(self):
        return self.np_random.random(GRID.shape) < 0.1

    def step(self, action):
        self.left -= 1
        return self.observed(), float(action), self.left == 0, False, {}


def test_an_object_is_seen_by_the_filters_around_it():
    extractor = GridCNN(GRID, features_dim=2, filters=1)
    convolution, linear = extractor.layers[0], extractor.layers[3]
    with torch.no_grad():
        for parameter in extractor.parameters():
            parameter.zero_()
        convolution.weight[0, 2] = 1.0  # counts objects of kind 2 in 3 x 3 cells
        linear.weight[0] = 1.0
    grid = torch.zeros(2, 10, 9, 4)
    grid[0, 4, 4, 2] = 1.0  # nine windows hold it
    grid[0, 4, 4, 3] = 1.0
    grid[1, 0, 0, 2] = 1.0  # a corner is in one window
    assert extractor(grid).tolist() == [[9.0, 0.0], [1.0, 0.0]]


@pytest.mark.parametrize("backend", ["masked", "auto"])
def test_its_layers_are_sparse_in_a_policy_that_trains(backend):
    names.register()
    model = DQN(
        "SparseMlpPolicy",
        Grid(),
        learning_starts=10,
        buffer_size=100,
        policy_kwargs={
            "features_extractor_class": GridCNN,
            "features_extractor_kwargs": {"features_dim": 33, "filters": 5},
            "net_arch": [16],
            "sparse": {"method": "rigl", "sparsity": 0.8, "backend": backend},
        },
        device="cpu",
    ).learn(40)
    layers = {layer.name: layer for layer in model.policy.sparse_engines["q_net"].layers()}
    convolution, linear = (layers[f"features_extractor.layers.{i}.weight"] for i in (0, 3))
    assert convolution.total == 5 * 4 * 9 and linear.total == 33 * 5 * 8 * 7
    assert convolution.active < convolution.total and linear.active < linear.total


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Box(0, 1, (10,)),
        gym.spaces.Box(0, 1, (2, 10, 4)),
        gym.spaces.Discrete(4),
    ],
)
def test_what_is_no_grid_is_refused(space):
    with pytest.raises(InputError, match=r"must be a Box of \(height, width, channels\)"):
        GridCNN(space)


@pytest.mark.slow
def test_minatar_trains(tmp_path):
    pytest.importorskip("minatar")
    result = run(
        RLSpec.of(
            env="worlds/minatar-breakout-v0",
            algo="dqn",
            steps=STEPS,
            eval_every=STEPS,
            eval_episodes=1,
            features_extractor="dstrl.policies.grids:GridCNN",
            hyper={"learning_starts": 100},
            sparse={"method": "rigl", "sparsity": 0.9},
        ),
        tmp_path,
        lambda done, numbers: None,
    )
    assert result["steps"] == STEPS


@pytest.mark.slow
def test_atari_trains(tmp_path):
    pytest.importorskip("ale_py")
    pytest.importorskip("cv2")
    result = run(
        RLSpec.of(
            env="ale_py:ALE/Pong-v5",
            algo="dqn",
            env_kwargs={"frameskip": 1},
            wrappers=(
                "gymnasium.wrappers:AtariPreprocessing",
                "gymnasium.wrappers:FrameStackObservation",
            ),
            wrapper_kwargs={"FrameStackObservation": {"stack_size": 4}},
            steps=STEPS,
            eval_every=STEPS,
            eval_episodes=1,
            hyper={"learning_starts": 200, "buffer_size": 400},
            sparse={"method": "rigl", "sparsity": 0.9},
        ),
        tmp_path,
        lambda done, numbers: None,
    )
    assert result["steps"] == STEPS
