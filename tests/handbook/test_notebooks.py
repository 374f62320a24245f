"""Notebooks are kept without outputs, their code runs, and pages show what came out."""

from __future__ import annotations

import base64
import json
import warnings

import pytest

from handbook import notebooks

PATHS = sorted(notebooks.SOURCES.glob("*.ipynb"))
SHORTER = {
    "sb3": {"20_000": "1_100"},
    "avalanche": {"TASKS, EPOCHS = 5, 5": "TASKS, EPOCHS = 5, 1"},
    "results": {"epochs: 3": "epochs: 1", "seeds: 2": "seeds: 1", "[0.8, 0.95]": "[0.8]"},
    "speed": {"WIDTH, BATCH, ROUNDS = 1024, 256, 15": "WIDTH, BATCH, ROUNDS = 128, 32, 2"},
}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_notebooks_have_no_outputs(path):
    cells = json.loads(path.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_code_runs(path, tmp_path, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    if path.stem == "results":
        pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["notebook"])
    matplotlib.use("Agg")
    names: dict[str, object] = {"__name__": "notebook"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for cell in notebooks.cells_of(path):
            code = cell["source"]
            for old, new in SHORTER[path.stem].items():
                code = code.replace(old, new)
            if cell["cell_type"] == "code":
                exec(compile(code, path.name, "exec"), names)
    matplotlib.pyplot.close("all")


def test_pages_show_what_came_out():
    cells = [
        {"cell_type": "markdown", "source": "# Title"},
        {
            "cell_type": "code",
            "source": "draw()",
            "outputs": [
                {"name": "stderr", "text": ["a warning"]},
                {"name": "stdout", "text": ["\x1b[1mone\x1b[0m", " two\n"]},
                {"data": {"text/html": ["<style>p {}</style><table>", "</table>"]}},
                {"data": {"image/png": base64.b64encode(b"dots").decode(), "text/plain": ["x"]}},
            ],
        },
    ]
    made = dict(notebooks.page("n", cells))
    assert made["notebooks/n-1.png"] == b"dots"
    text = made["notebooks/n.md"]
    assert "```python\ndraw()\n```" in text and "```text\none two\n```" in text
    assert "a warning" not in text and "style" not in text
    assert "![What the cell draws](n-1.png)" in text


def test_outputs_of_another_version_are_not_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "EXECUTED", tmp_path)
    path = PATHS[0]
    notebook = json.loads(path.read_text())
    code = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    code["outputs"] = [{"name": "stdout", "text": ["done"]}]
    (tmp_path / path.name).write_text(json.dumps(notebook))
    assert any(cell.get("outputs") for cell in notebooks.read(path))
    code["source"] = ["something_else()"]
    (tmp_path / path.name).write_text(json.dumps(notebook))
    assert not any(cell.get("outputs") for cell in notebooks.read(path))
