"""Notebooks as pages: their cells, and the outputs of the last time that they were executed here.

They are kept without outputs. `make notebooks` executes copies of them; where there is such a copy
of what the notebook says now, its page shows the outputs, too.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "docs" / "notebooks"
EXECUTED = ROOT / ".cache" / "notebooks"

UNEXECUTED = "This site was built without outputs: `make notebooks docs` adds them to this page."
ANSI = re.compile(r"\x1b\[[\d;]*m")


def pages() -> Iterator[tuple[str, str | bytes]]:
    """Yield path and content of each notebook's page, and of the pictures on it."""
    for path in sorted(SOURCES.glob("*.ipynb")):
        yield from page(path.stem, read(path))


def read(path: Path) -> list[dict[str, Any]]:
    """Return a notebook's cells, those of the executed copy if it says the same."""
    cells = cells_of(path)
    copy = EXECUTED / path.name
    if not copy.exists():
        return cells
    executed = cells_of(copy)
    same = [cell["source"] for cell in executed] == [cell["source"] for cell in cells]
    return executed if same else cells


def cells_of(path: Path) -> list[dict[str, Any]]:
    """Return the cells of a notebook, each source as one text."""
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in cells]


def page(name: str, cells: list[dict[str, Any]]) -> Iterator[tuple[str, str | bytes]]:
    """Yield the page of a notebook, and its pictures."""
    parts: list[str] = []
    pictures = 0
    for cell in cells:
        if cell["cell_type"] == "markdown":
            parts.append(cell["source"])
            continue
        parts.append(f"```python\n{cell['source']}\n```")
        for output in cell["outputs"]:
            picture = output.get("data", {}).get("image/png")
            if picture:
                pictures += 1
                yield f"notebooks/{name}-{pictures}.png", base64.b64decode(picture)
                parts.append(f"![What the cell draws]({name}-{pictures}.png)")
            else:
                parts += shown(output)
    if not any(cell.get("outputs") for cell in cells):
        parts.append(UNEXECUTED)
    parts.append(f"[This notebook]({name}.ipynb)")
    yield f"notebooks/{name}.md", "\n\n".join(parts) + "\n"


def shown(output: dict[str, Any]) -> list[str]:
    """Return an output that is no picture; what libraries warn of on stderr is left out."""
    if output.get("name") == "stderr":
        return []
    data = output.get("data", {})
    if "text/html" in data:
        html = re.sub(r"<style.*?</style>", "", "".join(data["text/html"]), flags=re.DOTALL)
        return ["\n".join(line.strip() for line in html.splitlines() if line.strip())]
    text = "".join(data.get("text/plain", output.get("text", ""))).rstrip()
    return [f"```text\n{ANSI.sub('', text)}\n```"] if text else []


def execute() -> None:
    """Execute copies of all notebooks, in a folder of their own."""
    import nbformat
    from nbclient import NotebookClient

    EXECUTED.mkdir(parents=True, exist_ok=True)
    for path in sorted(SOURCES.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        place = {"metadata": {"path": str(EXECUTED)}}
        NotebookClient(notebook, timeout=1800, resources=place).execute()
        nbformat.write(notebook, EXECUTED / path.name)
        print(f"{path.stem}: executed", flush=True)


if __name__ == "__main__":
    execute()
