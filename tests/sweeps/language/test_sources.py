"""The user's own modules and files are part of what a run is and of where results come from."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sparse_core.checks import InputError
from sweeps import cli
from sweeps.language import spec as specs
from sweeps.language.grid import load_grid, make_run
from sweeps.language.kinds import KINDS, Kind, spec_type
from sweeps.language.sources import Fingerprints
from sweeps.runs import worker
from sweeps.store.directory import RunDir, State, prepare

pytestmark = pytest.mark.usefixtures("own_environment")

LAB = """
from dataclasses import dataclass
from sweeps.language.kinds import Kind

@dataclass(frozen=True)
class Spec:
    rule: str = ""
    seed: int = 0

def run(spec, out, progress):
    sparsity = {"requested": 0.0, "achieved": 0.0}
    return {"score": 1.0, "curve": [], "sparsity": sparsity, "layers": []}

KIND = Kind("srclab.lab:Spec", "srclab.lab:run")
"""
GRID = "name: lab\nkind: srclab.lab:KIND\ngrid: {rule: ['', 'srclab.rules:best']}\nseeds: 2"
Here = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class Reads:
    """A spec with texts of all kinds and a file that counts."""

    text: str = ""
    texts: tuple[str, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)
    data: str | None = None
    seed: int = 0

    def files(self) -> dict[str, Path]:
        return {} if self.data is None else {"data": Path(self.data)}


READS = Kind("tests.sweeps.language.test_sources:Reads", "dstrl.runs.train:run")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of the user's in the current folder."""
    folder = tmp_path / "srclab"
    folder.mkdir()
    for name, text in {"__init__": "", "lab": LAB, "rules": "def best(): ..."}.items():
        (folder / f"{name}.py").write_text(text)
    (tmp_path / "lab.yaml").write_text(GRID)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "srclab"]:
        del sys.modules[name]


@pytest.fixture
def here(capfd: pytest.CaptureFixture[str]) -> Here:
    """Run `dst` in this process, with the user's modules as they are now."""

    def run(*words: str) -> tuple[int, str, str]:
        for name in [name for name in sys.modules if name.partition(".")[0] == "srclab"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        code = cli.main(words)
        return code, *capfd.readouterr()

    return run


def edit(file: Path) -> None:
    file.write_text(file.read_text() + "\n# edited\n")


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def named(**values: Any) -> dict[str, str]:
    """Return the sources of a spec alone."""
    return Fingerprints().of(
        ["rl", "dstrl.runs.spec:RLSpec", "dstrl.runs.train:run"], Reads(**values)
    )


def test_every_text_that_names_a_module_counts(lab: Path) -> None:
    rules, whole = {"srclab.rules": sha(lab / "rules.py")}, named(text="srclab:Env-v0")
    assert named(text="srclab.rules:best") == rules
    assert named(texts=("x", "srclab.rules:Rules.best")) == rules
    assert named(more={"a": [{"b": "srclab.rules:best"}]}) == rules
    assert named(more={"srclab.rules:best": 3}) == rules
    assert named(text="srclab.rules:Lab-v0") == named(text="srclab.rules:space/Lab-v0") == rules
    assert list(whole) == ["srclab"]
    edit(lab / "rules.py")
    assert named(text="srclab:Env-v0") != whole, "a package is all its files"


@pytest.mark.parametrize(
    "text",
    ["", "rigl", "CartPole-v1", "nowhere:x", "srclab.rules", "lin: 3", "dstrl.runs.spec:RLSpec"],
)
def test_texts_that_name_no_module_of_the_users_do_not(lab: Path, text: str) -> None:
    assert named(text=text) == {}


def test_runs_without_references_keep_their_identity() -> None:
    for name, kind in KINDS.items():
        spec = spec_type(kind.spec)()
        run = make_run(name, kind, spec)
        assert run.run_id == specs.run_id(name, spec)
        assert run.sources == {} and "sources" not in run.record()


def test_files_whose_content_decides_are_part_of_the_identity(tmp_path: Path) -> None:
    data = tmp_path / "data.npz"
    data.write_text("1")
    one = make_run("reads", READS, Reads(data=str(data)))
    assert one.sources["data: data.npz"] == sha(data)
    data.write_text("2")
    other = make_run("reads", READS, Reads(data=str(data)))
    assert one.run_id != other.run_id and one.spec == other.spec
    data.unlink()
    with pytest.raises(InputError, match=r"^data='.*data.npz': cannot be read: No such file"):
        make_run("reads", READS, Reads(data=str(data)))


def test_an_edited_file_makes_new_runs_and_keeps_the_old_ones(lab: Path, here: Here) -> None:
    code, out, err = here("sweep", "run", "lab.yaml")
    assert (code, err) == (0, "") and "earlier" not in out
    old = {path: path.read_bytes() for path in Path("runs/lab").glob("*/result.json")}
    assert len(old) == 4
    edit(lab / "rules.py")
    code, out, err = here("sweep", "status", "lab.yaml")
    remark = "2 runs of earlier versions of your own code lie in runs/lab, not shown here\n"
    assert (code, err) == (0, "") and remark in out
    assert out.endswith("lab: 4 runs: 2 pending, 0 running, 2 done, 0 failed\n")
    code, out, err = here("sweep", "run", "lab.yaml")
    assert (code, err) == (0, "") and "4 runs, 2 to do" in out and remark in out
    assert len(list(Path("runs/lab").glob("*/result.json"))) == 6
    assert all(path.read_bytes() == text for path, text in old.items())
    html = Path("runs/lab/report.html").read_text()
    assert "4 of 4 runs have a result" in html and remark.strip() in html
    edit(lab / "lab.py")
    _, out, _ = here("sweep", "status", "lab.yaml")
    assert "6 runs of earlier" in out and out.endswith("4 pending, 0 running, 0 done, 0 failed\n")


def test_a_result_says_which_version_of_which_file_it_is_of(lab: Path, here: Here) -> None:
    here("sweep", "run", "lab.yaml")
    origins = [
        json.loads(path.read_text())["provenance"]["sources"]
        for path in Path("runs/lab").glob("*/result.json")
    ]
    lab_only = {"srclab.lab": {"sha256": sha(lab / "lab.py"), "file": str(lab / "lab.py")}}
    rules = {"srclab.rules": {"sha256": sha(lab / "rules.py"), "file": str(lab / "rules.py")}}
    assert sorted(map(len, origins)) == [1, 1, 2, 2]
    assert all(origin in (lab_only, lab_only | rules) for origin in origins)
    html = Path("runs/lab/report.html").read_text()
    assert f"srclab.rules {sha(lab / 'rules.py')} ({lab / 'rules.py'})" in html


def test_a_file_that_changes_between_plan_and_run_fails_the_run(lab: Path) -> None:
    run = load_grid("lab.yaml").runs[-1]
    folder = RunDir(Path("runs") / run.run_id)
    prepare(folder, run.record())
    edit(lab / "rules.py")
    assert worker.execute(folder) == worker.FAILED and folder.state() is State.FAILED
    error = folder.error() or {}
    assert error["input"] is True
    assert error["message"].startswith("srclab.rules: has changed since this run was planned; ")


@dataclass(frozen=True)
class Below:
    """A spec whose file lies below the folder of data sets."""

    seed: int = 0

    def files(self) -> dict[str, Path]:
        return {"data": Path(os.environ["DST_DATA"]) / "data.npz"}


@pytest.mark.parametrize("word", ["status", "report"])
def test_what_lies_below_the_data_folder_is_known_wherever_runs_are(
    tmp_path: Path, here: Here, word: str
) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets/data.npz").write_text("1")
    kind = "{spec: 'tests.sweeps.language.test_sources:Below', runner: 'dstrl.runs.train:run'}"
    (tmp_path / "below.yaml").write_text(f"name: a\nkinds: {{below: {kind}}}\nkind: below")
    code, _, err = here("sweep", word, "below.yaml", "--data", "sets")
    assert (code, err) == (0, "")
    code, out, err = here("sweep", word, "below.yaml", "--data", "nowhere")
    assert (code, out) == (2, "") and "nowhere': must be a folder that exists" in err
