"""`dst` has one line for every wrong value, and writes nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dstrl.runs.libraries import missing_library
from sparse_core.checks import InputError
from sparse_core.imports import check_module, extra_of
from sweeps import cli

Dst = Callable[..., subprocess.CompletedProcess[str]]
GridFile = Callable[[str], Path]
Here = Callable[..., tuple[int, str, str]]


WRONG = [
    ("sweep run nothing", "grid 'nothing': no such file, and no packaged grid (those: "),
    ("sweep run toys.yaml", "toys.yaml: base.rat: unknown key; did you mean 'rate'"),
    ("sweep status toys.yaml", "toys.yaml: base.rat: unknown key"),
    ("sweep report toys.yaml", "toys.yaml: base.rat: unknown key"),
    (
        "sweep run method.yaml",
        "block 1: sparse.method='sett': must be one of dense, static, ticket",
    ),
    ("sweep run sparsity.yaml", "sparse.sparsity=1.0: must be a number in [0, 1)"),
    ("sweep run growth.yaml", "sparse.growth='random': method 'rigl' can use gradient"),
    ("sweep run data.yaml", "data=None: set DST_DATA to a folder that holds bricks"),
    (
        "sweep run good.yaml --data nowhere",
        "nowhere': must be a folder that exists (--data, DST_DATA)",
    ),
    ("sweep run good.yaml --jobs 0", "jobs=0: must be an integer of at least 1"),
    ("sweep run good.yaml --jobs two", "--jobs: invalid int value: 'two'"),
    ("sweep run good.yaml --threads 0", "threads=0: must be an integer of at least 1"),
    ("sweep run good.yaml --timeout -1", "timeout=-1.0: must be a positive number of seconds"),
    ("sweep run good.yaml --retries -1", "retries=-1: must be an integer of at least 0"),
    ("sweep run good.yaml --runs-dir good.yaml", "runs_dir='good.yaml': must be a directory"),
    ("sweep run good.yaml --job 3", "unrecognized arguments: --job 3"),
    ("sweep run", "the following arguments are required: GRID"),
    ("sweep", "the following arguments are required: ACTION"),
    ("sweep ru", "invalid choice: 'ru'"),
    ("swep", "invalid choice: 'swep'"),
    ("tune good.yaml --trials 0", "trials=0: must be an integer of at least 1"),
    ("tune good.yaml", "the following arguments are required: --trials"),
    ("tune good.yaml --trials 1", "grid 'good': search: must be given in each block that is to"),
    ("tune good.yaml --trials 1 --sampler best", "sampler='best': must be one of tpe, random,"),
    ("tune good.yaml --trials 1 --pruner all", "pruner='all': must be one of none, median,"),
    ("tune range.yaml --trials 1", "search.rate: low=2 must be less than high=1"),
    ("tune seeds.yaml --trials 1", "tuning_seeds=[1]: 1 is among the seeds that are reported;"),
    ("train", "the following arguments are required: KIND"),
    ("train lr", "invalid choice: 'lr'"),
    ("list", "the following arguments are required: WHAT"),
    ("list method", "WHAT: invalid choice: 'method' (choose from 'methods', 'growth', 'drop',"),
    ("train rl --sparse.method sett", "sparse.method='sett': must be one of dense, "),
    ("train rl --sparse.sparsity 1", "dst: sparse.sparsity=1.0: must be a number in [0, 1)"),
    ("train rl --sparse.sparsity x", "sparse.sparsity='x': must be a number"),
    ("train rl --sparse.sparsity", "Missing value for argument '--sparse.sparsity'"),
    (
        "train rl --sparse.method rigl --sparse.growth random",
        "sparse.growth='random': method 'rigl'",
    ),
    (
        "train rl --sparse.sparsty 0.5",
        "--sparse.sparsty: unknown option; did you mean '--sparse.spars",
    ),
    ("train rl --algo pp", "algo='pp': must be one of ppo, "),
    ("train rl --env Nowhere-v0", "env='Nowhere-v0': Environment `Nowhere` doesn't exist."),
    ("train rl --steps many", "dst: steps='many': must be an integer"),
    ("train rl --steps 1.5e0", "dst: steps='1.5e0': must be an integer"),
    ("train rl --steps", "Missing value for argument '--steps'"),
    ("train rl --threads 1e0 --noise", "Missing value for argument '--noise'"),
    (
        "train rl --net-arch 64,64 --tiny",
        "net_arch[0]='64,64': must be an integer; put spaces between values: --net-arch 64 64",
    ),
    ("train cl --hidden=64,x", "hidden[0]='64,x': must be an integer; put spaces between"),
    ("train rl --net-arch 64 x", "net_arch[1]='x': must be an integer"),
    ("train rl --algo tqc", "algo='tqc': must be one of ppo, a2c, dqn, sac, td3, ddpg; for sb3-"),
    ("train rl --runs-dir good.yaml", "runs_dir='good.yaml': must be a directory"),
    (
        "train crl --alone false",
        "--alone: takes no value such as 'false', it is --alone or --no-alone",
    ),
    (
        "train rl --sparse.ablation=no",
        "--sparse.ablation: takes no value such as 'no', it is --sparse.ablation or "
        "--sparse.no-ablation",
    ),
    ("enjoy nothing --runs-dir good.yaml", "runs_dir='good.yaml': must be a directory"),
    ("train rl --steps 0", "dst: steps=0: must be an integer of at least 1"),
    ("train rl --hyper.gama 0.9", "hyper='gama': ppo has "),
    ("train rl --hyper.gamma high", "hyper.gamma='high': must be a number"),
    ("train rl --hyper.gamma", "--hyper.gamma: must be followed by a value"),
    ("train rl --threads 0", "dst: threads=0: must be an integer of at least 1"),
    ("train rl --out good.yaml", "'good.yaml': cannot be written: File exists"),
    ("train rl --preset rlx3", "preset='rlx3': must be one of anf, ds-sac, ds-td3, mst, ne, rlx2"),
    ("train rl --preset rlx2 --algo ppo", "preset='rlx2': is for td3, sac, not for ppo"),
    ("train rl --preset=ds-td3 --env Nowhere-v0", "env='Nowhere-v0': Environment `Nowhere`"),
    ("train rl --preset rlx2 --noise x", "noise='x': must be a number"),
    ("train rl --preset", "--preset: must be followed by a value"),
    ("train cl --preset rlx2", "--preset: unknown option"),
    ("train cl --track neptune", "track='neptune': must be one of tensorboard, wandb, mlflow, pac"),
    ("sweep run good.yaml --track a:b", "track='a:b': there is no module 'a'"),
    (
        "sweep run good.yaml --launcher pbs",
        "launcher='pbs': must be one of local, dask, ray, slurm",
    ),
    ("sweep run good.yaml --launcher a:b", "launcher='a:b': there is no module 'a'"),
    ("sweep run good.yaml --address host:1", "address: launcher 'local' takes none"),
    ("sweep run good.yaml --launcher-options no.yaml", "'no.yaml': cannot be read: No such file"),
    ("sweep run good.yaml --launcher-options good.yaml", "launcher_options: launcher 'local'"),
    ("train rl stray", "'stray': must follow an option, which begins with --"),
    ("train cl --benchmark digits", "benchmark='digits': must be one of "),
    ("train cl --tasks 0", "tasks=0: must be an integer of at least 1"),
    ("train cl --isolation soft", "isolation='soft': must be one of "),
    ("train crl --sequence walker", "sequence='walker': must be one of cartpole-physics, "),
    ("train crl --sequence no.where:X", "sequence='no.where:X': there is no module 'no.where'"),
    ("train crl --steps 0", "dst: steps=0: must be an integer of at least 1"),
    ("train crl --isolation soft", "isolation='soft': must be one of hard, none"),
    ("train crl --share all", "share='all': must be one of none, reuse"),
    ("train crl --sparse.method dense --isolation hard", "method='dense': leaves no room"),
    ("train crl --sparse.backend condensed", "backend='condensed': tasks in sequence need"),
    ("train crl --sparse.sparsity 1", "dst: sparse.sparsity=1.0: must be a number in [0, 1)"),
    ("train crl --hyper.gama 0.9", "hyper='gama': ppo has "),
    ("train crl --alon", "--alon: unknown option; did you mean '--alone'"),
    ("train cl --data nowhere", "nowhere': must be a folder that exists (--data, DST_DATA)"),
]


@pytest.fixture
def files(tmp_path: Path, grid_file: GridFile) -> None:
    """Grids that are wrong in one way each, and a good one."""
    grid_file("kind: toy\nbase: {rat: 1}")
    content = (tmp_path / "toys.yaml").read_text().replace("name: toys", "name: good")
    for name, text in {
        "good": "base: {}",
        "sparsity": "base: {sparse: {method: set, sparsity: 1}}",
        "data": "base: {note: needs data}",
        "range": "search: {rate: {low: 2, high: 1}}\ntuning_seeds: [9]",
        "seeds": "search: {rate: [1, 2]}\ntuning_seeds: [1]\nseeds: 2",
    }.items():
        (tmp_path / f"{name}.yaml").write_text(content.replace("base: {rat: 1}", text))
    frame = "name: x\nblocks:\n- kind: rl\n  grid: {{sparse.method: [{}]}}\n  base: {}\n"
    (tmp_path / "method.yaml").write_text(frame.format("sett", "{}"))
    (tmp_path / "growth.yaml").write_text(frame.format("rigl", "{sparse.growth: random}"))


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("words", "said"), WRONG, ids=[words for words, _ in WRONG])
def test_every_wrong_value_ends_in_one_line(
    words: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(words.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("dst: ") and captured.err.count("\n") == 1
    assert said in captured.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("launcher", "module"), [("dask", "distributed"), ("ray", "ray"), ("slurm", "submitit")]
)
def test_a_launcher_that_is_not_installed_is_named_before_anything_is_written(
    launcher: str, module: str, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    code, out, err = here("sweep", "run", "good.yaml", "--launcher", launcher)
    assert (code, out) == (2, "")
    assert err.endswith(f"is not installed: pip install 'dstrl[{launcher}]'\n")
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("files")
def test_a_slurm_that_is_not_there_is_one_line(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.launchers.slurm.need", lambda launcher, module: None)
    monkeypatch.setattr("shutil.which", lambda program: None)
    code, out, err = here("sweep", "run", "good.yaml", "--launcher", "slurm")
    assert (code, out) == (2, "")
    assert err.startswith("dst: launcher='slurm': there is no sbatch here") and err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def no_mujoco(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MuJoCo cannot be imported, whether it is installed or not."""
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.mujoco")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mujoco", None)
    missing_library.cache_clear()
    yield
    missing_library.cache_clear()


@pytest.mark.usefixtures("no_mujoco")
def test_a_missing_library_is_named_before_anything_runs(here: Here, tmp_path: Path) -> None:
    said = "dst: env='Hopper-v5': needs MuJoCo: pip install 'dstrl[mujoco]'\n"
    for words in ("sweep run mujoco_hopper", "train rl --env Hopper-v5 --algo sac"):
        assert here(*words.split()) == (2, "", said)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("module", "fields", "said"),
    [
        (
            "minatar",
            "env: worlds/minatar-breakout-v0, algo: dqn",
            "env='worlds/minatar-breakout-v0': needs MinAtar: pip install 'dstrl[minatar]'",
        ),
        (
            "cv2",
            "wrappers: ['gymnasium.wrappers:AtariPreprocessing']",
            "wrappers=['gymnasium.wrappers:AtariPreprocessing']: needs OpenCV: pip install "
            "'dstrl[atari]'",
        ),
    ],
)
def test_missing_extras_are_named_before_anything_runs(
    module: str,
    fields: str,
    said: str,
    here: Here,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    missing_library.cache_clear()
    (tmp_path / "x.yaml").write_text(f"name: x\nkind: rl\nbase: {{{fields}}}\nseeds: 2\n")
    assert here("sweep", "run", "x.yaml") == (2, "", f"dst: {said}\n")
    assert not (tmp_path / "runs").exists()
    missing_library.cache_clear()


def test_a_module_of_an_extra_is_named_with_it() -> None:
    with pytest.raises(InputError) as error:
        check_module("env", "ale_py:ALE/Pong-v5", "no_such_module", "environments")
    assert str(error.value).endswith("; it must hold environments")
    assert extra_of("ale_py.roms") == ": pip install 'dstrl[atari]'"
    assert extra_of("json") == ""


@pytest.mark.parametrize("words", ["train rl", "sweep run good.yaml"])
@pytest.mark.usefixtures("files")
def test_a_tracker_that_is_not_installed_is_named_before_anything_is_written(
    words: str, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    code, out, err = here(*words.split(), "--track", "mlflow")
    assert (code, out) == (2, "")
    assert err == "dst: track='mlflow': is not installed: pip install 'dstrl[mlflow]'\n"
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("words", ["sweep run toys.yaml", "train rl --sparse.sparsity 1"])
def test_wrong_values_end_in_one_line_as_a_command_too(dst: Dst, words: str) -> None:
    done = dst(*words.split())
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("dst: ") and done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("files")
def test_a_missing_data_folder_in_the_environment_is_named(dst: Dst) -> None:
    done = dst("sweep", "run", "good.yaml", DST_DATA="/no/such/folder")
    assert done.returncode == 2
    assert done.stderr == (
        "dst: data='/no/such/folder': must be a folder that exists (--data, DST_DATA)\n"
    )
