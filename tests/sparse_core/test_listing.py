import importlib
import subprocess
import sys

import pytest

from sparse_core import InputError
from sparse_core.listing import KINDS, described
from sparse_core.registry import DISTRIBUTIONS, DROP_RULES, GROWTH_RULES, METHODS

NAMES = {
    "methods": METHODS,
    "growth": GROWTH_RULES,
    "drop": DROP_RULES,
    "distributions": DISTRIBUTIONS,
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_name_has_one_line_and_the_place_where_it_is(kind):
    entries = described(kind)
    assert [entry.name for entry in entries] == list(NAMES[kind])
    for entry in entries:
        assert entry.summary and "\n" not in entry.summary, entry
        module, _, name = entry.source.partition(":")
        assert hasattr(importlib.import_module(module), name), entry


def test_the_line_of_a_rule_is_the_first_of_its_docstring():
    lines = {entry.name: entry.summary for entry in described("growth")}
    assert lines["gradient"] == "|dL/dw| of the dense gradient (RigL, Evci et al. 2020)."


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="kind='rules': must be one of methods, growth, drop, dis"):
        described("rules")


def test_listing_costs_no_torch():
    code = (
        "import sys\nfrom sparse_core.listing import KINDS, described\n"
        "assert all(described(kind) for kind in KINDS)\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
