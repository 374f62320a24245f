"""The recipes of `CONTRIBUTING.md` for a preset and an environment wrapper, followed."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from dstrl.listing import described
from dstrl.runs import presets
from dstrl.runs.spec import RLSpec
from envs import wrappers
from sparse_core.checks import InputError
from sweeps.language.grid import parse
from tests.recipes import blocks_of


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The packaged presets, and beside them what the recipe shows."""
    for name, file in presets.PRESETS.items():
        (tmp_path / f"{name}.yaml").write_bytes(file.read_bytes())
    (tmp_path / "newest.yaml").write_text(blocks_of("A new preset")[0])
    monkeypatch.setattr(presets, "PRESETS", presets.recipes_in(tmp_path))
    return tmp_path / "newest.yaml"


def test_a_preset_is_one_file(recipe: Path) -> None:
    spec = RLSpec.of(preset="newest", env="Pendulum-v1")
    assert (spec.algo, spec.net_arch, spec.sparse.sparsity) == ("sac", (256, 256), 0.9)
    assert RLSpec.expand({"preset": "newest", "env": "Ant-v5"})["sparse"]["sparsity"] == 0.8
    text = "{name: g, kind: rl, base: {env: Pendulum-v1}, grid: {preset: [newest, anf]}}"
    assert [run.spec.sparse.method for run in parse(text).runs] == ["rigl", "set"]
    listed = {entry.name: entry for entry in described("presets")}["newest"]
    assert listed.summary == 'sac: Author et al. 2026, "Title" (Venue)'
    with pytest.raises(InputError, match=r"must be one of anf, .*, newest, rlx2, "):
        RLSpec.of(preset="newer")


def test_outside_the_repository_it_is_the_same_file(recipe: Path) -> None:
    elsewhere = recipe.parent / "elsewhere.yaml"
    shutil.copy(recipe, elsewhere)
    assert RLSpec.of(preset=str(elsewhere), env="Pendulum-v1") == RLSpec.of(
        preset="newest", env="Pendulum-v1"
    )


def test_presets_are_the_files_that_lie_in_the_folder() -> None:
    folder = resources.files("dstrl.runs") / "recipes"
    assert dict(presets.PRESETS) == presets.recipes_in(folder)


@pytest.fixture
def doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The wrapper that the recipe shows, in a module outside the repository."""
    imports = "from typing import Any, SupportsFloat\nimport gymnasium as gym\n\n"
    (tmp_path / "recipe_lab.py").write_text(imports + blocks_of("A new environment wrapper")[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("recipe_lab").Doubled
    del sys.modules["recipe_lab"]


def reward_of(spec: RLSpec) -> float:
    env: gym.Env[Any, Any] = spec.env_builder.make()
    env.reset(seed=0)
    return float(env.step(env.action_space.sample())[1])


def test_a_wrapper_is_a_class_and_a_line(doubled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert blocks_of("A new environment wrapper")[1] == f"{doubled.__name__},\n"
    monkeypatch.setitem(wrappers.WRAPPERS, "Doubled", doubled)  # type: ignore[arg-type]
    assert reward_of(RLSpec()) == 1
    assert reward_of(RLSpec(wrappers=("Doubled",))) == 2
    listed = {entry.name: entry for entry in described("envs")}["Doubled"]
    assert listed.summary == "wrapper: Double the rewards."
    with pytest.raises(InputError, match=r"must be one of NoisyFeatures, .*Doubled, or package"):
        RLSpec(wrappers=("Tripled",))


def test_outside_the_repository_it_is_a_class_alone(doubled: Any) -> None:
    assert reward_of(RLSpec(wrappers=("recipe_lab:Doubled", "recipe_lab:Doubled"))) == 4
