"""`dst train`: one run in this process, in a directory like any other run's."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from sparse_core.checks import InputError
from sparse_core.command import ROOT
from sweeps.commands.options import parse_train
from sweeps.commands.surroundings import plain_warnings
from sweeps.commands.train import RunFailed, train
from sweeps.language.grid import Grid
from sweeps.language.kinds import KINDS
from sweeps.store.directory import RunDir, prepare

Toys = Callable[[str], Grid]


pytestmark = pytest.mark.usefixtures("own_environment")


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=100)


def said(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_a_run_is_done_and_summed_up(toys: Toys, console: Console) -> None:
    (run,) = toys("kind: toy\nbase: {sparse.method: set, sparse.sparsity: 0.9}").runs
    train(run, None, 2, console)
    folder = RunDir(Path("runs/train") / run.run_id)
    result = folder.result()
    assert result is not None and result["provenance"]["threads"] == 2
    lines = said(console).splitlines()
    assert lines[0].split("  ")[0] == "final height (m)" and lines[0].endswith(" 9.00")
    assert lines[1].endswith("0.9000 (requested 0.9000), 10 of 100 weights active")
    assert lines[-1].endswith(f"runs/train/{run.run_id}/result.json")


def test_what_is_said_of_sparsity_and_updates(toys: Toys, console: Console) -> None:
    (run,) = toys("kind: toy").runs
    train(run, Path("here"), 1, console)
    assert "updates" not in said(console)
    folder = RunDir(Path("here"))
    result = folder.result()
    assert result is not None
    still = "critic: no update of the topology in 90 optimizer steps (update_every=100)"
    sparsity = {"requested": 0.8, "achieved": 0.8, "active": 4, "total": 20}
    folder.finish(
        result | {"sparsity": sparsity, "updates": {"actor": 7, "critic": 0}, "still": [still]}
    )
    train(run, Path("here"), 1, console)
    lines = said(console).splitlines()
    assert "sparsity          0.8000 (requested 0.8000), 4 of 20 weights active" in lines
    assert "weights           10 of 100 active, with the layers that stay dense" in lines
    assert "updates           actor 7, critic 0" in lines
    assert f"unmoved           {still}" in lines


def test_the_same_command_again_runs_nothing(toys: Toys, console: Console) -> None:
    (run,) = toys("kind: toy").runs
    train(run, Path("here"), 1, console)
    train(run, Path("here"), 1, console)
    assert "This run has its result already." in said(console)
    assert RunDir(Path("here")).attempts() == 1


def test_a_folder_of_another_run_is_refused(toys: Toys, console: Console) -> None:
    one, other = toys("kind: toy\nseeds: 2").runs
    train(one, Path("here"), 1, console)
    with pytest.raises(InputError, match=rf"^'here': holds another run, {one.run_id}$"):
        train(other, Path("here"), 1, console)


def test_a_run_that_fails_points_at_its_traceback(toys: Toys, console: Console) -> None:
    (run,) = toys("kind: toy\nbase: {fate: raise}").runs
    with pytest.raises(RunFailed, match=r"^RuntimeError: the tower fell over \(traceback in "):
        train(run, Path("here"), 1, console)
    assert "fell over" in (RunDir(Path("here")).error() or {})["traceback"]


def test_what_only_the_runner_can_refuse_leaves_nothing_behind(
    toys: Toys, console: Console
) -> None:
    (run,) = toys("kind: toy\nbase: {fate: refuse}").runs
    Path("old").mkdir()
    with pytest.raises(InputError, match=r"^task='tower': cannot be built$"):
        train(run, Path("old/new/here"), 1, console)
    assert list(Path().iterdir()) == [Path("old")] and not list(Path("old").iterdir())


@pytest.mark.parametrize("fate", ["refuse when written", "refuse in progress"])
def test_a_refusal_after_work_was_done_removes_nothing(
    toys: Toys, console: Console, fate: str
) -> None:
    (run,) = toys(f"kind: toy\nbase: {{fate: {fate}}}").runs
    with pytest.raises(InputError, match=r"^task='tower': cannot be built$"):
        train(run, Path("here"), 1, console)
    assert (RunDir(Path("here")).error() or {})["input"] is True
    assert Path("here/output/notes.txt").exists() == (fate == "refuse when written")


def test_a_refusal_removes_no_directory_that_was_there(toys: Toys, console: Console) -> None:
    (run,) = toys("kind: toy\nbase: {fate: refuse}").runs
    Path("here").mkdir()
    with pytest.raises(InputError):
        train(run, Path("here"), 1, console)
    assert (RunDir(Path("here")).error() or {})["input"] is True


def test_a_crash_is_no_refusal_whatever_it_says(toys: Toys, console: Console) -> None:
    (run,) = toys("kind: toy\nbase: {fate: diverge}").runs
    with pytest.raises(RunFailed, match=r"^ValueError: torque=nan: simulation diverged \(trace"):
        train(run, Path("here"), 1, console)
    error = RunDir(Path("here")).error() or {}
    assert error["input"] is False and error["done"] == 0.5 and "toys.py" in error["traceback"]
    assert Path("here/output/notes.txt").read_text() == "built"


@pytest.mark.parametrize("stranger", ["log.txt", "output/tensorboard", "mine.csv"])
def test_only_an_unused_directory_is_removed(toys: Toys, console: Console, stranger: str) -> None:
    (run,) = toys("kind: toy").runs
    folder = RunDir(Path("here"))
    prepare(folder, run.record())
    folder.begin()
    Path("here", stranger).write_text("kept")
    folder.remove_unused()
    assert Path("here", stranger).read_text() == "kept" and Path("here/spec.json").exists()


def test_a_run_that_another_process_holds_is_refused(toys: Toys, console: Console) -> None:
    (run,) = toys("kind: toy").runs
    folder = RunDir(Path("here"))
    folder.path.mkdir()
    with folder.lock(), pytest.raises(InputError, match="another process is at this run"):
        train(run, Path("here"), 1, console)


def test_progress_is_a_bar_on_a_terminal(toys: Toys) -> None:
    (run,) = toys("kind: toy").runs
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    train(run, Path("here"), 1, console)
    assert "50%" in said(console)


def test_options_are_the_fields_of_the_spec() -> None:
    words = (
        "--algo ppo --sparse.method set --sparse.sparsity 0.5 --net-arch 8 8 --steps 10 "
        "--hyper.gamma 5e-1 --hyper.learning-rate=lin_0.1 --out x --threads 3"
    )
    options = parse_train(KINDS["rl"], words.split(), "dst train rl")
    spec = options.spec
    assert (spec.algo, spec.steps, spec.net_arch) == ("ppo", 10, (8, 8))
    assert (spec.sparse.method, spec.sparse.sparsity) == ("set", 0.5)
    assert dict(spec.hyper) == {"gamma": 0.5, "learning_rate": "lin_0.1"}
    assert (options.out, options.data, options.threads) == (Path("x"), None, 3)


@pytest.mark.parametrize("number", ["1e4", "10_000", "10000.0", "+1E4"])
def test_numbers_may_be_written_as_in_a_grid(number: str) -> None:
    words = f"--steps {number} --n-envs=1e0 --net-arch 1e1 2_0 --noise 5e-1 --hyper.gamma 5e-1"
    options = parse_train(KINDS["rl"], words.split(), "dst train rl")
    spec = options.spec
    assert (spec.steps, spec.n_envs, spec.net_arch, spec.noise) == (10_000, 1, (10, 20), 0.5)
    assert all(type(number) is int for number in (spec.steps, spec.n_envs, *spec.net_arch))
    assert parse_train(KINDS["rl"], ["--steps", "None"], "dst train rl").spec.steps is None


def test_runs_can_have_their_directories_elsewhere(toys: Toys, console: Console) -> None:
    options = parse_train(KINDS["rl"], ["--runs-dir", "there"], "dst train rl")
    (run,) = toys("kind: toy").runs
    train(run, options.out, 1, console, options.runs_dir)
    assert (Path("there/train") / run.run_id / "result.json").exists()


def test_options_that_are_given_override_a_preset() -> None:
    words = "--preset rlx2 --algo sac --env Pendulum-v1 --steps 50 --sparse.update-every 100"
    spec = parse_train(KINDS["rl"], words.split(), "dst train rl").spec
    assert (spec.algo, spec.env, spec.steps) == ("sac", "Pendulum-v1", 50)
    assert (spec.actor_sparsity, spec.critic_sparsity) == (0.9, 0.8)
    assert (spec.sparse.update_every, spec.sparse.drop_fraction) == (100, 0.5)
    assert spec.hyper["n_steps_from"] == 300_000
    words = "--sparse.method rigl --hyper.n_steps 2 --preset=srigl --algo=td3"
    spec = parse_train(KINDS["rl"], words.split(), "dst train rl").spec
    assert (spec.algo, spec.sparse.method, dict(spec.hyper)) == ("td3", "rigl", {"n_steps": 2})


@pytest.mark.parametrize(
    "rate", ["--hyper.learning-rate lin_0.001", "--hyper.learning_rate=lin_0.001"]
)
def test_a_key_of_a_preset_takes_values_of_another_type(rate: str) -> None:
    words = f"--preset simba --algo sac {rate}"
    spec = parse_train(KINDS["rl"], words.split(), "dst train rl").spec
    assert spec.hyper["learning_rate"] == "lin_0.001"


def test_options_of_tasks_in_sequence() -> None:
    words = (
        "--sequence cartpole --algo ppo --steps 20000 --sparse.sparsity 0.8 --sparse.method rigl "
        "--isolation hard --share reuse --no-alone --hyper.gamma 0.9 --seed 4"
    )
    spec = parse_train(KINDS["crl"], words.split(), "dst train crl").spec
    assert (spec.sequence, spec.algo, spec.steps, spec.seed) == ("cartpole", "ppo", 20_000, 4)
    assert (spec.isolation, spec.share, spec.alone) == ("hard", "reuse", False)
    assert (spec.sparse.method, spec.sparse.sparsity, spec.sparse.dense) == (
        "rigl",
        0.8,
        ("input",),
    )
    assert dict(spec.hyper) == {"gamma": 0.9}


def test_options_that_are_not_given_keep_the_specs_defaults() -> None:
    spec = parse_train(KINDS["cl"], ["--sparse.method", "set"], "dst train cl").spec
    assert spec.sparse.update_every == type(spec)().sparse.update_every


def test_warnings_of_the_packages_are_a_line() -> None:
    ours, theirs = str(ROOT / "supervised" / "parts.py"), "/usr/lib/other/parts.py"
    with plain_warnings():
        assert warnings.formatwarning("line 1:\n odd", UserWarning, ours, 3) == "dst: line 1: odd\n"
        for category, file in ((RuntimeWarning, ours), (UserWarning, theirs)):
            said = warnings.formatwarning("odd", category, file, 3)
            assert said == f"{file}:3: {category.__name__}: odd\n"
    assert "UserWarning" in warnings.formatwarning("odd", UserWarning, ours, 3)
