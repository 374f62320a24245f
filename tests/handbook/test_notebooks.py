"""The code of notebooks runs, what they keep came out of it, and pages show it."""

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
def test_outputs_are_those_of_the_code(path):
    """Otherwise `make notebooks` is to be run."""
    code = [cell for cell in notebooks.read(path) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert any(cell["outputs"] for cell in code)
    assert not any(output.get("name") == "stderr" for cell in code for output in cell["outputs"])


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
        for cell in notebooks.read(path):
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
                {"name": "stdout", "text": ["\x1b[1mone\x1b[0m", " two\n"]},
                {"data": {"text/html": ["<pre>three</pre>"], "text/plain": ["three"]}},
                {"data": {"text/html": ['<style>p {}</style><table border="1">', "</table>"]}},
                {"data": {"image/png": base64.b64encode(b"dots").decode(), "text/plain": ["x"]}},
            ],
        },
    ]
    made = dict(notebooks.page("n", cells))
    assert made["notebooks/n-1.png"] == b"dots"
    text = made["notebooks/n.md"]
    assert "```python\ndraw()\n```" in text and "```text\none two\nthree\n```" in text
    assert "style" not in text and "<table></table>" in text
    assert "![What the cell draws](n-1.png)" in text


def test_outputs_of_other_code_are_not_shown(tmp_path):
    cells = [
        {"cell_type": "markdown", "source": ["# Title"]},
        {"cell_type": "code", "source": ["a\n", "b"], "outputs": [{"text": ["done"]}]},
    ]
    path = tmp_path / "n.ipynb"
    known = notebooks.digest([{"cell_type": "code", "source": "a\nb"}])
    path.write_text(json.dumps({"cells": cells, "metadata": {notebooks.DIGEST: known}}))
    assert [cell.get("outputs") for cell in notebooks.read(path)] == [None, [{"text": ["done"]}]]
    cells[1]["source"] = ["c"]
    path.write_text(json.dumps({"cells": cells, "metadata": {notebooks.DIGEST: known}}))
    assert [cell.get("outputs") for cell in notebooks.read(path)] == [None, []]
    assert notebooks.UNEXECUTED in dict(notebooks.page("n", notebooks.read(path)))["notebooks/n.md"]
