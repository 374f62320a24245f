"""References to the user's own code: what they find, and one line for all that can be wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparse_core import InputError
from sparse_core.imports import fingerprint, is_reference, load, source

TEXT = """
def rule(scene): return scene
class Rule:
    def score(self): return 1
number = 3
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path with a package of the user's own."""
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "userlab"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rules.py").write_text(TEXT)
    (package / "broken.py").write_text("def f(:\n")
    (package / "leaves.py").write_text("raise SystemExit\n")
    (package / "lazy.py").write_text(
        "def __getattr__(name):\n    raise ImportError('not\\nbuilt')\n"
    )
    (package / "needy.py").write_text("import no_such_library\n")
    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "userlab"]:
        del sys.modules[name]


def test_what_a_reference_is() -> None:
    good = ["lab:Env", "lab.rules:cautious", "a.b.c:D.e"]
    bad = ["rigl", "lab", ":x", "lab:", "lab rules:x", "Lab-v0", "lab:Env-v0", "1a:b", "", None, 3]
    assert all(map(is_reference, good)) and not any(map(is_reference, bad))


def test_objects_are_found(lab: Path) -> None:
    assert load("growth", "userlab.rules:rule", "a function", callable)(5) == 5
    assert load("growth", "userlab.rules:Rule.score", "a function", callable)(None) == 1
    assert source("userlab.rules:rule") == lab / "rules.py"


def test_a_changed_file_has_another_fingerprint(lab: Path) -> None:
    before = fingerprint("userlab.rules:rule")
    assert len(before) == 16 and "userlab.rules" not in sys.modules
    (lab / "rules.py").write_text(TEXT + "# changed\n")
    assert fingerprint("userlab.rules:rule") != before
    assert fingerprint("userlab.nothing:rule") == fingerprint("nowhere:x") == ""


def test_a_package_is_its_files_and_not_what_editors_leave(lab: Path) -> None:
    before = fingerprint("userlab:rule")
    (lab / ".#rules.py").symlink_to("user@host.1234")
    (lab / "folder.py").mkdir()
    assert fingerprint("userlab:rule") == before != ""


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("rules", "growth='rules': must be package.module:NAME of a function"),
        ("userlab.none:f", "growth='userlab.none:f': there is no module 'userlab.none' here or"),
        ("nowhere.at:f", "growth='nowhere.at:f': there is no module 'nowhere.at' here or"),
        ("userlab.rules:other", "rules.py) has no 'other'; it must be a function"),
        ("userlab.rules:number", "is an int in 'userlab.rules' ("),
        ("userlab.broken:f", "broken.py) cannot be imported: SyntaxError: "),
        ("userlab.leaves:f", "leaves.py) cannot be imported: SystemExit"),
        ("userlab.lazy:f", "lazy.py) cannot be imported: ImportError: not built; it must be a"),
        ("userlab.needy:f", "needy.py) cannot be imported: ModuleNotFoundError: No module named"),
    ],
)
def test_what_is_wrong_is_one_line(lab: Path, reference: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load("growth", reference, "a function", callable)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.field == "growth"
