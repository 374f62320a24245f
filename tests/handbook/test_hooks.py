"""Pages from beside `docs` read in the site as they do in the repository."""

from __future__ import annotations

import pytest

from tests.recipes import blocks_of

pytest.importorskip("mkdocs")
markdown = pytest.importorskip("markdown")

from handbook.hooks import from_root, unbroken  # noqa: E402


@pytest.mark.parametrize("recipe", ["A new growth rule", "A new method"])
def test_code_of_recipes_is_code_in_the_site(recipe: str) -> None:
    html = markdown.markdown(from_root("CONTRIBUTING.md"))
    section = html.split(f"<h2>{recipe}</h2>")[1].split("<h2>")[0]
    assert section.count("<pre><code>") == len(blocks_of(recipe)) > 1


def test_links_are_named_by_titles_in_the_site() -> None:
    text = from_root("CONTRIBUTING.md")
    assert "[Architecture](architecture.md)" in text and "[docs/" not in text


def test_intervals_in_tables_stay_on_one_line() -> None:
    html = "<p>[1, 2]</p><td>+0.1 <b>[-0.3, +1,000.5]</b> [a, b]</td>"
    kept = "<p>[1, 2]</p><td>+0.1 <b>[-0.3,&nbsp;+1,000.5]</b> [a, b]</td>"
    assert unbroken(html) == kept
