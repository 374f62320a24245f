"""Notebooks as pages: their cells, and what came out when `make notebooks` executed them.

    python -m handbook.notebooks             execute all of them
    python -m handbook.notebooks sb3 speed   or some

A notebook keeps its outputs, and a digest of the code that they are of. They are shown as long as
that is the code of its cells.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "docs" / "notebooks"
DIGEST = "dstrl_code"
"""Name of the digest in a notebook's metadata."""

UNEXECUTED = "The code has changed since it was executed: `make notebooks` brings its outputs."
ANSI = re.compile(r"\x1b\[[\d;]*m")


def pages() -> Iterator[tuple[str, str | bytes]]:
    """Yield path and content of each notebook's page, and of the pictures on it."""
    for path in sorted(SOURCES.glob("*.ipynb")):
        yield from page(path.stem, read(path))


def read(path: Path) -> list[dict[str, Any]]:
    """Return a notebook's cells, each source as one text; outputs only if they are of this code."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell | {"source": "".join(cell["source"])} for cell in notebook["cells"]]
    if notebook["metadata"].get(DIGEST) == digest(cells):
        return cells
    return [cell | ({"outputs": []} if "outputs" in cell else {}) for cell in cells]


def digest(cells: Iterable[Mapping[str, Any]]) -> str:
    """Return a digest of the code of cells."""
    code = "\0".join(cell["source"] for cell in cells if cell["cell_type"] == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def page(name: str, cells: list[dict[str, Any]]) -> Iterator[tuple[str, str | bytes]]:
    """Yield the page of a notebook, and its pictures."""
    parts: list[str] = []
    pictures = 0
    for cell in cells:
        if cell["cell_type"] == "markdown":
            parts.append(cell["source"])
            continue
        parts.append(f"```python\n{cell['source']}\n```")
        text = ""
        for output in cell["outputs"]:
            data = output.get("data", {})
            html = "".join(data.get("text/html", ""))
            if "image/png" in data:
                pictures += 1
                yield f"notebooks/{name}-{pictures}.png", base64.b64decode(data["image/png"])
                parts += fenced(text), f"![What the cell draws]({name}-{pictures}.png)"
                text = ""
            elif "<table" in html:
                parts += fenced(text), plain_table(html)
                text = ""
            else:
                text += "".join(data.get("text/plain", output.get("text", ""))).rstrip() + "\n"
        parts.append(fenced(text))
    if not any(cell.get("outputs") for cell in cells):
        parts.append(UNEXECUTED)
    parts.append(f"[This notebook]({name}.ipynb)")
    yield f"notebooks/{name}.md", "\n\n".join(filter(None, parts)) + "\n"


def fenced(text: str) -> str:
    """Return what cells print as a block of text; nothing if there is none."""
    lines = "\n".join(line.rstrip() for line in ANSI.sub("", text).rstrip().splitlines())
    return f"```text\n{lines}\n```" if lines else ""


def plain_table(html: str) -> str:
    """Return a table of pandas that looks like others of the site."""
    html = re.sub(r"<style.*?</style>", "", html, flags=re.DOTALL)
    html = html.replace(' border="1"', "").replace(' class="dataframe"', "")
    return "\n".join(line.strip() for line in html.splitlines() if line.strip())


def execute(names: Sequence[str]) -> None:
    """Execute notebooks in a folder of their own, and keep what comes out."""
    import nbformat
    from nbclient import NotebookClient

    for path in sorted(SOURCES.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        notebook = nbformat.read(path, as_version=4)
        with TemporaryDirectory(prefix="dstrl-notebook-") as folder:
            place = {"metadata": {"path": folder}}
            NotebookClient(notebook, timeout=1800, record_timing=False, resources=place).execute()
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = [it for it in cell.outputs if it.get("name") != "stderr"]
        notebook.metadata[DIGEST] = digest(notebook.cells)
        nbformat.write(notebook, path)
        print(f"{path.stem}: executed", flush=True)


if __name__ == "__main__":
    execute(sys.argv[1:])
