"""Generated pages say all that the code knows, and nothing breaks their tables."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping

import pytest

from handbook import code, commands, examples, extras, keys, names
from handbook.tables import cell, escaped, table
from sparse_core.command import PACKAGES
from sparse_core.config import SparseConfig
from sweeps.commands.listing import LISTINGS, described
from sweeps.language.kinds import KINDS, spec_type


def test_a_cell_cannot_break_its_table():
    text = table(("a", "b"), [("x | y", "1\n2")])
    assert text.splitlines()[2:-2] == ["| a | b |", "|---|---|", r"| x \| y | 1 2 |"]
    assert cell("<name>") == "&lt;name>"
    assert cell("`svg|pdf` a<1") == "`svg|pdf` a&lt;1"


def test_prose_of_a_docstring_is_not_read_as_markdown():
    assert escaped("a_b [c] `d_e[0]` *f*") == r"a\_b \[c\] `d_e[0]` \*f\*"


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int | None, "integer or none"),
        (tuple[float, ...], "list of number"),
        (tuple[tuple[str, float], ...], "list of pair"),
        (Mapping[str, int], "mapping"),
        (bool, "true or false"),
    ],
)
def test_annotations_in_words(hint, words):
    assert keys.allowed(hint) == words


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_a_kind_is_explained(kind):
    spec = spec_type(KINDS[kind].spec)
    rows = {
        key: meaning
        for prefix, cls in keys.owners(spec)
        for key, _, _, meaning in keys.rows(cls, prefix)
    }
    wanted = {f"`{field.name}`" for field in dataclasses.fields(spec) if field.name != "sparse"}
    wanted |= {f"`sparse.{field.name}`" for field in dataclasses.fields(SparseConfig)}
    assert wanted <= set(rows)
    assert [key for key, meaning in rows.items() if not meaning] == []
    assert "`METHODS`" not in keys.page(kind, KINDS[kind])


def test_every_name_is_listed():
    page = names.page()
    for what in LISTINGS:
        assert all(f"| `{entry.name}` |" in page for entry in described(what))


def test_every_command_is_there():
    page = commands.page()
    for command in ("sweep run", "sweep status", "train rl", "bench kernels", "enjoy", "list"):
        assert f"## dst {command}\n" in page
    assert "`--jobs N`" in page and "%(default)s" not in page


def test_every_exported_name_has_a_home_and_a_line():
    for package in PACKAGES:
        homes = code.exported(code.ROOT / package / "__init__.py")
        for name, home in homes.items():
            assert code.summary(home, name), f"{home}.{name}"
    assert "[`sparsify`][sparse_core.building.sparsify]" in code.index()


def test_every_module_has_a_page():
    page = dict(code.pages())["reference/code/sparse_core.budgets.md"]
    assert "::: sparse_core.budgets.densities" in page


def test_lists_in_docstrings_are_lists_in_the_site():
    """A blank line is before them."""
    run_on = re.compile(r"^( *)(?!-)\S.*:\n\1- (?![a-z]+: )", re.MULTILINE)
    modules = [path for room in code.rooms() for path in room.glob("*.py")]
    found = [path for path in modules if run_on.search(path.read_text(encoding="utf-8"))]
    assert found == []


def test_columns_in_docstrings_are_columns_in_the_site():
    """They are indented, and other text beside them is not: Python takes common indents away."""
    columns = re.compile(r"^(?!- )\S.*\S {3,}\S", re.MULTILINE)
    modules = [path for room in code.rooms() for path in room.glob("*.py")]
    texts = {path: path.read_text(encoding="utf-8").split('"""')[1] for path in modules}
    found = [path for path, text in texts.items() if columns.search(inspect.cleandoc(text))]
    assert found == []


def test_examples_can_be_linked_to():
    page = examples.page()
    assert examples.anchor("examples/own_code") == "#examples-own-code-grid-yaml"
    assert f"{{ {examples.anchor('examples/continual_rl.py')} }}" in page
    assert examples.anchor("elsewhere") == ""


def test_every_extra_is_listed():
    assert "| `onnx` | `to_onnx` | `onnx>=1.16`, `onnxscript>=0.5` |" in extras.shown()
    assert extras.PLACE in (extras.ROOT / "docs" / "install.md").read_text(encoding="utf-8")
