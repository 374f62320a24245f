"""Distributions for an index: every link of README leads somewhere, whoever shows it."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest

from handbook.release import CODE, LINK, ROOT, absolute, address, build
from sparse_core.checks import InputError

HOME = "https://git.example/ada/dstrl"


@pytest.mark.parametrize(
    ("line", "led"),
    [
        ("see [x](docs/x.md#a) now", f"see [x]({HOME}/blob/v1/docs/x.md#a) now"),
        ("![p](docs/p.png)", f"![p]({HOME}/raw/v1/docs/p.png)"),
        ("[`f.py`](f.py), [g](g)", f"[`f.py`]({HOME}/blob/v1/f.py), [g]({HOME}/blob/v1/g)"),
        ("[a](https://b.c/d) [e](#f)", "[a](https://b.c/d) [e](#f)"),
        ("`[a](b)` and [c](d)", f"`[a](b)` and [c]({HOME}/blob/v1/d)"),
        ("    [a](b)", "    [a](b)"),
        ("```\n[a](b)\n```\n[c](d)", f"```\n[a](b)\n```\n[c]({HOME}/blob/v1/d)"),
    ],
)
def test_relative_links_lead_to_the_repository(line, led):
    assert absolute(line, HOME, "v1") == led


def test_readme_and_metadata_name_the_repository(tmp_path):
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    address(tmp_path, HOME)
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]
    assert project["urls"]["Repository"] == HOME
    before, after = ((place / "README.md").read_text() for place in (ROOT, tmp_path))
    targets = after.split(f"]({HOME}/")[1:]
    assert len(targets) == len(list(LINK.finditer(CODE.sub("", before)))) > 10
    tag = f"v{project['version']}/"
    paths = [target.partition(tag)[2].partition(")")[0].partition("#")[0] for target in targets]
    assert all((ROOT / path).exists() for path in paths)
    assert not list(LINK.finditer(CODE.sub("", after)))


@pytest.mark.parametrize("wrong", ["", "git@git.example:ada/dstrl", "http://a.b/c", "https://a.b"])
def test_an_address_that_is_none_builds_nothing(wrong, tmp_path):
    with pytest.raises(InputError, match=r"REPOSITORY: .* is no address"):
        build(wrong, Path(tmp_path))
    assert not list(tmp_path.iterdir())
