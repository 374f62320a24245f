"""The code of lessons and how-to pages runs, from top to bottom, only shorter."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).resolve().parents[2] / "docs"
FENCED = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
SHORTER = {
    "learn/start.md": {"3_000": "110"},
    "learn/sb3.md": {
        '    "CartPole-v1",\n': '    "CartPole-v1", n_steps=64, n_epochs=2,\n',
        "20_000": "64",
        "2_000": "110",
    },
    "learn/avalanche.md": {"epochs=10": "epochs=1", "epochs=5": "epochs=1"},
    "learn/pytorch.md": {"2_000": "60", "range(20)": "range(3)"},
    "learn/compare.md": {},
    "learn/growth_rule.md": {},
    "deployment.md": {},
    "own_environment.md": {},
}
"""Page -> what stands in it -> what the test runs instead."""


def blocks(page: str) -> list[str]:
    found = FENCED.findall((DOCS / page).read_text(encoding="utf-8"))
    for old, new in SHORTER[page].items():
        assert any(old in block for block in found), f"{page} does not say {old!r}"
        found = [block.replace(old, new) for block in found]
    return found


def test_all_lessons_are_run():
    lessons = {f"learn/{path.name}" for path in (DOCS / "learn").glob("*.md")}
    assert lessons <= set(SHORTER)


SLOW = ("deployment.md",)  # exports to ONNX


@pytest.mark.parametrize(
    "page", [pytest.param(p, marks=[pytest.mark.slow] if p in SLOW else []) for p in SHORTER]
)
def test_code_runs(page, tmp_path, monkeypatch, capsys):
    if page == "deployment.md":
        for package in ("onnx", "onnxscript"):
            pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    code = blocks(page)
    assert code
    if page == "learn/growth_rule.md":
        Path("rules.py").write_text(code[0], encoding="utf-8")
    names: dict[str, object] = {"__name__": "lesson"}
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of frameworks, as their users see them
        for block in code:
            exec(compile(block, page, "exec"), names)
    sys.modules.pop("rules", None)
