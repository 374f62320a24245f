"""Code of the user's own in the current folder: it is found, after all that is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from sparse_core import InputError, command
from tests.sweeps.conftest import ROOT

Command = Callable[..., subprocess.CompletedProcess[str]]

LAB = """
from dataclasses import dataclass
from sweeps.language.kinds import Kind

@dataclass(frozen=True)
class Spec:
    height: float = 1.0
    seed: int = 0

def run(spec, out, progress):
    sparsity = {"requested": 0.0, "achieved": 0.0}
    return {"score": spec.height + spec.seed, "curve": [], "sparsity": sparsity, "layers": []}

def enjoy(spec, output, file, seed):
    from types import SimpleNamespace
    return [SimpleNamespace(steps=3, score=spec.height, task=None)]

KIND = Kind("lab:Spec", "lab:run", title="Lab", score="height (m)", player="lab:enjoy")
TYPO = Kind("lab:Spec", "lab_typo:run")
"""
GRID = "name: lab\nkind: lab:KIND\ngrid: {height: [1, 2]}"


@pytest.fixture
def dst(tmp_path: Path) -> Command:
    """Run `dst` as the installed script does: the current folder is not on Python's path."""

    def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        script = "import sys; from sparse_core.command import main; sys.exit(main())"
        return subprocess.run(
            [sys.executable, "-P", "-c", script, *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A module of the user's own, with a kind of run, and a grid that names it."""
    (tmp_path / "lab.py").write_text(LAB)
    (tmp_path / "lab.yaml").write_text(GRID)
    return tmp_path


def package(folder: Path, name: str) -> Path:
    """Make an empty package."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("")
    return folder / name


def test_a_kind_of_ones_own_runs_in_grids(lab: Path, dst: Command) -> None:
    done = dst("sweep", "run", "lab.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Lab: height (m)" in done.stdout and "2 runs, 2 to do" in done.stdout
    scores = [json.loads(path.read_text()) for path in lab.glob("runs/lab/*/result.json")]
    assert {result["score"] for result in scores} == {1.0, 2.0}
    assert {result["kind"] for result in scores} == {"lab:KIND"}


def test_a_kind_of_ones_own_is_trained_and_shown(lab: Path, dst: Command) -> None:
    done = dst("train", "lab:KIND", "--height", "2.5", "--out", "here")
    assert (done.returncode, done.stderr) == (0, "") and "height (m)" in done.stdout
    shown = dst("enjoy", "here", "--out", "x.gif")
    assert (shown.returncode, shown.stdout) == (0, "3 steps, return 2.50: x.gif\n")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lab:NONE", "lab.py) has no 'NONE'; it must be a sweeps.language.kinds.Kind"),
        ("lab:run", "kind='lab:run': is a function in 'lab' ("),
        ("nolab:KIND", "kind='nolab:KIND': there is no module 'nolab' here or among what is"),
        ("lab:TYPO", "kind='lab:TYPO': runner='lab_typo:run': there is no module 'lab_typo'"),
        (
            "lab KIND:x",
            "kind='lab KIND:x': must be one of rl, cl, crl, xmc, vision, rec, or package",
        ),
    ],
)
def test_grids_and_options_refuse_a_wrong_kind_alike(
    lab: Path, dst: Command, name: str, said: str
) -> None:
    (lab / "lab.yaml").write_text(GRID.replace("lab:KIND", f"'{name}'"))
    in_grid, trained = dst("sweep", "run", "lab.yaml"), dst("train", name)
    for done in (in_grid, trained):
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr and done.stderr.count("\n") == 1
    assert in_grid.stderr == trained.stderr.replace("dst: ", "dst: lab.yaml: ", 1)


def test_what_is_installed_comes_first(lab: Path, dst: Command) -> None:
    for name in ("yaml", "envs", "sweeps", "sparse_core"):
        package(lab, name)
    done = dst("sweep", "run", "lab.yaml")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_folder_is_the_one_where_the_process_started(
    lab: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    finders = list(sys.meta_path)
    other = tmp_path_factory.mktemp("other")
    (other / "lab_elsewhere.py").write_text("")
    try:
        for folder in (other, lab):
            monkeypatch.chdir(folder)
            command.search_here()
        monkeypatch.chdir(other)
        assert len(sys.meta_path) == len([f for f in finders if f in sys.meta_path]) + 1
        assert sys.meta_path[-1].find_spec("lab_elsewhere", None) is None
        found = sys.meta_path[-1].find_spec("lab", None)
        assert found is not None and found.origin == str(lab / "lab.py")
    finally:
        sys.meta_path[:] = finders


def test_no_package_of_ours_is_forgotten() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["importlinter"]["root_packages"]
    assert sorted(command.PACKAGES) == sorted(packages)
    assert project["project"]["scripts"] == {"dst": "sparse_core.command:main"}


@pytest.mark.parametrize("name", ["envs", "sweeps", "continual"])
@pytest.mark.parametrize("kind", ["package", "folder", "module"])
def test_a_folder_that_hides_a_package_is_named(
    tmp_path: Path, dst: Command, name: str, kind: str
) -> None:
    found = tmp_path / name
    if kind == "package":
        package(tmp_path, name)
    elif kind == "module":
        found = tmp_path / f"{name}.py"
        found.write_text("")
    else:
        found.mkdir()
    done = dst("--help", PYTHONPATH=os.pathsep.join([".", str(ROOT)]))
    if kind == "folder":  # a folder without __init__.py yields to a package further on the path
        assert done.returncode == 0
        return
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"dst: package {name!r}: {found} hides {ROOT / name}; rename it, or keep {tmp_path} out "
        "of PYTHONPATH and do not use python -m there\n"
    )


def test_a_hidden_package_is_named_with_python_m(tmp_path: Path) -> None:
    package(tmp_path, "envs")
    for module in ("sweeps.cli", "sweeps.runs.worker"):
        done = subprocess.run(
            [sys.executable, "-m", module, "x"], cwd=tmp_path, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert f"{tmp_path / 'envs'} hides {ROOT / 'envs'}" in done.stderr


def test_folders_that_are_no_packages_hide_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where ours are found by the finder of an editable installation, which comes last."""
    spec = ModuleSpec("envs", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path / "envs")]
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: spec if name == "envs" else find(name)
    )
    with pytest.raises(InputError, match=rf"^package 'envs': {tmp_path}/envs hides {ROOT}/envs; "):
        command.refuse_hidden()


def test_a_reference_into_a_package_that_ours_hides_says_so(tmp_path: Path, dst: Command) -> None:
    (package(tmp_path, "envs") / "mine.py").write_text(LAB)
    done = dst("train", "envs.mine:KIND")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"({ROOT / 'envs'} hides {tmp_path / 'envs'})" in done.stderr


def test_checkouts_need_no_installation(tmp_path: Path) -> None:
    """Workers start apart from the current folder, which is all that finds such a checkout."""
    script = (
        "import os\n"
        "from sweeps.launchers.environment import worker_environment\n"
        "environment = worker_environment(1, {})\n"
        "print(environment.get('PYTHONPATH'))\n"
    )
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    for folder, said in ((ROOT, str(ROOT)), (tmp_path, "None")):
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=folder,
            env={**environment, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"{said}\n"


@pytest.mark.parametrize("words", [("list", "methods"), ("train", "rl", "--help")])
def test_a_reader_that_leaves_early_is_no_error(words: tuple[str, ...], tmp_path: Path) -> None:
    script = "import sys; from sparse_core.command import main; sys.exit(main())"
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        command = [sys.executable, "-P", "-c", script, *words]
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "")
