"""MkDocs asks here for the pages that are made from the code, and for links that leave `docs`.

What stands elsewhere already is not copied into `docs`: the changelog, the examples, every option
and key, the API. `on_files` makes pages of it while the site is built.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from handbook import code, commands, examples, extras, keys, names, notebooks

ROOT = Path(__file__).resolve().parents[1]
MOVED = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "examples": "reference/examples.md",
}
"""Files beside `docs`, and where the site shows them."""

LINK = re.compile(r"\]\((?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")
NAMED_BY_PATH = re.compile(r"\[(?P<path>docs/[\w/]+\.md)\]\((?P=path)\)")
CELL = re.compile(r"<td.*?</td>", re.DOTALL)
INTERVAL = re.compile(r"\[([-+\u2212]?[\d.,]+), ([-+\u2212]?[\d.,]+)\]")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for path, text in generated():
        files.append(File.generated(config, path, content=text))
    return files


def generated() -> Iterator[tuple[str, str | bytes]]:
    """Yield path and content of each generated page, and of pictures on them."""
    yield "changelog.md", from_root("CHANGELOG.md")
    yield "limits.md", section("README.md", "Limits")
    yield "contributing.md", from_root("CONTRIBUTING.md")
    yield "reference/commands.md", commands.page()
    yield from keys.pages()
    yield "reference/names.md", names.page()
    yield "reference/examples.md", examples.page()
    yield from code.pages()
    yield from notebooks.pages()


def from_root(name: str) -> str:
    """Return a page beside `docs` with its links as they are within `docs`, named by titles.

    Code in a list, 7 spaces in, is moved to where Python-Markdown takes it for code, too.
    """
    text = re.sub("^ {7}", " " * 8, (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = NAMED_BY_PATH.sub(lambda link: f"[{title(link['path'])}]({link['path']})", text)
    return re.sub(r"\]\((?!https?:|#)", "](../", text).replace("](../docs/", "](")


def title(path: str) -> str:
    """Return the heading of a page."""
    return (ROOT / path).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def section(name: str, heading: str) -> str:
    """Return one section of a page beside `docs` as a page."""
    text = from_root(name).partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return f"# {heading}\n{text}"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in what is made, and lead links out of `docs` to where the site shows what they mean."""

    def lead(match: re.Match[str]) -> str:
        folder = posixpath.dirname(page.file.src_uri)
        place = posixpath.normpath(posixpath.join("docs", folder, match["path"]))
        shown = next(
            (MOVED[top] for top in MOVED if place == top or place.startswith(f"{top}/")), ""
        )
        if not shown:
            return match[0]
        anchor = match["anchor"] or examples.anchor(place)
        return f"]({posixpath.relpath(shown, folder or '.')}{anchor})"

    return LINK.sub(lead, markdown.replace(extras.PLACE, extras.shown()))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Change what a page shows."""
    return unbroken(html)


def unbroken(html: str) -> str:
    """Return a page whose tables keep each interval on one line."""
    return CELL.sub(lambda cell: INTERVAL.sub(r"[\1,&nbsp;\2]", cell[0]), html)
