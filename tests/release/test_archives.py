"""Wheel and source distribution hold all that belongs to them, and `dst` runs from the wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from handbook.release import left_out
from sparse_core.command import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
WANTED = re.compile(r"([\w.-]+)(?:\[.*\])?(.*)")
DST = "import sys; from sparse_core.command import main; sys.exit(main())"


def shipped() -> set[str]:
    """Return the files of our packages that git would keep."""
    files = (path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file())
    return {p.relative_to(ROOT).as_posix() for p in files if p.suffix != ".pyc"}


def test_every_package_is_typed():
    assert all((ROOT / name / "py.typed").exists() for name in PACKAGES)


def test_files_that_are_not_modules_are_package_data():
    """Each matches a pattern of its package in `pyproject.toml`."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = declared["package-data"]
    matched: set[Path] = set()
    for package, globs in patterns.items():
        for folder in PACKAGES if package == "*" else [package.replace(".", "/")]:
            for pattern in globs:
                matched |= set((ROOT / folder).glob(pattern))
    others = {name for name in shipped() if not name.endswith(".py")}
    assert others == {path.relative_to(ROOT).as_posix() for path in matched}


def test_the_lock_is_one_of_these_dependencies():
    """Otherwise `make lock` is to be run."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    lock = (ROOT / "uv.lock").read_text(encoding="utf-8")
    locked = re.findall(r'\{ name = "([^"]+)",.*?(?:specifier = "([^"]+)")? \}', lock)
    known = {(name, ",".join(sorted(versions.split(",")))) for name, versions in locked}
    for line in [*project["dependencies"], *(line for extra in extras for line in extra)]:
        name, versions = WANTED.fullmatch(line.partition(";")[0].strip()).groups()
        wanted = name.lower().replace("_", "-"), ",".join(sorted(versions.split(",")))
        assert wanted in known, line


def test_a_copy_for_a_release_has_all_rooms():
    assert left_out(str(ROOT), ["runs", ".git", "dstrl", "Makefile"]) == {"runs", ".git"}
    assert left_out(str(ROOT / "dstrl"), ["runs", "__pycache__"]) == {"__pycache__"}


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Wheel and source distribution, built by pip from a copy of the project."""
    place = tmp_path_factory.mktemp("release")
    shutil.copytree(ROOT, place / "copy", ignore=left_out, symlinks=True)
    build = (
        "import sys; place = sys.argv[1]; from setuptools import build_meta; "
        "build_meta.build_sdist(place); build_meta.build_wheel(place)"
    )
    pip = [sys.executable, "-m", "venv", str(place / "venv")]
    subprocess.run(pip, check=True)
    python = place / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "setuptools>=77"], check=True)
    subprocess.run([python, "-c", build, str(place)], cwd=place / "copy", check=True)
    return next(place.glob("*.whl")), next(place.glob("*.tar.gz"))


@pytest.mark.slow
def test_the_wheel_holds_all_files_and_nothing_else(archives):
    with zipfile.ZipFile(archives[0]) as wheel:
        names = set(wheel.namelist())
    assert {name for name in names if ".dist-info/" not in name} == shipped()


@pytest.mark.slow
def test_the_source_distribution_holds_what_it_takes_to_work_on_it(archives):
    with tarfile.open(archives[1]) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    wanted = {"Makefile", "mkdocs.yml", "CITATION.cff", "constraints.txt", "docs/index.md"}
    wanted |= {"examples/continual_rl.py", "handbook/hooks.py", "tests/conftest.py"}
    assert wanted | shipped() <= names


@pytest.mark.slow
def test_dst_runs_from_the_wheel_outside_the_repository(archives, tmp_path):
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        with zipfile.ZipFile(archives[0]) as wheel:
            wheel.extractall(tmp_path / "lib")
    else:
        subprocess.run([*pip, str(tmp_path / "lib"), str(archives[0])], check=True)
    env = os.environ | {"PYTHONPATH": str(tmp_path / "lib")}

    def dst(*words: str) -> str:
        command = [sys.executable, "-P", "-c", DST, *words]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "quickstart" in dst("list", "grids") and "rlx2" in dst("list", "presets")
    said = dst("train", "rl", "--env", "CartPole-v1", "--steps", "64", "--hyper.n_steps", "32")
    assert "sparsity" in said
